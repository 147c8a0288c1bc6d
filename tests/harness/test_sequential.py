"""Sequential testing: the stated error holds, curtailment never errs, what was saved is counted."""

from __future__ import annotations

import itertools
from pathlib import Path

import lamps
import numpy as np
import pytest
import torch

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.harness.options import OptimOptions
from pivotgym.harness.pivots import (
    Curriculum,
    FilterConfig,
    Pivot,
    filter_file,
    load_pivots,
    make_pivots,
    pass_rate,
    select_by_difficulty,
    state_key,
)
from pivotgym.harness.profiling import ProfileConfig, profile
from pivotgym.harness.sequential import (
    SequentialOptions,
    decide,
    looks,
    miss_probability,
    samples_to_stop,
    savings,
)
from pivotgym.harness.sft import SftConfig, train_sft


@pytest.mark.parametrize("error", [0.01, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("margin", [0.05, 0.2, 0.25, 0.5])
def test_the_fewest_samples_that_keep_the_error(error: float, margin: float) -> None:
    needed = samples_to_stop(error, margin, 10_000)
    assert needed is not None and needed >= 2
    inside = np.linspace(margin, 1 - margin, 101)
    assert max(miss_probability(needed, p) for p in inside) <= error + 1e-12
    if needed > 2:
        assert miss_probability(needed - 1, margin) > error
    # Nothing is saved where as many samples are needed as there are.
    assert samples_to_stop(error, margin, needed) is None
    assert samples_to_stop(error, margin, needed + 1) == needed


def test_bad_errors_are_refused() -> None:
    for error, margin in ((0.0, 0.2), (1.0, 0.2), (0.1, 0.0), (0.1, 0.6)):
        with pytest.raises(BadInput, match="margin"):
            samples_to_stop(error, margin, 8)


def test_candidates_in_the_margin_are_lost_as_rarely_as_stated() -> None:
    options, rollouts = SequentialOptions(error=0.2, margin=0.25), 16
    rng = np.random.default_rng(0)
    for success in (0.25, 0.5, 0.75):
        lost = 0
        for _ in range(2000):
            rewards = (rng.random(rollouts) < success).astype(float).tolist()
            reached = next((upto for upto in looks(rollouts, options) if decide(rewards[:upto], rollouts, options)), 0)
            lost += reached > 0
        # The exact probability, within four standard errors of 2000 trials.
        needed = samples_to_stop(0.2, 0.25, rollouts)
        assert needed is not None
        exact = miss_probability(needed, success)
        assert exact <= 0.2
        assert abs(lost / 2000 - exact) < 4 * (exact * (1 - exact) / 2000) ** 0.5 + 1e-9


def test_curtailment_never_drops_what_the_filter_would_keep() -> None:
    options, rollouts = SequentialOptions(error=None, max_mean=0.5), 6
    places = looks(rollouts, options)
    assert places[-1] == rollouts and len(places) > 1
    stopped = 0
    for rewards in itertools.product((0.0, 0.5, 1.0), repeat=rollouts):
        for upto in places:
            if decide(rewards[:upto], rollouts, options) == "too_easy":
                assert sum(rewards) / rollouts > 0.5
                stopped += upto < rollouts
                break
    assert stopped > 0


def test_unequal_and_partial_rewards_go_on() -> None:
    options = SequentialOptions(error=0.2, margin=0.25)
    assert decide([0.0] * 6, 16, options) == "all_wrong"
    assert decide([1.0] * 6, 16, options) == "all_right"
    assert decide([0.0] * 5 + [1.0], 16, options) is None
    assert decide([0.5] * 6, 16, options) is None, "equal, but neither right nor wrong"
    assert decide([0.0] * 16, 16, options) is None, "nothing is left to stop"


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that are sometimes right."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("warm")
    config = SftConfig(lora=None, epochs=6, batch=8, optim=OptimOptions(lr=3e-3))
    return train_sft(lamps.trajectories(40, seed=1), lamps.policy(), config, folder).weights


def test_a_profile_stops_early_and_counts_it(warm: Path, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    policy = lamps.policy()
    policy.model.load_state_dict(LlamaForCausalLM.from_pretrained(warm).state_dict())
    recorded = lamps.trajectories(20, seed=2)
    stopping = ProfileConfig(rollouts=12, max_tokens=4, chunk=5, stop_error=0.3, stop_margin=0.3, stop_above=0.6)
    rows = profile(recorded, policy, stopping, tmp_path / "profile.jsonl")
    fixed = profile(recorded, policy, ProfileConfig(rollouts=12, max_tokens=4, chunk=5), tmp_path / "fixed.jsonl")
    assert all("stopped" not in row for row in fixed) and all(len(row["rewards"]) == 12 for row in fixed)
    options = stopping.sequential
    assert options is not None
    first = looks(12, options)[0]
    stopped = [row for row in rows if row["stopped"]]
    assert stopped, "the policy is too uncertain for this test"
    for row in rows:
        rewards = row["rewards"]
        assert len(rewards) == len(row["completions"]) == len(row["tokens"]) == len(row["verdicts"])
        if row["stopped"] is None:
            assert len(rewards) == 12
        elif row["stopped"] == "too_easy":
            assert sum(rewards) / 12 > 0.6
        else:
            assert len(rewards) == first and len(set(rewards)) == 1
    told = savings(rows, 12, options)
    assert told.sampled == sum(len(row["rewards"]) for row in rows) < told.rollouts == 12 * len(rows)
    assert told.error == miss_probability(first, 0.3) <= 0.3
    # The same on a second start, and after what a kill leaves: whole chunks stay, the rest is sampled anew.
    before = (tmp_path / "profile.jsonl").read_bytes()
    lines = before.splitlines(keepends=True)
    (tmp_path / "profile.jsonl").write_bytes(b"".join(lines[:13]) + lines[13][:20])
    profile(recorded, policy, stopping, tmp_path / "profile.jsonl")
    assert (tmp_path / "profile.jsonl").read_bytes() == before
    # The filter keeps no candidate that was given up.
    report = filter_file(tmp_path / "profile.jsonl", tmp_path / "pivots.jsonl", FilterConfig(max_mean=0.6))
    kept = {(pivot.trajectory.id, pivot.turn) for pivot in load_pivots(tmp_path / "pivots.jsonl")}
    assert kept == {
        (row["trajectory"], row["turn"])
        for row in read_rows(tmp_path / "profile.jsonl")
        if row["var"] > 0 and row["mean"] <= 0.6
    }
    assert report.kept == len(kept)


def pivots(rates: list[float]) -> list[Pivot]:
    recorded = lamps.trajectories(len(rates), seed=4)
    return [Pivot(trajectory=item, turn=1, profile={"mean": rate}) for item, rate in zip(recorded, rates, strict=True)]


def test_difficulty_is_chosen_near_the_target() -> None:
    made = pivots(np.linspace(0.05, 0.95, 60).tolist())
    sharp = select_by_difficulty(made, 10, target=0.3, width=0.02, seed=1)
    assert max(abs(pass_rate(pivot) - 0.3) for pivot in sharp) < 0.12
    wide = [pass_rate(pivot) for seed in range(40) for pivot in select_by_difficulty(made, 10, 0.3, 100.0, seed)]
    assert abs(float(np.mean(wide)) - 0.5) < 0.05, "a wide target takes anything"
    assert select_by_difficulty(made, 10, seed=3) == select_by_difficulty(made, 10, seed=3)
    assert select_by_difficulty(made, 99) == made
    with pytest.raises(BadInput, match="no profile"):
        select_by_difficulty([Pivot(trajectory=made[0].trajectory, turn=1), *made], 5)


def test_a_curriculum_moves_from_easy_to_hard() -> None:
    made = pivots(np.linspace(0.05, 0.95, 60).tolist())
    plan = Curriculum(start=0.8, end=0.2, width=0.1, steps=20)
    means = [float(np.mean([pass_rate(p) for p in plan.batch(made, 8, step, seed=5)])) for step in range(1, 21)]
    assert means[0] > 0.65 and means[-1] < 0.35
    assert plan.target(1) == 0.8 and plan.target(20) == plan.target(40) == pytest.approx(0.2)
    assert plan.batch(made, 8, 7, seed=5) == plan.batch(made, 8, 7, seed=5)


def test_held_out_pivots_at_a_state_that_is_trained_on_are_dropped(tmp_path: Path) -> None:
    recorded = lamps.trajectories(30, seed=6)
    rows = profile(recorded, lamps.policy(), ProfileConfig(rollouts=2, max_tokens=2), tmp_path / "profile.jsonl")
    assert len(rows) == 60
    kept = make_pivots(rows, recorded, FilterConfig(split_by="trajectory", heldout=0.4, drop_shared=False))
    clean = make_pivots(rows, recorded, FilterConfig(split_by="trajectory", heldout=0.4))
    trained = {state_key(pivot) for pivot in kept if pivot.split == "train"}
    leaking = [pivot for pivot in kept if pivot.split == "heldout" and state_key(pivot) in trained]
    assert leaking, "eight first states among thirty trajectories have to meet"
    assert [pivot for pivot in kept if pivot not in leaking] == clean
    by_task = make_pivots(rows, recorded, FilterConfig(split_by="task", heldout=0.4))
    trained = {state_key(pivot) for pivot in by_task if pivot.split == "train"}
    assert not any(state_key(pivot) in trained for pivot in by_task if pivot.split == "heldout")


def test_a_limit_is_told(warm: Path, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    policy = lamps.policy()
    policy.model.load_state_dict(LlamaForCausalLM.from_pretrained(warm).state_dict())
    profile(lamps.trajectories(12, seed=7), policy, ProfileConfig(max_tokens=4), tmp_path / "profile.jsonl")
    every = filter_file(tmp_path / "profile.jsonl", tmp_path / "all.jsonl", FilterConfig(max_mean=1.0))
    assert every.train > 1
    some = filter_file(tmp_path / "profile.jsonl", tmp_path / "some.jsonl", FilterConfig(max_mean=1.0, limit=1))
    assert (some.train, some.heldout) == (1, every.heldout)
    assert some.over_limit == every.train - 1 and some.kept == 1 + every.heldout
