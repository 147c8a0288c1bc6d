"""Finding the parts of a run in its folder.

Files are recognised by name and, for small JSON files, by what is in them, wherever they lie: a run laid out in stage
folders and a flat folder with a profile and its pivots are read alike. Nothing is required.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.runs import TIMINGS

SKIPPED_FOLDERS = frozenset({"checkpoints", "final"})
LARGEST_JSON = 64 << 20
"""Bytes; a larger JSON file is none of a run's summaries."""


@dataclass
class Stage:
    """A folder in which something was trained.

    Attributes:
        folder: where.
        rows: its ``metrics.jsonl``.
        summary: its ``summary.json``, empty where there is none.
    """

    folder: Path
    rows: list[JsonObject]
    summary: JsonObject = field(default_factory=dict)

    def kind(self, name: str) -> list[JsonObject]:
        """The rows of one kind (``train``, ``episodes``, ``eval``, ``sft``)."""
        return [row for row in self.rows if row.get("kind") == name]


@dataclass
class RunFiles:
    """What was found in a run's folder; a part that is not there is None or empty.

    Attributes:
        root: the folder.
        run: ``run.json``.
        restore: the restore summary.
        profile: ``profile.jsonl``.
        pivots: ``pivots.jsonl``.
        filter: the filter's report.
        train: the training run on pivots (or end-to-end).
        warm_start: the supervised warm start.
        episodes: files of episode rows, by side (``before``, ``after`` or the folder's name).
        episode_summaries: their summaries, by side.
        settings: each settings file, by its path in the run.
        timings: folders that have a ``timings.jsonl``.
        forgetting: what ``pivotgym forget`` found.
        notes: what was left out, for the reader.
    """

    root: Path
    run: JsonObject = field(default_factory=dict)
    restore: JsonObject | None = None
    profile: Path | None = None
    pivots: Path | None = None
    filter: JsonObject | None = None
    train: Stage | None = None
    warm_start: Stage | None = None
    episodes: dict[str, Path] = field(default_factory=dict)
    episode_summaries: dict[str, JsonObject] = field(default_factory=dict)
    settings: dict[str, JsonObject] = field(default_factory=dict)
    timings: list[Path] = field(default_factory=list)
    forgetting: JsonObject | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing of a run was found."""
        parts = (self.restore, self.profile, self.pivots, self.filter, self.train, self.warm_start)
        return not (
            any(part is not None for part in parts) or self.episodes or self.episode_summaries or self.forgetting
        )

    def name(self, path: Path) -> str:
        """The path as seen from the run's folder."""
        return path.relative_to(self.root).as_posix() or "."


def find_files(run: Path) -> RunFiles:
    """Reads the small files of a run and finds the large ones.

    Raises:
        BadInput: no such folder, or nothing of a run in it.
    """
    root = Path(run)
    if not root.is_dir():
        raise BadInput("no such folder", file=root)
    found = RunFiles(root)
    forgetting: set[Path] = set()
    for path in _walk(root):
        name = path.name
        if name == TIMINGS:
            found.timings.append(path.parent)
        elif name == "forgetting.settings.json":
            forgetting.add(path.parent)
        elif name == "forgetting.json":
            _add_forgetting(found, path)
        elif not forgetting.isdisjoint(path.parents):
            continue  # its episodes are in other domains than the run's
        elif name == "metrics.jsonl":
            _add_stage(found, path)
        elif name == "episodes.jsonl" and _has(path, "task", "reward"):
            found.episodes.setdefault(side_of(found, path.parent), path)
        elif _is_rows(name, "pivots") and _has(path, "trajectory", "turn", "split"):
            found.pivots = _first(found, found.pivots, path)
        elif _is_rows(name, "profile") and _has(path, "trajectory", "turn", "status"):
            found.profile = _first(found, found.profile, path)
        elif name.endswith(".jsonl") and _has(path, "task", "trial", "reward"):
            found.episodes.setdefault(side_of(found, path.parent), path)
        elif name.endswith(".json") and path.stat().st_size <= LARGEST_JSON:
            _add_json(found, path)
    if found.empty:
        raise BadInput(
            "nothing of a run in this folder; looked in it and below for profile*.jsonl, pivots*.jsonl, metrics.jsonl, "
            "episodes.jsonl (each with a row of its kind), and the summaries of restore, filter and evaluate (*.json)",
            file=root,
        )
    return found


