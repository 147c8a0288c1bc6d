"""Copy-on-write layers: frozen, counted, merged when there are many, and compared.

A layer is what an overlay file system wrote over everything below it: one folder a mount, with whiteouts (character
devices 0:0) for what was removed and the attribute ``user.overlay.opaque`` on folders that hide what is below
(Documentation/filesystems/overlayfs of the Linux kernel). Frozen layers are never written again, so any number of
sandboxes may stand on them, and merging links files instead of copying them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pivotgym.envs.sandbox.base import FileChange
from pivotgym.envs.sandbox.rooted import open_inside

OPAQUE = "user.overlay.opaque"
MAX_LAYERS = 20
"""Longer chains are merged: all mount options together have to fit into one page of memory."""
_AFTER_MERGE = 10
_ENTRY_BYTES = 1024
"""What an entry takes at least: its inode and its name."""
_BEYOND = 1 << 60
_DEPTH = 64


@dataclass(eq=False)
class Layer:
    """A frozen layer.

    Attributes:
        path: its folder; ``0`` in it belongs to the first mount, ``1`` to the second.
        parts: ids of the layers it was merged from, its own id where it was not.
        entries: how many files and folders it holds.
        nbytes: disk it takes, files linked from elsewhere included.
        holders: how many chains it is part of; guarded by the store's lock.
    """

    path: Path
    parts: tuple[str, ...]
    entries: int
    nbytes: int
    holders: int = 0


@dataclass(frozen=True)
class Chain:
    """Layers from the oldest to the newest; ``()`` is the bare base."""

    layers: tuple[Layer, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Ids of the unmerged layers it stands for."""
        return tuple(part for layer in self.layers for part in layer.parts)


@dataclass
class LayerStore:
    """The layers of one process below ``folder``. Safe for use from several threads."""

    folder: Path
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def new_folder(self) -> Path:
        """A new empty folder with a short name: names count against the mount options' page."""
        with self._lock:
            self._count += 1
            path = self.folder / f"{self._count:x}"
        path.mkdir()
        path.chmod(0o711)
        return path

    def freeze(self, path: Path, below: Chain, bases: Sequence[str]) -> Chain:
        """Makes a sandbox's writable folder a layer; the new chain is held once for the caller.

        Args:
            path: the folder.
            below: what it was mounted over.
            bases: the base's folder of each mount.
        """
        entries, nbytes = measure(path)
        layers = (*below.layers, Layer(path, (path.name,), entries, nbytes))
        if len(layers) > MAX_LAYERS:
            layers = self._shorten(layers, bases)
        chain = Chain(layers)
        self.hold(chain)
        return chain

    def hold(self, chain: Chain) -> None:
        """One more holder of every layer."""
        with self._lock:
            for layer in chain.layers:
                layer.holders += 1

    def release(self, chain: Chain) -> None:
        """One holder less; what nobody holds is deleted."""
        with self._lock:
            for layer in chain.layers:
                layer.holders -= 1
            free = [layer.path for layer in chain.layers if layer.holders == 0]
        for path in free:
            remove_tree(path)

    def _shorten(self, layers: tuple[Layer, ...], bases: Sequence[str]) -> tuple[Layer, ...]:
        """Merges the newest layers into one.

        Older ones are taken along while they hold no more than what is merged anyway: then a chain of n layers costs
        O(n log n) links in all, and a large first layer (an unpacked repository) is not linked again and again.
        """
        start = len(layers) - (MAX_LAYERS - _AFTER_MERGE) - 1
        entries = sum(layer.entries for layer in layers[start:])
        while start and layers[start - 1].entries <= entries:
            start -= 1
            entries += layers[start].entries
        merged = self.new_folder()
        for index, base in enumerate(bases):
            for layer in layers[start:]:
                if (layer.path / str(index)).is_dir():
                    _lay_over(f"{layer.path}/{index}", f"{merged}/{index}")
            below = [f"{layer.path}/{index}" for layer in reversed(layers[:start])]
            _drop_idle_whiteouts(f"{merged}/{index}", (*below, base))
        parts = tuple(part for layer in layers[start:] for part in layer.parts)
        top = layers[-1]
        count, nbytes = measure(merged)
        if top.holders == 0:  # nobody else has seen it
            remove_tree(top.path)
        return (*layers[:start], Layer(merged, parts, count, nbytes))


