"""Timings of the tool-calling environments: the engine of ``pivotgym bench tools``.

Every figure is a median over repetitions in one run, with the quartiles beside it. Targets are held against CPU time of
this process: nothing here waits for a disk or a network, and on a busy machine wall-clock time would flatter the
ratios, because the longer work is the one that is interrupted. The median wall-clock time stands beside it. The
workload is a conversation of at least 20 tool calls that is made on the spot from the domain's own tasks, one call a
turn.

How much a kept snapshot saves depends on what the calls cost. So the ratio is given twice where a domain allows it: for
the mix of calls that its tasks expect, which has the target, and for lookups alone, the cheapest calls there are.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, MissingExtra
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.tools.domain import get_domain
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory

CALLS = 20
RESTORE_TARGET = 20.0
"""A restore from a kept snapshot must be so many times faster than a fresh replay of 20 calls."""
FORK_TARGET_MS = 5.0


class BenchRow(BaseModel):
    """One figure.

    Attributes:
        name: what was measured.
        unit: ``ms`` (of CPU time) or ``x`` (a ratio).
        median: over all repetitions, of CPU time.
        low: first quartile.
        high: third quartile.
        repeats: how many repetitions.
        wall: median of wall-clock time in ``unit``.
        target: the bound it is held to, or None; ``ms`` must stay below it, a ratio must reach it.
    """

    name: str
    unit: str
    median: float
    low: float
    high: float
    repeats: int
    wall: float | None = None
    target: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        return self.median >= self.target if self.unit == "x" else self.median < self.target


@dataclass(frozen=True)
class Workload:
    """A conversation of known length in a domain, every call and result as the domain gives it."""

    domain: str
    trajectory: Trajectory
    turn: int

    @property
    def options(self) -> dict[str, Any]:
        """Reset options for the state after all calls."""
        return {"trajectory": self.trajectory, "turn": self.turn}


def bench_tools(repeats: int = 30, domains: Iterable[str] | None = None) -> list[BenchRow]:
    """Measures restore, fork and effect.

    Args:
        repeats: repetitions of each figure, at least 1.
        domains: by default airline of τ²-bench where the package is installed, else the service desk.

    Raises:
        BadInput: a domain's tasks name no calls to build a conversation from.
    """
    rows: list[BenchRow] = []
    for name in domains if domains is not None else _available():
        rows += _bench_domain(workload(name), repeats)
        try:
            lookups = None if name == "servicedesk" else workload(name, lookups=True)
        except BadInput:  # a domain whose tasks expect none
            lookups = None
        if lookups is not None:
            rows.append(_bench_lookups(lookups, repeats))
    return rows


def print_rows(rows: list[BenchRow], console: Console) -> None:
    """Prints the figures with their quartiles and targets."""
    numbers = ("CPU", "quartiles", "wall clock", "n", "target")
    table = Table(
        title="bench tools: medians and quartiles of CPU time, medians of wall-clock time; targets are for CPU time",
        title_justify="left",
    )
    for column in ("", "CPU", "quartiles", "wall clock", "n", "target", ""):
        table.add_column(column, justify="right" if column in numbers else "left")
    for row in rows:
        sign = "" if row.target is None else f"{'≥' if row.unit == 'x' else '<'} {row.target:g} {row.unit}"
        verdict = {None: "", True: "met", False: "missed"}[row.met]
        spread = f"{row.low:.3g} to {row.high:.3g}"
        wall = "" if row.wall is None else f"{row.wall:.3g} {row.unit}"
        table.add_row(row.name, f"{row.median:.3g} {row.unit}", spread, wall, str(row.repeats), sign, verdict)
    console.print(table)


def workload(domain: str, calls: int = CALLS, *, lookups: bool = False) -> Workload:
    """A conversation with ``calls`` tool calls, one a turn, and one more turn.

    For the service desk the calls are those of its longest bundled conversation, begun anew until there are enough. For
    other domains they are a sample, evenly spread, of the calls that the tasks' references name, executed in the first
    task's initial state. The results are what the domain answers now, so the replay has something to agree with.
    ``lookups`` takes only calls that get one record (``get_…``).
    """
    env = ToolsEnv(domain=domain, user="none", snapshots=SnapshotStore())
    try:
        if domain == "servicedesk":
            task, wanted = _bundled_calls(calls)
        else:
            task, wanted = _reference_calls(domain, calls, "get_" if lookups else "")
        env.reset(options={"task": task})
        for number, call in enumerate(wanted):
            env.advance(Message(role="assistant", tool_calls=[call.model_copy(update={"id": f"call_{number}"})]))
        closing = Message(role="assistant", content="Is there anything else?")
        trajectory = Trajectory(id=f"bench-{domain}", task=task, messages=[*env.messages, closing])
        return Workload(domain, trajectory, len(trajectory.turns) - 1)
    finally:
        env.close()


def _reference_calls(domain: str, count: int, prefix: str) -> tuple[Task, list[ToolCall]]:
    known = get_domain(domain)
    reference: Callable[[Task], Sequence[ToolCall]] | None = getattr(known, "reference", None)
    tasks = known.tasks()
    found = [call for task in tasks for call in (reference(task) if reference is not None else ())]
    found = [call for call in found if call.name.startswith(prefix)]
    if not found:
        raise BadInput(f"the tasks of {domain} name no calls to make a conversation of", field="domain")
    # Spread evenly over all tasks: the mix of lookups, searches and changes is that of the whole benchmark.
    return tasks[0], [found[number * len(found) // count % len(found)] for number in range(count)]


def _bundled_calls(count: int) -> tuple[Task, list[ToolCall]]:
    from pivotgym.envs.tools.servicedesk import bundled_trajectories

    longest = max(bundled_trajectories(), key=lambda one: sum(len(message.tool_calls) for message in one.messages))
    if longest.task is None:
        raise BadInput("the bundled conversations name no task", field="task")
    found = [call for message in longest.messages if message.role == "assistant" for call in message.tool_calls]
    return longest.task, [found[number % len(found)] for number in range(count)]


def _available() -> list[str]:
    try:
        get_domain("tau2/airline")
    except MissingExtra:
        return ["servicedesk"]
    return ["tau2/airline"]


def _bench_domain(work: Workload, repeats: int) -> list[BenchRow]:
    name, store = work.domain, SnapshotStore()
    env = ToolsEnv(snapshots=store)
    report = env.reset(options=work.options)[1]["restore"]
    if not report.faithful:
        raise BadInput(f"the conversation made for {name} does not replay: {report.diverged[0].diff}")
    action = next(work.trajectory.action(turn) for turn in reversed(range(work.turn)))
    try:
        # In turns, so that whatever else the machine does falls on both sides of the ratio.
        kept, fresh = _time(repeats, lambda: env.reset(options=work.options), lambda: _replay_afresh(work))
        fork, effect = _time(repeats, lambda: env.fork().close(), lambda: env.effect(action))
    finally:
        env.close()
    replayed = f"{CALLS} calls replayed"
    return [
        _row(f"{name}: restore from a kept snapshot", kept),
        _row(f"{name}: new environment, empty store, {replayed}", fresh),
        _ratio(f"{name}: replay over restore", fresh, kept, RESTORE_TARGET),
        _row(f"{name}: fork", fork, FORK_TARGET_MS),
        _row(f"{name}: effect of one action (fork, execute, diff)", effect),
    ]


def _bench_lookups(work: Workload, repeats: int) -> BenchRow:
    env = ToolsEnv(snapshots=SnapshotStore())
    env.reset(options=work.options)
    try:
        kept, fresh = _time(repeats, lambda: env.reset(options=work.options), lambda: _replay_afresh(work))
    finally:
        env.close()
    return _ratio(f"{work.domain}: replay over restore, {CALLS} lookups only", fresh, kept)


def _replay_afresh(work: Workload) -> None:
    env: AgentEnv = ToolsEnv(snapshots=SnapshotStore())
    report = env.reset(options=work.options)[1]["restore"]
    env.close()
    if report.replayed != work.turn:
        raise AssertionError("a fresh replay found a kept state")


@dataclass
class _Times:
    """Milliseconds of each repetition."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def _time(repeats: int, *works: Callable[[], object]) -> list[_Times]:
    """Times of each work, done in turns, after two rounds that are not counted."""
    times = [_Times() for _ in works]
    enabled = gc.isenabled()
    gc.disable()  # a collection in the middle would be charged to whoever runs then
    try:
        for number in range(repeats + 2):
            for work, taken in zip(works, times, strict=True):
                wall, cpu = time.perf_counter(), time.process_time()
                work()
                if number >= 2:
                    taken.cpu.append((time.process_time() - cpu) * 1000)
                    taken.wall.append((time.perf_counter() - wall) * 1000)
            if enabled:
                gc.collect(0)
    finally:
        if enabled:
            gc.enable()
    return times


def _row(name: str, times: _Times, target: float | None = None) -> BenchRow:
    return _figure(name, "ms", times.cpu, times.wall, target)


def _ratio(name: str, slow: _Times, fast: _Times, target: float | None = None) -> BenchRow:
    """The median of the ratios of the pairs that were measured one after the other."""
    cpu = [one / other for one, other in zip(slow.cpu, fast.cpu, strict=True)]
    wall = [one / other for one, other in zip(slow.wall, fast.wall, strict=True)]
    return _figure(name, "x", cpu, wall, target)


def _figure(name: str, unit: str, cpu: list[float], wall: list[float], target: float | None) -> BenchRow:
    low, median, high = _quartiles(cpu)
    return BenchRow(
        name=name,
        unit=unit,
        median=median,
        low=low,
        high=high,
        repeats=len(cpu),
        wall=statistics.median(wall),
        target=target,
    )


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high
