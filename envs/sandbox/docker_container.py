"""One container: how it is confined, its stream, its processes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox.base import Limits, SandboxError
from pivotgym.envs.sandbox.docker_api import as_sandbox_error, labels, retried
from pivotgym.envs.sandbox.docker_host_view import HostView, is_alive, number_inside, parent_of
from pivotgym.envs.sandbox.docker_seccomp import docker_profile
from pivotgym.envs.sandbox.layers import hard_linked, measure
from pivotgym.envs.sandbox.processes import is_dying
from pivotgym.envs.sandbox.session import readable, supervisor_arguments
from pivotgym.envs.sandbox.watch import removed_bytes

if TYPE_CHECKING:
    from docker import APIClient

CAPABILITIES = (
    # All of them act on what is inside the container only. Left out is whatever makes device nodes, mounts file
    # systems, traces others' processes, sets up networks, changes the root or touches the kernel.
    "CHOWN",  # root gives files to other users (`chown`, unpacking archives)
    "DAC_OVERRIDE",  # root reads and writes files whatever their mode says
    "FOWNER",  # root changes mode and times of other users' files
    "FSETID",  # set-group bits survive when root changes a file
    "KILL",  # root ends other users' processes
    "SETGID",  # `su`, `setpriv`, daemons that give up root
    "SETUID",  # the same
)
# Process 1 reaps orphans and cannot be killed from inside: `kill -9 -1` ends everything else. It ends with its
# standard input, which the daemon holds.
_FIRST = ["bash", "--norc", "--noprofile", "-c", "while IFS= read -r _; do :; done"]
_OWN_PROCESSES = 4
"""Beside what the limit is for: the first process, the supervisor, the session, one to kill others with."""
_ROUNDS, _FROZEN_FROM = 12, 3
_PATIENCE = 10.0
_UNCOUNTABLE = 1 << 60
"""Where the daemon cannot count (paths too long for the kernel): more than any limit."""


@dataclass(frozen=True)
class Shape:
    """What is decided when a container is made; users and environments are chosen afterwards.

    Attributes:
        image: id.
        hostname: inside.
        limits: what it may use.
    """

    image: str
    hostname: str
    limits: Limits


@dataclass(frozen=True)
class Abilities:
    """What the daemon and its machine can do beyond what every one can.

    Attributes:
        quota: limit a container's size.
        seccomp: filter system calls.
    """

    quota: bool = False
    seccomp: bool = True


class Container:
    """A started container without network, volumes or anything of the host.

    Args:
        client: of the daemon.
        shape: what it is made of.
        can: what the daemon can do.
        may_fail: give a container that could not be started too: its files can be had. What ran in its image before
            may have seen to that.

    Attributes:
        pid: number of its first process on the daemon's machine; 0 while it is not started.

    Raises:
        BadInput: the image has no bash.
        SandboxError: the daemon fails.
    """

    def __init__(self, client: APIClient, shape: Shape, can: Abilities, *, may_fail: bool = False) -> None:
        self.client, self.shape = client, shape
        self._stopped()
        self._gone = False
        self._can = can
        with as_sandbox_error("creating a container"):
            made = retried(
                client.create_container,
                shape.image,
                entrypoint=_FIRST,
                hostname=shape.hostname,
                user="0:0",
                working_dir="/",
                stdin_open=True,
                labels=labels(),
                healthcheck={"test": ["NONE"]},
                host_config=self._host_config(),
            )
        self.id: str = made["Id"]
        try:
            self.start()
        except BaseException as error:
            if may_fail and isinstance(error, (BadInput, SandboxError)):
                return
            with contextlib.suppress(SandboxError):
                self.remove()
            raise

    def _host_config(self) -> dict[str, Any]:
        from docker.types import LogConfig, Ulimit

        limits = self.shape.limits
        ceilings = {
            "nofile": limits.open_files,
            "fsize": limits.file_bytes,
            "cpu": limits.cpu_seconds,
            "core": 0,
        }
        config: dict[str, Any] = self.client.create_host_config(
            network_mode="none",
            # Otherwise the container gets the host's name servers to read.
            dns=["127.0.0.1"],
            dns_search=["."],
            cap_drop=["ALL"],
            cap_add=list(CAPABILITIES),
            security_opt=["no-new-privileges", *([f"seccomp={docker_profile()}"] if self._can.seccomp else [])],
            # The same number for both: no swap.
            mem_limit=limits.memory_bytes,
            memswap_limit=limits.memory_bytes,
            pids_limit=limits.processes + _OWN_PROCESSES,
            ulimits=[Ulimit(name=name, soft=value, hard=value) for name, value in ceilings.items()],
            ipc_mode="private",
            log_config=LogConfig(type="none"),
            storage_opt={"size": str(limits.disk_bytes)} if self._can.quota else None,
        )
        return config

    def _stopped(self) -> None:
        self.pid = 0
        self.view: HostView | None = None
        self._upper: Path | None = None

    def start(self) -> None:
        """Starts it, for the first time or after it stopped."""
        from docker.errors import APIError

        with as_sandbox_error("starting a container"):
            try:
                retried(self.client.start, self.id)
            except APIError as error:
                if "executable file not found" in str(error.explanation):
                    raise BadInput("the image has no bash", field="image") from None
                raise
            found = self.inspect()
        self.pid = int(found["State"]["Pid"])
        self.view = HostView.of(self.id, self.pid)
        driver = found.get("GraphDriver") or {}
        upper = (driver.get("Data") or {}).get("UpperDir")
        visible = self.view is not None and os.geteuid() == 0 and driver.get("Name") == "overlay2"
        self._upper = Path(upper) if upper and visible and Path(upper).is_dir() else None

    def inspect(self) -> dict[str, Any]:
        """What the daemon knows of it."""
        with as_sandbox_error("looking at a container"):
            found: dict[str, Any] = self.client.inspect_container(self.id)
            return found

    def written_bytes(self) -> int:
        """What was written since it was made.

        Beside the daemon, root counts what the disk holds, with files that have lost their name but are open. From
        elsewhere it is the daemon's number: the sizes of files that have a name.
        """
        if self._upper is not None:
            return measure(self._upper)[1] + removed_bytes(self.view.pids() if self.view is not None else [])
        with as_sandbox_error("measuring a container"):
            url = f"{self.client.base_url}/v{self.client.api_version}/containers/{self.id}/json"
            response = self.client.get(url, params={"size": "1"})
            response.raise_for_status()
            size = int(response.json().get("SizeRw") or 0)
        return size if size >= 0 else _UNCOUNTABLE

    def hard_linked(self) -> str | None:
        """A file with several names among those written, which a fork would part; None also where it is not seen."""
        return hard_linked(self._upper) if self._upper is not None else None

    def memory_bytes(self) -> int:
        """What its processes hold, without cached files."""
        with as_sandbox_error("measuring a container"):
            found = self.client.stats(self.id, stream=False, one_shot=True)["memory_stats"].get("stats", {})
            # The two generations of control groups name it differently.
            return int(found.get("anon", found.get("total_rss", found.get("rss", 0))))

    def has_ended(self) -> bool:
        """Whether it ended by itself; it may be started again then."""
        if not self.inspect()["State"]["Running"]:
            self._stopped()
        return not self.pid

    def halt(self) -> None:
        """Ends all processes; files stay, and it may be started again."""
        from docker.errors import APIError

        with as_sandbox_error("stopping a container"):
            # It may have ended by itself.
            with contextlib.suppress(APIError):
                self.client.kill(self.id)
            self.client.wait(self.id, timeout=30)
        self._stopped()

    def has_processes(self) -> bool:
        """Whether more than its first process lives in it."""
        if not self.pid:
            return False
        if self.view is not None:
            return any(is_alive(pid) for pid in self.view.pids() if pid != self.pid)
        with as_sandbox_error("listing a container's processes"):
            return len(self.client.top(self.id, ps_args="-eo pid,args")["Processes"]) > 1

    def remove(self) -> None:
        """Kills and removes it. May be called more than once."""
        from docker.errors import NotFound

        if self._gone:
            return
        with as_sandbox_error("removing a container"), contextlib.suppress(NotFound):
            retried(self.client.remove_container, self.id, v=True, force=True)
        self._gone = True

    def execute(self, command: list[str]) -> tuple[int, bytes]:
        """Runs a program as root; its status and output."""
        with as_sandbox_error("running a program in a container"):
            made = self.client.exec_create(self.id, command, user="0:0")["Id"]
            output = self.client.exec_start(made)
            return int(self.client.exec_inspect(made)["ExitCode"] or 0), output


class ExecStream:
    """Bash's supervisor in a container, and the stream to it: what :class:`ShellSession` talks through."""

    def __init__(self, container: Container, user: str, env: dict[str, str]) -> None:
        self._container = container
        client = container.client
        # One process alone gets no more memory, a clear error; several together meet the kernel's killer. Not as a
        # limit of the container: the runtime starts every process under those, and it needs more the more threads
        # it happens to have.
        alone = f"ulimit -d {container.shape.limits.memory_bytes // 1024}; "
        with as_sandbox_error("opening a shell"):
            made = client.exec_create(
                container.id,
                ["bash", *supervisor_arguments(alone)],
                stdin=True,
                user=user,
                environment=env,
                workdir="/",
            )["Id"]
            self._exec: str = made
            opened: Any = client.exec_start(made, socket=True)
            # Over a Unix socket or plain TCP the package wraps the socket in a file.
            self._holder = opened
            self._socket: socket.socket = getattr(opened, "_sock", opened)
        self._header = bytearray()
        self._left, self._error = 0, False
        self._sessions: set[int] = set()

    @functools.cached_property
    def supervisor(self) -> int:
        """Its number on the host; 0 where it ended before that was known."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with as_sandbox_error("looking at a shell"):
                found = self._container.client.exec_inspect(self._exec)
            if found["Pid"] or found["ExitCode"] is not None:
                return int(found["Pid"] or 0)
            time.sleep(0.002)  # the daemon connects the stream before it starts the process
        return 0

    def receive(self, seconds: float) -> tuple[bytes, bytes] | None:
        """What came, without the frames around it (8 bytes: which stream, three zeros, length)."""
        output, said = bytearray(), bytearray()
        while not output and not said:
            if not readable(self._socket.fileno(), seconds):
                break
            data = self._socket.recv(1 << 16)
            if not data:
                return None
            position = 0
            while position < len(data):
                if not self._left:
                    taken = data[position : position + 8 - len(self._header)]
                    self._header += taken
                    position += len(taken)
                    if len(self._header) == 8:
                        self._left, self._error = int.from_bytes(self._header[4:], "big"), self._header[0] == 2
                        self._header.clear()
                    continue
                piece = data[position : position + self._left]
                (said if self._error else output).extend(piece)
                position += len(piece)
                self._left -= len(piece)
        return bytes(output), bytes(said)

    def send(self, data: bytes) -> None:
        """Sends all of ``data``."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Closes the stream; the supervisor's shell then ends."""
        with contextlib.suppress(OSError):
            self._socket.close()
        with contextlib.suppress(Exception):  # a file object around a closed socket
            self._holder.close()

    def processes(self) -> set[int]:
        """The container's processes by their numbers on the host."""
        view = self._container.view
        if view is not None:
            self.shells()
            return set(view.pids())
        with as_sandbox_error("listing a container's processes"):
            listed = self._container.client.top(self._container.id, ps_args="-eo pid,args")
        return {int(row[0]) for row in listed["Processes"]}

    def shells(self) -> set[int]:
        """The session's bash, the supervisor's child; it stays that after the supervisor was killed from inside."""
        view = self._container.view
        if view is not None and is_alive(self.supervisor):
            self._sessions = {pid for pid in view.pids() if parent_of(pid) == self.supervisor}
        return self._sessions

    def alive(self) -> bool:
        """Whether the supervisor lives."""
        if self._container.view is not None:
            return not is_dying(self.supervisor)
        with as_sandbox_error("looking at a shell"):
            return bool(self._container.client.exec_inspect(self._exec)["Running"])

    def strangers(self) -> list[int]:
        """Living processes that are neither the session's nor its helpers."""
        view = self._container.view
        own = {self._container.pid, self.supervisor, *self.shells()}
        found = self.processes() - own
        if view is None:
            # Seen from elsewhere the session's bash is the supervisor's child too, but whose child a process is
            # cannot be asked: it is the oldest of what is left.
            return sorted(found)[1:]
        return sorted(pid for pid in found if is_alive(pid))

    def kill(self, keep: set[int], *, shell: bool) -> None:
        """Kills what is not in ``keep``; where none can be killed alone (a daemon elsewhere) it halts the container."""
        view = self._container.view
        sessions = set(self.shells())
        if view is None:
            if shell:
                self._container.halt()
            return
        frozen = False
        try:
            for attempt in range(_ROUNDS):
                found = set(view.pids())  # first: a shell that starts now is no stray process
                own = {self._container.pid, self.supervisor, *self.shells()}
                spared = own | view.come_from(found, keep - own - sessions, own | sessions)
                if shell:
                    spared -= sessions
                victims = {pid for pid in found - spared if is_alive(pid)}
                if not victims:
                    return
                if attempt >= _FROZEN_FROM and not frozen:
                    # What forks faster than it is killed is stopped first.
                    with contextlib.suppress(SandboxError), as_sandbox_error("pausing a container"):
                        self._container.client.pause(self._container.id)
                        frozen = True
                        continue
                # The shell before its children: it would say that they were killed, and go on.
                self._kill_each(view, [*(victims & sessions), *sorted(victims - sessions)])
                if frozen:
                    self._unpause()
                    frozen = False
                time.sleep(0.002 * (attempt + 1))
        finally:
            if frozen:
                self._unpause()
        self._container.halt()

    def _kill_each(self, view: HostView, victims: Sequence[int]) -> None:
        try:
            view.send([self.supervisor], signal.SIGCONT)  # a command may have stopped it
            view.send(victims, signal.SIGKILL)
        except PermissionError:
            inside = [str(number) for pid in victims if (number := number_inside(pid)) is not None]
            with contextlib.suppress(SandboxError):  # no process left to start it with: halting will do
                self._container.execute(["bash", "-c", 'builtin kill -9 "$@"', "bash", *inside])

    def _unpause(self) -> None:
        with contextlib.suppress(SandboxError), as_sandbox_error("continuing a container"):
            self._container.client.unpause(self._container.id)