def is_whiteout(status: os.stat_result) -> bool:
    """Whether an entry says that what is below it is gone."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: str) -> bool:
    """Whether a folder hides what is below it."""
    try:
        return os.getxattr(path, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def measure(path: Path | str) -> tuple[int, int]:
    """Entries below a folder and the disk bytes they take.

    A sandbox may be exchanging folders for links meanwhile, so none is followed. An entry counts as a kilobyte at
    least: empty files fill a disk too. What lies too deep for a path counts as more than any limit.
    """
    entries = nbytes = 0
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return 0, 0
    folders = ["."]
    try:
        while folders:
            name = folders.pop()
            try:
                folder = open_inside(root, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, links=False)
            except OSError as error:
                nbytes += _BEYOND if error.errno == errno.ENAMETOOLONG else 0
                continue
            try:
                with contextlib.suppress(OSError), os.scandir(folder) as found:
                    for entry in found:
                        entries += 1
                        with contextlib.suppress(FileNotFoundError):  # it is gone by now
                            nbytes += max(entry.stat(follow_symlinks=False).st_blocks * 512, _ENTRY_BYTES)
                            if entry.is_dir(follow_symlinks=False):
                                folders.append(f"{name}/{entry.name}")
            finally:
                os.close(folder)
    finally:
        os.close(root)
    return entries, nbytes


def remove_tree(path: Path) -> None:
    """Deletes a folder whatever permissions a sandbox gave to what is in it, and however deep it is."""
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            path.unlink()
            return
        path.chmod(0o700)
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # Folders far down are moved up to the first one: neither the stack nor paths nor descriptors run out.
            while _empty(root, root, 0):
                pass
        finally:
            os.close(root)
        path.rmdir()


def _empty(folder: int, root: int, depth: int) -> bool:
    """Deletes what is in a folder; whether something was moved to ``root`` meanwhile."""
    moved = False
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in entries:
        with contextlib.suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=folder)
                continue
            os.chmod(name, 0o700, dir_fd=folder)
            if depth >= _DEPTH:
                os.rename(name, secrets.token_hex(8), src_dir_fd=folder, dst_dir_fd=root)
                moved = True
                continue
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                moved = _empty(below, root, depth + 1) or moved
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=folder)
    return moved


def _lay_over(upper: str, target: str) -> None:
    """Merges the layer folder ``upper`` over ``target``, which holds what was merged so far."""
    if not os.path.lexists(target):
        _new_folder(upper, target, opaque=is_opaque(upper))
    folders = [(upper, target)]
    while folders:
        upper, target = folders.pop()
        with os.scandir(upper) as found:
            for entry in found:
                there = f"{target}/{entry.name}"
                status = _lstat(there)
                if not entry.is_dir(follow_symlinks=False):
                    if status is not None:
                        _drop(there, status)
                    os.link(entry.path, there, follow_symlinks=False)
                    continue
                below_is_folder = status is not None and stat.S_ISDIR(status.st_mode)
                opaque = is_opaque(entry.path)
                if below_is_folder and not opaque:
                    _dress(entry.path, there)
                else:
                    if status is not None:
                        _drop(there, status)
                    # Over a whiteout or a file the folder must go on hiding what is further below.
                    _new_folder(entry.path, there, opaque=opaque or status is not None)
                folders.append((entry.path, there))


def _drop_idle_whiteouts(folder: str, below: tuple[str, ...]) -> None:
    """Removes whiteouts of a merged layer that hide nothing any more.

    They must go: in a folder with nothing below it the kernel lists what is there, whiteouts included.
    """
    folders = [(folder, below)]
    while folders:
        folder, below = folders.pop()
        with os.scandir(folder) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    under = None if is_opaque(entry.path) else _look(below, entry.name)
                    folders.append((entry.path, under[1] if under is not None else ()))
                elif is_whiteout(entry.stat(follow_symlinks=False)) and _look(below, entry.name) is None:
                    os.unlink(entry.path)  # noqa: PTH108


def _new_folder(like: str, path: str, *, opaque: bool) -> None:
    os.mkdir(path)  # noqa: PTH102
    if opaque:
        os.setxattr(path, OPAQUE, b"y")
    _dress(like, path)


def _dress(like: str, path: str) -> None:
    """Gives a folder another one's owner, mode and times."""
    status = os.lstat(like)
    if os.geteuid() == 0:
        os.chown(path, status.st_uid, status.st_gid)
    os.chmod(path, stat.S_IMODE(status.st_mode) | (0 if os.geteuid() == 0 else 0o700))  # noqa: PTH101
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _drop(path: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        remove_tree(Path(path))
    else:
        os.unlink(path)  # noqa: PTH108


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


# Comparing ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mount:
    """One mount of a view: where it is inside, and the real folders it is made of, the newest first."""

    inside: str
    folders: tuple[str, ...]


def stack_of(mounts: Sequence[tuple[str, str]], chain: Chain) -> list[Mount]:
    """The mounts of a chain over a base; ``mounts`` are pairs of a place inside and a base folder."""
    found = []
    for index, (inside, base) in enumerate(mounts):
        layers = [str(layer.path / str(index)) for layer in reversed(chain.layers)]
        found.append(Mount(inside, (*(path for path in layers if os.path.isdir(path)), base)))  # noqa: PTH112
    return found


def compare(mounts: Sequence[tuple[str, str]], before: Chain, after: Chain, first_user: int | None) -> list[FileChange]:
    """Paths that differ between two chains over one base, sorted.

    Only what the layers that are not common hold is looked at. Of a removed folder only the folder is named.

    Args:
        mounts: of the base, see :func:`stack_of`.
        before: the first chain.
        after: the second chain.
        first_user: number outside of user 0 inside; None where everything belongs to one user.
    """
    common = 0
    for mine, theirs in zip(before.layers, after.layers, strict=False):
        if mine is not theirs:
            break
        common += 1
    changed = (*before.layers[common:], *after.layers[common:])
    found: list[FileChange] = []
    ones, twos = stack_of(mounts, before), stack_of(mounts, after)
    skip = {mount.inside for mount in ones} - {"/"}
    for index, (one, two) in enumerate(zip(ones, twos, strict=True)):
        touched = [str(layer.path / str(index)) for layer in changed]
        walk = _Walk(first_user, skip if one.inside == "/" else set(), found)
        walk.tree("" if one.inside == "/" else one.inside, one.folders, two.folders, touched)
    return sorted(found, key=lambda change: change.path)


_Folders = tuple[str, ...]


@dataclass
class _Walk:
    first_user: int | None
    skip: set[str]
    found: list[FileChange]

    def tree(self, path: str, one: _Folders, two: _Folders, touched: Sequence[str] | None) -> None:
        """Compares all below a folder; ``touched``: the changed layers' folders here, None to compare everything."""
        # No recursion: an agent may nest folders deeper than Python's stack.
        waiting = [(path, one, two, touched)]
        while waiting:
            waiting += self._folder(*waiting.pop())

    def _folder(
        self, path: str, one: _Folders, two: _Folders, touched: Sequence[str] | None
    ) -> Iterator[tuple[str, _Folders, _Folders, Sequence[str] | None]]:
        """Compares a folder's entries and gives the folders in it that are to be compared."""
        names: set[str] = set()
        for folder in touched if touched is not None else (*one, *two):
            names |= _names(folder)
            if touched is not None and is_opaque(folder):
                names |= {name for other in (*one, *two) for name in _names(other)}
        for name in sorted(names):
            inside = f"{path}/{name}"
            if inside in self.skip:
                continue
            left, right = _look(one, name), _look(two, name)
            before, after = self._entry(inside, left), self._entry(inside, right)
            # Two names of one frozen file need no reading.
            same_file = bool(left and right and left[0] == right[0])
            if not same_file and not self._equal(before, after, left, right):
                change = self._digested(after, right)
                self.found.append(_replace(change, before.kind))
            if after.kind == "directory":
                deeper = None if before.kind != "directory" else self._deeper(touched, name)
                was = left[1] if left and before.kind == "directory" else ()
                yield inside, was, right[1] if right else (), deeper

    def _deeper(self, touched: Sequence[str] | None, name: str) -> list[str] | None:
        if touched is None:
            return None
        below: list[str] = []
        for folder in touched:
            status = _lstat(f"{folder}/{name}")
            if status is None:
                continue
            if not stat.S_ISDIR(status.st_mode):
                return None  # a whiteout or file in between: what is below may have changed in any way
            below.append(f"{folder}/{name}")
        return below

    def _entry(self, path: str, seen: tuple[str, tuple[str, ...]] | None) -> FileChange:
        if seen is None:
            return FileChange(path, "absent")
        status = os.lstat(seen[0])
        owner = f"{self._inside(status.st_uid)}:{self._inside(status.st_gid)}"
        mode, kind = f"{stat.S_IMODE(status.st_mode):04o}", _kind(status.st_mode)
        if kind == "link":
            return FileChange(path, kind, owner=owner, target=os.readlink(seen[0]))  # noqa: PTH115
        size = status.st_size if kind == "file" else None
        return FileChange(path, kind, mode=mode, owner=owner, size=size)

    def _inside(self, number: int) -> int:
        if self.first_user is None:
            return 0 if number == os.geteuid() else 65534
        return number - self.first_user if 0 <= number - self.first_user < 65536 else 65534

    def _equal(
        self,
        before: FileChange,
        after: FileChange,
        left: tuple[str, tuple[str, ...]] | None,
        right: tuple[str, tuple[str, ...]] | None,
    ) -> bool:
        if before != after:
            return False
        return before.kind != "file" or self._digested(before, left) == self._digested(after, right)

    def _digested(self, entry: FileChange, seen: tuple[str, tuple[str, ...]] | None) -> FileChange:
        if entry.kind != "file" or seen is None:
            return entry
        return FileChange(**{**vars(entry), "digest": file_digest(seen[0])})


def _replace(change: FileChange, before: str) -> FileChange:
    return FileChange(**{**vars(change), "before": before})


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return set()


def _look(folders: Sequence[str], name: str) -> tuple[str, tuple[str, ...]] | None:
    """What a name is in a stack of folders: its real path and, for a folder, those it is made of."""
    stack: list[str] = []
    for folder in folders:
        path = f"{folder}/{name}"
        status = _lstat(path)
        if status is None:
            continue
        if is_whiteout(status):
            break
        if not stat.S_ISDIR(status.st_mode):
            return (stack[0], tuple(stack)) if stack else (path, ())
        stack.append(path)
        if is_opaque(path):
            break
    return (stack[0], tuple(stack)) if stack else None


def _kind(mode: int) -> str:
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


def file_digest(path: str) -> str:
    """SHA-256 of a frozen file's content. A file its user may not read is made readable for the moment."""
    try:
        file = open(path, "rb")  # noqa: PTH123, SIM115
    except PermissionError:
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        os.chmod(path, mode | 0o400)  # noqa: PTH101
        try:
            file = open(path, "rb")  # noqa: PTH123, SIM115
        finally:
            os.chmod(path, mode)  # noqa: PTH101
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()
