"""Sandboxes by bubblewrap: namespaces and overlay file systems, no daemon, started in milliseconds, for any user.

A sandbox is a chain of frozen layers, one writable folder above them, and, while it runs, one bubblewrap with a bash
session in it. A snapshot freezes the writable folder; the sandbox goes on above it with a new one. A fork is a new
writable folder above the same layers and a shell put into the same state.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import rooted
from pivotgym.envs.sandbox.base import (
    CANNOT_START,
    HARD_LINKS,
    Backend,
    Cleaned,
    CommandResult,
    Entry,
    FileChange,
    Sandbox,
    SandboxConfig,
    SandboxError,
    SandboxFileError,
    ShellState,
    Snapshot,
    Usage,
)
from pivotgym.envs.sandbox.bubblewrap_process import Launcher, Running, bwrap_binary
from pivotgym.envs.sandbox.compare import compare
from pivotgym.envs.sandbox.host_base import Base, host_mounts, image_mounts, user_number
from pivotgym.envs.sandbox.layers import Chain, LayerStore, hard_linked, measure, remove_tree
from pivotgym.envs.sandbox.runs import RunFolder, state_folder, sweep
from pivotgym.envs.sandbox.session import ShellSession
from pivotgym.envs.sandbox.users import first_user
from pivotgym.envs.sandbox.watch import Guard, MachineFull, Watch

_GRACE = 0.05
"""Seconds that processes which are just ending get before a snapshot counts them as background processes."""


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _alone(
    method: Callable[Concatenate[BubblewrapSandbox, _P], _R],
) -> Callable[Concatenate[BubblewrapSandbox, _P], _R]:
    """Keeps the guard out while the method runs."""

    @functools.wraps(method)
    def locked(sandbox: BubblewrapSandbox, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with sandbox._lock:
            return method(sandbox, *args, **kwargs)

    return locked


class BubblewrapBackend(Backend):
    """Starts bubblewrap sandboxes. The state folder is ``PIVOTGYM_SANDBOX_DIR`` or ``/var/tmp/pivotgym-UID``."""

    name = "bubblewrap"

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._finish)

    def _reset(self) -> None:
        # A forked process makes its own folder and launcher: its parent's end with the parent.
        run, launcher = getattr(self, "_run", None), getattr(self, "_launcher", None)
        if run is not None:
            run.abandon()
        if launcher is not None:
            launcher.abandon()
        self._lock = threading.RLock()
        self._run: RunFolder | None = None
        self._layers: LayerStore | None = None
        self._launcher: Launcher | None = None
        self._mounts: dict[str, list[Base]] = {}
        self.guard = Guard()

    def _finish(self) -> None:
        if self._launcher is not None:
            self._launcher.close()
        if self._run is not None:
            self._run.remove()

    # Backend ------------------------------------------------------------------------------------------------------

    def start(self, config: SandboxConfig) -> BubblewrapSandbox:
        """A fresh sandbox, its shell in the working directory."""
        sandbox = BubblewrapSandbox(self, config, Chain(), ShellState())
        try:
            sandbox.enter(config.workdir)
        except BaseException:
            sandbox.stop()
            raise
        return sandbox

    def load(
        self, snapshot: Snapshot, *, fresh_shell: bool = False, config: SandboxConfig | None = None
    ) -> BubblewrapSandbox:
        """An independent sandbox in that state; it starts to run with its first command."""
        chain = snapshot.payload
        if not isinstance(chain, Chain):
            raise BadInput("the snapshot was taken by another backend", field="snapshot")
        fresh = fresh_shell or config is not None
        self.layers.hold(chain)
        sandbox = BubblewrapSandbox(self, config or snapshot.config, chain, ShellState() if fresh else snapshot.shell)
        if fresh:
            try:
                # What the agent made of its directory must not keep a judge out.
                with contextlib.suppress(SandboxFileError):
                    sandbox.enter(sandbox.config.workdir)
            except BaseException:
                sandbox.stop()
                raise
        return sandbox

    def changes(self, before: Snapshot, after: Snapshot) -> list[FileChange]:
        """Paths that differ; only what the layers hold that the two do not share is read."""
        one, two = before.payload, after.payload
        if not isinstance(one, Chain) or not isinstance(two, Chain):
            raise BadInput("a snapshot was taken by another backend", field="snapshot")
        return compare(self.mounts(before.config.image), one, two, self.first_user)

    def close(self, snapshot: Snapshot) -> None:
        """Frees the layers that nothing else stands on."""
        if isinstance(snapshot.payload, Chain) and self._layers is not None:
            self._layers.release(snapshot.payload)

    def clean(self) -> Cleaned:
        """Removes the folders of dead runs. Their processes and mounts ended with them."""
        return sweep()

    # For sandboxes ------------------------------------------------------------------------------------------------

    @property
    def first_user(self) -> int | None:
        """Number outside of user 0 inside; None where oneself is everybody inside."""
        return first_user()

    @property
    def layers(self) -> LayerStore:
        """This process's layers; the first use removes what dead runs left."""
        with self._lock:
            if self._layers is None:
                sweep()
                self._run = RunFolder.make()
                self._layers = LayerStore(self._run.path)
            return self._layers

    def mounts(self, image: str) -> list[Base]:
        """The base folders of an image."""
        with self._lock:
            if image not in self._mounts:
                state = state_folder()
                if image == "host":
                    self._mounts[image] = host_mounts(state, self.first_user)
                else:
                    self._mounts[image] = image_mounts(state, image, self.first_user)
            return self._mounts[image]

    def launch(self, config: SandboxConfig, chain: Chain, upper: Path) -> Running:
        """Starts bubblewrap over a chain and a writable folder. Raises SandboxError."""
        with self._lock:
            if self._launcher is None or not self._launcher.alive:
                self._launcher = Launcher(bwrap_binary(state_folder()))
            launcher = self._launcher
        mounts = self.mounts(config.image)
        return launcher.start(config, mounts, chain, upper, *user_number(mounts, config.user))

    def launcher_alive(self) -> bool:
        """Whether a sandbox that died did not just lose the process that serves it."""
        return self._launcher is not None and self._launcher.alive


