"""One sandbox by Docker: a container with a persistent shell in it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pivotgym.envs.sandbox import docker_files
from pivotgym.envs.sandbox.base import (
    CommandResult,
    Ending,
    Entry,
    Sandbox,
    SandboxConfig,
    SandboxError,
    SandboxFileError,
    ShellState,
    Snapshot,
    Usage,
)
from pivotgym.envs.sandbox.docker_api import as_sandbox_error, path_stat, retried
from pivotgym.envs.sandbox.docker_container import Container, ExecStream
from pivotgym.envs.sandbox.docker_host_view import beyond_files, command_of
from pivotgym.envs.sandbox.docker_identity import Identity
from pivotgym.envs.sandbox.docker_images import Image
from pivotgym.envs.sandbox.session import ShellSession
from pivotgym.envs.sandbox.watch import Guard

if TYPE_CHECKING:
    from pivotgym.envs.sandbox.docker import DockerBackend

_GRACE = 0.05
"""Seconds that processes which are just ending get before a snapshot counts them as background processes."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BIG_LAYER = 32 << 20
"""After committing this much the next command runs in a new container above it: otherwise every later commit would
write the same bytes again."""
SPECIAL = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Files the daemon gives each container anew, so no commit holds them."""
_SPECIAL_BYTES = 64 << 10
_SMALL = 1 << 20
_guard = Guard()


@dataclass
class DockerState:
    """A snapshot's payload.

    Attributes:
        image: the files.
        special: contents of :data:`SPECIAL` that were written to.
        who: the user inside.
        closed: whether the snapshot was let go of.
    """

    image: Image
    special: dict[str, bytes]
    who: Identity
    closed: bool = field(default=False, compare=False)


class DockerSandbox(Sandbox):
    """See :class:`Sandbox`. Made by :class:`DockerBackend` only.

    Args:
        backend: it belongs to.
        config: what it was asked to be.
        image: of the container, held by this sandbox.
        container: started.
        who: the user inside.
        shell: state of the shell to come.
    """

    def __init__(
        self,
        backend: DockerBackend,
        config: SandboxConfig,
        image: Image,
        container: Container,
        who: Identity,
        shell: ShellState,
    ) -> None:
        self.config = config
        self.incomplete = ""
        self._backend, self._image, self._container, self._who = backend, image, container, who
        self._shell = shell
        self._last = image  # the image last committed, held
        backend.images.hold(image)
        self._session: ShellSession | None = None
        self._stream: ExecStream | None = None
        self._stopped = False
        self._rebase = False
        self._latest: DockerState | None = None  # of the last snapshot, while nothing ran since
        self._special: dict[str, tuple[int, str]] = {}
        self._put: dict[str, bytes] = {}  # contents of special files that were put back
        self._disk = 0  # bytes written when they were last counted
        self._busy = threading.RLock()
        _guard.add(self._between)

    @property
    def shell(self) -> ShellState:
        """State of the shell after the last command."""
        return self._session.state if self._session is not None else self._shell

    def run(
        self,
        command: str,
        *,
        timeout: float = 60.0,
        idle_timeout: float | None = None,
        shell: Sequence[str] | None = None,
    ) -> CommandResult:
        """Runs a command in the session's shell."""
        with self._busy:
            return self._run(command, timeout, idle_timeout, shell)

    def _run(
        self, command: str, timeout: float, idle_timeout: float | None, shell: Sequence[str] | None
    ) -> CommandResult:
        session = self._ensure()
        stream = self._stream
        assert stream is not None
        self._moves_on()
        before, present, kills = session.state, stream.processes(), self._oom_kills()
        result = session.run(
            command,
            timeout=timeout,
            idle_timeout=idle_timeout,
            limit=self.config.limits.output_bytes,
            shell=shell,
            watch=self._watch(kills),
        )
        if session.dead:
            # All of it was killed, from inside or with a restart, or the daemon is gone.
            self._drop_session(before)
            self._revive()
        if self._oom_kills() > kills and result.ending in ("exit", "shell_killed"):
            # The command went on without the process that the kernel killed, how far depends on chance.
            stream.kill(present, shell=True)
            self._drop_session(before)
            result = dataclasses.replace(result, ending="memory", status=None, cwd=before.cwd)
        if result.ending == "disk":
            self._disk = self._container.written_bytes()
        return result

    def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """A regular file's content. The sandbox's ``/proc``, ``/sys`` and ``/dev`` cannot be read."""
        self._check()
        return docker_files.read_file(self._backend.client, self._container.id, path, max_bytes)

    def tree(self, path: str, *, max_entries: int = 100_000) -> dict[str, Entry]:
        """Everything below a path, but sockets, which the daemon leaves out."""
        self._check()
        return docker_files.tree(self._backend.client, self._container.id, path, max_entries)

    def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Writes a file that belongs to the sandbox's user."""
        self._check()
        self._moves_on()
        owner = (self._who.uid, self._who.gid)
        limit = self.config.limits.file_bytes
        docker_files.write_file(self._backend.client, self._container.id, path, data, mode, owner, limit)

    def snapshot(self, *, live: bool = False) -> Snapshot | None:
        """Commits what was written. With ``live`` background processes do not hinder it: they are killed."""
        with self._busy:
            return self._snapshot(live)

    def _snapshot(self, live: bool) -> Snapshot | None:
        self._check()
        self.incomplete = ""
        if self._stream is not None and (lost := self._beyond_files(wait=not live)):
            if not live:
                self.incomplete = lost
                return None
            self._stream.kill(set(), shell=False)
            if not self._stream.alive():
                self._drop_session(self.shell)
        store = self._backend.images
        special = self._changed_special()
        if self._latest is not None and self._latest.special == special:
            image = self._last
            store.hold(image)
        else:
            image = store.commit(self._container.id, self._image, self._last)
        nbytes = 0
        if image is not self._last:
            nbytes = image.nbytes
            # Held by the sandbox too: it may be what the next snapshot is found to be equal to.
            store.hold(image)
            store.release(self._last)
            self._last = image
        self._rebase = image.nbytes >= _BIG_LAYER and image is not self._image
        self._latest = DockerState(image, special, self._who)
        return Snapshot(self.config, self.shell, self._latest, nbytes)

    def usage(self) -> Usage:
        """What its processes hold and what it wrote beside its last snapshot."""
        self._check()
        kept = self._last.nbytes if self._last is not self._image else 0
        return Usage(self._container.memory_bytes(), max(self._container.written_bytes() - kept, 0))

    def stop(self) -> None:
        """Kills what runs and removes the container."""
        with self._busy:
            if self._stopped:
                return
            self._stopped = True
            self._drop_session(self.shell, kill=False)
        try:
            self._backend.retire(self, self._container, self._image)
        finally:
            self._backend.images.release(self._last)

    # Inner parts --------------------------------------------------------------------------------------------------

    def settle(self, special: dict[str, bytes]) -> None:
        """Makes the working directory and puts back what a commit does not hold; done once, before anything runs."""
        client, container = self._backend.client, self._container
        if not self._shell.text and self._shell.cwd != "/":  # a kept shell stands where it stood
            try:
                docker_files.make_folders(client, container.id, self._shell.cwd, (self._who.uid, self._who.gid))
            except SandboxFileError:
                if self._image.base:
                    raise
                self._shell = ShellState()  # what the agent made of its directory must not keep a judge out
        for path, data in special.items():
            text = data.decode("utf-8", "surrogateescape")
            container.execute(["bash", "-c", 'builtin printf %s "$1" >"$2"', "bash", text, path])
        self._put = dict(special)
        self._special = self._special_stats()

    def _check(self) -> None:
        if self._stopped:
            raise SandboxError("the sandbox was stopped")

    def _moves_on(self) -> None:
        """The container is about to differ from its last snapshot, perhaps."""
        self._latest = None

    def _ensure(self) -> ShellSession:
        self._check()
        if self._rebase:
            self._move_to(self._last)
        if self._session is None:
            env = {
                "PATH": next((e[5:] for e in self._image.env if e.startswith("PATH=")), _PATH),
                "HOME": self._who.home,
                "USER": self._who.name,
                "LOGNAME": self._who.name,
                "SHELL": "/bin/bash",
                "LANG": "C.UTF-8",
                "LC_ALL": "C.UTF-8",
                "TERM": "dumb",
                **self.config.env,
            }
            self._stream = ExecStream(self._container, self._who.spec, env)
            self._session = ShellSession(self._stream, self._shell, self.config.env)
        self._session.prepare()
        return self._session

    def _drop_session(self, state: ShellState, *, kill: bool = True) -> None:
        """Ends the shell; the next command gets a new one in ``state``."""
        stream, self._session, self._stream, self._shell = self._stream, None, None, state
        if stream is not None:
            if kill and self._container.view is not None:
                stream.kill(stream.processes(), shell=True)
            stream.close()

    def _revive(self) -> None:
        """Starts the container again where its first process was killed. Raises SandboxError where it is gone."""
        if not self._container.inspect()["State"]["Running"]:
            self._container.start()

    def _move_to(self, image: Image) -> None:
        """Goes on in a new container of an image that holds everything this one does."""
        special, shell = self._changed_special(), self.shell
        store = self._backend.images
        store.hold(image)
        try:
            container = self._backend.container(image, self.config)
        except BaseException:
            store.release(image)
            raise
        self._drop_session(shell, kill=False)
        old, previous = self._container, self._image
        self._latest = None
        self._container, self._image, self._rebase = container, image, False
        self._disk = 0
        self.settle(special)
        self._backend.retire(None, old, previous)

    def _oom_kills(self) -> int:
        view = self._container.view
        return view.oom_kills() if view is not None else 0

    def _beyond_files(self, *, wait: bool) -> str:
        """What lives on that no snapshot of files and shell state holds; empty for nothing."""
        until = time.monotonic() + (_GRACE if wait else 0.0)
        while lost := self._lost_now():
            if time.monotonic() >= until:
                break
            time.sleep(0.005)
        return lost

    def _lost_now(self) -> str:
        assert self._stream is not None
        others, view = self._stream.strangers(), self._container.view
        if view is None:
            return f"{len(others)} background processes" if others else ""
        if others:
            return f"background process: {', '.join(sorted({command_of(pid) for pid in others}))[:200]}"
        return next(filter(None, (beyond_files(pid, self._stream.supervisor) for pid in self._stream.shells())), "")

    def _special_stats(self) -> dict[str, tuple[int, str]]:
        client, found = self._backend.client, {}
        with as_sandbox_error("looking at a container's files"):
            for path in SPECIAL:
                described = retried(path_stat, client, self._container.id, path)
                if described is not None:
                    found[path] = (int(described["size"]), str(described["mtime"]))
        return found

    def _changed_special(self) -> dict[str, bytes]:
        now = self._special_stats()
        changed = dict(self._put)
        for path, stat in now.items():
            if stat != self._special.get(path):
                changed[path] = docker_files.read_file(
                    self._backend.client, self._container.id, path, max_bytes=_SPECIAL_BYTES
                )
        return changed

    def _over_disk(self, before: int) -> bool:
        """Whether too much was written. What was too much ``before`` may be tidied up: only growth counts."""
        self._disk = self._container.written_bytes()
        return self._image.added + self._disk > self.config.limits.disk_bytes and self._disk > before + _SMALL

    def _watch(self, kills: int) -> Callable[[], Ending | None]:
        before, due = self._disk, 0.0

        def look() -> Ending | None:
            nonlocal due
            if self._oom_kills() > kills:
                return "memory"
            began = time.monotonic()
            if began < due:
                return None
            over = self._over_disk(before)
            due = time.monotonic() + 10 * (time.monotonic() - began)  # many files take long to count
            return "disk" if over else None

        return look

    def _between(self) -> None:
        """Ends background processes that fill the disk while no command runs."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            stream = self._stream
            if self._stopped or stream is None or self._container.view is None or not stream.strangers():
                return
            if self._over_disk(self._disk):
                stream.kill(set(), shell=False)
        except SandboxError:
            pass  # whoever uses the sandbox next gets the same error
        finally:
            self._busy.release()
