"""Timings of the sandboxes, backends side by side: the engine of ``pivotgym bench sandbox``.

Everything here waits for other processes, so figures are medians of wall-clock time, with quartiles beside them. The
backends take turns where a figure is a few milliseconds, and follow one another where it is a session. A sandbox begins
to run with its first command, so forking and restoring are measured up to that command's output: that is when an agent
could go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing

from rich.console import Console
from rich.table import Table

from pivotgym.envs.errors import InfrastructureError, MissingExtra
from pivotgym.envs.sandbox import BACKENDS, Backend, Sandbox, SandboxConfig, SandboxError, Snapshot, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.env import TerminalEnv
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.harness.figures import Figure, Figures, expect

TURNS = (1, 10, 50, 300)
"""Turns that are restored, of a session with one command a turn that writes files."""
FORKS = 100
LARGE_BYTES = 200 << 20
TARGETS: dict[tuple[str, str], float] = {
    ("bubblewrap", "fork to first output"): 25.0,
    ("docker", "fork to first output"): 800.0,
    ("bubblewrap", f"restore of turn {TURNS[-1]} over turn {TURNS[0]}"): 1.5,
    ("bubblewrap", f"{FORKS} forks of a state with a 200 MB file: disk"): 10.0,
}
"""Medians have to stay at or below these."""
_LARGE = SandboxConfig().limits.model_copy(update={"disk_bytes": 4 << 30})


class _Figures(Figures):
    """Figures of a backend, and what its sandboxes start from."""

    def __init__(self, backend: Backend, config: SandboxConfig) -> None:
        super().__init__(backend.name, TARGETS)
        self.backend, self.config = backend, config


def bench_sandbox(
    repeats: int = 20,
    backends: Iterable[str] | None = None,
    *,
    turns: Sequence[int] = TURNS,
    forks: int = FORKS,
    tell: Callable[[str], None] = lambda _: None,
    left_out: Callable[[str], None] = lambda _: None,
) -> list[Figure]:
    """Measures start, command, snapshot, fork, restoring, and many forks at once.

    Args:
        repeats: repetitions of each figure.
        backends: names; by default all that this machine runs.
        turns: which turns of a session are restored.
        forks: how many forks of one state live at once.
        tell: hears what is being done.
        left_out: hears of a backend that does not run here.

    Raises:
        SandboxUnavailable: a backend that was named does not run here.
    """
    chosen: list[_Figures] = []
    for name in backends if backends is not None else BACKENDS:
        try:
            chosen.append(_figures(name))
        except (InfrastructureError, MissingExtra) as error:
            if backends is not None:
                raise
            left_out(f"{name} is left out: {error}")
    for number in range(repeats + 1):
        tell(f"start, command, snapshot, fork: {number}/{repeats}")
        for figures in chosen:
            _basics(figures if number else _Figures(figures.backend, figures.config))  # the first is not counted
    for figures in chosen:
        tell(f"{figures.backend.name}: a session of {max(turns)} turns")
        _restores(figures, repeats, turns)
        tell(f"{figures.backend.name}: {forks} forks of a state with a 200 MB file")
        _many_forks(figures, forks)
    return [row for figures in chosen for row in figures.rows()]


def print_sandbox_rows(rows: Sequence[Figure], console: Console) -> None:
    """Prints the figures, a column a backend."""
    names = list(dict.fromkeys(row.name for row in rows))
    backends = list(dict.fromkeys(row.backend for row in rows))
    table = Table(
        title="bench sandbox: medians of wall-clock time with quartiles; targets in brackets", title_justify="left"
    )
    table.add_column("")
    for backend in backends:
        table.add_column(backend, justify="right")
        table.add_column("quartiles", justify="right", style="dim")
        table.add_column("target", justify="right")
    by_place = {(row.name, row.backend): row for row in rows}
    for name in names:
        cells = [name]
        for backend in backends:
            row = by_place.get((name, backend))
            if row is None:
                cells += ["", "", ""]
                continue
            verdict = {None: "", True: "met", False: "[red]missed[/]"}[row.met]
            sign = "" if row.target is None else f"≤ {row.target:g} {verdict}"
            spread = f"{row.low:.3g} to {row.high:.3g}" if row.repeats > 1 else ""
            cells += [f"{row.median:.3g} {row.unit}", spread, sign]
        table.add_row(*cells)
    console.print(table)


def _figures(name: str) -> _Figures:
    backend = get_backend(name)
    image = "host"
    if name == "docker":
        from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE

        image = DEFAULT_IMAGE
    config = SandboxConfig(image=image, workdir="/root/work", limits=_LARGE)
    backend.start(config).stop()  # what is made once (an image, a launcher) is no part of a start
    return _Figures(backend, config)


def _basics(figures: _Figures) -> None:
    backend = figures.backend
    with figures.timed("start to first output"):
        box = backend.start(figures.config)
        expect(box, "echo up", "up\n")
    try:
        expect(box, "x=1; f() { echo f; }; mkdir -p d; for i in 1 2 3; do echo $i > d/$i; done", "")
        with figures.timed("command (a builtin)"):
            expect(box, "echo $x", "1\n")
        with figures.timed("command (a program)"):
            expect(box, "/bin/cat d/1", "1\n")
        figures.add("memory of one sandbox", box.usage().memory_bytes / 1e6, "MB")
        with figures.timed("snapshot after a change"):
            snapshot = _taken(box)
        with figures.timed("snapshot without a change"):
            backend.close(_taken(box))
        with figures.timed("fork to first output"):
            fork = backend.load(snapshot)
            expect(fork, "f; cat d/3; echo $x", "f\n3\n1\n")
        fork.run("echo 4 > d/4; rm d/1")
        after = _taken(fork)
        with figures.timed("difference of two states"):
            changes = backend.changes(snapshot, after)
        if [change.path for change in changes] != ["/root/work/d/1", "/root/work/d/4"]:
            raise SandboxError(f"the difference of two states is wrong: {changes}")
        backend.close(after)
        expect(fork, "cat d/4", "4\n")
        with figures.timed("stop"):
            fork.stop()
        backend.close(snapshot)
    finally:
        box.stop()


def _restores(figures: _Figures, repeats: int, turns: Sequence[int]) -> None:
    """Restores turns of a session in which each turn writes, from kept states; then the last by replay."""
    store = SnapshotStore(max_bytes=8 << 30)
    name = figures.backend.name
    with closing(TerminalEnv(backend=name, snapshots=store, max_turns=max(turns) + 2)) as env:
        recording = _session(env, max(turns))
        began = time.perf_counter()
        report = env.reset(options={"trajectory": recording, "turn": max(turns)})[1]["restore"]
        if not report.faithful:
            raise SandboxError(f"the session does not replay: {report.diverged[0].diff}")
        figures.add(f"replay of {max(turns)} turns, each kept", (time.perf_counter() - began) * 1000)
        for number in range(min(repeats, 10) + 1):
            taken = []
            for turn in turns:
                began = time.perf_counter()
                report = env.reset(options={"trajectory": recording, "turn": turn})[1]["restore"]
                expect(env.sandbox, "wc -l < log", f"{turn}\n")
                taken.append((time.perf_counter() - began) * 1000)
                if report.replayed:
                    raise SandboxError(f"turn {turn} was replayed although its state was kept")
            if number:
                for turn, milliseconds in zip(turns, taken, strict=True):
                    figures.add(f"restore of turn {turn} to first output", milliseconds)
                figures.add(f"restore of turn {turns[-1]} over turn {turns[0]}", taken[-1] / taken[0], "x")
        figures.add(f"disk of {max(turns)} kept turns", store.nbytes / 1e6, "MB")
    store.clear()


def _session(env: TerminalEnv, turns: int) -> Trajectory:
    """A recording of ``turns`` commands, each of which changes files and the shell, and one more action."""
    task = TerminalTask(instruction="Keep a log.", workdir="/root/work").task("bench")
    env.reset(options={"task": task})
    for turn in range(turns):
        command = f"echo line {turn} >> log; x={turn}; echo {turn} > file{turn % 17}; tail -n 1 log"
        env.step(Message(role="assistant", tool_calls=[ToolCall(name="bash", arguments={"command": command})]))
    last = Message(role="assistant", content="Done.")
    return Trajectory(id="bench", task=task, tools=env.tools, messages=[*env.transcript, last])


def _many_forks(figures: _Figures, forks: int) -> None:
    """Forks of one state that holds a large file, all alive, each with a change of its own."""
    backend, label = figures.backend, f"{forks} forks of a state with a 200 MB file"
    box = backend.start(figures.config)
    with ExitStack() as stack:
        stack.callback(box.stop)
        expect(box, f"head -c {LARGE_BYTES} /dev/urandom > large; echo small > small", "")
        snapshot = _taken(box)
        stack.callback(backend.close, snapshot)
        boxes: list[Sandbox] = []
        began = time.perf_counter()
        for number in range(forks):
            boxes.append(backend.load(snapshot))
            stack.callback(boxes[-1].stop)
            expect(boxes[-1], f"echo {number} > mine; cat small", "small\n")
        figures.add(f"{label}: all, each to its first output", (time.perf_counter() - began) * 1000)
        # All are alive and have run: it gets no more.
        used = [box.usage() for box in boxes]
        figures.add(f"{label}: disk", sum(usage.disk_bytes for usage in used) / 1e6, "MB")
        figures.add(f"{label}: peak memory", sum(usage.memory_bytes for usage in used) / 1e6, "MB")
        for number, one in enumerate(boxes):
            expect(one, "cat mine", f"{number}\n")


def _taken(box: Sandbox) -> Snapshot:
    snapshot = box.snapshot()
    if snapshot is None:
        raise SandboxError(f"no snapshot: {box.incomplete}")
    return snapshot
