"""Evaluating a policy: mean reward at pivots, success of whole episodes, both with honest intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.formats.jsonl import RowAppender, read_rows, write_rows
from pivotgym.envs.trajectory import JsonObject, Task, canonical_json, digest
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies.base import Policy, Sampling
from pivotgym.harness.profiling import split_key
from pivotgym.harness.rollouts import EpisodeResult, run_episodes
from pivotgym.harness.runs import (
    Cost,
    CostMeter,
    Progress,
    claim,
    derive_seed,
    deterministic,
    exclusive,
    no_progress,
    write_json,
)
from pivotgym.harness.seats import Here, Place
from pivotgym.harness.stats import (
    DIFFERENCE,
    SHARE,
    Estimate,
    cluster_interval,
    paired_difference,
    pass_at_k,
    pass_hat_k,
    wilson,
)
from pivotgym.harness.turns import TurnResult, TurnRunner

EPISODES = "episodes.jsonl"
MAX_K = 8


@dataclass(frozen=True)
class PivotEvaluation:
    """The reward of a policy at pivots.

    Attributes:
        reward: mean over pivots of each pivot's mean reward, interval by task.
        means: mean reward of each pivot, in order; None where there was no verdict.
        clusters: the task of each pivot: recordings of one task resemble each other.
        rollouts: actions sampled at each.
        malformed: share of the actions that were not well-formed.
        excluded: pivots without a verdict, by status.
        cost: turns and environment actions (the policy counts its own tokens).
    """

    reward: Estimate
    means: list[float | None]
    clusters: list[str]
    rollouts: int
    malformed: float
    excluded: dict[str, int]
    cost: Cost

    def row(self) -> JsonObject:
        """As a JSON object."""
        return {
            "reward": self.reward.row(),
            "pivots": len(self.means),
            "rollouts": self.rollouts,
            "malformed": self.malformed,
            "excluded": self.excluded,
            "means": self.means,
        }


def evaluate_pivots(
    policy: Policy,
    pivots: Sequence[Pivot],
    rollouts: int = 4,
    seed: int = 0,
    *,
    runner: TurnRunner,
    sampling: Sampling | None = None,
    chunk: int = 8,
    progress: Progress = no_progress,
    stage: str = "evaluate pivots",
) -> PivotEvaluation:
    """Mean reward at pivots.

    The seed of a batch depends on ``seed`` and its place alone, so two policies evaluated with one seed meet the same
    random numbers, and their difference is known better than either (:func:`compare`).

    Args:
        policy: what to evaluate.
        pivots: usually the held-out ones.
        rollouts: actions sampled at each.
        seed: common random numbers.
        runner: restores and judges.
        sampling: temperature, top-p and length; its seed is not used.
        chunk: pivots sampled as one batch.
        progress: told the pivots done after each batch, with the mean reward so far.
        stage: the name it is told under.

    Raises:
        BadInput: no pivots.
        InfrastructureError: not one pivot got a verdict.
    """
    if not pivots:
        raise BadInput("no pivots to evaluate on", field="pivots")
    base = sampling or Sampling()
    results: list[TurnResult] = []
    progress(stage, 0, len(pivots), {})
    for start in range(0, len(pivots), chunk):
        batch = [pivot.candidate for pivot in pivots[start : start + chunk]]
        seeded = Sampling(base.temperature, base.top_p, base.max_tokens, derive_seed(seed, "pivots", start))
        results += runner.run(policy, batch, rollouts, seeded)
        found = [fmean(result.rewards) for result in results if result.status == "ok"]
        progress(stage, len(results), len(pivots), {"reward_mean": fmean(found)} if found else {})
    judged = [index for index, result in enumerate(results) if result.status == "ok"]
    if not judged:
        raise InfrastructureError(f"no pivot got a verdict; the first failure: {results[0].error}")
    means = [sum(r.rewards) / len(r.rewards) if r.status == "ok" else None for r in results]
    clusters = pivot_clusters(pivots)
    excluded: dict[str, int] = {}
    for result in results:
        if result.status != "ok":
            excluded[result.status] = excluded.get(result.status, 0) + 1
    sampled = sum(len(result.completions) for result in results)
    return PivotEvaluation(
        reward=cluster_interval([means[i] or 0.0 for i in judged], [clusters[i] for i in judged], bounds=SHARE),
        means=means,
        clusters=clusters,
        rollouts=rollouts,
        malformed=sum(result.malformed for result in results) / max(sampled, 1),
        excluded=excluded,
        cost=Cost(rollout_turns=sampled, env_actions=sum(result.env_actions for result in results)),
    )


def pivot_clusters(pivots: Sequence[Pivot]) -> list[str]:
    """The task of each pivot (its trajectory where it has no task): what intervals over pivots count as independent."""
    return [split_key(pivot.trajectory, "task") for pivot in pivots]


def compare(before: PivotEvaluation, after: PivotEvaluation, seed: int = 0) -> Estimate:
    """How much the reward rose, pivot by pivot, with its interval. Pivots without verdict on one side are left out.

    Raises:
        BadInput: the two are not of the same pivots.
    """
    return compare_means(before.means, after.means, before.clusters, seed)


def compare_means(
    before: Sequence[float | None], after: Sequence[float | None], clusters: Sequence[str], seed: int = 0
) -> Estimate:
    """:func:`compare` on bare numbers, as they stand in ``metrics.jsonl``.

    Args:
        before: mean reward of each pivot, None where there was no verdict.
        after: the same afterwards.
        clusters: what is independent: :func:`pivot_clusters`.
        seed: has no effect; the interval draws nothing.
    """
    if not len(before) == len(after) == len(clusters):
        raise BadInput(f"{len(before)} pivots before, {len(after)} after", field="after")
    pairs = [(b, a, c) for b, a, c in zip(before, after, clusters, strict=True) if b is not None and a is not None]
    left, right, labels = ([pair[place] for pair in pairs] for place in range(3))
    return paired_difference(left, right, labels, bounds=DIFFERENCE)  # type: ignore[arg-type]


class EpisodeConfig(BaseModel):
    """How to evaluate whole episodes.

    Attributes:
        trials: how often each task is played.
        max_turns: an episode is cut off and scored after so many actions.
        temperature: of the sampling.
        top_p: of the sampling.
        max_tokens: longest action.
        seed: fixes sampling and environments; equal seeds mean common random numbers.
        chunk: tasks played as one piece of work; a killed evaluation loses at most one. Results depend on it.
        batch: episodes at once within a piece. Results depend on it.
        env_options: keyword arguments of ``gym.make``.
        keep_messages: keep each episode's messages in its row.
        workers: threads that reset and step.
        attempts: tries of an episode whose infrastructure fails.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: int = Field(1, ge=1)
    max_turns: int = Field(30, ge=1)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(256, ge=1)
    seed: int = 0
    chunk: int = Field(8, ge=1)
    batch: int = Field(16, ge=1)
    env_options: JsonObject = Field(default_factory=dict)
    keep_messages: bool = True
    workers: int = Field(4, ge=1)
    attempts: int = Field(2, ge=1)


