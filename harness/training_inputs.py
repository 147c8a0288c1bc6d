"""What the ``train`` command reads beside pivots: tasks to play, and how a file of pivots came about."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import load_trajectories
from pivotgym.envs.formats.jsonl import read_jsonl, read_rows
from pivotgym.envs.trajectory import Task, Trajectory
from pivotgym.harness.pivots import FilterConfig
from pivotgym.harness.profiling import ProfileConfig, settings_file, trajectories_file


def tasks_in(path: Path) -> list[Task]:
    """The tasks of a file, each once, in order.

    Args:
        path: JSON lines of tasks (``env``, ``id``, ``data``), or trajectories in any known format, whose tasks count.

    Raises:
        BadInput: a row that is no task, a trajectory that names none, or no row at all.
    """
    first = _first_row(path)
    tasks: list[Task] = []
    if isinstance(first, dict) and {"env", "id"} <= set(first) <= {"env", "id", "data"}:
        for number, row in enumerate(read_rows(path), start=1):
            try:
                tasks.append(Task.model_validate(row))
            except ValidationError as error:
                problem = error.errors()[0]
                field = ".".join(map(str, problem["loc"])) or None
                raise BadInput(problem["msg"], file=path, line=number, field=field) from error
    else:
        for number, trajectory in enumerate(load_trajectories(path), start=1):
            if trajectory.task is None:
                raise BadInput(
                    f"trajectory {trajectory.id} names no task to play", file=path, line=number, field="task"
                )
            tasks.append(trajectory.task)
    if not tasks:
        raise BadInput("no tasks", file=path)
    return list({task.key: task for task in tasks}.values())


def _first_row(path: Path) -> object:
    try:
        return next(iter(read_rows(path)), None)
    except (BadInput, UnicodeDecodeError, IsADirectoryError):  # other formats are not lines of JSON
        return None


def profile_of(pivots: Path, profile: Path | None = None) -> tuple[ProfileConfig, FilterConfig, list[Trajectory]]:
    """How a file of pivots came about: the profile's settings, the filter's, and the recordings that were profiled.

    Args:
        pivots: what ``pivotgym filter`` wrote; its report lies beside it.
        profile: what ``pivotgym profile`` wrote; by default ``profile.jsonl`` beside the pivots.

    Raises:
        BadInput: one of the files is not there or not what it should be.
    """
    profile = pivots.with_name("profile.jsonl") if profile is None else profile
    told = settings_file(profile)
    report = pivots.with_suffix(".filter.json")
    recordings = trajectories_file(profile)
    for file in (told, recordings, report):
        if not file.is_file():
            raise BadInput("not there: pivots are found again as their profile and filter say", file=file)
    # A later profile is of recordings that are chosen already.
    given = {name: value for name, value in _settings(told).items() if name in ProfileConfig.model_fields}
    try:
        profile_config = ProfileConfig.model_validate({**given, "split": "all"})
        filter_config = FilterConfig.model_validate(_settings(report))
    except ValidationError as error:
        raise BadInput(f"no settings of a profile or filter: {error.errors()[0]['msg']}", file=told) from error
    return profile_config, filter_config, list(read_jsonl(recordings))


def _settings(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput("no file of settings", file=file) from error
    if not isinstance(found, dict):
        raise BadInput("no file of settings", file=file)
    return found
