"""Filtering: every candidate is kept or counted under one reason."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, pvariance
from typing import Any

import lamps
import pytest

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import write_jsonl, write_rows
from pivotgym.harness.pivots import FilterConfig, filter_file, filter_profile, load_pivots, make_pivots


def row(rewards: list[float], status: str = "ok", faithful: bool = True, name: str = "t", turn: int = 0) -> Any:
    return {
        "trajectory": name,
        "turn": turn,
        "status": status,
        "rewards": rewards,
        "mean": fmean(rewards) if rewards else None,
        "var": pvariance(rewards) if rewards else None,
        "restore": {"faithful": faithful},
        "completions": ["text"],
    }


ROWS = [
    row([0, 1, 0, 0]),
    row([1, 1, 1, 0]),
    row([0, 0, 0, 0]),
    row([1, 1, 1, 1]),
    row([0.1] * 3),
    row([], "infrastructure"),
    row([], "not_restorable"),
    row([], "too_long"),
    row([0, 1, 0, 1], faithful=False),
]


def test_each_reason_is_counted_once() -> None:
    kept, report = filter_profile(ROWS, max_mean=0.6)
    assert kept == [ROWS[0]]
    assert report.dropped == {
        "infrastructure": 1,
        "too_long": 1,
        "not_restorable": 1,
        "unfaithful": 1,
        "always_wrong": 1,
        "always_right": 1,
        "always_equal": 1,
        "too_easy": 1,
    }
    assert report.candidates == len(ROWS) == report.kept + sum(report.dropped.values())


def test_the_bounds_belong_to_the_pivots() -> None:
    """``mean <= max_mean``, as the tau2 runs of the method used it."""
    assert len(filter_profile([row([1, 1, 1, 0, 0])], max_mean=0.6)[0]) == 1
    assert len(filter_profile([row([1, 1, 1, 0, 0])], max_mean=0.599)[0]) == 0
    assert filter_profile([row([1, 0, 0, 0])], min_mean=0.3)[1].too_hard == 1
    assert len(filter_profile(ROWS, keep_unfaithful=True)[0]) == 2


def test_rounding_is_no_variance() -> None:
    assert pvariance([0.1 + 0.2, 0.3, 0.3]) > 0
    assert filter_profile([row([0.1 + 0.2, 0.3, 0.3])])[1].always_equal == 1


def test_a_row_of_something_else_is_refused() -> None:
    with pytest.raises(BadInput, match="no row of a profile"):
        filter_profile([{"step": 3}])


def test_file_to_file(tmp_path: Path) -> None:
    recorded = lamps.trajectories(10, turns=2)
    rows = [row([0, 1], name=t.id, turn=turn) for t in recorded for turn in range(2)]
    write_rows(tmp_path / "profile.jsonl", rows)
    write_jsonl(tmp_path / "profile.trajectories.jsonl", recorded)
    config = FilterConfig(heldout=0.3, split_by="trajectory")
    report = filter_file(tmp_path / "profile.jsonl", tmp_path / "pivots.jsonl", config)
    assert (report.train, report.heldout, report.dropped_shared) == (14, 5, 1), "one begins where a training pivot does"
    assert (report.train_trajectories, report.heldout_trajectories) == (7, 3)
    pivots = load_pivots(tmp_path / "pivots.jsonl")
    sides = {side: {p.trajectory.id for p in pivots if p.split == side} for side in ("train", "heldout")}
    assert not sides["train"] & sides["heldout"]
    assert pivots[0].trajectory == recorded[0] and pivots[1].turn == 1
    assert pivots[0].profile["rewards"] == [0, 1] and "completions" not in pivots[0].profile


def test_no_task_is_on_both_sides() -> None:
    recorded = lamps.trajectories(24, turns=1)
    pivots = make_pivots([row([0, 1], name=t.id) for t in recorded], recorded)
    sides = {
        side: {p.trajectory.task.id for p in pivots if p.trajectory.task and p.split == side}
        for side in ("train", "heldout")
    }
    assert sides["heldout"] and not sides["train"] & sides["heldout"]


def test_bad_files_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.jsonl"
    with pytest.raises(BadInput, match=r"none\.jsonl"):
        filter_file(missing, tmp_path / "out.jsonl")
    with pytest.raises(BadInput, match=r"none\.jsonl"):
        load_pivots(missing)
    write_rows(tmp_path / "odd.jsonl", [{"turn": 1}])
    with pytest.raises(BadInput) as caught:
        load_pivots(tmp_path / "odd.jsonl")
    assert caught.value.line == 1 and caught.value.field == "trajectory"
    with pytest.raises(BadInput, match="names trajectory"):
        make_pivots([row([0, 1], name="unknown")], lamps.trajectories(1))