@dataclass(frozen=True)
class EpisodeEvaluation:
    """How a policy does in whole episodes. Success is a reward of 1.

    Attributes:
        success: share of episodes that succeed, interval by task.
        pass_at_k: by k, the chance that one of k trials succeeds; intervals by task.
        pass_hat_k: by k, the chance that all of k trials succeed.
        episodes: that were judged.
        tasks: with at least one judged episode.
        trials: fewest judged episodes of a task.
        excluded: episodes the infrastructure failed; they count in nothing else.
        turns_mean: actions in an episode.
        malformed: share of actions that were not well-formed.
        ended: why the episodes ended, with counts.
    """

    success: Estimate
    pass_at_k: dict[int, Estimate]
    pass_hat_k: dict[int, Estimate]
    episodes: int
    tasks: int
    trials: int
    excluded: int
    turns_mean: float
    malformed: float
    ended: dict[str, int]

    def row(self) -> JsonObject:
        """As a JSON object."""
        return asdict(self)


def evaluate_episodes(
    env_id: str,
    policy: Policy,
    tasks: Sequence[Task],
    config: EpisodeConfig,
    out: Path,
    progress: Progress = no_progress,
    *,
    place: Place | None = None,
) -> EpisodeEvaluation:
    """Plays ``tasks`` from their beginning to their end and judges them by their own goals.

    Writes into the folder ``out``: ``episodes.jsonl`` (a row an episode), ``summary.json``, ``settings.json``,
    ``timings.jsonl``. Called again with the same settings it goes on after the last whole chunk of tasks. The
    environments run at ``place``, by default in this process.

    Raises:
        BadInput: no tasks, two of one id, or ``out`` was begun with other settings.
        InfrastructureError: the policy's backend is down, or not one episode could be judged.
    """
    if not tasks:
        raise BadInput("no tasks to evaluate on", field="tasks")
    doubles = [name for name, count in Counter(task.id for task in tasks).items() if count > 1]
    if doubles:
        raise BadInput(f"two tasks have the id {doubles[0]!r}", field="tasks")
    out = Path(out)
    file = out / EPISODES
    settings = {
        **config.model_dump(exclude={"workers", "attempts"}),
        "env": env_id,
        "policy": str(
            getattr(policy, "fingerprint", policy.name)
        ),  # what it is, where it can tell; not what it is called
        "tasks": digest(canonical_json([task.key for task in tasks])),
    }
    sampling = Sampling(config.temperature, config.top_p, config.max_tokens)
    size = config.chunk * config.trials
    where = place or Here()
    with exclusive(out / "run"), deterministic():
        claim(out / "settings.json", settings)
        rows = list(read_rows(file))
        total = len(tasks) * config.trials
        if len(rows) < total:
            rows = rows[: len(rows) // size * size]
        if file.exists():
            write_rows(file, rows)
        progress("evaluate episodes", len(rows), total, {})
        played = len(rows)

        def on_episode(_: EpisodeResult) -> None:
            nonlocal played
            played += 1
            progress("evaluate episodes", played, total, {})

        for number in range(math.ceil(len(rows) / size), math.ceil(len(tasks) / config.chunk)):
            with CostMeter(out, "evaluate episodes", number, policy) as meter:
                results = run_episodes(
                    lambda: where.seat(env_id, config.env_options),
                    tasks[number * config.chunk : (number + 1) * config.chunk],
                    policy,
                    trials=config.trials,
                    max_turns=config.max_turns,
                    batch=config.batch,
                    sampling=sampling,
                    seed=derive_seed(config.seed, "episodes", number),
                    workers=where.width(config.workers),
                    attempts=config.attempts,
                    on_episode=on_episode,
                )
                meter.cost.rollout_turns += sum(result.turns for result in results)
                meter.cost.env_actions += sum(result.turns for result in results)
            with RowAppender(file, fsync=True) as appender:
                for result in results:
                    row = _episode_row(result, config.keep_messages)
                    appender.append(row)
                    rows.append(row)
            judged = [row["reward"] for row in rows if row["reward"] is not None]
            figures = {"success": fmean(reward >= 1 for reward in judged)} if judged else {}
            progress("evaluate episodes", len(rows), total, figures)
        found = summarise_episodes(rows, config.seed)
        write_json(out / "summary.json", {"method": "episodes", "env": env_id, **found.row()})
    return found


def summarise_episodes(rows: Iterable[JsonObject], seed: int = 0) -> EpisodeEvaluation:
    """The figures of rows of ``episodes.jsonl``.

    Raises:
        InfrastructureError: not one episode was judged.
    """
    rewards: dict[str, list[float]] = {}
    ended: Counter[str] = Counter()
    excluded = turns = malformed = 0
    for row in rows:
        if row["reward"] is None:
            excluded += 1
            continue
        rewards.setdefault(row["task"], []).append(float(row["reward"]))
        ended[row["termination"]] += 1
        turns += row["turns"]
        malformed += row["malformed"]
    if not rewards:
        raise InfrastructureError(f"not one of {excluded} episodes could be judged")
    figures, judged = episode_estimates(rewards), ended.total()
    return EpisodeEvaluation(
        success=figures.success,
        pass_at_k=figures.pass_at_k,
        pass_hat_k=figures.pass_hat_k,
        episodes=judged,
        tasks=len(rewards),
        trials=figures.trials,
        excluded=excluded,
        turns_mean=turns / judged,
        malformed=malformed / max(turns, 1),
        ended=dict(ended.most_common()),
    )


@dataclass(frozen=True)
class EpisodeEstimates:
    """What rewards by task say: see :class:`EpisodeEvaluation`."""

    success: Estimate
    pass_at_k: dict[int, Estimate]
    pass_hat_k: dict[int, Estimate]
    trials: int


def episode_estimates(rewards: Mapping[str, Sequence[float]]) -> EpisodeEstimates:
    """Success, pass@k and pass^k of the rewards of each task's trials, with intervals by task.

    With one trial a task these are independent and the interval is Wilson's; otherwise see
    :func:`pivotgym.harness.stats.cluster_interval`.
    """
    wins = {task: [float(reward >= 1) for reward in found] for task, found in rewards.items()}
    flat = [(win, task) for task, found in wins.items() for win in found]
    fewest = min(len(found) for found in wins.values())

    def interval(values: Sequence[float], tasks: Sequence[str]) -> Estimate:
        if len(values) == len(wins) and set(values) <= {0.0, 1.0} and len(values) > 1:
            return wilson(int(sum(values)), len(values))
        return cluster_interval(values, tasks, bounds=SHARE)

    def over_tasks(estimate: Callable[[int, int, int], float], k: int) -> Estimate:
        return interval([estimate(len(found), int(sum(found)), k) for found in wins.values()], list(wins))

    sizes = range(1, min(fewest, MAX_K) + 1)
    return EpisodeEstimates(
        success=interval([win for win, _ in flat], [task for _, task in flat]),
        pass_at_k={k: over_tasks(pass_at_k, k) for k in sizes},
        pass_hat_k={k: over_tasks(pass_hat_k, k) for k in sizes},
        trials=fewest,
    )


def _episode_row(result: EpisodeResult, keep_messages: bool) -> JsonObject:
    row = {name: value for name, value in result.row().items() if name != "seconds"}  # the same bytes every time
    if keep_messages and result.trajectory is not None:
        row["trajectory"] = result.trajectory.model_dump(mode="json")
    return row
