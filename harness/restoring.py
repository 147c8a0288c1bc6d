"""Restoring every turn of recorded trajectories: the engine of ``pivotgym restore``.

For each turn the state before it is restored through the environment's ``reset``; then, in a fork, the recorded
action is executed and what comes back is compared with the recorded answer (the law of fidelity). So every recorded
observation is compared exactly once, and what the restores themselves saw must agree with it.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from pydantic import BaseModel, Field, computed_field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, InfrastructureError, NotRestorable, RestoreDiverged
from pivotgym.envs.formats import load_trajectories
from pivotgym.envs.restore import ObservationCheck
from pivotgym.envs.trajectory import JsonObject, Trajectory

Report = Callable[[int, int], None]
"""Told after each trajectory: how many are done, how many there are."""


class NotRestored(BaseModel):
    """A trajectory (from ``turn`` on, where one is given) that could not be restored, and why."""

    trajectory: str
    kind: str
    problem: str
    turn: int | None = None


class Divergence(BaseModel):
    """A recorded observation that the replay did not give.

    Attributes:
        message: index of the recorded message in the trajectory.
        kind: the known cause, else ``different``, ``missing`` or ``unexpected`` (the recording has no result there).
        diff: recorded against replayed, as a unified diff.
    """

    trajectory: str
    turn: int
    message: int
    kind: str
    diff: str


class RestoreSummary(BaseModel):
    """What came of restoring a file.

    Attributes:
        trajectories: all that were read, those that could not be restored included.
        turns: states restored.
        turns_recorded: turns there were to restore; fewer restored means that trajectories were given up (rows that
            cannot be read have no turns to count).
        observations: recorded tool results whose call was executed again: ``matched + diverged``.
        observations_recorded: tool results that follow those turns in the recordings: ``observations + recorded`` where
            none was missed.
        matched: those equal to the replayed ones; ``normalised`` of them only after the domain's normaliser.
        diverged: those that are not.
        recorded: results taken from the recording because their call never ran (an injected service error); they are
            neither matched nor diverged.
        before_first_turn: results recorded before the first action, which no action of the agent gives.
        incomplete: what the world around a recording lacked when it was restored (a request that no archive has), once
            a trajectory, with the first turn before which it was.
        inconsistent: observations that came out differently in the fork and in the restores; always 0 unless the
            environment breaks a law.
        by_kind: how many of each kind, over ``divergences``, ``recorded``, ``not_restorable`` and ``incomplete``.
        seconds: wall-clock time.
    """

    file: str | None = None
    trajectories: int = 0
    turns: int = 0
    turns_recorded: int = 0
    observations: int = 0
    observations_recorded: int = 0
    matched: int = 0
    diverged: int = 0
    seconds: float = 0.0
    normalised: int = 0
    recorded: int = 0
    before_first_turn: int = 0
    inconsistent: int = 0
    not_restorable: list[NotRestored] = Field(default_factory=list)
    incomplete: list[NotRestored] = Field(default_factory=list)
    divergences: list[Divergence] = Field(default_factory=list)
    by_kind: dict[str, int] = Field(default_factory=dict)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fidelity(self) -> float | None:
        """Share of the compared observations that match; None where nothing was compared."""
        return self.matched / self.observations if self.observations else None

    def add(self, other: RestoreSummary) -> None:
        """Adds the figures of another part of the same file."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.not_restorable += other.not_restorable
        self.incomplete += other.incomplete
        self.divergences += other.divergences
        self.by_kind = dict(sorted((Counter(self.by_kind) + Counter(other.by_kind)).items()))


_COUNTS = (
    "trajectories",
    "turns",
    "turns_recorded",
    "observations",
    "observations_recorded",
    "matched",
    "diverged",
    "normalised",
    "recorded",
    "before_first_turn",
    "inconsistent",
)


def restore_file(
    path: str | Path,
    format: str = "auto",
    *,
    turn: int | None = None,
    strict: bool = False,
    workers: int = 1,
    env_options: JsonObject | None = None,
    progress: bool | Report = False,
    console: Console | None = None,
) -> RestoreSummary:
    """Restores every turn (or one) of every trajectory of a file and compares every observation.

    Args:
        path: a file in any trajectory format.
        format: its format, or ``auto``.
        turn: only this turn of each trajectory.
        strict: a trajectory with a diverged observation is not restored any further.
        workers: processes; each takes whole trajectories.
        env_options: keyword arguments of ``gym.make``.
        progress: True draws a bar on ``console``; a function is told how many trajectories are done.
        console: where the bar is drawn; by default standard error.

    Returns:
        The summary. Rows that cannot be read or restored are in ``not_restorable``; the others go on.

    Raises:
        BadInput: the file is in no known format, or not a single row of it can be read.
    """
    began = time.perf_counter()
    errors: list[BadInput] = []
    trajectories = list(load_trajectories(path, format, "skip", errors))
    if not trajectories and errors:
        raise errors[0]
    with _Bar(progress, console) as report:
        summary = restore_trajectories(
            trajectories, turn=turn, strict=strict, workers=workers, env_options=env_options, progress=report
        )
    summary.file = Path(path).name
    for error in errors:
        where = f"line {error.line}" if error.line is not None else str(error.field)
        _give_up(summary, NotRestored(trajectory=where, kind="unreadable", problem=str(error)))
        summary.trajectories += 1
    summary.seconds = time.perf_counter() - began
    return summary


