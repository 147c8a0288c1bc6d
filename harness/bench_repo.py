"""Timings of repositories: a turn restored against a container and a replay, and the parts of a reward.

The engine of ``pivotgym bench repo``. Everything here waits for other processes, so figures are medians of wall-clock
time; the two ways to a turn take turns, so that a busy machine slows both. What restoring is compared with is what
everybody does who has no snapshots: ``docker run`` an image that holds the repository, then run every recorded command
again with ``docker exec``.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from pivotgym.envs.errors import BadInput, InfrastructureError, MissingExtra
from pivotgym.envs.repo.bundled import bundled_trajectories
from pivotgym.envs.repo.env import RepoEnv
from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.sandbox import BACKENDS, SandboxConfig, SandboxError, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.prepare import archive_of
from pivotgym.envs.trajectory import ToolCall, Trajectory
from pivotgym.harness.figures import Figure, Figures, expect
from pivotgym.verifiers.repo_actions import EDITORS

TURN = 10
_STATUS = "git status --short | sort"
FASTER = f"docker run and replay over restore of turn {TURN}"
TARGETS: dict[tuple[str, str], float] = {("bubblewrap", FASTER): 20.0}
"""Medians have to reach these."""


def bench_repo(
    repeats: int = 20,
    backends: Sequence[str] | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    left_out: Callable[[str], None] = lambda _: None,
) -> list[Figure]:
    """Measures restoring turn 10 of a bundled recording, the same by container and replay, and rewards.

    Args:
        repeats: repetitions of each figure.
        backends: names; by default all that this machine runs.
        tell: hears what is being done.
        left_out: hears of a backend that does not run here.

    Raises:
        SandboxUnavailable: a backend that was named does not run here.
    """
    recording = _recording()
    chosen: list[Figures] = []
    for name in backends if backends is not None else BACKENDS:
        try:
            get_backend(name)
            chosen.append(Figures(name, TARGETS, at_least=(FASTER,)))
        except (InfrastructureError, MissingExtra) as error:
            if backends is not None:
                raise
            left_out(f"{name} is left out: {error}")
    try:
        replay: _Replay | None = _Replay(recording)
    except (InfrastructureError, MissingExtra) as error:
        left_out(f"docker run and replay is left out: {error}")
        replay = None
    try:
        for figures in chosen:
            _measure(figures, recording, replay, repeats, tell)
    finally:
        if replay is not None:
            replay.close()
    return [row for figures in chosen for row in figures.rows()]


def print_repo_rows(rows: Sequence[Figure], console: Console) -> None:
    """Prints the figures, a row each."""
    table = Table(title="bench repo: medians of wall-clock time with quartiles", title_justify="left")
    for name, justify in (("", "left"), ("backend", "left"), ("median", "right"), ("quartiles", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("target", justify="right")
    for row in rows:
        target = "" if row.target is None else f"≥ {row.target:g} {'met' if row.met else '[red]missed[/]'}"
        spread = f"{row.low:.3g} to {row.high:.3g}" if row.repeats > 1 else ""
        table.add_row(row.name, row.backend, f"{row.median:.3g} {row.unit}", spread, target)
    console.print(table)


def _recording() -> Trajectory:
    """The longest expert that edits with the editor, does not undo, and has a state after turn 10."""

    def kinds(one: Trajectory) -> set[str]:
        calls = [call for turn in range(len(one.turns)) for call in one.action(turn).tool_calls]
        edits = [call.arguments for call in calls if call.name in EDITORS]
        return {str(arguments["command"]) for arguments in edits if isinstance(arguments, dict)}

    found = [
        one
        for one in bundled_trajectories(None)
        if len(one.turns) > TURN and "str_replace" in kinds(one) <= {"view", "create", "str_replace"}
    ]
    if not found:
        raise BadInput(f"no bundled recording has more than {TURN} turns", field="trajectories")
    return max(found, key=lambda one: (len(one.turns), one.id))


def _measure(
    figures: Figures, recording: Trajectory, replay: _Replay | None, repeats: int, tell: Callable[[str], None]
) -> None:
    store = SnapshotStore(max_bytes=4 << 30)
    with closing(RepoEnv(tasks="bundled", backend=figures.name, snapshots=store)) as env:
        options: dict[str, Any] = {"trajectory": recording, "turn": TURN}
        tell(f"{figures.name}: turn {TURN} of {recording.id}")
        with figures.timed(f"replay of {TURN} turns from nothing, each kept"):
            report = env.reset(options=options)[1]["restore"]
        if not report.faithful:
            raise SandboxError(f"{recording.id} does not replay: {report.diverged[0].diff}")
        wanted = env.sandbox.run(_STATUS).output
        for number in range(repeats + 1):
            tell(f"{figures.name}: restore of turn {TURN}: {number}/{repeats}")
            began = time.perf_counter()
            report = env.reset(options=options)[1]["restore"]
            expect(env.sandbox, _STATUS, wanted)
            restored = time.perf_counter() - began
            if report.replayed:
                raise SandboxError(f"turn {TURN} was replayed although its state was kept")
            if not number:
                continue
            figures.add(f"restore of turn {TURN} to first output", restored * 1000)
            if replay is not None and number <= 10:
                replayed = replay.run(wanted)
                figures.add(f"docker run and replay of {TURN} turns to first output", replayed * 1000)
                figures.add(FASTER, replayed / restored, "x")
        _rewards(figures, env, recording, min(repeats, 10), tell)
    store.clear()


def _rewards(figures: Figures, env: RepoEnv, recording: Trajectory, repeats: int, tell: Callable[[str], None]) -> None:
    """The goal's verdict on the state at the end of the recording."""
    last = len(recording.turns) - 1
    env.reset(options={"trajectory": recording, "turn": last})
    for number in range(repeats + 1):
        tell(f"{figures.name}: rewards: {number}/{repeats}")
        began = time.perf_counter()
        verdict = env.score()
        seconds = time.perf_counter() - began
        if verdict.reward != 1.0:
            raise SandboxError(f"the expert's state earns {verdict.reward}: {verdict.reason}")
        if not number:
            continue
        tests = len(verdict.evidence["fail_to_pass"]) + len(verdict.evidence["pass_to_pass"])
        figures.add(f"reward: all of it ({tests} tests)", seconds * 1000)
        for part, value in env.passing().seconds.items():
            figures.add(f"reward: {part.replace('_', ': ')}", value * 1000)


