"""Intervals and estimators: what a run may claim, given how few samples it had.

Turns of one trajectory resemble each other, and so do trials of one task: an interval that treats them as
independent is too narrow. Everything here therefore resamples whole clusters.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: the point estimate.
        low: lower bound; None where the data cannot give one (a single cluster says nothing about its spread).
        high: upper bound or None.
        n: values behind it.
        clusters: independent clusters behind it.
        confidence: coverage the interval aims at.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    clusters: int
    confidence: float = 0.95

    def row(self) -> JsonObject:
        """As a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        bounds = f"[{self.low:.3f}, {self.high:.3f}]" if self.low is not None else "[one cluster: no interval]"
        return f"{self.mean:.3f} {bounds}"


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Wilson score interval of a binomial proportion (Wilson 1927).

    With ``z`` the normal quantile and ``p = successes / trials``: centre ``(p + z²/2n) / (1 + z²/n)``, half width
    ``z / (1 + z²/n) · sqrt(p(1-p)/n + z²/4n²)``. Unlike the normal approximation it stays in [0, 1] and has a width
    at 0 and ``n`` successes. Assumes independent trials.

    Raises:
        BadInput: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise BadInput(f"{successes} successes of {trials} trials", field="trials")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / trials
    scale = 1 / (1 + z * z / trials)
    centre = scale * (p + z * z / (2 * trials))
    half = scale * z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else centre - half  # exact at the ends, where rounding leaves crumbs
    high = 1.0 if successes == trials else centre + half
    return Estimate(p, low, high, trials, trials, confidence)


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    draws: int = 4000,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of ``values`` with a percentile interval from resampling whole clusters (Davison & Hinkley 1997, 3.8).

    Each draw takes as many clusters as there are, with replacement, and averages all values in them.

    Args:
        values: one number each.
        clusters: the cluster of each value (trajectory id, task id).
        seed: fixes the draws.
        draws: number of resamples.
        confidence: coverage.

    Raises:
        BadInput: no values, or lengths that differ.
    """
    if not len(values) or len(values) != len(clusters):
        raise BadInput(f"{len(values)} values in {len(clusters)} cluster labels", field="values")
    index: dict[Hashable, int] = {}
    label_N = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
    value_N = np.asarray(values, dtype=np.float64)
    mean, n, count = float(value_N.mean()), len(value_N), len(index)
    if count == 1:
        return Estimate(mean, None, None, n, 1, confidence)
    sum_C = np.bincount(label_N, weights=value_N, minlength=count)
    size_C = np.bincount(label_N, minlength=count).astype(np.float64)
    rng = np.random.default_rng(seed)
    # How often each cluster is drawn is multinomial; one matrix product gives all resampled means.
    times_DC = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    mean_D = (times_DC @ sum_C) / (times_DC @ size_C)
    low, high = np.quantile(mean_D, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(mean, float(low), float(high), n, count, confidence)


def paired_difference(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    draws: int = 4000,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of ``after - before`` over the same items, with a cluster bootstrap interval.

    Pairing removes what the items differ in, so the interval is far narrower than that of two separate means.
    """
    if len(before) != len(after):
        raise BadInput(f"{len(before)} values before, {len(after)} after", field="after")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    return cluster_bootstrap(differences, clusters, seed=seed, draws=draws, confidence=confidence)


def pass_at_k(trials: int, successes: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of ``k`` trials succeeds.

    ``1 - C(n-c, k) / C(n, k)`` (Chen et al. 2021, arXiv:2107.03374, eq. 1).

    Raises:
        BadInput: ``k`` larger than the number of trials, or impossible counts.
    """
    _check(trials, successes, k)
    return 1.0 - math.comb(trials - successes, k) / math.comb(trials, k)


def pass_hat_k(trials: int, successes: int, k: int) -> float:
    """Unbiased estimate of the chance that all of ``k`` trials succeed.

    ``C(c, k) / C(n, k)`` (τ-bench, Yao et al. 2024, arXiv:2406.12045, section 3).

    Raises:
        BadInput: as :func:`pass_at_k`.
    """
    _check(trials, successes, k)
    return math.comb(successes, k) / math.comb(trials, k)


def _check(trials: int, successes: int, k: int) -> None:
    if not 0 <= successes <= trials:
        raise BadInput(f"{successes} successes of {trials} trials", field="successes")
    if not 1 <= k <= trials:
        raise BadInput(f"k = {k} of {trials} trials", field="k")