def restore_trajectories(
    trajectories: Sequence[Trajectory],
    *,
    turn: int | None = None,
    strict: bool = False,
    workers: int = 1,
    env_options: JsonObject | None = None,
    progress: Report | None = None,
) -> RestoreSummary:
    """The same for trajectories in memory; see :func:`restore_file`."""
    began = time.perf_counter()
    summary = RestoreSummary()
    for done, part in enumerate(_run(trajectories, turn, strict, workers, env_options), 1):
        summary.add(part)
        if progress is not None:
            progress(done, len(trajectories))
    summary.seconds = time.perf_counter() - began
    return summary


def print_summary(summary: RestoreSummary, console: Console) -> None:
    """Prints the figures, then what diverged and what was not restored, by kind and with examples."""
    figures = Table(title=f"restore {summary.file or ''}".strip(), show_header=False, title_justify="left")
    figures.add_column()
    figures.add_column(justify="right")
    compared = f"{summary.fidelity:.4%}" if summary.fidelity is not None else "nothing to compare"
    rows = [
        ("trajectories", f"{summary.trajectories:,}"),
        ("turns restored", f"{summary.turns:,} of {summary.turns_recorded:,}"),
        ("observations compared", f"{summary.observations:,} of {summary.observations_recorded:,}"),
        ("matched", f"{summary.matched:,}"),
        ("  of these after normalising", f"{summary.normalised:,}"),
        ("diverged", f"{summary.diverged:,}"),
        ("taken from the recording", f"{summary.recorded:,}"),
        ("fidelity", compared),
        ("not restorable", f"{len(summary.not_restorable):,}"),
        ("seconds", f"{summary.seconds:.2f}"),
    ]
    if summary.incomplete:
        rows.append(("lacking", f"{len(summary.incomplete):,}"))
    if summary.inconsistent:
        rows.append(("inconsistent between fork and restore", f"{summary.inconsistent:,}"))
    for name, value in rows:
        figures.add_row(name, value)
    console.print(figures)
    if summary.by_kind:
        kinds = Table(title="by kind", title_justify="left")
        kinds.add_column("kind")
        kinds.add_column("count", justify="right")
        kinds.add_column("for example", overflow="fold")
        for kind, count in summary.by_kind.items():
            kinds.add_row(kind, str(count), _example(summary, kind))
        console.print(kinds)


def _example(summary: RestoreSummary, kind: str) -> str:
    for lost in (*summary.not_restorable, *summary.incomplete):
        if lost.kind == kind:
            return f"{lost.trajectory}: {lost.problem}"[:300]
    for found in summary.divergences:
        if found.kind == kind:
            return f"{found.trajectory} turn {found.turn}, message {found.message}\n{found.diff}"[:600]
    return ""


# One trajectory ---------------------------------------------------------------------------------------------------


