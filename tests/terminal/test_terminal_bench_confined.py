"""A Terminal-Bench task folder brings nothing of this machine into the sandbox but what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal_bench_samples import FIRST, SECOND, write_samples

from pivotgym.envs.errors import BadInput
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.terminal.terminal_bench import TerminalBenchTasks
from pivotgym.envs.terminal.terminal_bench_folders import unpack
from pivotgym.envs.trajectory import Task

LINKS = [
    (1, "tests/data", "tests"),
    (1, "run-tests.sh", None),
    (1, "solution.sh", None),
    (1, "task.yaml", None),
    (1, "Dockerfile", None),
    (2, "tests/more/data", "tests"),
    (2, "solution/data", "solution"),
    (2, "instruction.md", None),
    (2, "environment/Dockerfile", None),
    (2, "environment", None),
    (2, "tests", None),
]


@pytest.mark.parametrize(("generation", "name", "field"), LINKS)
def test_links_that_lead_out_of_the_folder_are_refused(
    generation: int, name: str, field: str | None, tmp_path: Path
) -> None:
    """Else a task brings any file of this machine into the sandbox."""
    task = FIRST["count-lines"] if generation == 1 else SECOND["hello-world"]
    root = write_samples(tmp_path, {"bad": task})
    link, outside = root / "bad" / name, tmp_path / "outside"
    if link.exists():
        link.rename(outside)
    else:
        link.parent.mkdir(exist_ok=True)
        outside.write_text("secret", encoding="utf-8")
    link.symlink_to(outside)
    with pytest.raises(BadInput, match="leads out of the task folder") as caught:
        TerminalBenchTasks(root / "bad").tasks()
    assert caught.value.file is not None and Path(caught.value.file).is_relative_to(link)
    assert caught.value.field == field


def test_links_inside_a_folder_are_followed(tmp_path: Path) -> None:
    root = write_samples(tmp_path, {"linked": SECOND["hello-world"]})
    (root / "linked" / "tests" / "copy").symlink_to("../solution/solve.sh")
    (root / "elsewhere").symlink_to("linked")
    (task,) = TerminalBenchTasks(root / "elsewhere").tasks()
    packed = {name: data.decode() for name, data, _ in unpack(task.data["definition"]["tests"])}
    assert packed["copy"] == SECOND["hello-world"]["solution/solve.sh"]


def configured(root: Path, config: str) -> Task:
    """The task hello-world with another task.toml."""
    write_samples(root, {"x": {**SECOND["hello-world"], "task.toml": config}})
    return TerminalBenchTasks(root / "x").tasks()[0]


def test_only_variables_that_are_listed_are_read_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = '[environment.env]\nA = "${SECRET_A}"\nB = "${SECRET_B:-default}"\n'
    monkeypatch.setenv("SECRET_A", "first")
    monkeypatch.setenv("SECRET_B", "second")
    monkeypatch.delenv("PIVOTGYM_TASK_ENV", raising=False)
    with pytest.raises(BadInput, match="SECRET_A is not for tasks: list it in PIVOTGYM_TASK_ENV") as caught:
        configured(tmp_path / "1", config)
    assert caught.value.field == "environment.env.A"
    monkeypatch.setenv("PIVOTGYM_TASK_ENV", "OTHER, SECRET_A")
    assert TerminalTask.of(configured(tmp_path / "2", config)).env == {"A": "first", "B": "default"}
    monkeypatch.setenv("PIVOTGYM_TASK_ENV", "SECRET_A,SECRET_B")
    assert TerminalTask.of(configured(tmp_path / "3", config)).env == {"A": "first", "B": "second"}
