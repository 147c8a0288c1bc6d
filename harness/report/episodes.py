"""Whole episodes before and after: success, pass@k and pass^k with intervals, the difference paired by task.

Everything comes from the rows (one an episode), or from the evaluation's summary where there are no rows. Episodes that
a failure of the infrastructure ended have no reward and are counted apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from statistics import fmean

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.evaluate import episode_estimates
from pivotgym.harness.report.candidates import number
from pivotgym.harness.report.files import RunFiles, rows_of
from pivotgym.harness.stats import DIFFERENCE, paired_difference


def episode_figures(found: RunFiles) -> JsonObject | None:
    """Figures of each side, and the paired difference where there is a ``before`` and an ``after``."""
    rewards: dict[str, dict[str, list[float]]] = {}
    sides: JsonObject = {}
    for side, path in found.episodes.items():
        figures, rewards[side] = _side(rows_of(path, found))
        if figures["episodes"] or figures["excluded"]:
            sides[side] = figures
    for side, summary in found.episode_summaries.items():
        if side not in sides:
            sides[side] = _summary(summary)
    if not sides:
        return None
    sides = dict(sorted(sides.items(), key=lambda item: (item[0] == "after", item[0] != "before", item[0])))
    before, after = rewards.get("before"), rewards.get("after")
    gain = None
    if before and after:
        tasks = [task for task in before if task in after]
        if tasks:
            pairs = [(_success(before[task]), _success(after[task])) for task in tasks]
            gain = paired_difference([b for b, _ in pairs], [a for _, a in pairs], tasks, bounds=DIFFERENCE).row()
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
        "trials": min((len(rewards) for rewards in by_task.values()), default=0),
        "excluded": excluded,
        "turns_mean": fmean(turns) if turns else None,
        "malformed": malformed / actions if actions else None,
        "ended": dict(ended.most_common()),
        "success": None,
        "pass_at_k": {},
        "pass_hat_k": {},
    }
    if by_task:
        found = episode_estimates(by_task)  # as the evaluation itself: the page and the command agree
        figures["success"] = found.success.row()
        for name, estimates in (("pass_at_k", found.pass_at_k), ("pass_hat_k", found.pass_hat_k)):
            figures[name] = {str(k): estimate.row() for k, estimate in estimates.items()}
    return figures, dict(by_task)


def _success(rewards: list[float]) -> float:
    return fmean(float(reward >= 1) for reward in rewards)


def _task(row: JsonObject) -> str:
    task = row.get("task")
    return str(task.get("id")) if isinstance(task, dict) else str(task)


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
