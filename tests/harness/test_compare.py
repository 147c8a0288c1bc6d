"""The whole comparison with tiny settings: every arm runs, costs add up, kills change nothing, errors are named."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import WRITING, Hit, Watch, draw_aims, kill_at, pieces

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.harness.compare import desk_recordings, desk_tasks, run_compare
from pivotgym.harness.compare_config import CompareConfig, TaskSet, load_config
from pivotgym.harness.compare_report import plain_losses, told, verdict
from pivotgym.harness.policies.small import SmallOptions, make_small_policy, parameters, teach_copying, wire_copying
from pivotgym.harness.reprofiling import needs_reprofiling, zero_variance_share

KINDS = ["password"]
TINY: dict[str, Any] = {
    "seeds": [1],
    "start": {
        "small": {"layers": 2, "hidden": 48, "heads": 2, "feed_forward": 96, "merges": 200, "copying": 0},
        "tasks": {"name": "start", "kinds": KINDS, "count": 32, "seed": 1},
        "epochs": 20,
        "slip_epochs": 1,
        "lr": 1e-2,
        "batch": 8,
        "pack_tokens": 512,
    },
    "train": {"kinds": KINDS, "count": 8, "seed": 2},
    "evaluate": [
        {"name": "in-domain", "kinds": KINDS, "count": 4, "seed": 3},
        {"name": "held-out", "split": "heldout", "kinds": KINDS, "count": 4},
    ],
    "budget_turns": 300,
    "max_turns": 3,
    "max_tokens": 40,
    "profile": {"rollouts": 4, "stop_error": 0.5, "max_mean": 1.0},
    "methods": {
        "sft": {"epochs": 2, "batch": 4},
        "grpo": {"batch": 2, "group": 4, "optim": {"lr": 1e-3}},
        "pivotrl": {"batch": 2, "group": 4, "optim": {"lr": 1e-3}, "save_every": 2},
    },
    "arms": [
        {"name": "sft", "method": "sft"},
        {"name": "grpo", "method": "grpo"},
        {"name": "pivotrl", "method": "pivotrl"},
        {"name": "exact", "method": "pivotrl", "options": {"verifier": "exact"}},
        {"name": "all-turns", "method": "pivotrl", "turns": "all"},
        {"name": "again", "method": "pivotrl", "reprofile": 0.0},
    ],
    "contrasts": [{"name": "filtering", "arm": "pivotrl", "against": "all-turns"}],
    "forgetting": {
        **{"instructions": 2, "arithmetic": 2, "word_problems": 0, "formats": 0, "facts": 4, "text": 2},
        **{"domains": ["search"], "episodes": 1, "max_turns": 2, "max_tokens": 8, "turn_tokens": 8, "chunk": 1},
    },
    "forgetting_arms": ["sft", "pivotrl"],
}


def config(**changed: Any) -> CompareConfig:
    return CompareConfig.model_validate({**TINY, **changed})


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed comparison."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("compare") / "calm"
    assert run_compare(config(), out) is not None
    return out


def test_every_arm_runs_and_its_costs_add_up(calm: Path) -> None:
    found = json.loads((calm / "compare.json").read_text(encoding="utf-8"))
    assert list(found["arms"]) == ["start", *(arm["name"] for arm in TINY["arms"])]
    profiled = sum(len(row["rewards"]) for row in read_rows(calm / "seed-1" / "profile" / "profile.jsonl"))
    for name, arm in found["arms"].items():
        for wanted in ("in-domain", "held-out"):
            result = arm["sets"][wanted]
            rows = list(read_rows(calm / "seed-1" / name / "evaluate" / wanted / "episodes.jsonl"))
            assert result["episodes"] == len(rows) == 4
            assert result["success"]["mean"] == sum(row["reward"] >= 1 for row in rows) / 4
            assert 0 <= result["success"]["low"] <= result["success"]["high"] <= 1
        if name == "start":
            continue
        cost, steps = arm["cost"], arm["steps"]
        turns = {"sft": 0, "all-turns": steps * 8, "pivotrl": profiled + steps * 8, "exact": profiled + steps * 8}
        if name in turns:
            assert cost["rollout_turns"] == turns[name]
        if name == "grpo":
            metrics = read_rows(calm / "seed-1" / "grpo" / "train" / "metrics.jsonl")
            assert cost["rollout_turns"] == sum(row["rollout_turns"] for row in metrics) >= 300
        elif name != "sft":
            assert 292 < cost["rollout_turns"] <= 300, "the budget is used up, profiling included"
            assert cost["model_calls"] == cost["rollout_turns"]
        assert cost["trained_tokens"] > 0 or arm["zero_variance"] == 1
        assert cost["measured"]["seconds"] > 0 and cost["measured"]["cpu_seconds"] > 0
    contrast = found["contrasts"][0]["sets"]["in-domain"]
    success = {name: found["arms"][name]["sets"]["in-domain"]["success"]["mean"] for name in ("pivotrl", "all-turns")}
    assert contrast["mean"] == pytest.approx(success["pivotrl"] - success["all-turns"])
    assert contrast["seeds"] == [pytest.approx(contrast["mean"])]
    saved = found["profiles"][0]["savings"]
    assert saved["sampled"] == profiled < saved["rollouts"] and 0 < saved["error"] <= 0.5
    legs = found["arms"]["again"]["legs"][0]
    assert len(legs) > 1, "any group without a signal asks for a new profile here"
    assert (calm / "seed-1" / "again" / "train" / "leg-2" / "profile" / "profile.jsonl").exists()


def test_table_and_plots_are_there(calm: Path) -> None:
    text = (calm / "compare.md").read_text(encoding="utf-8")
    for name in (
        "start",
        "grpo",
        "exact",
        "rollout turns",
        "in-domain: success",
        "stated error",
        "pivotrl − all-turns",
    ):
        assert name in text
    for name in ("success", "training"):
        assert (calm / f"{name}.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_what_was_forgotten_is_measured_on_every_arm_that_is_asked_for(calm: Path) -> None:
    found = json.loads((calm / "compare.json").read_text(encoding="utf-8"))["forgetting"]
    assert found["policies"] == ["sft", "pivotrl"] and not found["unmeasured"]
    metrics = {row["metric"]: row for row in found["metrics"]}
    assert {"arithmetic", "nats_per_byte", "episodes_search"} <= set(metrics)
    # What pooled runs are told as is what the rows of their folders say.
    rows = {name: list(read_rows(calm / "forgetting" / name / "text.jsonl")) for name in ("base", "sft-1", "pivotrl-1")}
    for name in ("sft", "pivotrl"):
        shown = metrics["nats_per_byte"]["policies"][name]
        nats, base = ([row["scores"]["nats"] for row in rows[key]] for key in (f"{name}-1", "base"))
        size = sum(row["scores"]["bytes"] for row in rows["base"])
        assert shown["value"]["mean"] == pytest.approx(sum(nats) / size)
        assert shown["change"]["mean"] == pytest.approx((sum(nats) - sum(base)) / size)
        assert shown["change"]["mean"] != 0.0
    table = (calm / "compare.md").read_text(encoding="utf-8")
    assert "Plain text, nats a byte" in table and "not measured (`pivotgym forget`" not in table


def test_a_second_start_does_nothing_again(calm: Path) -> None:
    def stamps() -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in (calm / "seed-1").rglob("*") if file.name[0] != "."}

    before, metrics = stamps(), (calm / "metrics.json").read_bytes()
    run_compare(config(), calm)
    assert stamps() == before
    assert (calm / "metrics.json").read_bytes() == metrics
    with pytest.raises(BadInput, match="budget_turns was 300, now 270"):
        run_compare(config(budget_turns=270), calm)


def killed_often(calm: Path, out: Path, kills: int, seed: int) -> list[Hit]:
    """Runs the real command in processes that are killed inside drawn pieces of work, then to its end."""
    file = out.with_suffix(".json")
    file.write_text(json.dumps(TINY), encoding="utf-8")
    command = [sys.executable, "-m", "pivotgym.harness.cli", "compare", str(file), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    course, hits = pieces(calm), list[Hit]()
    for aim in draw_aims(course, kills, random.Random(seed)):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )
        try:
            hit = kill_at(process, Watch(out, course), aim)
        finally:
            process.kill()
            _, said = process.communicate(timeout=60)
        assert hit is not None, f"ended before it could be disturbed at {aim}: {said[-3000:]}"
        assert process.returncode == -signal.SIGKILL
        hits.append(hit)
    print("killed:", *hits, sep="\n")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "against pivotrl" in done.stdout.replace("\n", " ") or "pivotrl" in done.stdout
    assert (out / "metrics.json").read_bytes() == (calm / "metrics.json").read_bytes()
    return hits


def test_two_kills_change_nothing(calm: Path, tmp_path: Path) -> None:
    hits = killed_often(calm, tmp_path / "killed", 2, seed=1)
    assert {hit.kind for hit in hits} > {WRITING}, "while a checkpoint was written, and inside a piece of work"


@pytest.mark.slow
def test_ten_kills_in_any_phase_change_nothing(calm: Path, tmp_path: Path) -> None:
    hits = killed_often(calm, tmp_path / "killed", 10, seed=2)
    kinds = {"sft", "profile", "train", "train on episodes", "evaluate episodes", "forgetting"}
    assert {piece.kind for piece in pieces(calm)} == {"make", *kinds}
    # Each of the seven is aimed at; a machine that is much faster or slower at times may make an aim miss its kind.
    hit = {hit.kind for hit in hits}
    assert len(hit) >= 4 and hit > {WRITING}, f"killed in {sorted(hit)} only"


def test_seeds_may_be_run_apart(tmp_path: Path) -> None:
    arms = [{"name": "pivotrl", "method": "sft"}]
    small = config(seeds=[1, 2], arms=arms, contrasts=[], forgetting_arms=[], start={**TINY["start"], "epochs": 0.4})
    assert run_compare(small, tmp_path, seeds=[2]) is None
    found = run_compare(small, tmp_path, seeds=[1])
    assert found is not None and found["arms"]["pivotrl"]["sets"]["in-domain"]["episodes"] == 8
    forgotten = {row["metric"]: row for row in found["forgetting"]["metrics"]}
    assert forgotten["arithmetic"]["policies"]["pivotrl"]["change"]["n"] == 4, "two items, two seeds"
    with pytest.raises(BadInput, match="no seed 7"):
        run_compare(small, tmp_path, seeds=[7])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arms": [{"name": "pivotrl", "method": "pivotrl", "options": {"beta": -1}}]}, "pivotrl.beta"),
        ({"arms": [{"name": "pivotrl", "method": "grpo", "options": {"steps": 3}}]}, "pivotrl.steps"),
        ({"methods": {"sft": {"epoch": 1}}}, "sft.epoch"),
    ],
)
def test_wrong_settings_of_an_arm_are_named_before_anything_runs(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        run_compare(config(contrasts=[], forgetting_arms=[], **changed), tmp_path / "run")
    assert caught.value.field == said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "text", "field"),
    [
        ("a.toml", "budget_turns = 0", "budget_turns"),
        ("a.toml", "seeds = [1, 1]", "seeds"),
        ("a.json", '{"reference_arm": "nobody"}', None),
        ("a.json", '{"contrasts": [{"name": "x", "arm": "sft", "against": "nobody"}]}', None),
        ("a.json", '{"forgetting_arms": ["nobody"]}', None),
        ("a.json", '{"seeds": [1,}', None),
        ("a.toml", '[[arms]]\nname = "sft"\nmethod = "sft"\nturns = "all"', "arms.0"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, name: str, text: str, field: str | None) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=name) as caught:
        load_config(tmp_path / name)
    assert caught.value.field == field


def test_sets_of_tasks_share_nothing() -> None:
    train = desk_tasks(TaskSet(count=60, seed=2, without=("where",)))
    other = desk_tasks(TaskSet(count=60, seed=3, kinds=("where", "news")))
    assert len({task.key for task in [*train, *other]}) == 120
    assert {task.id.split("-")[0] for task in other} == {"where", "news"}
    assert not any(task.id.startswith("where-") for task in train)
    with pytest.raises(BadInput, match="nonsense"):
        desk_tasks(TaskSet(kinds=("nonsense",)))


def test_the_small_policy_is_made_from_its_seed_and_can_copy() -> None:
    recordings = desk_recordings(desk_tasks(TaskSet(count=40, seed=1)))
    options = SmallOptions(copying=0)
    made, again = (make_small_policy(recordings, options) for _ in range(2))
    assert made.fingerprint == again.fingerprint
    assert make_small_policy(recordings, SmallOptions(copying=0, seed=1)).fingerprint != made.fingerprint
    assert 1_000_000 <= parameters(made) <= 5_000_000
    text = 'Größe 17 €, <|end|> {"a": [1, 2]}\n'
    assert made.tokenizer.decode(made.tokenizer.encode(text, add_special_tokens=False)) == text
    wire_copying(made.model, 0)
    losses = teach_copying(made.model, 30, 0)
    assert losses[-1] < 1.0 < float(torch.tensor(float(len(made.tokenizer))).log()) / 4, "far below chance"


def test_when_to_profile_again() -> None:
    rows = [{"groups": 4, "groups_with_signal": signal} for signal in (4, 4, 1, 1, 0)]
    assert zero_variance_share(rows) == 0.5
    assert zero_variance_share(rows, 2) == pytest.approx(7 / 8)
    assert zero_variance_share([{"kind": "eval"}]) is None
    told = [{**row, "groups_zero_variance": 1} for row in rows]
    assert zero_variance_share(told) == 0.25, "what is said of rewards counts, not what has a gradient"
    assert needs_reprofiling(rows, 0.6, 3) and not needs_reprofiling(rows, 0.6, 5)
    assert not needs_reprofiling(rows[-2:], 0.6, 3), "too few steps to tell"


def test_what_a_difference_shows() -> None:
    assert verdict({"mean": 0.2, "low": 0.1, "high": 0.3}) == "ahead"
    assert verdict({"mean": -0.2, "low": -0.3, "high": -0.1}) == "behind"
    assert verdict({"mean": 0.1, "low": -0.1, "high": 0.3}) == "not told apart"
    assert verdict({"mean": 0.2, "low": 0.1, "high": 0.3, "seeds": [0.5, -0.1]}) == "not told apart", "seeds disagree"
    assert verdict({"mean": -0.2, "low": -0.3, "high": -0.1, "seeds": [-0.2, -0.2]}) == "behind"
    assert told({"mean": 0.2, "low": 0.1, "high": 0.3, "seeds": [0.2]}) == "+0.20 [+0.10, +0.30] ahead"
    same = {"mean": 0.0, "low": -0.1, "high": 0.1, "seeds": [0.0], "identical": True}
    assert told(same) == "equal in every episode"
    ahead = {"sets": {"x": {"over_reference": {"mean": 0.2, "low": 0.1, "high": 0.3}}}}
    assert plain_losses({"arms": {"sft": ahead}, "sets": ["x"], "reference_arm": "pivotrl"}) == [
        "x: sft is ahead of pivotrl by +0.20 [+0.10, +0.30]"
    ]
