"""Intervals and estimators against closed forms, scipy and simulation."""

from __future__ import annotations

from itertools import combinations
from math import isclose

import numpy as np
import pytest
from needs import require

from pivotgym.envs.errors import BadInput
from pivotgym.harness.stats import (
    DIFFERENCE,
    SHARE,
    cluster_interval,
    paired_difference,
    pass_at_k,
    pass_hat_k,
    student_t,
    wilson,
)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (1, 1), (417, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_is_scipys(successes: int, trials: int, confidence: float) -> None:
    require("scipy", "dev")
    from scipy import stats

    theirs = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    ours = wilson(successes, trials, confidence)
    assert ours.low is not None and ours.high is not None
    assert isclose(ours.low, theirs.low, abs_tol=1e-12) and isclose(ours.high, theirs.high, abs_tol=1e-12)


def test_wilson_solves_its_equation() -> None:
    """Its bounds are where the score test is just rejected: (p̂ - p)² = z² p(1-p)/n."""
    found, z = wilson(7, 25), 1.959963984540054
    for bound in (found.low, found.high):
        assert bound is not None
        assert isclose((found.mean - bound) ** 2, z * z * bound * (1 - bound) / 25, rel_tol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_pass_estimators_count_subsets(n: int) -> None:
    for successes in range(n + 1):
        outcomes = [index < successes for index in range(n)]
        for k in range(1, n + 1):
            subsets = list(combinations(outcomes, k))
            assert isclose(pass_at_k(n, successes, k), sum(map(any, subsets)) / len(subsets))
            assert isclose(pass_hat_k(n, successes, k), sum(map(all, subsets)) / len(subsets))


@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.995, 0.025])
def test_t_quantiles_are_scipys(probability: float) -> None:
    require("scipy", "dev")
    from scipy import stats

    for df in [*range(1, 40), 199, 200, 201, 202, 1000, 100_000]:
        assert isclose(student_t(probability, df), stats.t.ppf(probability, df), rel_tol=1e-9)


def test_independent_values_give_the_one_sample_t_interval() -> None:
    require("scipy", "dev")
    from scipy import stats

    values = np.random.default_rng(0).normal(size=7)
    found = cluster_interval(values.tolist(), list(range(7)))
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


def test_variance_is_the_delete_one_cluster_jackknifes() -> None:
    values, clusters = [1.0, 2.0, 4.0, 8.0, 3.0, 0.0], ["a", "a", "b", "b", "b", "c"]
    found = cluster_interval(values, clusters)
    left = [np.mean([v for v, c in zip(values, clusters, strict=True) if c != out]) for out in "abc"]
    error = np.sqrt(2 / 3 * sum((mean - 3) ** 2 for mean in left))
    assert found.high == pytest.approx(3 + 4.302652729911275 * error)


def test_equal_values_in_a_cluster_count_once() -> None:
    """Copying each value ten times inside its cluster adds nothing, so the interval must not shrink."""
    values = np.random.default_rng(1).random(30).tolist()
    single = cluster_interval(values, list(range(30)))
    copied = cluster_interval([v for v in values for _ in range(10)], [c for c in range(30) for _ in range(10)])
    assert (copied.low, copied.high) == (pytest.approx(single.low), pytest.approx(single.high))
    assert copied.n == 300 and copied.clusters == 30


