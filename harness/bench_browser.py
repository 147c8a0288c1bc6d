"""Timings of browser sessions beside BrowserGym's on the same MiniWoB tasks: the engine of ``pivotgym bench browser``.

Everything here waits for other processes, so figures are medians of wall-clock time with quartiles beside them, and the
two take turns, so that a busy machine slows both. BrowserGym has no snapshots: its way to a turn is a reset and every
action again. It runs in a Python of its own (``--peer-python``), as it pins another Playwright; its step is measured as
it comes, with the half second it sleeps and the screenshot it takes before each observation.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.table import Table

from pivotgym.envs.browser.apps.taskset import bundled_trajectories
from pivotgym.envs.browser.engine import program, shutdown
from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.browser.miniwob import browsergym_seed, miniwob_task
from pivotgym.envs.browser.slots import RECENT
from pivotgym.envs.errors import InfrastructureError, MissingExtra
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.harness.figures import Figure, Figures

OURS, PEER, RATIO = "pivotgym", "browsergym", "browsergym over pivotgym"
RESET, STEP, RESTORE = "reset", "step with a fresh tree", "restore of turn 5"
AGAIN = "reset to the page that was reset to before"
IN_A_ROW = "the same restore again, five in a row without a pause, each"
PREPARED = "the same restore after two idle seconds"
TURN, AT_ONCE, SEED = 5, 16, 3
THINK_SECONDS = 0.25
"""What a model takes at least to answer: so long no environment is asked for anything before a reset or a restore."""
PAUSE_SECONDS = 2.0
"""Idle time in which a session for a state that was restored before may be prepared; that has a row of its own."""
TARGETS: dict[tuple[str, str], float] = {(RATIO, RESET): 20.0, (RATIO, STEP): 15.0, (OURS, RESTORE): 60.0}
PEER_HINT = "pip install --no-deps browsergym-core browsergym-miniwob, and what they import, into a venv of its own"
Move = tuple[Any, ...]
"""A verb, the role of the element it is for, which of them, and what else it takes."""
TASKS: dict[str, tuple[Move, ...]] = {
    "click-checkboxes-large": tuple(("click", "checkbox", number) for number in range(TURN + 1)),
    "enter-text": (
        ("click", "textbox", 0),
        ("fill", "textbox", 0, "one"),
        ("press", "textbox", 0, "Home"),
        ("press", "textbox", 0, "Delete"),
        ("fill", "textbox", 0, "two"),
        ("click", "textbox", 0),
    ),
    "click-option": tuple(("click", "radio", number) for number in range(TURN + 1)),
    "form-sequence-2": (
        ("click", "radio", 0),
        ("fill", "textbox", 0, "12"),
        ("click", "radio", 1),
        ("fill", "textbox", 1, "34"),
        ("click", "radio", 2),
        ("click", "textbox", 0),
    ),
}
"""What is done on each page: the first five moves lead to the turn that is restored, the last one is one more."""
OTHER = "click-button"
"""What is open before the first of them."""
SERVED = ("bundled-shop.use_voucher-0", "bundled-tracker.create_label-0")
"""Recordings of the applications, whose server's state is restored too."""
_WORKER = Path(__file__).with_name("bench_browser_peer.py")


class PeerMissing(InfrastructureError):
    """BrowserGym cannot be run."""


def bench_browser(
    repeats: int = 5,
    peer_python: Path | None = None,
    peer_chromium: Path | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
    left_out: Callable[[str], None] = lambda _: None,
) -> list[Figure]:
    """Measures reset, step and restore on MiniWoB pages, restores of the applications, and 16 environments at once.

    Args:
        repeats: rounds; in each, both sides go through every task once. One more round at the start is not counted.
        peer_python: a Python that has ``browsergym-miniwob``; by default this one, where it has.
        peer_chromium: its Chromium; by default a whole one, as the Playwright that it pins brings.
        tell: hears what is being done.
        left_out: hears why BrowserGym is not measured.
    """
    ours = Figures(OURS, TARGETS)
    theirs, ratios = Figures(PEER, TARGETS), Figures(RATIO, TARGETS, at_least=(RESET, STEP))
    with ExitStack() as stack:
        peer: _Peer | None = None
        try:
            peer = stack.enter_context(closing(_Peer(peer_python, peer_chromium)))
        except (PeerMissing, MissingExtra) as error:
            left_out(str(error))
        env = stack.enter_context(closing(BrowserEnv(snapshots=SnapshotStore())))
        # Each round has another seed and goes through all pages: nothing timed was opened or prepared before, but for
        # what the rows' names say.
        began = time.monotonic()
        for number in range(repeats + 1):
            left = (time.monotonic() - began) / max(1, number) * (repeats + 1 - number) / 60
            tell(f"round {number} of {repeats}" + (f", about {left:.0f} min to go" if number else " (not counted)"))
            found = _round(env, SEED + number)
            for name, moves in TASKS.items():
                beside = peer.round(name, moves, SEED + number) if peer is not None else None
                if number:
                    _note(ours, theirs, ratios, found[name], beside)
        env.close()
        for name in SERVED:
            tell(name)
            _served(ours, name, repeats)
        if peer is not None:
            theirs.add("memory of one environment", peer.memory(), "MB")
    tell(f"{AT_ONCE} environments at once")
    shutdown()  # memory counts from a fresh browser on
    _at_once(ours, max(len(TASKS), repeats))
    return [*ours.rows(), *theirs.rows(), *ratios.rows()]


