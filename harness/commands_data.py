"""The commands on recordings and environments: convert, restore, shell, check."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tyro.conf import Positional

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Task
from pivotgym.harness.commands import OUT, bundled_file, read_options, split_of, write_figures


@dataclass
class Convert:
    """Convert a trajectory file to another format; the source's format is recognised.

    FILE may be bundled:servicedesk, bundled:terminal, bundled:repo, bundled:browser or bundled:search, the recordings
    that come with the package.
    """

    file: Positional[Path]
    out: Path
    """where to write"""
    to: str = "pivotgym"
    """pivotgym, openai or sharegpt"""
    source: str = "auto"
    """format of FILE"""
    split: str | None = None
    """only trajectories whose task is of this split (train, heldout)"""
    tasks: tuple[str, ...] = ()
    """only trajectories of these tasks: ids, with * ? [abc] for any characters, any one, one of these"""
    turns: int | None = None
    """cut trajectories behind so many turns"""
    skip_bad: bool = False
    """report bad rows and go on instead of stopping at the first"""

    def run(self) -> bool:
        """Converts."""
        from pivotgym.envs.formats import load_trajectories, save_trajectories

        errors: list[BadInput] = []
        rows = load_trajectories(bundled_file(self.file), self.source, "skip" if self.skip_bad else "raise", errors)
        if self.turns is not None and self.turns < 1:
            raise BadInput(f"at least 1, not {self.turns}", field="--turns")
        chosen = (row if self.turns is None else row.cut(self.turns) for row in rows if self._wanted(row.task))
        count = save_trajectories(self.out, chosen, self.to)
        for error in errors:
            OUT.print(f"skipped {error}", highlight=False, markup=False, soft_wrap=True)
        OUT.print(f"{count} trajectories written to {self.out}, {len(errors)} rows skipped", highlight=False)
        return True

    def _wanted(self, task: Task | None) -> bool:
        if self.split is not None and (task is None or split_of(task) != self.split):
            return False
        return not self.tasks or (task is not None and any(fnmatchcase(task.id, name) for name in self.tasks))


@dataclass
class Restore:
    """Restore every turn of a file's trajectories (or one turn) and compare every observation with the recording."""

    file: Positional[Path]
    turn: int | None = None
    """only this turn of each trajectory"""
    strict: bool = False
    """stop a trajectory at its first divergence, and fail if there was one, or if something was lacking"""
    source: str = "auto"
    """format of FILE"""
    workers: int = 1
    """processes"""
    env_options: str = "{}"
    """keyword arguments of gym.make, as a JSON object"""
    json: Path | None = None
    """also write the figures here"""

    def run(self) -> bool:
        """Restores."""
        from pivotgym.harness.restoring import print_summary, restore_file

        summary = restore_file(
            self.file,
            self.source,
            turn=self.turn,
            strict=self.strict,
            workers=self.workers,
            env_options=read_options(self.env_options),
            progress=True,
        )
        print_summary(summary, OUT)
        write_figures(self.json, summary.model_dump(mode="json"))
        faulty = summary.diverged or summary.not_restorable or summary.incomplete
        return summary.turns > 0 and not (self.strict and faulty)


@dataclass
class Shell:
    """Stand inside a restored state and try actions by hand."""

    file: Positional[Path]
    turn: int = 0
    """the turn to restore"""
    trajectory: str | None = None
    """id or 0-based position of the trajectory; the first by default"""
    env_options: str = "{}"
    """keyword arguments of gym.make, as a JSON object"""

    def run(self) -> bool:
        """Runs the shell."""
        from pivotgym.harness.shell import run_shell

        run_shell(self.file, self.turn, self.trajectory, OUT, read_options(self.env_options))
        return True


@dataclass
class Check:
    """Run the conformance laws on an environment, ours or a plug-in's."""

    env: Positional[str]
    """Gymnasium id"""
    trajectories: Path | None = None
    """recordings of it; without any, some are made by random actions"""
    env_options: str = "{}"
    """keyword arguments of gym.make, as a JSON object"""
    turns: int = 12
    """turns restored, spread over the recordings"""
    laws: tuple[str, ...] = ()
    """only these laws"""
    json: Path | None = None
    """also write the results here"""

    def run(self) -> bool:
        """Checks."""
        from pivotgym.envs.check import check_env_laws
        from pivotgym.envs.formats import load_trajectories

        given = list(load_trajectories(self.trajectories)) if self.trajectories is not None else None
        report = check_env_laws(
            self.env,
            given,
            env_kwargs=read_options(self.env_options),
            max_turns_checked=self.turns,
            laws=list(self.laws) or None,
        )
        OUT.print(report.table())
        write_figures(self.json, report.model_dump(mode="json"))
        return report.passed
