"""The checkpoints of a run, and results cut back to what one of them knows of."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.learner import Learner
from pivotgym.harness.ranks import Ranks


class Checkpoints:
    """The checkpoints of a run: ``<run>/checkpoints/step-000010``, the last few of them.

    Args:
        folder: where they are.
        keep: how many to keep.
        ranks: the processes of the run; the first one writes.
    """

    def __init__(self, folder: Path, keep: int, ranks: Ranks | None = None) -> None:
        self.folder, self._keep, self._ranks = folder, max(keep, 1), ranks or Ranks()

    def all(self) -> list[Path]:
        """Complete checkpoints, the oldest first."""
        return sorted(self.folder.glob("step-*"))

    def save(
        self,
        learner: Learner,
        step: int,
        state: JsonObject,
        tables: Mapping[str, Sequence[JsonObject]] | None = None,
    ) -> None:
        """Writes the checkpoint of ``step``, with ``tables`` (JSONL, by name) in it, and removes old ones."""
        learner.save_checkpoint(self.folder / f"step-{step:06d}", {"step": step, **state}, tables)
        if self._ranks.lead:
            for old in self.all()[: -self._keep]:
                shutil.rmtree(old)

    def resume(self, learner: Learner) -> JsonObject | None:
        """Goes to the last checkpoint and returns its state; None where there is none."""
        folder = self._ranks.once(self._last)
        return None if folder is None else learner.load_checkpoint(folder)

    def _last(self) -> Path | None:
        for leftover in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        found = [folder for folder in self.all() if (folder / "state.json").is_file()]
        return found[-1] if found else None


def truncate(path: Path, size: int) -> None:
    """Cuts a file of results back to what a checkpoint knows of."""
    if not path.exists():
        if size:
            raise BadInput(f"{size} bytes of results belong to the checkpoint, but there is no file", file=path)
        return
    if path.stat().st_size < size:
        raise BadInput(f"{path.stat().st_size} bytes, the checkpoint knows of {size}", file=path)
    with path.open("r+b") as file:
        file.truncate(size)
