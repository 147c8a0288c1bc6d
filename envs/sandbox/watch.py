"""What a sandbox uses, looked at from outside: while a command runs, and between commands.

The kernel limits single processes and files; what they use together only control groups limit, and those need rights
that an ordinary user does not have. So it is counted here, often enough that nothing can grow far in between.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from weakref import WeakMethod

from pivotgym.envs.sandbox.base import Ending, Limits, SandboxError
from pivotgym.envs.sandbox.layers import measure

_BETWEEN = 1.0
"""Seconds between two looks at a sandbox that runs no command."""
_SMALL = 1 << 20
_RESERVE_MEMORY, _RESERVE_DISK = 128 << 20, 256 << 20
"""What is left to the machine whatever else is counted: some memory of the kernel (sockets, pipes) is not."""


class MachineFull(SandboxError):
    """The machine, not one sandbox's limit, ran out of memory or disk: says nothing of what runs in it."""


class Uses(Protocol):
    """A running sandbox's processes."""

    def pids(self) -> list[int]:
        """All of them, by their numbers outside."""

    def memory(self, enough: int) -> int:
        """Bytes they hold together."""

    def kill_all(self) -> None:
        """Ends them with the sandbox."""


class Watch:
    """Looks at one sandbox's use.

    Args:
        uses: its processes.
        upper: its writable folder.
        frozen: bytes of its frozen layers.
        limits: what it may use.
        disk: bytes in ``upper`` when it was last looked at.

    Attributes:
        disk: bytes in ``upper`` at the last look.
    """

    def __init__(self, uses: Uses, upper: Path, frozen: int, limits: Limits, disk: int) -> None:
        self._uses, self._upper, self._frozen, self._limits = uses, upper, frozen, limits
        self._before = self.disk = disk
        self._due = 0.0

    def __call__(self) -> Ending | None:
        """Which limit is exceeded, if any. Raises MachineFull where the machine has too little left for everybody."""
        pids = self._uses.pids()
        if len(pids) > self._limits.processes:
            # The kernel counts for each user inside, and root inside may become any. Killed one by one they would be
            # faster than whoever kills them.
            self._uses.kill_all()
            return None
        if self._uses.memory(self._limits.memory_bytes) > self._limits.memory_bytes:
            return "memory"
        began = time.monotonic()
        if began < self._due:
            return None
        if len(pids) > 3 and available_memory() < _RESERVE_MEMORY:
            raise MachineFull(f"less than {_RESERVE_MEMORY >> 20} MiB of this machine's memory are left")
        before, self.disk = self.disk, self.measure()
        self._due = time.monotonic() + 5 * (time.monotonic() - began)  # many files take long to count
        # What was too much before may be tidied up: only growth ends a command.
        if self._frozen + self.disk > self._limits.disk_bytes and self.disk > self._before + _SMALL:
            return "disk"
        if self.disk > before + _SMALL and free_disk(self._upper) < _RESERVE_DISK:
            raise MachineFull(f"less than {_RESERVE_DISK >> 20} MiB of this machine's disk are left ({self._upper})")
        return None

    def measure(self) -> int:
        """Bytes in the writable folder, with files that have no name any more but are held open."""
        return measure(self._upper)[1] + removed_bytes(self._uses.pids())


def removed_bytes(pids: list[int]) -> int:
    """Disk bytes of files that the processes hold open and that have no name."""
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            numbers = os.listdir(folder)  # noqa: PTH208 (pathlib is slow)
        except OSError:  # it ended
            continue
        for number in numbers:
            try:
                status = os.stat(f"{folder}/{number}")  # noqa: PTH116
            except OSError:
                continue
            # Files in /dev/shm are memory, and bounded by the size of that file system.
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and status.st_dev != _memory_device(pid):
                found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def _memory_device(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/root/dev/shm").st_dev  # noqa: PTH116
    except OSError:
        return None


def free_disk(path: Path) -> int:
    """Bytes that can still be written to the file system of ``path``."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def available_memory() -> int:
    """Bytes this machine has left for programs."""
    with open("/proc/meminfo", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) << 10
    return 1 << 62


class Guard:
    """Looks at sandboxes between their commands: background processes may grow while a model thinks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: list[WeakMethod[Callable[[], None]]] = []
        self._thread: threading.Thread | None = None

    def add(self, look: Callable[[], None]) -> None:
        """``look``, a method, is called every second as long as its object lives."""
        with self._lock:
            self._looks.append(WeakMethod(look))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sandbox guard", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(_BETWEEN)
            with self._lock:
                self._looks = [kept for kept in self._looks if kept() is not None]
                if not self._looks:
                    self._thread = None
                    return
                looks = list(self._looks)
            for kept in looks:
                look = kept()
                if look is not None:
                    look()
