"""Intervals and estimators: what a run may claim, given how few samples it had.

Turns of one trajectory resemble each other, and so do trials of one task: an interval that treats them as
independent is too narrow. Everything here therefore counts whole clusters, and holds its coverage with few of them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject

SHARE = (0.0, 1.0)
"""Bounds of rewards and shares."""
DIFFERENCE = (-1.0, 1.0)
"""Bounds of a difference of two such."""
_SERIES_DF = 200
_SPREAD = 1e-12
"""A standard error below this, relative to the values, is rounding: the clusters are equal."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: the point estimate.
        low: lower bound; None where the data cannot give one (a single cluster, or clusters that are all equal, say
            nothing about the spread of values that have no bounds of their own).
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
        bounds = f"[{self.low:.3f}, {self.high:.3f}]" if self.low is not None else "[too few clusters: no interval]"
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


def cluster_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Mean of ``values`` with a cluster-robust Student t interval.

    With ``C`` clusters of ``n_c`` values that sum to ``s_c``, ``N`` values in all and the mean ``m``: the residual of
    a cluster is ``e_c = s_c - m n_c``, the variance of ``m`` is the delete-one-cluster jackknife's,
    ``(C-1)/C · Σ e_c² / (N - n_c)²``, and the interval is ``m ± t · sqrt(variance)`` with the t quantile of ``C-1``
    degrees of freedom. With clusters of one size this is the linearised variance with the factor ``C/(C-1)`` (CR1);
    with unequal ones it is the more careful CR3 (MacKinnon, Nielsen & Webb 2023, "Cluster-robust inference: a guide to
    empirical practice", J. Econometrics 232).

    Near an end of their range means are skewed and the t interval misses the far side. So where the values have
    ``bounds``, each end is the outer one of the t interval's and of Wilson's for the effective number of trials, with
    the t quantile (Korn & Graubard 1998, Survey Methodology 24, 193; Franco et al. 2019, "Comparative study of
    confidence intervals for proportions in complex sample surveys", J. Survey Statistics and Methodology 7).

    Clusters that are all equal would give no width, and three equal ones prove nothing. Where the values have
    ``bounds``, the share of clusters that might have shown another value is bounded by :func:`wilson` (none of ``C``),
    and those might lie anywhere in the bounds; with all values 0 or all 1 that is the Wilson interval over clusters.

    Args:
        values: one number each.
        clusters: the cluster of each value (trajectory id, task id).
        confidence: coverage.
        bounds: the least and the greatest possible value. The interval is cut there; it is the bounds themselves
            for a single cluster. Without them a single cluster, or equal ones, have no interval (None).

    Raises:
        BadInput: no values, lengths that differ, or a value outside ``bounds``.
    """
    if not len(values) or len(values) != len(clusters):
        raise BadInput(f"{len(values)} values in {len(clusters)} cluster labels", field="values")
    index: dict[Hashable, int] = {}
    label_N = np.array([index.setdefault(cluster, len(index)) for cluster in clusters])
    value_N = np.asarray(values, dtype=np.float64)
    mean, n, count = float(value_N.mean()), len(value_N), len(index)
    if bounds is not None and not (bounds[0] - 1e-9 <= value_N.min() and value_N.max() <= bounds[1] + 1e-9):
        raise BadInput(f"a value outside {list(bounds)}", field="values")
    if count == 1:
        low, high = bounds if bounds is not None else (None, None)
        return Estimate(mean, low, high, n, 1, confidence)
    size_C = np.bincount(label_N, minlength=count).astype(np.float64)
    residual_C = np.bincount(label_N, weights=value_N - mean, minlength=count)
    error = math.sqrt((count - 1) / count * float(np.sum((residual_C / (n - size_C)) ** 2)))
    if error <= _SPREAD * max(1.0, float(np.abs(value_N).max())):
        if bounds is None:
            return Estimate(mean, None, None, n, count, confidence)
        other = wilson(0, count, confidence).high or 0.0
        low, high = mean - other * (mean - bounds[0]), mean + other * (bounds[1] - mean)
    else:
        t = student_t(0.5 + confidence / 2, count - 1)
        low, high = mean - t * error, mean + t * error
        if bounds is not None:
            centre, half = _score(mean, error, t, bounds)
            low, high = min(low, centre - half), max(high, centre + half)
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(mean, low, high, n, count, confidence)


def _score(mean: float, error: float, t: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Centre and half width of Wilson's interval for the number of independent trials that have this standard error."""
    width = bounds[1] - bounds[0]
    p, variance = (mean - bounds[0]) / width, (error / width) ** 2
    if not 0 < p < 1:
        return mean, 0.0
    trials = p * (1 - p) / variance
    scale = 1 / (1 + t * t / trials)
    half = scale * t * math.sqrt(variance + (t / (2 * trials)) ** 2)
    return bounds[0] + width * scale * (p + t * t / (2 * trials)), width * half


def paired_difference(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    draws: int = 0,
    confidence: float = 0.95,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Mean of ``after - before`` over the same items, with the interval of :func:`cluster_interval`.

    Pairing removes what the items differ in, so the interval is far narrower than that of two separate means. With
    rewards or shares pass ``bounds=DIFFERENCE``. ``seed`` and ``draws`` have no effect.
    """
    if len(before) != len(after):
        raise BadInput(f"{len(before)} values before, {len(after)} after", field="after")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    return cluster_interval(differences, clusters, confidence=confidence, bounds=bounds)


@lru_cache(maxsize=256)
def student_t(probability: float, df: int) -> float:
    """Quantile of Student's t distribution for a whole number of degrees of freedom.

    Up to 200 degrees the distribution function's finite series in ``θ = atan(t/√df)`` is inverted by bisection; above,
    the expansion around the normal quantile, whose error is of order ``df⁻⁵`` (Abramowitz & Stegun 1964, 26.7.3, 26.7.4
    and 26.7.5).

    Raises:
        BadInput: a probability outside (0, 1), or fewer than one degree of freedom.
    """
    if not 0 < probability < 1 or df < 1:
        raise BadInput(f"no t quantile for probability {probability} and {df} degrees of freedom", field="df")
    if probability < 0.5:
        return -student_t(1 - probability, df)
    if df > _SERIES_DF:
        x = NormalDist().inv_cdf(probability)
        terms = (
            (x**3 + x) / 4,
            (5 * x**5 + 16 * x**3 + 3 * x) / 96,
            (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
            (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
        )
        return x + sum(term / float(df) ** power for power, term in enumerate(terms, 1))
    low, high = 0.0, math.pi / 2
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_t(middle, df) < 2 * probability - 1 else (low, middle)
    return math.sqrt(df) * math.tan((low + high) / 2)


def _central_t(theta: float, df: int) -> float:
    """P(|T| < √df · tan θ)."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = df % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for place in range(odd, df - 1, 2):  # powers of the cosine: odd ones to df-2, or even ones to df-2
        total += term
        term *= cosine * cosine * (place + 1) / (place + 2)
    return (theta + sine * total) * 2 / math.pi if odd else sine * total


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