def rows_of(path: Path, found: RunFiles) -> Iterator[JsonObject]:
    """The rows of a result file; a damaged line ends the reading and is noted, so that a report can still be made."""
    try:
        yield from read_rows(path)
    except BadInput as error:
        found.notes.append(f"{found.name(path)} is damaged: read up to line {error.line} only ({error.problem}).")


def _walk(root: Path) -> Iterator[Path]:
    """Files from the top down, in order, without hidden ones, checkpoints and weights."""
    level = [root]
    while level:
        below: list[Path] = []
        for folder in level:
            for entry in sorted(os.scandir(folder), key=lambda item: item.name):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in SKIPPED_FOLDERS:
                        below.append(Path(entry.path))
                elif entry.is_file():
                    yield Path(entry.path)
        level = below


def _is_rows(name: str, word: str) -> bool:
    return name.endswith(".jsonl") and name.startswith(word) and not name.endswith(".trajectories.jsonl")


def _has(path: Path, *names: str) -> bool:
    """Whether the first row has these fields."""
    with path.open("rb") as file:
        line = file.readline(LARGEST_JSON)
    try:
        row: Any = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and set(names) <= set(row)


def _first(found: RunFiles, before: Path | None, path: Path) -> Path:
    if before is None:
        return path
    found.notes.append(f"{found.name(path)} is not shown: the report is on {found.name(before)}.")
    return before


def _add_stage(found: RunFiles, path: Path) -> None:
    rows = [row for row in rows_of(path, found) if row.get("kind") in ("train", "episodes", "eval", "sft")]
    if not rows:
        return
    stage = Stage(path.parent, rows, _json(path.with_name("summary.json"), found) or {})
    name = "warm_start" if stage.kind("sft") and not (stage.kind("train") or stage.kind("episodes")) else "train"
    before: Stage | None = getattr(found, name)
    if before is None:
        setattr(found, name, stage)
    else:
        found.notes.append(f"{found.name(path)} is not shown: the report is on {found.name(before.folder)}.")


def _add_forgetting(found: RunFiles, path: Path) -> None:
    value = _json(path, found)
    if value is None or not isinstance(value.get("metrics"), list):
        return
    if found.forgetting is None:
        found.forgetting = value
    else:
        found.notes.append(f"{found.name(path)} is not shown: the report is on another measurement of forgetting.")


def _add_json(found: RunFiles, path: Path) -> None:
    value = _json(path, found)
    if value is None:
        return
    if path.name == "run.json":
        found.run = found.run or value
    elif path.name.endswith("settings.json") and "settings" in value:
        found.settings[found.name(path)] = value
    elif {"observations", "matched", "diverged"} <= set(value):
        found.restore = found.restore or value
    elif {"candidates", "always_wrong", "pivots"} <= set(value):
        found.filter = found.filter or value
    elif isinstance(value.get("success"), dict) and "mean" in value["success"] and "episodes" in value:
        found.episode_summaries.setdefault(side_of(found, path.parent), value)


def _json(path: Path, found: RunFiles) -> JsonObject | None:
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        found.notes.append(f"{found.name(path)} cannot be read ({error}).")
        return None
    return value if isinstance(value, dict) else None


def side_of(found: RunFiles, folder: Path) -> str:
    """``before`` or ``after`` where the path says so, otherwise the folder's name."""
    parts = folder.relative_to(found.root).parts
    for part in parts:
        for side in ("before", "after"):
            if side in part.lower():
                return side
    return "/".join(parts) or "episodes"
