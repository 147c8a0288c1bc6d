"""Task sets by name, or from a file or folder of somebody else's format."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.terminal.tasks import TaskSet, get_task_set, task_set_names

_HARBOR = ("task.yaml", "task.yml", "task.toml")


def open_task_set(source: str | Path) -> TaskSet:
    """The task set of that name, or the tasks of a file or folder.

    Args:
        source: a registered name; an AgentBench OS or InterCode NL2Bash JSON file, or a folder of them; a
            Terminal-Bench or Harbor task folder, or a folder of such folders.

    Raises:
        BadInput: neither a name nor a path, or nothing that is known there.
    """
    if str(source) in task_set_names():
        return get_task_set(str(source))
    path = Path(source)
    if not path.exists():
        known = ", ".join(task_set_names())
        raise BadInput(f"{str(source)!r} is no terminal task set ({known}) and no file or folder", field="tasks")
    if path.is_dir() and any(
        found for name in _HARBOR for pattern in (name, f"*/{name}") for found in path.glob(pattern)
    ):
        return _make("terminal_bench", "TerminalBenchTasks", path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    for file in files:
        row = _first_row(file)
        if row is None:
            continue
        if {"query", "gold"} <= row.keys():
            return _make("intercode", "InterCodeTasks", path)
        if "description" in row and ("evaluation" in row or "create" in row):
            return _make("agentbench", "AgentBenchTasks", path)
    raise BadInput("no terminal tasks: neither AgentBench, InterCode nor Terminal-Bench", file=path)


def _first_row(file: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=file) from error
    except ValueError as error:
        raise BadInput(f"no JSON: {error}", file=file, line=getattr(error, "lineno", None)) from error
    rows = data if isinstance(data, list) else [data]
    return rows[0] if rows and isinstance(rows[0], dict) else None


def _make(module: str, name: str, path: Path) -> TaskSet:
    made = getattr(import_module(f"pivotgym.envs.terminal.{module}"), name)(path)
    assert isinstance(made, TaskSet)
    return made