def print_browser_rows(rows: Sequence[Figure], console: Console) -> None:
    """Prints the figures, a line each."""
    title = "bench browser: medians of wall-clock time with quartiles"
    table = Table("", "", "median", "quartiles", "target", title=title, title_justify="left")
    for row in rows:
        sign = {None: "", True: "met", False: "[red]missed[/]"}[row.met]
        bound = "" if row.target is None else f"{'≥' if row.at_least else '≤'} {row.target:g} {sign}"
        spread = f"{row.low:.3g} to {row.high:.3g}" if row.repeats > 1 else ""
        table.add_row(row.backend, row.name, f"{row.median:.3g} {row.unit}", spread, bound)
    console.print(table)


Times = dict[str, list[float]]
"""Milliseconds by what took them."""


def _note(ours: Figures, theirs: Figures, ratios: Figures, found: Times, beside: Times | None) -> None:
    for what, values in found.items():
        for value in values:
            ours.add(what, value)
        if beside is None or what not in beside:
            continue
        for value in beside[what]:
            theirs.add(what, value)
        ratios.add(what, _mean(beside[what]) / _mean(values), "x")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _round(env: BrowserEnv, seed: int) -> dict[str, Times]:
    """Every page: one episode after the other, then the restores."""
    other = miniwob_task(OTHER, browsergym_seed(seed))
    for _ in range(RECENT):  # so that no page stands by that the last round asked for
        env.reset(options={"task": other})
    time.sleep(PAUSE_SECONDS)
    env.reset(options={"task": other})
    times: dict[str, Times] = {name: {} for name in TASKS}
    rows = [_episode(env, name, seed, times[name]) for name in TASKS]
    for row in rows:
        _restores(env, row, times[row.id])
    return times


def _episode(env: BrowserEnv, name: str, seed: int, times: Times) -> Trajectory:
    """A reset, and a step for each move."""
    task = miniwob_task(name, browsergym_seed(seed))
    with _timed(times, RESET):
        env.reset(options={"task": task})
    for number, move in enumerate(TASKS[name]):
        action = _action(env.messages[-1].text, move, number)
        with _timed(times, STEP):
            env.step(action)
        if "\nError: " in env.messages[-1].text:
            raise InfrastructureError(f"{name}: move {number} cannot be made: {env.messages[-1].text[:300]}")
    return Trajectory(id=name, task=task, tools=env.tools, messages=[message.clone() for message in env.transcript])


def _restores(env: BrowserEnv, row: Trajectory, times: Times) -> None:
    """Turn 5 restored: once, five times more in a row, and after a long pause."""
    env.reset(options={"trajectory": row, "turn": TURN})  # keeps the state
    env.reset(options={"task": row.task})
    time.sleep(THINK_SECONDS)
    with _timed(times, AGAIN):
        env.reset(options={"task": row.task})
    time.sleep(THINK_SECONDS)
    with _timed(times, RESTORE):
        _restore(env, row)
    began = time.perf_counter()
    for _ in range(5):
        _restore(env, row)
    times[IN_A_ROW] = [(time.perf_counter() - began) * 200]
    time.sleep(PAUSE_SECONDS)
    with _timed(times, PREPARED):
        _restore(env, row)


def _restore(env: BrowserEnv, row: Trajectory) -> None:
    report = env.reset(options={"trajectory": row, "turn": TURN})[1]["restore"]
    if report.replayed or report.fidelity != 1.0:
        raise InfrastructureError(f"{row.id}: turn {TURN} is not restored from its kept state ({report.diverged})")


def _served(figures: Figures, name: str, repeats: int) -> None:
    recording = next(row for row in bundled_trajectories(None) if row.id == name)
    where = name.split(".")[0].removeprefix("bundled-")
    with closing(BrowserEnv(snapshots=SnapshotStore())) as env:
        env.reset(options={"trajectory": recording, "turn": TURN})
        for _ in range(repeats):
            with figures.timed(f"{where}: reset"):
                env.reset(options={"task": recording.task})
            # The state before is restored in between, so that no session stands by for this one.
            env.reset(options={"trajectory": recording, "turn": TURN - 1})
            with figures.timed(f"{where}: restore of turn 5"):
                _restore(env, recording)


