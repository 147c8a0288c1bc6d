"""The commands that look after sandboxes and what is played in them: clean, validate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from pivotgym.envs.errors import InfrastructureError, MissingExtra
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.commands import OUT, read_options, tasks_of, write_figures


@dataclass
class Clean:
    """Remove what killed runs left behind: folders, containers, images. What belongs to a living run stays.

    Every run does this when it starts its first sandbox; this does it now.
    """

    json: Path | None = None
    """also write what was removed here"""

    def run(self) -> bool:
        """Cleans every backend this machine has."""
        from pivotgym.envs.sandbox import BACKENDS, get_backend

        found: dict[str, dict[str, object]] = {}
        for name in BACKENDS:
            try:
                done = get_backend(name).clean()
            except (InfrastructureError, MissingExtra) as error:
                OUT.print(f"{name}: not here ({error})", highlight=False, markup=False)
                continue
            found[name] = vars(done)
            parts = [
                f"{count} {what if count != 1 else what[:-1]}"
                for what, count in (
                    ("folders", done.folders),
                    ("containers", done.containers),
                    ("images", done.images),
                    ("processes", done.processes),
                )
                if count
            ]
            size = f" ({done.bytes / 1e6:.1f} MB)" if done.bytes else ""
            OUT.print(f"{name}: {'removed ' + ', '.join(parts) + size if parts else 'nothing left behind'}")
            for note in done.notes:
                OUT.print(f"  {note}", highlight=False, markup=False)
        write_figures(self.json, found)
        return True


@dataclass
class Validate:
    """Try each task's own solution: is it rewarded, and the state before it not? (resumable)

    Tasks that cannot be won, or are won by doing nothing, cost rollouts and teach nothing. Exit status 1 where there is
    one.
    """

    env: str = "pivotgym/Repo-v0"
    """Gymnasium id"""
    env_options: str = "{}"
    """keyword arguments of gym.make, as a JSON object"""
    split: str | None = None
    """only tasks whose data names this split"""
    tasks: int | None = None
    """only the first so many tasks"""
    out: Path = Path("runs/validate")
    """the run's folder; OUT/validation.jsonl has a row a task"""
    workers: int = 2
    """tasks at a time"""
    json: Path | None = None
    """also write the figures here"""

    def run(self) -> bool:
        """Validates."""
        from pivotgym.harness.console import stages
        from pivotgym.harness.turns import make_env
        from pivotgym.harness.validating import validate_tasks

        options = read_options(self.env_options)
        with stages() as progress:
            rows = validate_tasks(
                lambda: make_env(self.env, options),
                tasks_of(self.env, options, self.split, self.tasks),
                self.out,
                {"env": self.env, "env_options": options},
                workers=self.workers,
                progress=progress,
            )
        bad = [row for row in rows if row["status"] != "usable"]
        if bad:
            OUT.print(_problems(bad))
        counts = Counter(str(row["status"]) for row in rows)
        OUT.print(", ".join(f"{count} {status}" for status, count in counts.most_common()), highlight=False)
        write_figures(self.json, {"tasks": len(rows), "status": dict(counts), "not_usable": bad})
        return not bad


def _problems(rows: list[JsonObject], most: int = 100) -> Table:
    table = Table("task", "status", "test", "why")
    for row in rows[:most]:
        found = row["problems"] or {"": row["error"]}
        for name, why in list(found.items())[:5]:
            table.add_row(row["task"], row["status"], name, str(why)[:300])
        if len(found) > 5:
            table.add_row(row["task"], row["status"], f"and {len(found) - 5} more", "")
    if len(rows) > most:
        table.add_row(f"and {len(rows) - most} more", "", "", "")
    return table