@pytest.mark.parametrize("clusters", [5, 8, 12, 25])
@pytest.mark.parametrize("kind", ["normal", "success", "rare", "difference"])
def test_intervals_cover_the_truth(clusters: int, kind: str) -> None:
    """95 % are meant; 300 simulations with clusters of unequal size have a standard error of 1.3 %."""
    rng, hits, runs = np.random.default_rng(clusters), 0, 300
    for _ in range(runs):
        size_C = rng.integers(1, 7, size=clusters)
        label_N = np.repeat(np.arange(clusters), size_C)
        if kind == "normal":
            truth, bounds = 0.0, None
            value_N = rng.normal(size=clusters)[label_N] + rng.normal(size=len(label_N))
        elif kind == "difference":
            truth, bounds = 0.1, DIFFERENCE
            before_C = rng.random(clusters) * 0.8  # chance of success before; 0.1 more after
            chance_N = before_C[label_N]
            value_N = (rng.random(len(label_N)) < chance_N + 0.1) - (rng.random(len(label_N)) < chance_N).astype(float)
        else:
            truth, bounds = (0.4, SHARE) if kind == "success" else (0.1, SHARE)
            chance_N = rng.beta(2 * truth, 2 * (1 - truth), size=clusters)[label_N]
            value_N = (rng.random(len(label_N)) < chance_N).astype(float)
        found = cluster_interval(value_N.tolist(), label_N.tolist(), bounds=bounds)
        assert found.low is not None and found.high is not None and found.high > found.low
        hits += found.low <= truth <= found.high
    assert hits / runs >= 0.92


def test_equal_clusters_do_not_prove_certainty() -> None:
    for successes in (0, 10):
        found, theirs = cluster_interval([successes / 10] * 10, list(range(10)), bounds=SHARE), wilson(successes, 10)
        assert (found.low, found.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))
    two = paired_difference([0.25, 0.25], [0.75, 0.75], ["a", "b"], bounds=DIFFERENCE)
    assert two.low is not None and two.high is not None
    assert two.low < 0 < two.mean < two.high <= 1
    none = paired_difference([0.5] * 30, [0.5] * 30, list(range(30)), bounds=DIFFERENCE)
    assert none.low == -none.high < -0.05  # type: ignore[operator]
    unbounded = cluster_interval([0.1 + 0.2, 0.3], ["a", "b"])  # equal but for rounding
    assert (unbounded.low, unbounded.high) == (None, None)


def test_bounds_are_kept() -> None:
    found = cluster_interval([0.0, 0.0, 0.1], ["a", "b", "c"], bounds=SHARE)
    assert found.low == 0.0 and found.high is not None and found.high <= 1
    with pytest.raises(BadInput, match="outside"):
        cluster_interval([0.0, 1.5], ["a", "b"], bounds=SHARE)


def test_pairing_removes_what_items_differ_in() -> None:
    rng = np.random.default_rng(3)
    before = rng.random(50) * 10
    after = before + 0.1 + rng.normal(scale=0.01, size=50)
    found = paired_difference(before.tolist(), after.tolist(), list(range(50)))
    assert found.low is not None and found.low > 0.09 and found.mean == pytest.approx(0.1, abs=0.01)
    assert found == paired_difference(before.tolist(), after.tolist(), list(range(50)))


def test_one_cluster_says_nothing_of_the_spread() -> None:
    found = cluster_interval([0.0, 1.0, 1.0], ["t", "t", "t"])
    assert (found.low, found.high) == (None, None) and "no interval" in str(found)
    assert cluster_interval([0.0, 1.0], ["t", "t"], bounds=SHARE).row() | {"mean": 0.5} == {
        "mean": 0.5, "low": 0.0, "high": 1.0, "n": 2, "clusters": 1, "confidence": 0.95,
    }  # fmt: skip
    one = paired_difference([0.0], [1.0], ["t"], bounds=DIFFERENCE)
    assert (one.low, one.high) == (-1.0, 1.0)


def test_impossible_counts_are_refused() -> None:
    for call in (
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
        lambda: pass_at_k(2, 1, 3),
        lambda: pass_hat_k(2, 3, 1),
        lambda: cluster_interval([], []),
        lambda: cluster_interval([1.0], []),
        lambda: paired_difference([1.0], [], ["a"]),
        lambda: student_t(1.0, 3),
        lambda: student_t(0.9, 0),
    ):
        with pytest.raises(BadInput):
            call()