class BrokenState(Exception):
    """The shell does not come up on these files, and does on those they began as: commands made them so."""

    def __str__(self) -> str:
        return "the sandbox does not start any more on what was made of its files"


class BubblewrapSandbox(Sandbox):
    """One sandbox. Runs only while something is executed in it or lives in its background."""

    def __init__(self, backend: BubblewrapBackend, config: SandboxConfig, chain: Chain, shell: ShellState) -> None:
        self.config = config
        self.incomplete = ""
        self._backend, self._chain, self._shell = backend, chain, shell
        self._upper: Path | None = None
        self._roots: list[tuple[int, int, int]] = []
        self._running: Running | None = None
        self._session: ShellSession | None = None
        self._stopped = self._broken = False
        self._starved: MachineFull | None = None  # between two commands; the next one is told
        self._disk_before = 0
        self._lock = threading.RLock()  # the guard comes from a thread of its own
        backend.guard.add(self._between)

    @property
    def shell(self) -> ShellState:
        """State of the shell after the last command."""
        return self._session.state if self._session is not None else self._shell

    @_alone
    def run(
        self,
        command: str,
        *,
        timeout: float = 60.0,
        idle_timeout: float | None = None,
        shell: Sequence[str] | None = None,
    ) -> CommandResult:
        """Runs a command in the session's shell."""
        if self._starved is not None:
            starved, self._starved = self._starved, None
            raise starved
        try:
            session = self._ready()
        except BrokenState:
            return CommandResult(CANNOT_START, None, "shell_killed", cwd=self.shell.cwd)
        watch = self._watch()
        try:
            result = session.run(
                command,
                timeout=timeout,
                idle_timeout=idle_timeout,
                limit=self.config.limits.output_bytes,
                shell=shell,
                watch=watch,
            )
        except MachineFull:
            self._halt()
            raise
        # It wrote on until it was dead; the next command may tidy up.
        self._disk_before = watch.disk if result.ending != "disk" else watch.measure()
        if session.dead:
            self._halt()
            if not self._backend.launcher_alive():
                raise SandboxError("the process that serves this run's sandboxes died")
        return result

    @_alone
    def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """A regular file's content."""
        with self._root() as root:
            return rooted.read_inside(root, path, max_bytes)

    @_alone
    def tree(self, path: str, *, max_entries: int = 100_000) -> dict[str, Entry]:
        """Everything below a path."""
        with self._root() as root:
            return rooted.tree_inside(root, path, max_entries)

    @_alone
    def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Writes a file as the sandbox's user."""
        most = self.config.limits.file_bytes
        if len(data) > most:
            raise SandboxFileError(f"{path}: {len(data)} bytes, more than the {most} a file may have (file_bytes)")
        with self._root() as root:
            rooted.write_inside(root, path, data, mode, self._outside_user())

    @_alone
    def snapshot(self, *, live: bool = False) -> Snapshot | None:
        """Freezes what was written. With ``live`` background processes do not hinder it: they are killed."""
        self.incomplete = ""
        if not live:
            self.incomplete = self._what_is_lost()
            if self.incomplete:
                return None
        state = self.shell
        nbytes = 0
        if self._upper is not None and (live or self._wrote()):
            self._halt()
            upper, self._upper = self._upper, None
            for folder in upper.glob("w*"):
                remove_tree(folder)
            below = self._chain
            mounts = self._backend.mounts(self.config.image)
            roots = [os.stat(upper / str(index)) for index in range(len(mounts))]  # noqa: PTH116
            self._chain = self._backend.layers.freeze(upper, below, [bases for _, bases in mounts])
            for index, status in enumerate(roots):  # a merged layer has the oldest one's
                _dress(self._chain.layers[-1].path / str(index), status, self._backend.first_user)
            self._backend.layers.release(below)
            nbytes = self._chain.layers[-1].nbytes
            self._disk_before = 0
        self._backend.layers.hold(self._chain)
        return Snapshot(self.config, state, self._chain, nbytes)

    @_alone
    def usage(self) -> Usage:
        """What its processes hold and its writable folder takes."""
        memory = self._running.fair_memory() if self._running is not None else 0
        return Usage(memory, measure(self._upper)[1] if self._upper is not None else 0)

    @_alone
    def stop(self) -> None:
        """Kills what runs and deletes what was written since the last snapshot."""
        if self._stopped:
            return
        self._stopped = True
        self._halt()
        if self._upper is not None:
            remove_tree(self._upper)
            self._upper = None
        self._backend.layers.release(self._chain)

    @_alone
    def enter(self, path: str) -> None:
        """Makes a directory if it is not there and puts the shell into it."""
        if path != "/":
            with self._root() as root:
                try:
                    with rooted.acting_as(self._outside_user()):
                        rooted.make_directories(root, path)
                except OSError as error:
                    raise SandboxFileError(f"{path}: {error.strerror}") from None
        self._shell = ShellState(self.shell.text, path)
        if self._session is not None:
            self._session.enter(path)

    # Inner parts --------------------------------------------------------------------------------------------------

    def _ensure(self) -> ShellSession:
        if self._stopped:
            raise SandboxError("the sandbox was stopped")
        if self._session is not None and not self._session.dead:
            return self._session
        self._halt()
        if self._upper is None:
            self._upper = self._new_upper()
        self._running = self._backend.launch(self.config, self._chain, self._upper)
        self._session = ShellSession(self._running, self._shell, self.config.env)
        return self._session

    def _ready(self) -> ShellSession:
        """A session that answers. A command may have spoiled the stream or its shell for good: then a new one."""
        if self._broken:
            raise BrokenState
        session = self._ensure()
        try:
            session.prepare()
        except SandboxError:
            self._halt()
            session = self._ensure()
            try:
                session.prepare()
            except SandboxError:
                self._halt()
                if not self._backend.launcher_alive() or not self._changed_by_its_commands():
                    raise
                self._broken = True
                raise BrokenState from None
        return session

    def _changed_by_its_commands(self) -> bool:
        """Whether a shell that does not come up is the doing of what ran here: on the bare base it does come up."""
        if not self._chain.layers and (self._upper is None or not self._wrote()):
            return False
        bare = self.config.model_copy(update={"workdir": "/"})
        self._backend.start(bare).stop()  # raises where this machine is what fails
        return True

    def _new_upper(self) -> Path:
        folder = self._backend.layers.new_folder()
        owner = self._backend.first_user
        for index in range(len(self._backend.mounts(self.config.image))):
            for name in (str(index), f"w{index}"):
                (folder / name).mkdir()
                if owner is not None:
                    os.chown(folder / name, owner, owner)
            # The topmost folder's mode and owner are what the mount shows.
            _dress(folder / str(index), self._below(index), owner)
        self._roots = self._roots_of(folder)
        return folder

    def _roots_of(self, upper: Path) -> list[tuple[int, int, int]]:
        """Mode and owner of the mounts' own folders."""
        found = [os.stat(upper / str(index)) for index in range(len(self._backend.mounts(self.config.image)))]  # noqa: PTH116
        return [(status.st_mode, status.st_uid, status.st_gid) for status in found]

    def _below(self, index: int) -> os.stat_result:
        """The root of a mount as it was when the writable folder was laid over it."""
        bases = self._backend.mounts(self.config.image)[index][1]
        below = [layer.path / str(index) for layer in reversed(self._chain.layers)]
        return os.stat(next((path for path in below if path.is_dir()), bases[0]))  # noqa: PTH116

    def _wrote(self) -> bool:
        assert self._upper is not None
        if self._roots_of(self._upper) != self._roots:
            return True
        try:
            return any(next(os.scandir(self._upper / str(index)), None) for index in range(len(self._roots)))
        except PermissionError:  # locked against its owner by what is below already
            return True

    def _halt(self) -> None:
        if self._session is not None:
            self._shell, self._session = self._session.state, None
        if self._running is not None:
            self._running.close()
            self._running = None

    @contextlib.contextmanager
    def _root(self) -> Iterator[int]:
        try:
            self._ready()
        except BrokenState as error:
            raise SandboxFileError(str(error)) from None
        assert self._running is not None
        root = self._running.open_root()
        try:
            yield root
        finally:
            os.close(root)

    def _outside_user(self) -> int | None:
        first = self._backend.first_user
        if first is None:
            return None
        return first + user_number(self._backend.mounts(self.config.image), self.config.user)[0]

    def _what_is_lost(self) -> str:
        """What a snapshot of layers and shell state would not hold; empty when nothing."""
        lost = self._running.beyond_files(_GRACE) if self._running is not None else ""
        linked = hard_linked(self._upper) if not lost and self._upper is not None else None
        return lost if linked is None else f"{HARD_LINKS}: {linked}"

    def _watch(self) -> Watch:
        running, upper = self._running, self._upper
        assert running is not None and upper is not None
        frozen = sum(layer.nbytes for layer in self._chain.layers)
        return Watch(running, upper, frozen, self.config.limits, self._disk_before)

    def _between(self) -> None:
        """Looks at what runs in the background while no command does; over a limit all of it is killed."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._running is None or self._session is None or not self._running.background():
                return
            watch = self._watch()
            if watch() is not None or not self._running.alive():
                self._halt()
            self._disk_before = watch.disk
        except MachineFull as error:
            self._halt()
            self._starved = error
        except (SandboxError, OSError):  # it is ending
            return
        finally:
            self._lock.release()


def _dress(folder: Path, like: os.stat_result, first: int | None) -> None:
    """Gives a mount's writable folder the mode, owner and times of another; what is nobody's inside becomes root's."""
    if first is not None:
        user, group = (max(number, first) for number in (like.st_uid, like.st_gid))
        os.chown(folder, user, group)
    folder.chmod(stat.S_IMODE(like.st_mode))
    os.utime(folder, ns=(like.st_atime_ns, like.st_mtime_ns))
