"""The committed result: three seeds of the demo, and the README's table says what the file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS: dict[str, dict[str, Any]] = json.loads((ROOT / "docs" / "results" / "demo.json").read_text(encoding="utf-8"))


def interval(row: dict[str, float]) -> str:
    return f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def table_row(seed: str, figures: dict[str, Any]) -> str:
    train, episodes = figures["train"], figures["episodes"]["sides"]
    success = [f"{100 * episodes[side]['success']['mean']:.0f} %" for side in ("before", "after")]
    minutes = figures["cost"]["total"]["seconds"] / 60
    return (
        f"| {seed} | {figures['pivots']['train']} + {figures['pivots']['heldout']} "
        f"| {interval(train['before']['reward'])} | {interval(train['after']['reward'])} | {interval(train['gain'])} "
        f"| {success[0]} → {success[1]} | {minutes:.1f} |"
    )


def test_the_heldout_reward_rises_by_more_than_its_interval() -> None:
    assert list(RESULTS) == ["1", "2", "3"]
    for seed, figures in RESULTS.items():
        assert figures["run"]["command"] == f"pivotgym demo --seed {seed}"
        assert figures["train"]["gain"]["low"] > 0
        assert figures["restore"]["fidelity"] == 1.0


def test_the_readme_says_what_the_file_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [row for row in (table_row(seed, figures) for seed, figures in RESULTS.items()) if row not in readme] == []