def _at_once(figures: Figures, repeats: int) -> None:
    """Environments that all step at the same time, and what each adds to the memory of the browser and of Python."""
    moves = TASKS["click-checkboxes-large"]
    task = miniwob_task("click-checkboxes-large", browsergym_seed(SEED))
    with ExitStack() as stack:
        first = stack.enter_context(closing(BrowserEnv(snapshots=SnapshotStore())))
        first.reset(options={"task": task})
        alone = memory_of(os.getpid())
        others = [stack.enter_context(closing(BrowserEnv(snapshots=SnapshotStore()))) for _ in range(AT_ONCE - 1)]
        envs = [first, *others]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda env: env.reset(options={"task": task}), envs))
            for number in range(repeats):
                actions = [_action(env.messages[-1].text, moves[number % len(moves)], number) for env in envs]
                began = time.perf_counter()
                list(pool.map(lambda pair: pair[0].step(pair[1]), zip(envs, actions, strict=True)))
                took = (time.perf_counter() - began) * 1000
                figures.add(f"{AT_ONCE} environments: a step of each", took)
        whole = memory_of(os.getpid())
        figures.add("memory with one environment, Chromium included", alone, "MB")
        figures.add(f"memory with {AT_ONCE} environments", whole, "MB")
        figures.add("memory of each further environment", (whole - alone) / (AT_ONCE - 1), "MB")


def memory_of(process: int) -> float:
    """The memory of a process and all below it in MB, shared pages divided among those that share them (PSS)."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        below.setdefault(parent, []).append(int(folder.name))
    kilobytes, waiting = 0, [process]
    while waiting:
        number = waiting.pop()
        waiting += below.get(number, [])
        try:
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{number}/smaps_rollup").read_text(), re.MULTILINE)
        except OSError:
            continue
        kilobytes += int(found[1]) if found else 0
    return kilobytes / 1e3


def _action(text: str, move: Move, number: int) -> Message:
    verb, role, position, *rest = move
    found = re.findall(rf"\[(\w+)\] {role}\b", text)
    if not found:
        raise InfrastructureError(f"the page has no {role}: {text[:300]}")
    names = {"fill": ("value",), "press": ("key_comb",)}.get(verb, ())
    arguments = {"bid": found[position % len(found)], **dict(zip(names, rest, strict=True))}
    return Message(role="assistant", tool_calls=[ToolCall(id=str(number), name=verb, arguments=arguments)])


@contextmanager
def _timed(times: Times, what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times.setdefault(what, []).append((time.perf_counter() - began) * 1000)


class _Peer:
    """BrowserGym in a process of its own. Raises PeerMissing where there is none, or it does not answer in time."""

    seconds = 300.0
    """How long one answer may take."""

    def __init__(self, python: Path | None, chromium: Path | None = None) -> None:
        pages = find_spec("miniwob")
        if pages is None or pages.origin is None:
            raise MissingExtra("miniwob", "browser")
        if python is None and find_spec("browsergym") is None:
            raise PeerMissing(f"BrowserGym is not measured: {PEER_HINT}; name its Python with --peer-python")
        shown = str(chromium) if chromium else shutil.which("chromium") or shutil.which("google-chrome") or program()
        if shown is None:
            raise PeerMissing("BrowserGym is not measured: no Chromium of this machine's to give it")
        self._printed = tempfile.TemporaryFile("a+b")  # noqa: SIM115 (closed below; nobody would empty a pipe)
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [
                str(python or sys.executable),
                str(_WORKER),
                str(Path(pages.origin).parent / "html" / "miniwob"),
                shown,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, name="browser-peer", daemon=True)
        self._listener.start()
        try:
            self._ask({"do": "hello"})
        except BaseException:
            self.close()
            raise

    def round(self, name: str, moves: Sequence[Move], seed: int) -> Times:
        """A reset, a step for each move, then the way to the turn once more."""
        times: Times = {RESET: [self._ask({"do": "reset", "task": name, "seed": seed})]}
        times[STEP] = [self._ask({"do": "step", "move": move}) for move in moves]
        again = self._ask({"do": "reset", "task": name, "seed": seed})
        times[RESTORE] = [again + sum(self._ask({"do": "step", "move": move}) for move in moves[:TURN])]
        return times

    def memory(self) -> float:
        """Of its process and its Chromium, in MB."""
        return memory_of(self._process.pid)

    def _ask(self, what: dict[str, Any]) -> float:
        """How many milliseconds it took."""
        stdin = _pipe(self._process.stdin)
        try:
            stdin.write(json.dumps(what) + "\n")
            stdin.flush()
            line = self._answers.get(timeout=self.seconds)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            self._process.kill()
            raise PeerMissing(
                f"BrowserGym did not answer {what} within {self.seconds:g} s; it printed last: {self._last_line()}"
            ) from None
        if not line:
            self._process.kill()
            self._process.wait()
            raise PeerMissing(f"BrowserGym does not run: {self._last_line() or 'no reason given'}; {PEER_HINT}")
        answer = json.loads(line)
        if answer["error"]:
            raise PeerMissing(f"BrowserGym: {what}: {answer['error']}")
        return float(answer["seconds"]) * 1000

    def _listen(self) -> None:
        for line in _pipe(self._process.stdout):
            self._answers.put(line)
        self._answers.put("")

    def _last_line(self) -> str:
        """The last line it printed."""
        end = self._printed.seek(0, os.SEEK_END)
        self._printed.seek(max(0, end - 4000))
        lines = self._printed.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """Ends it."""
        with suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(10)
        if not self._listener.is_alive():
            _pipe(self._process.stdout).close()
        self._printed.close()


def _pipe(found: IO[str] | None) -> IO[str]:
    assert found is not None
    return found
