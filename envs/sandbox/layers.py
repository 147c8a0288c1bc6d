"""Copy-on-write layers: frozen, counted, merged when there are many, and compared.

A layer is what an overlay file system wrote over everything below it: one folder a mount, with whiteouts (character
devices 0:0) for what was removed and the attribute ``user.overlay.opaque`` on folders that hide what is below
(Documentation/filesystems/overlayfs of the Linux kernel). Frozen layers are never written again, so any number of
sandboxes may stand on them, and merging links files instead of copying them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pivotgym.envs.sandbox.rooted import Unlocked

OPAQUE = "user.overlay.opaque"
MAX_LAYERS = 40
"""Longer chains are merged: all mount options together have to fit into one page of memory."""
_AFTER_MERGE = 20
_COPIED_BYTES = 1 << 20
"""Files up to this size are copied in a merge: `ls -l` inside shows how many names a linked file has."""
_MOUNT_OPTIONS = 3500
"""Bytes that the names of all layers may take in the mount options."""
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

    @property
    def most(self) -> int:
        """Layers a chain may have: their paths have to fit into one page."""
        return max(min(MAX_LAYERS, _MOUNT_OPTIONS // (len(str(self.folder)) + 16)), 4)

    def new_folder(self) -> Path:
        """A new empty folder with a short name: names count against the mount options' page."""
        with self._lock:
            self._count += 1
            path = self.folder / f"{self._count:x}"
        path.mkdir()
        path.chmod(0o711)
        return path

    def freeze(self, path: Path, below: Chain, bases: Sequence[Sequence[str]]) -> Chain:
        """Makes a sandbox's writable folder a layer; the new chain is held once for the caller.

        Args:
            path: the folder.
            below: what it was mounted over.
            bases: the base's folders of each mount, the topmost first.
        """
        entries, nbytes = measure(path)
        layers = (*below.layers, Layer(path, (path.name,), entries, nbytes))
        if len(layers) > self.most:
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

    def _shorten(self, layers: tuple[Layer, ...], bases: Sequence[Sequence[str]]) -> tuple[Layer, ...]:
        """Merges the newest layers into one.

        Older ones are taken along while they hold no more than what is merged anyway: then a chain of n layers costs
        O(n log n) links in all, and a large first layer (an unpacked repository) is not linked again and again.
        """
        start = max(len(layers) - (self.most - min(_AFTER_MERGE, self.most // 2)) - 1, 0)
        entries = sum(layer.entries for layer in layers[start:])
        while start and layers[start - 1].entries <= entries:
            start -= 1
            entries += layers[start].entries
        merged = self.new_folder()
        for index, base in enumerate(bases):
            for layer in layers[start:]:
                if (layer.path / str(index)).is_dir():
                    with Unlocked() as unlocked:
                        _lay_over(f"{layer.path}/{index}", f"{merged}/{index}", unlocked)
            below = [f"{layer.path}/{index}" for layer in reversed(layers[:start])]
            with Unlocked() as unlocked:
                _drop_idle_whiteouts(f"{merged}/{index}", (*below, *base), unlocked)
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
    folders, unlocked = ["."], Unlocked()
    try:
        while folders:
            name = folders.pop()
            try:
                folder = unlocked.open(root, name)
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
        unlocked.lock()
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


def _lay_over(upper: str, target: str, unlocked: Unlocked) -> None:
    """Merges the layer folder ``upper`` over ``target``, which holds what was merged so far."""
    if not os.path.lexists(target):
        _new_folder(upper, target, opaque=is_opaque(upper))
    folders = [(upper, target)]
    while folders:
        upper, target = folders.pop()
        unlocked.unlock(upper)
        unlocked.unlock(target)
        with os.scandir(upper) as found:
            for entry in found:
                there = f"{target}/{entry.name}"
                status = lstat(there)
                if not entry.is_dir(follow_symlinks=False):
                    if status is not None:
                        _drop(there, status)
                    _take(entry, there)
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


def _take(entry: os.DirEntry[str], target: str) -> None:
    """Puts a layer's file, link or whiteout into a merged layer; large files without copying them."""
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode) and status.st_size <= _COPIED_BYTES:
        with contextlib.suppress(PermissionError):  # locked against its owner: linked
            shutil.copyfile(entry.path, target, follow_symlinks=False)
            if os.geteuid() == 0:
                os.chown(target, status.st_uid, status.st_gid)
            os.chmod(target, stat.S_IMODE(status.st_mode))  # noqa: PTH101
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
            return
    os.link(entry.path, target, follow_symlinks=False)


def hard_linked(path: Path) -> str | None:
    """A file below a writable folder that has another name too, by its path there; None where there is none.

    The overlay file system forgets which names are one file when it copies one of them up again.
    """
    folders = [str(path)]  # no recursion: a sandbox may nest folders deeper than the stack
    while folders:
        # What lies too deep for a path or is locked cannot be looked at; measuring counts it as too much.
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                    return entry.path[len(str(path)) :].partition("/")[2].partition("/")[2]
    return None


def _drop_idle_whiteouts(folder: str, below: tuple[str, ...], unlocked: Unlocked) -> None:
    """Removes whiteouts of a merged layer that hide nothing any more.

    They must go: in a folder with nothing below it the kernel lists what is there, whiteouts included.
    """
    folders = [(folder, below)]
    while folders:
        folder, below = folders.pop()
        for path in (folder, *below):
            unlocked.unlock(path)
        with os.scandir(folder) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    under = None if is_opaque(entry.path) else look(below, entry.name)
                    folders.append((entry.path, under[1] if under is not None else ()))
                elif is_whiteout(entry.stat(follow_symlinks=False)) and look(below, entry.name) is None:
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
    os.chmod(path, stat.S_IMODE(status.st_mode))  # noqa: PTH101
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _drop(path: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        remove_tree(Path(path))
    else:
        os.unlink(path)  # noqa: PTH108


def lstat(path: str) -> os.stat_result | None:
    """What is there, links not followed; None for nothing."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def look(folders: Sequence[str], name: str) -> tuple[str, tuple[str, ...]] | None:
    """What a name is in a stack of folders: its real path and, for a folder, those it is made of."""
    stack: list[str] = []
    for folder in folders:
        path = f"{folder}/{name}"
        status = lstat(path)
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