def _run(
    trajectories: Sequence[Trajectory], turn: int | None, strict: bool, workers: int, env_options: JsonObject | None
) -> Iterable[RestoreSummary]:
    work = partial(_restore_one, turn=turn, strict=strict, env_options=env_options)
    if workers <= 1 or len(trajectories) <= 1:
        yield from map(work, trajectories)
        return
    # A fresh interpreter for each worker: a forked one would inherit locks and threads of the parent.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(trajectories)), mp_context=context) as pool:
        yield from pool.map(work, trajectories, chunksize=max(1, len(trajectories) // (workers * 8)))


def _restore_one(
    trajectory: Trajectory, turn: int | None, strict: bool, env_options: JsonObject | None = None
) -> RestoreSummary:
    summary = RestoreSummary(trajectories=1)
    if turn is None and trajectory.task is not None and trajectory.turns:
        first = trajectory.messages[: trajectory.turns[0]]
        summary.before_first_turn = sum(message.role == "tool" for message in first)
    turns = range(len(trajectory.turns)) if turn is None else [turn]
    summary.turns_recorded, summary.observations_recorded = _recorded(trajectory, turn)
    now: int | None = None
    try:
        # Turn 0 of a trajectory without turns: the environment says what is wrong with it.
        env = _make(trajectory, env_options)
        try:
            for now in turns or [0]:
                _restore_turn(env, trajectory, now, strict, summary, alone=turn is not None)
        finally:
            env.close()
    except NotRestorable as error:
        _give_up(summary, NotRestored(trajectory=trajectory.id, kind=error.kind, problem=error.problem, turn=now))
    except RestoreDiverged as error:
        _give_up(summary, NotRestored(trajectory=trajectory.id, kind="diverged", problem=str(error), turn=now))
    except InfrastructureError as error:
        problem = f"{type(error).__name__}: {error}"
        _give_up(summary, NotRestored(trajectory=trajectory.id, kind="infrastructure", problem=problem, turn=now))
    except BadInput as error:
        _give_up(summary, NotRestored(trajectory=trajectory.id, kind="bad_input", problem=str(error), turn=now))
    return summary


def _recorded(trajectory: Trajectory, turn: int | None) -> tuple[int, int]:
    """Turns to restore, and the tool results that follow them; with one ``turn``, all results up to its answer."""
    starts = trajectory.turns
    if not starts or (turn is not None and not -1 < turn < len(starts)):
        return 0, 0
    last = turn is None or turn + 1 == len(starts)
    end = len(trajectory.messages) if last or turn is None else starts[turn + 1]
    counted = trajectory.messages[starts[0] if turn is None else 0 : end]
    return len(starts) if turn is None else 1, sum(message.role == "tool" for message in counted)


def _make(trajectory: Trajectory, env_options: JsonObject | None) -> AgentEnv:
    if not trajectory.messages:
        raise NotRestorable("no_messages", f"trajectory {trajectory.id} has no messages")
    if trajectory.task is None:
        raise NotRestorable("no_environment", f"trajectory {trajectory.id} names no task")
    try:
        # Gymnasium's own checker and order enforcement cost more than a restore.
        env: Any = gym.make(trajectory.task.env, disable_env_checker=True, **(env_options or {})).unwrapped
    except gym.error.Error as error:
        raise NotRestorable("no_environment", f"{trajectory.task.env}: {error}") from error
    if not isinstance(env, AgentEnv):
        raise NotRestorable("no_environment", f"{trajectory.task.env} is no environment that can restore")
    return env


def _restore_turn(
    env: AgentEnv, trajectory: Trajectory, turn: int, strict: bool, summary: RestoreSummary, *, alone: bool
) -> None:
    _, info = env.reset(options={"trajectory": trajectory, "turn": turn, "strict": strict})
    summary.turns += 1
    earlier: list[ObservationCheck] = info["restore"].checks
    _lacking(summary, trajectory, turn, info["restore"].errors)
    if alone:
        for check in earlier:
            _count(summary, trajectory, check)
    else:
        summary.inconsistent += _inconsistent(earlier, turn, summary, trajectory)
    action, answer = trajectory.action(turn), trajectory.answer(turn)
    fork = env.fork()
    try:
        response = fork.respond(action, answer)
        checks = fork.check_answer(action, response.messages, answer, trajectory.turns[turn] + 1)
        _lacking(summary, trajectory, turn + 1, fork.restore_errors())
    finally:
        fork.close()
    for check in checks:
        _count(summary, trajectory, check.model_copy(update={"turn": turn}))


def _lacking(summary: RestoreSummary, trajectory: Trajectory, turn: int, errors: Sequence[str]) -> None:
    known = {found.problem for found in summary.incomplete if found.trajectory == trajectory.id}
    for problem in errors:
        if problem not in known:
            found = NotRestored(trajectory=trajectory.id, kind="lacking", problem=problem, turn=turn)
            summary.incomplete.append(found)
            _add_kind(summary, found.kind)


def _inconsistent(earlier: list[ObservationCheck], turn: int, summary: RestoreSummary, trajectory: Trajectory) -> int:
    """How many checks of the last replayed turn differ from what its fork gave."""
    replayed = {check.message for check in earlier if check.turn == turn - 1 and check.status == "diverged"}
    forked = {
        found.message for found in summary.divergences if found.trajectory == trajectory.id and found.turn == turn - 1
    }
    return len(replayed ^ forked)


def _count(summary: RestoreSummary, trajectory: Trajectory, check: ObservationCheck) -> None:
    index = check.message
    if check.status == "recorded":
        summary.recorded += 1
        _add_kind(summary, check.kind or "recorded")
        return
    exists = index < len(trajectory.messages) and trajectory.messages[index].role == "tool"
    if exists:
        summary.observations += 1
    if check.status == "diverged":
        kind = check.kind or "different"
        summary.diverged += exists
        summary.divergences.append(
            Divergence(trajectory=trajectory.id, turn=check.turn, message=index, kind=kind, diff=check.diff or "")
        )
        _add_kind(summary, kind)
        return
    summary.matched += 1
    summary.normalised += check.status == "normalised"


def _give_up(summary: RestoreSummary, lost: NotRestored) -> None:
    summary.not_restorable.append(lost)
    _add_kind(summary, lost.kind)


def _add_kind(summary: RestoreSummary, kind: str) -> None:
    summary.by_kind[kind] = summary.by_kind.get(kind, 0) + 1


class _Bar:
    """A progress bar, a caller's function, or nothing."""

    def __init__(self, progress: bool | Report, console: Console | None) -> None:
        self._report = progress if callable(progress) else None
        self._bar: Progress | None = None
        if progress is True:
            self._bar = Progress(
                TextColumn("restoring"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console or Console(stderr=True),
            )

    def __enter__(self) -> Report | None:
        if self._bar is None:
            return self._report
        bar = self._bar
        bar.start()
        task = bar.add_task("restoring", total=None)
        return lambda done, total: bar.update(task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
