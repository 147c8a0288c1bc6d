"""The committed comparison: what was run is what the config says, and the page's tables say what the files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from compare_pages import comparison_page, equal_steps

from pivotgym.harness.compare_config import load_config
from pivotgym.harness.compare_report import START, plots

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULT: dict[str, Any] = json.loads((DOCS / "results" / "compare.json").read_text(encoding="utf-8"))
REWARDS: dict[str, Any] = json.loads((DOCS / "results" / "compare_rewards.json").read_text(encoding="utf-8"))
TUNING: dict[str, Any] = json.loads((DOCS / "results" / "compare_tuning.json").read_text(encoding="utf-8"))
PAGE = (DOCS / "compare.md").read_text(encoding="utf-8")
METHODS = {"sft", "grpo", "pivotrl"}


def test_the_file_is_of_the_committed_config_and_three_seeds() -> None:
    assert RESULT["command"] == "pivotgym compare docs/compare/service_desk.toml"
    assert RESULT["config"] == load_config(DOCS / "compare" / "service_desk.toml").model_dump(mode="json")
    assert len(RESULT["seeds"]) == 3
    assert set(RESULT["arms"]) >= METHODS


def test_every_arm_kept_to_the_budget_and_played_every_task() -> None:
    config = RESULT["config"]
    for name, arm in RESULT["arms"].items():
        for wanted in config["evaluate"]:
            assert arm["sets"][wanted["name"]]["episodes"] == wanted["count"] * len(RESULT["seeds"])
        if name == START:
            continue
        # The last step of end-to-end GRPO begins within the budget and may end behind it.
        longest = config["methods"]["grpo"]["batch"] * config["methods"]["grpo"]["group"] * config["max_turns"]
        over = longest if arm["method"] == "grpo" else 0
        assert arm["cost"]["rollout_turns"] <= config["budget_turns"] + over
        assert (arm["cost"]["rollout_turns"] == 0) == (arm["method"] == "sft")


def test_the_page_holds_the_tables_of_the_files() -> None:
    assert comparison_page(PAGE, RESULT, REWARDS, TUNING) == PAGE, "python tests/support/compare_pages.py was forgotten"
    assert "| pivotrl |" in PAGE and "Where the reference does not win" in PAGE
    for name, found in TUNING.items():
        assert found["config"] == load_config(DOCS / "compare" / f"{name}.toml").model_dump(mode="json")


def test_settings_were_chosen_with_other_seeds_and_tasks_at_equal_effort() -> None:
    tried = TUNING["tuning-150"]
    assert not set(tried["seeds"]) & set(RESULT["seeds"])
    assert not {task["seed"] for task in tried["config"]["evaluate"]} & {
        task["seed"] for task in RESULT["config"]["evaluate"]
    }
    count = {method: sum(arm["method"] == method for arm in tried["config"]["arms"]) for method in METHODS}
    assert len(set(count.values())) == 1
    for method in METHODS:
        chosen = RESULT["config"]["methods"][method]["optim"]["lr"]
        arms = {
            arm["name"]: arm["options"]["optim"]["lr"] for arm in tried["config"]["arms"] if arm["method"] == method
        }
        success = {lr: tried["arms"][name]["sets"]["in-domain"]["success"] for name, lr in arms.items()}
        best = max(success.values(), key=lambda row: row["mean"])
        assert best["low"] < success[chosen]["mean"], "not worse than the best, as far as these trials can tell"


@pytest.mark.parametrize("name", ["success", "training"])
def test_the_plots_are_there(name: str) -> None:
    assert f"results/compare_{name}.svg" in PAGE
    committed = (DOCS / "results" / f"compare_{name}.svg").read_text(encoding="utf-8")
    drawn = plots(RESULT)[name]
    assert committed.count("<path") == drawn.count("<path"), "drawn from the committed figures"


@pytest.mark.parametrize(("other", "said"), [("exact", "with exact match in"), ("arguments", "that of execution in")])
def test_how_often_the_rewards_agree(other: str, said: str) -> None:
    same, steps = equal_steps(RESULT, "pivotrl", other)
    assert f"{said} {same} of {steps} steps" in " ".join(PAGE.split())


def test_the_comparison_of_rewards_differs_from_the_other_by_its_start_alone() -> None:
    assert REWARDS["command"] == "pivotgym compare docs/compare/rewards.toml"
    config, other = load_config(DOCS / "compare" / "rewards.toml"), load_config(DOCS / "compare" / "service_desk.toml")
    assert REWARDS["config"] == config.model_dump(mode="json")
    assert len(REWARDS["seeds"]) == 3
    start = config.start.model_copy(update={"other_spellings": 0.0})
    arms = {arm.name for arm in config.arms}
    assert other.model_copy(
        update={
            "arms": tuple(arm for arm in other.arms if arm.name in arms),
            **{name: getattr(config, name) for name in ("methods", "contrasts", "forgetting", "forgetting_arms")},
        }
    ) == config.model_copy(update={"start": start, "arms": tuple(sorted(config.arms, key=by_name(other)))})
    assert config.methods["pivotrl"] == other.methods["pivotrl"]


def by_name(config: Any) -> Any:
    names = [arm.name for arm in config.arms]
    return lambda arm: names.index(arm.name)


def test_there_the_rewards_differ() -> None:
    for name in ("arguments", "exact"):
        same, steps = equal_steps(REWARDS, "pivotrl", name)
        assert same < steps / 10
    for execution, arguments, exact in zip(
        *(REWARDS["arms"][name]["curves"] for name in ("pivotrl", "arguments", "exact")), strict=True
    ):
        # The first update's actions are the same ones; what is equal in its words is equal in its arguments, and so on.
        assert execution[0]["reward"] > arguments[0]["reward"] >= exact[0]["reward"]
