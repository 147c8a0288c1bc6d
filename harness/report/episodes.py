"""Whole episodes before and after: success, pass@k and pass^k with intervals, the difference paired by task.

Counts come from the rows (one an episode), intervals from the evaluation's own summary where it has them. Episodes that
a failure of the infrastructure ended have no reward and are counted apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import fmean

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.report.candidates import number
from pivotgym.harness.report.files import RunFiles, rows_of
from pivotgym.harness.stats import Estimate, cluster_bootstrap, paired_difference, pass_at_k, pass_hat_k, wilson

MAX_K = 8


def episode_figures(found: RunFiles) -> JsonObject | None:
    """Figures of each side, and the paired difference where there is a ``before`` and an ``after``."""
    rewards: dict[str, dict[str, list[float]]] = {}
    sides: JsonObject = {}
    for side, path in found.episodes.items():
        figures, rewards[side] = _side(rows_of(path, found))
        if figures["episodes"] or figures["excluded"]:
            sides[side] = figures
    for side, summary in found.episode_summaries.items():
        sides[side] = {**_summary(summary), **_kept(sides[side], summary)} if side in sides else _summary(summary)
    if not sides:
        return None
    sides = dict(sorted(sides.items(), key=lambda item: (item[0] == "after", item[0] != "before", item[0])))
    before, after = rewards.get("before"), rewards.get("after")
    gain = None
    if before and after:
        tasks = [task for task in before if task in after]
        if tasks:
            pairs = [(_success(before[task]), _success(after[task])) for task in tasks]
            gain = paired_difference([b for b, _ in pairs], [a for _, a in pairs], tasks).row()
    return {"sides": sides, "gain": gain}


def _side(rows: Iterable[JsonObject]) -> tuple[JsonObject, dict[str, list[float]]]:
    by_task: dict[str, list[float]] = defaultdict(list)
    ended: Counter[str] = Counter()
    turns: list[float] = []
    excluded = malformed = actions = 0
    for row in rows:
        reward = number(row.get("reward"))
        if reward is None:  # nothing was learnt about the policy
            excluded += 1
            continue
        by_task[_task(row)].append(reward)
        ended[str(row.get("termination") or "unknown")] += 1
        if (count := number(row.get("turns"))) is not None:
            turns.append(count)
            actions += int(count)
            malformed += int(row.get("malformed") or 0)
    figures: JsonObject = {
        "episodes": sum(len(found) for found in by_task.values()),
        "tasks": len(by_task),
        "trials": min((len(found) for found in by_task.values()), default=0),
        "excluded": excluded,
        "turns_mean": fmean(turns) if turns else None,
        "malformed": malformed / actions if actions else None,
        "ended": dict(ended.most_common()),
        "success": None,
        "pass_at_k": {},
        "pass_hat_k": {},
    }
    if by_task:
        figures["success"] = _success_estimate(by_task).row()
        for k in range(1, min(figures["trials"], MAX_K) + 1):
            figures["pass_at_k"][str(k)] = _over_tasks(by_task, k, pass_at_k).row()
            figures["pass_hat_k"][str(k)] = _over_tasks(by_task, k, pass_hat_k).row()
    return figures, dict(by_task)


def _success_estimate(by_task: dict[str, list[float]]) -> Estimate:
    values = [(float(reward >= 1), task) for task, rewards in by_task.items() for reward in rewards]
    if all(len(rewards) == 1 for rewards in by_task.values()):
        return wilson(sum(value >= 1 for value, _ in values), len(values))  # one trial a task: independent
    return _interval([value for value, _ in values], [task for _, task in values])


def _over_tasks(by_task: dict[str, list[float]], k: int, estimator: Callable[[int, int, int], float]) -> Estimate:
    values = [estimator(len(rewards), sum(reward >= 1 for reward in rewards), k) for rewards in by_task.values()]
    return _interval(values, list(by_task))


def _interval(values: list[float], tasks: list[str]) -> Estimate:
    """A cluster bootstrap; where all values are 0 or all are 1 it has no width: then Wilson over the tasks."""
    if len(set(values)) == 1 and values[0] in (0.0, 1.0):
        count = len(set(tasks))
        ends = wilson(count if values[0] else 0, count)
        return replace(ends, n=len(values))
    return cluster_bootstrap(values, tasks)


def _success(rewards: list[float]) -> float:
    return fmean(float(reward >= 1) for reward in rewards)


def _task(row: JsonObject) -> str:
    task = row.get("task")
    return str(task.get("id")) if isinstance(task, dict) else str(task)


def _kept(figures: JsonObject, summary: JsonObject) -> JsonObject:
    """Figures from the rows, with the intervals that the evaluation itself gave where these have a width."""
    kept = dict(figures)
    if _has_width(summary.get("success")):
        kept["success"] = summary["success"]
    for name in ("pass_at_k", "pass_hat_k"):
        given = summary.get(name) or {}
        kept[name] = {k: given[k] if _has_width(given.get(k)) else row for k, row in figures[name].items()}
    return kept


def _has_width(estimate: object) -> bool:
    return isinstance(estimate, dict) and estimate.get("low") != estimate.get("high")


def _summary(summary: JsonObject) -> JsonObject:
    names = [
        "episodes",
        "tasks",
        "trials",
        "excluded",
        "turns_mean",
        "malformed",
        "ended",
        "success",
        "pass_at_k",
        "pass_hat_k",
    ]
    kept = {name: summary.get(name) for name in names}
    return {**kept, "pass_at_k": kept["pass_at_k"] or {}, "pass_hat_k": kept["pass_hat_k"] or {}}
