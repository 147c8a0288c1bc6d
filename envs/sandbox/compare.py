"""What differs between two chains of layers: read from the layers themselves, nothing is mounted."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pivotgym.envs.sandbox.base import FileChange
from pivotgym.envs.sandbox.host_base import Base
from pivotgym.envs.sandbox.layers import Chain, is_opaque, look, lstat
from pivotgym.envs.sandbox.rooted import Unlocked, kind_of


@dataclass(frozen=True)
class Mount:
    """One mount of a view: where it is inside, and the real folders it is made of, the newest first."""

    inside: str
    folders: tuple[str, ...]


def stack_of(mounts: Sequence[Base], chain: Chain) -> list[Mount]:
    """The mounts of a chain over a base; ``mounts`` are the base."""
    found = []
    for index, (inside, bases) in enumerate(mounts):
        layers = [str(layer.path / str(index)) for layer in reversed(chain.layers)]
        found.append(Mount(inside, (*(path for path in layers if os.path.isdir(path)), *bases)))  # noqa: PTH112
    return found


def compare(mounts: Sequence[Base], before: Chain, after: Chain, first_user: int | None) -> list[FileChange]:
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
    skip = {mount.inside for mount in ones}
    unlocked = Unlocked()
    try:
        for index, (one, two) in enumerate(zip(ones, twos, strict=True)):
            touched = [str(layer.path / str(index)) for layer in changed]
            walk = _Walk(first_user, skip, found, unlocked)
            walk.root(one, two)
            walk.tree("" if one.inside == "/" else one.inside, one.folders, two.folders, touched)
    finally:
        unlocked.lock()
    return sorted(found, key=lambda change: change.path)


_Folders = tuple[str, ...]


@dataclass
class _Walk:
    first_user: int | None
    skip: set[str]
    found: list[FileChange]
    unlocked: Unlocked

    def root(self, one: Mount, two: Mount) -> None:
        """Compares what two mounts' own folders are."""
        before, after = (self._root(mount) for mount in (one, two))
        if before != after:
            self.found.append(_replace(after, before.kind))

    def _root(self, mount: Mount) -> FileChange:
        status = os.stat(mount.folders[0])  # noqa: PTH116
        # The writable folder above a base that is nobody's inside is root's.
        numbers = (status.st_uid, status.st_gid) if self.first_user is not None else (0, 0)
        user, group = (max(number - (self.first_user or 0), 0) for number in numbers)
        return FileChange(
            mount.inside, "directory", mode=f"{stat.S_IMODE(status.st_mode):04o}", owner=f"{user}:{group}"
        )

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
        for folder in {*one, *two, *(touched or ())}:
            self.unlocked.unlock(folder)
        names: set[str] = set()
        for folder in touched if touched is not None else (*one, *two):
            names |= _names(folder)
            if touched is not None and is_opaque(folder):
                names |= {name for other in (*one, *two) for name in _names(other)}
        for name in sorted(names):
            inside = f"{path}/{name}"
            if inside in self.skip:
                continue
            left, right = look(one, name), look(two, name)
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
            status = lstat(f"{folder}/{name}")
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
        mode, kind = f"{stat.S_IMODE(status.st_mode):04o}", kind_of(status.st_mode)
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


_LARGE = 16 << 20
_BLOCK = 1 << 16
_ZEROS = bytes(_BLOCK)


def file_digest(path: str) -> str:
    """SHA-256 of a frozen file's content; of a large file, of its blocks that are not all zeros and their places.

    Holes are not read: a file of any size takes as long as what it holds on the disk. A file its user may not read is
    made readable for the moment.
    """
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
        size = os.fstat(file.fileno()).st_size
        if size <= _LARGE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return _digest_of_blocks(file.fileno(), size)


def _digest_of_blocks(file: int, size: int) -> str:
    found = hashlib.sha256(b"%d" % size)
    at = 0
    while at < size:
        try:
            at = os.lseek(file, at, os.SEEK_DATA) // _BLOCK * _BLOCK
        except OSError:  # nothing but a hole is left
            break
        block = os.pread(file, _BLOCK, at)
        if not block:
            break
        if block != _ZEROS[: len(block)]:
            found.update(b"%d " % at)
            found.update(block)
        at += len(block)
    return found.hexdigest()
