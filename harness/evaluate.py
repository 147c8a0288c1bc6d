"""Evaluating a policy: mean reward at pivots, success of whole episodes, both with honest intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies.base import Policy, Sampling
from pivotgym.harness.runs import Cost, derive_seed
from pivotgym.harness.stats import Estimate, cluster_bootstrap, paired_difference
from pivotgym.harness.turns import TurnResult, TurnRunner


@dataclass(frozen=True)
class PivotEvaluation:
    """The reward of a policy at pivots.

    Attributes:
        reward: mean over pivots of each pivot's mean reward, interval by trajectory.
        means: mean reward of each pivot, in order; None where there was no verdict.
        clusters: the trajectory of each pivot.
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

    Raises:
        BadInput: no pivots.
        InfrastructureError: not one pivot got a verdict.
    """
    if not pivots:
        raise BadInput("no pivots to evaluate on", field="pivots")
    base = sampling or Sampling()
    results: list[TurnResult] = []
    for start in range(0, len(pivots), chunk):
        batch = [pivot.candidate for pivot in pivots[start : start + chunk]]
        seeded = Sampling(base.temperature, base.top_p, base.max_tokens, derive_seed(seed, "pivots", start))
        results += runner.run(policy, batch, rollouts, seeded)
    judged = [index for index, result in enumerate(results) if result.status == "ok"]
    if not judged:
        raise InfrastructureError(f"no pivot got a verdict; the first failure: {results[0].error}")
    means = [sum(r.rewards) / len(r.rewards) if r.status == "ok" else None for r in results]
    clusters = [pivot.trajectory.id for pivot in pivots]
    excluded: dict[str, int] = {}
    for result in results:
        if result.status != "ok":
            excluded[result.status] = excluded.get(result.status, 0) + 1
    sampled = sum(len(result.completions) for result in results)
    return PivotEvaluation(
        reward=cluster_bootstrap([means[i] or 0.0 for i in judged], [clusters[i] for i in judged], seed=seed),
        means=means,
        clusters=clusters,
        rollouts=rollouts,
        malformed=sum(result.malformed for result in results) / max(sampled, 1),
        excluded=excluded,
        cost=Cost(rollout_turns=sampled, env_actions=sum(result.env_actions for result in results)),
    )


def compare(before: PivotEvaluation, after: PivotEvaluation, seed: int = 0) -> Estimate:
    """How much the reward rose, pivot by pivot, with its interval. Pivots without verdict on one side are left out.

    Raises:
        BadInput: the two are not of the same pivots.
    """
    return compare_means(before.means, after.means, before.clusters, seed)


def compare_means(
    before: Sequence[float | None], after: Sequence[float | None], clusters: Sequence[str], seed: int = 0
) -> Estimate:
    """:func:`compare` on bare numbers, as they stand in ``metrics.jsonl``."""
    if not len(before) == len(after) == len(clusters):
        raise BadInput(f"{len(before)} pivots before, {len(after)} after", field="after")
    pairs = [(b, a, c) for b, a, c in zip(before, after, clusters, strict=True) if b is not None and a is not None]
    return paired_difference([p[0] for p in pairs], [p[1] for p in pairs], [p[2] for p in pairs], seed=seed)
