"""The command line, run as a user runs it: what it prints, what it writes, how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import load_trajectories, save_trajectories
from pivotgym.envs.tools.servicedesk import bundled_trajectories
from pivotgym.harness.cli import main, with_config
from pivotgym.harness.commands import bundled_file


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    path = tmp_path / "desk.jsonl"
    save_trajectories(path, bundled_trajectories()[:3])
    return path


def test_restore_writes_the_figures_it_prints(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert run("restore", str(desk), "--json", str(out)) == 0
    figures = json.loads(out.read_text())
    turns = sum(len(trajectory.turns) for trajectory in bundled_trajectories()[:3])
    assert (figures["trajectories"], figures["turns"]) == (3, turns)
    assert figures["observations"] == figures["matched"] > 0
    assert figures["fidelity"] == 1.0
    assert set(figures) >= {"diverged", "seconds"}
    assert str(turns) in capsys.readouterr().out


def test_strict_restore_of_a_forged_recording_fails(desk: Path, tmp_path: Path) -> None:
    trajectory = bundled_trajectories()[0]
    index = next(i for i, message in enumerate(trajectory.messages) if message.role == "tool")
    forged = trajectory.model_copy(deep=True)
    forged.messages[index].content = '{"tier":"platinum"}'
    path, out = tmp_path / "forged.jsonl", tmp_path / "out.json"
    save_trajectories(path, [forged])
    assert run("restore", str(path), "--json", str(out)) == 0
    figures = json.loads(out.read_text())
    assert figures["diverged"] == 1
    assert "platinum" in figures["divergences"][0]["diff"]
    assert run("restore", str(path), "--strict") == 1


def test_convert_there_and_back(desk: Path, tmp_path: Path) -> None:
    openai, back = tmp_path / "openai.jsonl", tmp_path / "back.jsonl"
    assert run("convert", str(desk), "--to", "openai", "--out", str(openai)) == 0
    assert run("convert", str(openai), "--out", str(back)) == 0
    texts = [[(m.role, m.text) for m in t.messages] for t in load_trajectories(back)]
    assert texts == [[(m.role, m.text) for m in t.messages] for t in bundled_trajectories()[:3]]


def test_convert_keeps_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "some.jsonl"
    assert run("convert", "bundled:repo", "--tasks", "ratelimit-[01]", "fsm-2", "--turns", "2", "--out", str(out)) == 0
    found = {one.task.id: one for one in load_trajectories(out) if one.task is not None}
    assert set(found) == {"ratelimit-0", "ratelimit-1", "fsm-2"}
    whole = {one.task.id: one for one in load_trajectories(bundled_file(Path("bundled:repo"))) if one.task is not None}
    for name, one in found.items():
        assert len(list(one.turns)) == 2 and len(list(whole[name].turns)) > 2
        # The last action is there with its answer, the end and its reward are not.
        assert one.messages == whole[name].messages[: len(one.messages)] and one.messages[-1].role == "tool"
        assert one.outcome.reward is None and whole[name].outcome.reward == 1
    assert run("convert", "bundled:repo", "--tasks", "fsm-2", "--turns", "999", "--out", str(out)) == 0
    assert next(iter(load_trajectories(out))) == whole["fsm-2"]
    assert run("convert", "bundled:repo", "--turns", "0", "--out", str(tmp_path / "none.jsonl")) == 2
    assert "--turns" in capsys.readouterr().err and not (tmp_path / "none.jsonl").exists()


def test_bad_row_names_file_and_line_and_exits_with_2(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with desk.open("a") as handle:
        handle.write('{"id": "cut", "messages": [{"role": "us')
    assert run("convert", str(desk), "--to", "openai", "--out", str(desk.with_name("o.jsonl"))) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"{desk}:4" in error.replace(" ", "") or f"{desk.name}:4" in error.replace(" ", "")
    assert not desk.with_name("o.jsonl").exists()


def test_bad_row_is_skipped_on_request(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with desk.open("a") as handle:
        handle.write('{"id": "cut", "messages": [{"role": "us')
    assert run("convert", str(desk), "--to", "openai", "--out", str(desk.with_name("o.jsonl")), "--skip-bad") == 0
    assert "3 trajectories" in capsys.readouterr().out


def test_missing_file_is_bad_input(tmp_path: Path) -> None:
    assert run("restore", str(tmp_path / "none.json")) == 2


def test_check_passes_on_our_environment(desk: Path, tmp_path: Path) -> None:
    out = tmp_path / "laws.json"
    laws = ["fidelity", "isolation", "equivalence", "blindness"]
    assert run("check", "pivotgym/Tools-v0", "--trajectories", str(desk), "--laws", *laws, "--json", str(out)) == 0
    results = json.loads(out.read_text())["results"]
    assert [result["law"] for result in results if result["passed"]] == laws


def test_toml_gives_options_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text("steps = 3\nresume = false\n[lora]\nrank = 4\n")
    got = with_config(["train", "p.jsonl", "--steps", "9", "--config", str(path)])
    assert got[0] == "train"
    assert "--no-resume" in got
    assert got[got.index("--lora.rank") + 1] == "4"
    assert got.count("--steps") == 1


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("steps = = 3\n")
    with pytest.raises(BadInput, match=r"bad\.toml.*line 1"):
        with_config(["train", "--config", str(path)])


def test_train_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    assert run("train", "p.jsonl", "--policy", "embedded", "--out", str(tmp_path)) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("profile", "F", "--policy", "embedded", "--rollouts", "0"), "rollouts"),
        (("filter", "F", "--max-mean", "7"), "max_mean"),
        (("demo", "--steps", "0"), "steps"),
        (("restore", "/nowhere/none.json"), "none.json"),
        (("convert", "F", "--to", "parchment", "--out", "o.jsonl"), "parchment"),
        (("train", "F", "--policy", "embedded", "--method", "sft", "--beta", "0.1"), "--beta"),
        (("train", "F", "--policy", "embedded", "--epochs", "3"), "--epochs"),
        (("train", "F", "--policy", "embedded", "--options", '{"clip": 3}'), "clip"),
        (("check", "pivotgym/None-v0"), "Environment `None`"),
    ],
)
def test_unusable_options_are_one_line_and_status_2(
    arguments: tuple[str, ...], told: str, desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(desk) if word == "F" else word for word in arguments]
    assert run(*given, *(["--out", str(tmp_path / "out")] if given[0] in ("train", "demo") else [])) == 2
    error = capsys.readouterr().err
    assert told in error.replace("\n", "")
    assert "Traceback" not in error


def test_help_needs_no_engine() -> None:
    """Reading a command line takes a moment, not the seconds that the engines' packages take to import."""
    script = (
        "import sys\n"
        "from pivotgym.harness.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit as stopped:\n    assert not stopped.code\n"
        "print('loaded:', sorted({'torch', 'transformers', 'peft', 'openai', 'docker', 'matplotlib'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert "--method" in done.stdout and done.stdout.endswith("loaded: []\n")
