"""Files inside a sandbox, reached from outside without following anything out of it.

Paths are resolved by ``openat2`` with ``RESOLVE_IN_ROOT``: absolute links and ``..`` stay inside the root whatever the
sandbox plants or exchanges meanwhile; magic links (``/proc/…/fd``) are refused. Nothing that could block or act when
opened (a FIFO, a device) is opened for its content, and nothing of the kernel's own file systems is looked at: what
``/proc`` tells depends on who asks, and here the host does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import stat
import struct
from collections.abc import Iterator

from pivotgym.envs.sandbox.base import Entry, SandboxError, SandboxFileError

_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
_LIBC = ctypes.CDLL(None, use_errno=True)
_TRIES = 16
_KEPT = frozenset({0x794C7630, 0x01021994})
"""File systems that sandboxes keep files on: overlay and tmpfs (statfs(2))."""
READ_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def open_inside(root: int, path: str, flags: int, mode: int = 0, *, links: bool = True) -> int:
    """Opens ``path`` below the directory ``root`` as if that were ``/``; a descriptor. Raises OSError.

    Without ``links`` a path through any symbolic link is refused (ELOOP).
    """
    if "\0" in path:
        raise OSError(errno.EINVAL, "a NUL character in it", path.replace("\0", "?"))
    creating = flags & os.O_CREAT or (flags & os.O_TMPFILE) == os.O_TMPFILE
    resolve = _RESOLVE_IN_ROOT | (_RESOLVE_NO_MAGICLINKS if links else _RESOLVE_NO_SYMLINKS)
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode if creating else 0, resolve)
    for _ in range(_TRIES):
        found = _LIBC.syscall(_OPENAT2, root, os.fsencode(path.lstrip("/") or "."), how, len(how))
        if found >= 0:
            return int(found)
        code = ctypes.get_errno()
        if code != errno.EAGAIN:  # something was renamed during the walk: look again
            break
    if code == errno.ENOSYS:
        raise SandboxError(f"Linux 5.6 or newer is needed, this is {platform.release()}")
    raise OSError(code, os.strerror(code), path)


def read_inside(root: int, path: str, max_bytes: int) -> bytes:
    """A regular file's content. Raises SandboxFileError."""
    try:
        file = _open_regular(root, path)
    except OSError as error:
        raise SandboxFileError(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(file)
        if status.st_size > max_bytes:
            raise SandboxFileError(f"{path}: {status.st_size} bytes, more than the {max_bytes} allowed")
        pieces, left = [], max_bytes + 1
        while left and (piece := os.read(file, min(left, 1 << 20))):
            pieces.append(piece)
            left -= len(piece)
        if not left:
            raise SandboxFileError(f"{path}: grew beyond {max_bytes} bytes while it was read")
        return b"".join(pieces)
    except OSError as error:
        raise SandboxFileError(f"{path}: {error.strerror}") from None
    finally:
        os.close(file)


def _open_regular(root: int, path: str) -> int:
    """A regular file's descriptor, for reading. Raises OSError, or SandboxFileError for anything else."""
    handle = open_inside(root, path, os.O_PATH)
    try:
        _check_file(handle, path)
        # The very file that was looked at: by now there may be another one at its path.
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(handle)


def _check_file(file: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise SandboxFileError(f"{path}: no regular file")
    if not _is_kept(file):
        raise SandboxFileError(f"{path}: not on a file system of the sandbox's own")


def _is_kept(descriptor: int) -> bool:
    """Whether an open file is a stored one, none that the kernel makes up (``/proc``, ``/dev/pts``)."""
    found = ctypes.create_string_buffer(256)  # struct statfs has 120 bytes; its type comes first, as a long
    if _LIBC.fstatfs(descriptor, found):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return struct.unpack_from("l", found)[0] & 0xFFFFFFFF in _KEPT


def tree_inside(root: int, path: str, max_entries: int) -> dict[str, Entry]:
    """Everything below ``path``, see :meth:`Sandbox.tree`. Raises SandboxFileError."""
    top = path.rstrip("/") or "/"
    found: dict[str, Entry] = {}
    try:
        handle = open_inside(root, top, os.O_PATH | os.O_NOFOLLOW)
        try:
            if not _is_kept(handle):
                raise SandboxFileError(f"{path}: not on a file system of the sandbox's own")
            found[""] = _entry(os.fstat(handle), "", handle)
        finally:
            os.close(handle)
        folders = [""] if found[""].kind == "directory" else []
        with Unlocked() as unlocked:
            while folders:
                inside = folders.pop()
                if not _folder_is_kept(root, f"{top}/{inside}"):
                    continue
                folder = unlocked.open(root, f"{top}/{inside}")
                try:
                    for name in os.listdir(folder):  # noqa: PTH208
                        below = f"{inside}/{name}" if inside else name
                        with contextlib.suppress(FileNotFoundError):  # it may be going while it is looked at
                            found[below] = _entry(os.stat(name, dir_fd=folder, follow_symlinks=False), name, folder)
                            folders += [below] if found[below].kind == "directory" else []
                        if len(found) > max_entries:
                            raise SandboxFileError(f"{path}: more than {max_entries} entries")
                finally:
                    os.close(folder)
    except OSError as error:
        raise SandboxFileError(f"{path}: {error.strerror}") from None
    return found


def _folder_is_kept(root: int, path: str) -> bool:
    handle = open_inside(root, path, os.O_PATH | os.O_DIRECTORY, links=False)
    try:
        return _is_kept(handle)
    finally:
        os.close(handle)


def _entry(status: os.stat_result, name: str, folder: int) -> Entry:
    kind = kind_of(status.st_mode)
    size = status.st_size if kind == "file" else 0
    # An empty name reads the link that the descriptor itself is.
    target = os.readlink(name, dir_fd=folder) if kind == "link" else ""
    return Entry(kind, stat.S_IMODE(status.st_mode), size, target)


def kind_of(mode: int) -> str:
    """What a mode says an entry is, in the words of :class:`Entry`."""
    for name, test in (
        ("file", stat.S_ISREG),
        ("directory", stat.S_ISDIR),
        ("link", stat.S_ISLNK),
        ("fifo", stat.S_ISFIFO),
        ("socket", stat.S_ISSOCK),
    ):
        if test(mode):
            return name
    return "device"


def write_inside(root: int, path: str, data: bytes, mode: int, user: int | None) -> None:
    """Writes a regular file and the directories above it.

    Args:
        root: directory descriptor.
        path: inside.
        data: its whole content.
        mode: permission bits.
        user: whose it is to be outside; None for oneself.

    Raises:
        SandboxFileError: what is there is no regular file, or cannot be written.
    """
    try:
        with acting_as(user):
            make_directories(root, path.rpartition("/")[0])
            file = open_inside(root, path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
            try:
                _check_file(file, path)
                os.ftruncate(file, 0)
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
                os.fchmod(file, mode)
            finally:
                os.close(file)
    except OSError as error:
        raise SandboxFileError(f"{path}: {error.strerror}") from None


def make_directories(root: int, path: str) -> None:
    """Makes a directory and those above it, as whoever acts now. Raises OSError."""
    done = ""
    for part in [part for part in path.split("/") if part and part != "."]:
        parent = open_inside(root, done or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=parent)
        finally:
            os.close(parent)
        done = f"{done}/{part}"
    if done:
        os.close(open_inside(root, done, os.O_PATH | os.O_DIRECTORY))


@contextlib.contextmanager
def acting_as(user: int | None) -> Iterator[None]:
    """Makes files as another user: the calling thread's file-system identity, nothing else of it."""
    if user is None:
        yield
        return
    group_before = _LIBC.setfsgid(user)
    user_before = _LIBC.setfsuid(user)
    try:
        yield
    finally:
        _LIBC.setfsuid(user_before)
        _LIBC.setfsgid(group_before)


class Unlocked:
    """Folders that their owner, who is not root here, locked against itself: opened for the time of a look."""

    def __init__(self) -> None:
        self._modes: list[tuple[int | None, str, int]] = []

    def __enter__(self) -> Unlocked:
        return self

    def __exit__(self, *_: object) -> None:
        self.lock()

    def open(self, root: int, path: str) -> int:
        """A folder's descriptor, for reading. Raises OSError."""
        try:
            folder = open_inside(root, path, READ_FOLDER, links=False)
            # Root inside may write where reading is all that is allowed here.
            if os.geteuid() == 0 or os.access(".", os.R_OK | os.X_OK, dir_fd=folder):
                return folder
            os.close(folder)
        except PermissionError:
            if os.geteuid() == 0:
                raise
        handle = open_inside(root, path, os.O_PATH | os.O_DIRECTORY, links=False)
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            os.chmod(f"/proc/self/fd/{handle}", mode | 0o700)  # noqa: PTH101
        finally:
            os.close(handle)
        self._modes.append((root, path, mode))
        return open_inside(root, path, READ_FOLDER, links=False)

    def unlock(self, path: str) -> None:
        """The same for a folder that nobody exchanges, by its path."""
        if os.geteuid() != 0 and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            with contextlib.suppress(OSError):
                mode = stat.S_IMODE(os.lstat(path).st_mode)
                os.chmod(path, mode | 0o700)  # noqa: PTH101
                self._modes.append((None, path, mode))

    def lock(self) -> None:
        """Gives all of them their modes again."""
        for root, path, mode in reversed(self._modes):
            with contextlib.suppress(OSError):
                if root is None:
                    os.chmod(path, mode)  # noqa: PTH101
                    continue
                handle = open_inside(root, path, os.O_PATH | os.O_DIRECTORY, links=False)
                try:
                    os.chmod(f"/proc/self/fd/{handle}", mode)  # noqa: PTH101
                finally:
                    os.close(handle)
        self._modes.clear()
