"""What ``/proc`` says of processes, read as fast as Python can: it is read many times a second."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def children(pid: int | None) -> list[int]:
    """Numbers of a process's children, of all its threads; none where it is gone."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:  # noqa: PTH123
                found += [int(word) for word in file.read().split()]
    except OSError:  # it ended meanwhile
        pass
    return found


def stat_fields(pid: int) -> list[bytes]:
    """The fields of ``/proc/PID/stat`` behind the name; empty where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def is_zombie(pid: int) -> bool:
    """Whether a process has ended."""
    fields = stat_fields(pid)
    return not fields or fields[0] in (b"Z", b"X")


def is_busy(pid: int) -> bool:
    """Whether a process is at work, or would be if it had a processor: not waiting for anything but the disk."""
    fields = stat_fields(pid)
    return bool(fields) and fields[0] in (b"R", b"D")


STARVED = 5.0
"""Seconds that a shell which is busy gets to come to rest, where one at rest gets none."""


def is_dying(pid: int) -> bool:
    """Whether a process has ended or was sent the signal that ends it."""
    pending = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "State" and value.split()[0] in ("Z", "X"):
                return True
            if name in ("SigPnd", "ShdPnd"):
                pending |= int(value, 16)
    except OSError:
        return True
    return bool(pending & 1 << signal.SIGKILL - 1)


def stays_open(pid: int, number: int) -> bool:
    """Whether a descriptor is one that programs inherit; those that bash keeps for itself are not."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines():
            if line.startswith("flags:"):
                return not int(line.split()[1], 8) & os.O_CLOEXEC
    return False


def number_inside(pid: int) -> int | None:
    """A process's number in its own namespace."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return None


def resident(pid: int) -> int:
    """Bytes of a process's memory, shared pages in full; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def proportional(pid: int) -> int:
    """Bytes of a process's memory, each shared page divided by those who share it; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def command_line(pid: int) -> str:
    """What a process was started with, for people."""
    with contextlib.suppress(OSError):
        said = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        return said or Path(f"/proc/{pid}/comm").read_text().strip()
    return "?"