class _Replay:
    """A recording's turns in plain containers, as without snapshots: one ``run``, then one ``exec`` a call."""

    def __init__(self, recording: Trajectory) -> None:
        import docker

        from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE

        assert recording.task is not None
        backend = get_backend("docker")
        backend.start(SandboxConfig(image=DEFAULT_IMAGE)).stop()  # the base image is there
        spec = RepoTask.of(recording.task)
        self._client = docker.from_env()
        self._workdir, self._environment = spec.workdir, dict(spec.env)
        self._commands = [_command(call) for turn in range(TURN) for call in recording.action(turn).tool_calls]
        setup = spec.full_setup()
        with self._container(DEFAULT_IMAGE) as container:
            for data in (*setup.archive_bytes(), archive_of(setup.files)):
                container.put_archive("/", data)
            built = container.exec_run(["bash", "-c", setup.script], workdir="/")
            if built.exit_code != 0:
                raise SandboxError(f"the repository cannot be built in a container: {built.output[-500:]!r}")
            self._image = container.commit().id

    def run(self, wanted: str) -> float:
        """Seconds to the first output in the state that the recording has. Raises SandboxError where it has not."""
        began = time.perf_counter()
        with self._container(self._image) as container:
            for command in self._commands:
                self._exec(container, command, self._workdir)
            found = self._exec(container, _STATUS, self._workdir)
            seconds = time.perf_counter() - began
        if found != wanted:
            raise SandboxError(f"the replay in a container leads to {found!r} instead of {wanted!r}")
        return seconds

    def close(self) -> None:
        """Removes the image that was made."""
        self._client.images.remove(self._image, force=True)
        self._client.close()

    @contextmanager
    def _container(self, image: str) -> Iterator[Any]:
        container = self._client.containers.run(
            image, ["sleep", "600"], detach=True, network_mode="none", environment=self._environment
        )
        try:
            yield container
        finally:
            container.remove(force=True)

    def _exec(self, container: Any, command: str, folder: str) -> str:
        done = container.exec_run(["bash", "-c", command], workdir=folder)
        return str(done.output.decode("utf-8", "replace"))


def _command(call: ToolCall) -> str:
    """A recorded call as a command: an edit as the program that makes it."""
    arguments = call.arguments if isinstance(call.arguments, dict) else {}
    if call.name not in EDITORS:
        return str(arguments["command"])
    path, kind = str(arguments["path"]), arguments["command"]
    if kind == "view":
        return f"cat -n {shlex.quote(path)}"
    if kind == "create":
        change = f"t = {arguments['file_text']!r}"
    elif kind == "str_replace":
        change = f"t = open(p).read().replace({arguments['old_str']!r}, {arguments['new_str']!r}, 1)"
    else:
        raise BadInput(f"{kind!r} is not replayed", field="recording")
    return f"python3 -c {shlex.quote(f'p = {path!r}; {change}; open(p, {chr(39)}w{chr(39)}).write(t)')}"
