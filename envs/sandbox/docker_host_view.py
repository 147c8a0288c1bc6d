"""A container's processes as this machine's kernel shows them, where the daemon runs on this machine.

Process numbers here are the host's. What a container says of itself is not asked: programs in it may be replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterable
from pathlib import Path

_OWN_DESCRIPTORS = frozenset({0, 1, 2, 60, 61, 62, 255})
"""What the session's bash has open by itself."""
_CGROUPS = Path("/sys/fs/cgroup")


class HostView:
    """The control group of one running container."""

    def __init__(self, procs: Path, memory: Path | None) -> None:
        self._procs, self._memory = procs, memory

    @classmethod
    def of(cls, container: str, pid: int) -> HostView | None:
        """The view of a container whose first process has the number ``pid``; None where this is not its machine."""
        try:
            groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        folders = {}
        for line in groups:
            _, controllers, path = line.split(":", 2)
            if container in path:
                for controller in controllers.split(","):
                    folders[controller] = _CGROUPS / controller.removeprefix("name=") / path.lstrip("/")
        procs = next((folders[name] / "cgroup.procs" for name in ("pids", "", "memory") if name in folders), None)
        if procs is None or pid not in _numbers(procs):
            return None
        memory = folders["memory"] / "memory.oom_control" if "memory" in folders else procs.with_name("memory.events")
        return cls(procs, memory if memory.is_file() else None)

    def pids(self) -> list[int]:
        """All processes of the container."""
        return _numbers(self._procs)

    def oom_kills(self) -> int:
        """How many processes the kernel killed for want of memory."""
        if self._memory is None:
            return 0
        try:
            found = re.search(r"^oom_kill (\d+)$", self._memory.read_text(encoding="ascii"), re.MULTILINE)
        except OSError:
            return 0
        return int(found.group(1)) if found else 0

    def send(self, pids: Iterable[int], number: signal.Signals) -> None:
        """Sends a signal to processes of the container. Raises PermissionError for who may not (anyone but root)."""
        for pid in pids:
            # A number may be given to another process between listing and killing: hold it, then look again.
            with contextlib.suppress(ProcessLookupError):
                held = os.pidfd_open(pid)
                try:
                    if pid in _numbers(self._procs):
                        signal.pidfd_send_signal(held, number)
                finally:
                    os.close(held)

    def come_from(self, pids: Iterable[int], roots: set[int], ends: set[int]) -> set[int]:
        """Those of ``pids`` that are below a process of ``roots``; looking upwards stops at ``ends``."""
        parents: dict[int, int | None] = {}
        found = set()
        for pid in pids:
            above: int | None = pid
            while above and above not in ends:
                if above in roots:
                    found.add(pid)
                    break
                if above not in parents:
                    parents[above] = parent_of(above)
                above = parents[above]
        return found


def _numbers(procs: Path) -> list[int]:
    try:
        return [int(word) for word in procs.read_bytes().split()]
    except OSError:  # the container stopped
        return []


def _status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is not just waiting to be taken note of."""
    return _status(pid).get("State", "Z")[0] not in "ZX"


def parent_of(pid: int) -> int | None:
    """The process's parent; None where it is gone."""
    number = _status(pid).get("PPid", "")
    return int(number) if number.isdigit() else None


def number_inside(pid: int) -> int | None:
    """The process's number in its container; None where it is gone."""
    words = _status(pid).get("NSpid", "").split()
    return int(words[-1]) if words else None


def command_of(pid: int) -> str:
    """The process's command line."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return words.decode("utf-8", "replace").strip() or Path(f"/proc/{pid}/comm").read_text().strip()
    return "?"


def beyond_files(shell: int, supervisor: int) -> str:
    """What a session's bash holds that neither files nor its printed state tell.

    Args:
        shell: its process.
        supervisor: its parent, whose limits it started with.

    Returns:
        A description; empty for nothing, or where only root may know.
    """
    try:
        opened = {int(name) for name in os.listdir(f"/proc/{shell}/fd")}  # noqa: PTH208
        extra = {number for number in opened - _OWN_DESCRIPTORS if _is_inherited(shell, number)}
        if extra:
            return f"open file descriptor of the shell: {min(extra)}"
        for number, usual, name in ((0, 0, "input"), (1, 61, "output"), (2, 61, "errors")):
            if _leads_to(shell, number) != _leads_to(supervisor, usual):
                return f"redirected {name} of the shell"
        if Path(f"/proc/{shell}/limits").read_bytes() != Path(f"/proc/{supervisor}/limits").read_bytes():
            return "limits of the shell (ulimit)"
        held = _shared_memory(shell)
    except OSError:
        return ""
    return f"files in /dev/shm: {', '.join(sorted(held))[:200]}" if held else ""


def _leads_to(pid: int, number: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")  # noqa: PTH115
    except FileNotFoundError:  # closed
        return ""


def _is_inherited(pid: int, number: int) -> bool:
    """Whether programs get a descriptor; those that bash opens for itself they do not."""
    for line in Path(f"/proc/{pid}/fdinfo/{number}").read_text(encoding="ascii").splitlines():
        if line.startswith("flags:"):
            return not int(line.split()[1], 8) & os.O_CLOEXEC
    return False


def _shared_memory(pid: int) -> list[str]:
    """Names in the container's ``/dev/shm``; a link in its place is not followed."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY)
    opened = [root]
    try:
        for name in ("dev", "shm"):
            opened.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened[-1]))
        return os.listdir(opened[-1])  # noqa: PTH208
    finally:
        for descriptor in opened:
            os.close(descriptor)
