"""Where sandboxes keep their files, and how what dead runs left behind is found.

Each process that runs sandboxes has a folder of its own whose lock file it keeps locked. The kernel drops the lock with
the process, however that ends, so a folder that can be locked is nobody's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pivotgym.envs.sandbox.base import Cleaned, SandboxUnavailable
from pivotgym.envs.sandbox.layers import measure, remove_tree
from pivotgym.envs.sandbox.users import first_user


def state_folder() -> Path:
    """The folder of everything sandboxes keep: ``PIVOTGYM_SANDBOX_DIR``, or one in ``/var/tmp``, made if missing.

    It has to be on a local disk: no overlay can be written on a network file system.

    Raises:
        SandboxUnavailable: it belongs to somebody else, or cannot be made.
    """
    named = os.environ.get("PIVOTGYM_SANDBOX_DIR")
    base = Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())
    path = Path(named) if named else base / f"pivotgym-{os.geteuid()}"
    # Run by root, sandboxes' users pass through it and read nothing of it. Run by somebody else nobody else does: what
    # an agent makes there belongs to that user, set-user-ID programs included.
    mode = 0o711 if first_user() is not None else 0o700
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise SandboxUnavailable(f"no folder for sandboxes: {error}") from None
    if path.is_symlink() or status.st_uid != os.geteuid():
        raise SandboxUnavailable(f"{path} belongs to somebody else: set PIVOTGYM_SANDBOX_DIR to a folder of your own")
    if status.st_mode & 0o777 != mode:
        path.chmod(mode)
    return path


@dataclass
class RunFolder:
    """One process's folder. ``lock`` is the descriptor that holds it."""

    path: Path
    lock: int

    @classmethod
    def make(cls) -> RunFolder:
        """A new one. Its name is short: names of layers count against a limit of the kernel."""
        runs = state_folder() / "r"
        runs.mkdir(exist_ok=True)
        runs.chmod(0o711)
        with _turn(runs):  # no sweep may see it unlocked
            path = runs / secrets.token_hex(4)
            path.mkdir()
            path.chmod(0o711)
            lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(path, lock)

    def remove(self) -> None:
        """Deletes it with all that is in it."""
        remove_tree(self.path)
        self.abandon()

    def abandon(self) -> None:
        """Lets go of it in a forked process, whose parent goes on holding it."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def sweep() -> Cleaned:
    """Deletes the folders of dead processes; says how many and how large they were."""
    done = Cleaned()
    runs = state_folder() / "r"
    if not runs.is_dir():
        return done
    with _turn(runs):
        for path in [path for path in runs.iterdir() if path.is_dir()]:
            with contextlib.suppress(FileNotFoundError):
                lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    done.bytes += measure(path)[1]
                    remove_tree(path)
                    done.folders += 1
                except BlockingIOError:
                    continue
                finally:
                    os.close(lock)
    return done


@contextlib.contextmanager
def _turn(runs: Path) -> Iterator[None]:
    lock = os.open(runs / ".turn", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
