"""Intervals and estimators against closed forms, scipy and simulation."""

from __future__ import annotations

from itertools import combinations
from math import isclose

import numpy as np
import pytest
from needs import require

from pivotgym.envs.errors import BadInput
from pivotgym.harness.stats import cluster_bootstrap, paired_difference, pass_at_k, pass_hat_k, wilson


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


def test_bootstrap_of_independent_values_has_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = cluster_bootstrap(values.tolist(), list(range(400)), draws=8000)
    assert found.low is not None and found.high is not None
    expected = 2 * 1.96 * values.std() / np.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(expected, rel=0.05)


def test_equal_values_in_a_cluster_count_once() -> None:
    """Copying each value ten times inside its cluster adds nothing, so the interval must not shrink."""
    values = np.random.default_rng(1).random(30).tolist()
    single = cluster_bootstrap(values, list(range(30)))
    copied = cluster_bootstrap([v for v in values for _ in range(10)], [c for c in range(30) for _ in range(10)])
    assert (copied.low, copied.high) == (pytest.approx(single.low), pytest.approx(single.high))
    assert copied.n == 300 and copied.clusters == 30


def test_bootstrap_covers_the_truth() -> None:
    rng, hits = np.random.default_rng(2), 0
    for trial in range(200):
        effects = rng.normal(size=40)
        values = [effect + noise for effect in effects for noise in rng.normal(size=3)]
        found = cluster_bootstrap(values, [c for c in range(40) for _ in range(3)], seed=trial, draws=500)
        assert found.low is not None and found.high is not None
        hits += found.low <= 0 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def test_pairing_removes_what_items_differ_in() -> None:
    rng = np.random.default_rng(3)
    before = rng.random(50) * 10
    after = before + 0.1 + rng.normal(scale=0.01, size=50)
    found = paired_difference(before.tolist(), after.tolist(), list(range(50)))
    assert found.low is not None and found.low > 0.09 and found.mean == pytest.approx(0.1, abs=0.01)
    assert found == paired_difference(before.tolist(), after.tolist(), list(range(50))), "seeded"


def test_one_cluster_has_no_interval() -> None:
    found = cluster_bootstrap([0.0, 1.0, 1.0], ["t", "t", "t"])
    assert (found.low, found.high) == (None, None) and "no interval" in str(found)


def test_impossible_counts_are_refused() -> None:
    for call in (
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
        lambda: pass_at_k(2, 1, 3),
        lambda: pass_hat_k(2, 3, 1),
        lambda: cluster_bootstrap([], []),
        lambda: cluster_bootstrap([1.0], []),
        lambda: paired_difference([1.0], [], ["a"]),
    ):
        with pytest.raises(BadInput):
            call()
