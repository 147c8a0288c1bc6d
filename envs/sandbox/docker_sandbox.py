"""One sandbox by Docker: a container with a persistent shell in it."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import docker_files
from pivotgym.envs.sandbox.base import (
    CANNOT_START,
    HARD_LINKS,
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
from pivotgym.envs.sandbox.processes import STARVED, is_busy
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


def environment(image: Image, who: Identity, config: SandboxConfig) -> dict[str, str]:
    """What a fresh shell exports."""
    return {
        "PATH": next((entry[5:] for entry in image.env if entry.startswith("PATH=")), _PATH),
        "HOME": who.home,
        "USER": who.name,
        "LOGNAME": who.name,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        **config.env,
    }


class DockerSandbox(Sandbox):
    """See :class:`Sandbox`. Made by :class:`DockerBackend` only.

    Commands may leave files on which no shell comes up (``rm /usr/bin/bash``). That is no failure of the sandbox's: it
    goes on without a shell, every command says so, and files and snapshots can still be had. It is told from a failure
    by trying twice, and each time the image that the files began as too: where that does not come up either, the
    daemon or the image is at fault.

    Args:
        backend: it belongs to.
        config: what it was asked to be.
        image: of the container, held by this sandbox.
        container: started, or one that does not start because of what ran in its image before.
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
        self._stopped = self._broken = self._rebase = False
        self._touched = False  # whether anything ran in this container or was written to it
        self._latest: DockerState | None = None  # of the last snapshot, while nothing ran since
        self._special: dict[str, tuple[int, str]] = {}
        self._put: dict[str, bytes] = {}  # contents of special files that are put back
        self._due = False  # whether that is still to be done
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
        session = self._ready()
        if session is None:
            return CommandResult(CANNOT_START, None, "shell_killed", cwd=self.shell.cwd)
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
            self._container.has_ended()  # the next command starts it again
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
        lost = self._beyond_files(wait=not live)
        if lost and not live:
            self.incomplete = lost
            return None
        if lost and (self._stream is None or self._container.view is None):
            # From elsewhere none can be killed alone; without a shell there is none to be spared.
            self._drop_session(self.shell)
            self._container.halt()
        elif lost and self._stream is not None:
            self._stream.kill(set(), shell=False)
            if not self._stream.alive():
                self._drop_session(self.shell)
        if not live and (linked := self._container.hard_linked()) is not None:
            self.incomplete = f"{HARD_LINKS}: {linked}"
            return None
        store = self._backend.images
        special = self._changed_special()
        if special is None:
            self.incomplete = f"one of {', '.join(SPECIAL)} is no file of at most {_SPECIAL_BYTES} bytes"
            if not live:
                return None
            special = dict(self._put)
        if self._latest is not None and self._latest.special == special:
            image = self._last
            store.hold(image)
        else:
            # Beside the daemon it is known that nothing runs which could write meanwhile.
            unseen = bool(self._container.pid) and self._container.view is None
            image = store.commit(self._container.id, self._image, self._last, pause=unseen)
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
        held = self._container.memory_bytes() if self._container.pid else 0
        return Usage(held, max(self._container.written_bytes() - kept, 0))

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
            except (SandboxFileError, SandboxError):
                if self._image.base:
                    raise
                self._shell = ShellState()  # what the agent made of its directory must not keep a judge out
        self._put, self._due = dict(special), bool(special)
        self._special = self._special_stats()
        if self._due and container.pid:
            with contextlib.suppress(SandboxError):  # the first command tries again
                self._put_back()

    def _put_back(self) -> None:
        for path, data in self._put.items():
            text = data.decode("utf-8", "surrogateescape")
            self._container.execute(["bash", "-c", 'builtin printf %s "$1" >"$2"', "bash", text, path])
        self._special, self._due = self._special_stats(), False

    def _check(self) -> None:
        if self._stopped:
            raise SandboxError("the sandbox was stopped")

    def _moves_on(self) -> None:
        """The container is about to differ from its last snapshot, perhaps."""
        self._latest, self._touched = None, True

    def _ready(self) -> ShellSession | None:
        """The shell; None where no shell comes up on what commands made of the files."""
        self._check()
        if self._broken:
            return None
        for _ in range(2):
            try:
                return self._ensure()
            except (BadInput, SandboxError) as error:
                if self._image.base and not self._touched:
                    raise
                try:
                    self._backend.prove(self._image, self.config)
                except (BadInput, SandboxError) as failure:
                    raise SandboxError(f"{error}; nor does the image it began as come up: {failure}") from error
                self._drop_session(self.shell, kill=False)
                self._container.halt()
        self._broken, self._rebase = True, False
        return None

    def _ensure(self) -> ShellSession:
        if self._rebase:
            self._move_to(self._last)
        if not self._container.pid:
            self._start()
        if self._due:
            self._put_back()
        if self._session is None:
            env = environment(self._image, self._who, self.config)
            self._stream = ExecStream(self._container, self._who.spec, env)
            self._session = ShellSession(self._stream, self._shell, self.config.env)
        self._session.prepare()
        return self._session

    def _start(self) -> None:
        """Starts the container, for which the daemon makes the special files anew even where it fails."""
        if self._touched and (kept := self._changed_special()) is not None:
            self._put = kept
        self._due = bool(self._put)
        try:
            self._container.start()
        finally:
            self._special = self._special_stats()

    def _drop_session(self, state: ShellState, *, kill: bool = True) -> None:
        """Ends the shell; the next command gets a new one in ``state``."""
        stream, self._session, self._stream, self._shell = self._stream, None, None, state
        if stream is not None:
            if kill and self._container.view is not None:
                stream.kill(stream.processes(), shell=True)
            stream.close()

    def _move_to(self, image: Image) -> None:
        """Goes on in a new container of an image that holds everything this one does."""
        special, shell = self._changed_special(), self.shell
        special = dict(self._put) if special is None else special
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
        while True:
            # Bash redirects its own output while it says its state, for longer where the machine gives it no time.
            shells = self._stream.shells() if wait and self._stream is not None else ()
            busy = any(map(is_busy, shells))  # asked first: what is seen of a shell at rest stays so
            lost = self._lost_now()
            if not lost or time.monotonic() >= until + (STARVED if busy else 0.0):
                return lost
            time.sleep(0.005)

    def _lost_now(self) -> str:
        if self._stream is None:
            # A command may have killed the shell and left others alive.
            return "background processes" if self._touched and self._container.has_processes() else ""
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
                described = None
                with contextlib.suppress(SandboxFileError):
                    described = retried(path_stat, client, self._container.id, path)
                if described is not None:
                    found[path] = (int(described["size"]), str(described["mtime"]))
        return found

    def _changed_special(self) -> dict[str, bytes] | None:
        """Special files that differ from what the daemon gave; None where they cannot be kept."""
        now = self._special_stats()
        changed = dict(self._put)
        client, container = self._backend.client, self._container.id
        for path, stat in now.items():
            if stat != self._special.get(path):
                try:
                    changed[path] = docker_files.read_file(client, container, path, max_bytes=_SPECIAL_BYTES)
                except SandboxFileError:
                    return None
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
