"""``pivotgym train`` from the command line: whole episodes, stored references, a curriculum, profiling again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import save_trajectories
from pivotgym.envs.formats.jsonl import read_rows, write_rows
from pivotgym.harness.cli import main
from pivotgym.harness.pivots import Curriculum, Pivot, load_pivots, state_key
from pivotgym.harness.profiling import ProfileConfig, logprobs_file, profile, split_key
from pivotgym.harness.train import TrainConfig, Trainer
from pivotgym.harness.training_inputs import profile_of, tasks_in


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``policy``, ``traces.jsonl``, ``profile.jsonl`` (log-probabilities stored) and ``pivots.jsonl``."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("start")
    weights = lamps.supervised(folder / "sft", epochs=4)
    (folder / "policy").symlink_to(weights)
    save_trajectories(folder / "traces.jsonl", lamps.trajectories(24, turns=1, seed=2))
    told = ("--rollouts", "6", "--max-tokens", "4", "--chunk", "5", "--store-logprobs")
    source, out = str(folder / "traces.jsonl"), str(folder / "profile.jsonl")
    assert run("profile", source, "--policy", str(folder / "policy"), "--out", out, *told) == 0
    assert run("filter", out, "--out", str(folder / "pivots.jsonl"), "--max-mean", "0.95", "--heldout", "0.3") == 0
    return folder


def train(start: Path, out: Path, *more: str, file: str = "pivots.jsonl") -> int:
    given = ("train", str(start / file), "--policy", str(start / "policy"), "--out", str(out), "--full")
    return run(*given, "--batch", "3", "--group", "4", "--max-tokens", "4", "--lr", "2e-3", *more)


@pytest.mark.parametrize("kind", ["trajectories", "tasks"])
def test_whole_episodes(start: Path, tmp_path: Path, kind: str) -> None:
    file = "traces.jsonl"
    if kind == "tasks":
        file = "tasks.jsonl"
        write_rows(start / file, [lamps.task(key).model_dump() for key in "abcd"])
    arguments = ("--method", "grpo", "--max-turns", "3", "--beta", "0.1", "--options", '{"loss": "gspo"}')
    figures = tmp_path / "figures.json"
    assert train(start, tmp_path / "run", *arguments, "--steps", "2", "--json", str(figures), file=file) == 0
    rows = list(read_rows(tmp_path / "run" / "metrics.jsonl"))
    found = json.loads(figures.read_text())
    assert [row["kind"] for row in rows] == ["episodes"] * 2
    assert found["tasks"] == len({task.key for task in tasks_in(start / file)}) <= 8
    assert found["rollout_turns"] == sum(row["rollout_turns"] for row in rows) >= 2 * 3 * 4
    assert (tmp_path / "run" / "final" / "model.safetensors").is_file()
    assert train(start, tmp_path / "run", *arguments, "--steps", "3", file=file) == 2, "a run was begun here"
    assert train(start, tmp_path / "run", *arguments, "--steps", "3", "--resume", file=file) == 0
    assert len(list(read_rows(tmp_path / "run" / "metrics.jsonl"))) == 3
    assert run("report", str(tmp_path / "run")) == 0


def test_files_without_tasks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"env": "pivotgym/Tools-v0", "id": "a"}\n{"env": "pivotgym/Tools-v0", "id": 7}\n')
    with pytest.raises(BadInput) as caught:
        tasks_in(path)
    assert (caught.value.line, caught.value.field) == (2, "id")
    homeless = [item.model_copy(update={"task": None}) for item in lamps.trajectories(1)]
    save_trajectories(path, homeless)
    with pytest.raises(BadInput, match="names no task"):
        tasks_in(path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--method", "grpo", "--eval-every", "3"), "--eval-every"),
        (("--method", "grpo", "--reprofile", "0.5"), "--reprofile"),
        (("--max-turns", "3"), "--max-turns"),
        (("--budget-turns", "300"), "--budget-turns"),
        (("--reprofile", "0.5", "--profile", "nowhere.jsonl"), "nowhere.settings.json"),
    ],
)
def test_options_of_other_methods(
    start: Path, tmp_path: Path, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(start, tmp_path / "run", *arguments) == 2
    assert told in capsys.readouterr().err.replace("\n", "")


def test_the_profile_is_the_reference(start: Path, tmp_path: Path) -> None:
    stored = str(logprobs_file(start / "profile.jsonl"))
    options = {"reference_logprobs": stored, "reference_missing": "skip"}
    assert train(start, tmp_path / "run", "--beta", "0.1", "--steps", "1", "--options", json.dumps(options)) == 0
    row = next(row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "train")
    assert 0.5 < row["kl_share"] <= 1, "a sharp policy repeats what was profiled"
    assert row["kl"] == pytest.approx(0, abs=1e-5), "nothing has been learned yet"


def test_stored_logprobs_survive_a_kill(start: Path, tmp_path: Path) -> None:
    """A chunk whose rows were lost is stored once, in its place."""
    recorded = lamps.trajectories(24, turns=1, seed=2)
    config = ProfileConfig(rollouts=2, max_tokens=4, chunk=5, store_logprobs=True)
    weights, out = start / "policy", tmp_path / "profile.jsonl"
    profile(recorded, lamps.loaded(weights), config, out)
    rows, stored = out.read_bytes(), logprobs_file(out).read_bytes()
    lines = rows.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:12]))  # two chunks of five, and a part of the third
    profile(recorded, lamps.loaded(weights), config, out)
    assert out.read_bytes() == rows and logprobs_file(out).read_bytes() == stored
    with pytest.raises(BadInput, match="store_logprobs"):
        profile(recorded, lamps.loaded(weights), config.model_copy(update={"store_logprobs": False}), out)


def test_training_in_legs(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figures = tmp_path / "run", tmp_path / "figures.json"
    arguments = ("--reprofile", "0.0", "--budget-turns", "700", "--eval-rollouts", "2", "--json", str(figures))
    assert train(start, out, *arguments) == 0
    found = json.loads(figures.read_text())
    assert len(found["legs"]) > 1 and found["rollout_turns"] <= 700, "any group without a signal asks for a profile"
    assert f"leg-{len(found['legs'])}/train/final" in capsys.readouterr().out.replace("\n", "")
    held = [pivot for pivot in load_pivots(start / "pivots.jsonl") if pivot.split == "heldout"]
    assert held and found["gain"] is not None and len(found["after"]["means"]) == len(held)
    names = {split_key(pivot.trajectory, "task") for pivot in held}
    states = {state_key(pivot) for pivot in held}
    for leg in range(2, len(found["legs"]) + 1):
        fresh = load_pivots(out / f"leg-{leg}" / "pivots.jsonl")
        assert fresh and not {split_key(pivot.trajectory, "task") for pivot in fresh} & names
        assert not {state_key(pivot) for pivot in fresh} & states
    assert train(start, out, *arguments) == 2, "a run was begun here"
    before = (out / "legs.json").read_bytes()
    assert train(start, out, *arguments, "--resume") == 0 and (out / "legs.json").read_bytes() == before
    profile_config, filter_config, recordings = profile_of(start / "pivots.jsonl")
    assert (profile_config.rollouts, filter_config.max_mean, len(recordings)) == (6, 0.95, 24)


def test_a_curriculum_chooses_the_pivots(start: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch": 2, "group": 4, "max_tokens": 4, "lora": None, "eval_every": 0}
    rates = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]
    pivots = [
        Pivot(trajectory=item, turn=0, profile={"mean": rate})
        for item, rate in zip(lamps.trajectories(6, turns=1, seed=3), rates, strict=True)
    ]
    plan = Curriculum(start=0.9, end=0.1, width=0.02, steps=10)
    trainer = Trainer(pivots, lamps.policy(), TrainConfig(**options, curriculum=plan), tmp_path / "run")
    chosen = [[pivot.profile["mean"] for pivot in trainer.batch(step)] for step in (1, 10, 30)]
    assert chosen == [[0.8, 0.9], [0.1, 0.2], [0.1, 0.2]]
    trainer.runner.close()
    config = TrainConfig(**options, curriculum=plan)
    with pytest.raises(BadInput, match="no profile"):
        Trainer([Pivot(trajectory=pivots[0].trajectory, turn=0)], lamps.policy(), config, tmp_path / "other")
    given = json.dumps({"curriculum": {"start": 0.8, "steps": 4}})
    assert train(start, tmp_path / "command", "--steps", "2", "--options", given, "--eval-rollouts", "1") == 0
    settings = json.loads((tmp_path / "command" / "settings.json").read_text())["settings"]
    assert settings["curriculum"] == {"start": 0.8, "end": 0.3, "width": 0.2, "steps": 4}
