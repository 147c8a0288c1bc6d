"""What differs between two images by the folders that the overlay2 driver keeps their layers in.

Only root on the daemon's machine can look there. It is exact, unlike the list of changes the daemon gives (which
misses a file whose size and time were set back), and takes milliseconds, where reading whole images takes seconds.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pivotgym.envs.sandbox.base import FileChange
from pivotgym.envs.sandbox.docker_api import as_sandbox_error, retried

if TYPE_CHECKING:
    from docker import APIClient

_OPAQUE = "trusted.overlay.opaque"
_KINDS = (
    ("file", stat.S_ISREG),
    ("directory", stat.S_ISDIR),
    ("link", stat.S_ISLNK),
    ("fifo", stat.S_ISFIFO),
    ("socket", stat.S_ISSOCK),
)
UNREAD = "too deep to be read"
"""Digest of a folder whose path is too long for the kernel: equal to nothing but itself."""


def layer_folders(client: APIClient, image: str) -> list[str] | None:
    """The folders of an image's layers, the topmost first; None where they cannot be seen from here.

    Raises:
        SandboxError: the daemon fails.
    """
    if os.geteuid() != 0:
        return None
    with as_sandbox_error("looking at an image"):
        found: dict[str, Any] = retried(client.inspect_image, image)
    driver = found.get("GraphDriver") or {}
    data = driver.get("Data") or {}
    if driver.get("Name") != "overlay2" or not data.get("UpperDir"):
        return None
    folders = [data["UpperDir"], *filter(None, (data.get("LowerDir") or "").split(":"))]
    # As many folders as layers: otherwise this is not what is meant here.
    if len(folders) != len(found["RootFS"].get("Layers") or ()) or not all(Path(each).is_dir() for each in folders):
        return None
    return folders


@dataclass(frozen=True)
class _Seen:
    """What a path is in an image.

    Attributes:
        path: where it is kept.
        status: of that.
        folders: of a folder, those it is made of, the topmost first.
    """

    path: str
    status: os.stat_result
    folders: tuple[str, ...] = ()


def compare_layers(one: Sequence[str], two: Sequence[str], skip: frozenset[str]) -> list[FileChange]:
    """Paths that differ, sorted. Of a removed folder only the folder is named.

    Args:
        one: folders of the first image's layers, the topmost first.
        two: those of the second.
        skip: paths that are not looked at.
    """
    common = 0
    while common < min(len(one), len(two)) and one[-1 - common] == two[-1 - common]:
        common += 1
    touched = (*one[: len(one) - common], *two[: len(two) - common])
    found: list[FileChange] = []
    # Below a folder that only one of them has, or that was replaced, everything is looked at: touched is None.
    work: list[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...] | None]] = [
        ("", tuple(one), tuple(two), touched)
    ]
    while work:
        path, ones, twos, layers = work.pop()
        try:
            names = _names_of(ones, twos, layers)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            found.append(FileChange(path, "directory", digest=UNREAD, before="directory"))
            continue
        for name in names:
            inside = f"{path}/{name}"
            if inside in skip:
                continue
            left, right = _look(ones, name), _look(twos, name)
            if left is not None and right is not None and left.path == right.path and not left.folders:
                continue
            before, after = _entry(inside, left), _entry(inside, right)
            if before != after or (before.kind == "file" and _digest(left) != _digest(right)):
                digest = _digest(right) if after.kind == "file" else None
                found.append(replace(after, digest=digest, before=before.kind))
            if right is not None and right.folders:
                was_folder = left is not None and bool(left.folders)
                below = left.folders if left is not None else ()
                work.append((inside, below, right.folders, _deeper(layers, name) if was_folder else None))
    return sorted(found, key=lambda change: change.path)


def _names_of(ones: Iterable[str], twos: Iterable[str], layers: tuple[str, ...] | None) -> list[str]:
    everything = layers is None or any(_is_opaque(folder) for folder in layers)
    names: set[str] = set()
    for folder in (*ones, *twos) if everything or layers is None else layers:
        names.update(os.listdir(folder))  # noqa: PTH208
    return sorted(names)


def _deeper(layers: tuple[str, ...] | None, name: str) -> tuple[str, ...] | None:
    """The changed layers' folders of that name; None where one of them has something else there."""
    if layers is None:
        return None
    deeper = []
    for folder in layers:
        status = _lstat(f"{folder}/{name}")
        if status is not None and not stat.S_ISDIR(status.st_mode):
            return None
        if status is not None:
            deeper.append(f"{folder}/{name}")
    return tuple(deeper)


def _look(folders: Sequence[str], name: str) -> _Seen | None:
    """What a name is in a stack of folders."""
    made_of: list[str] = []
    top: os.stat_result | None = None
    for folder in folders:
        path = f"{folder}/{name}"
        status = _lstat(path)
        if status is None:
            continue
        if not stat.S_ISDIR(status.st_mode):
            if made_of or (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):  # hidden, or says that it is gone
                break
            return _Seen(path, status)
        top = top or status
        made_of.append(path)
        if _is_opaque(path):
            break
    return _Seen(made_of[0], top, tuple(made_of)) if top is not None else None


def _is_opaque(path: str) -> bool:
    """Whether a folder hides what lower layers have there."""
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _entry(path: str, seen: _Seen | None) -> FileChange:
    """Everything of it but its content."""
    if seen is None:
        return FileChange(path, "absent")
    status = seen.status
    kind = next((name for name, test in _KINDS if test(status.st_mode)), "device")
    owner = f"{status.st_uid}:{status.st_gid}"
    if kind == "link":
        return FileChange(path, kind, owner=owner, target=os.readlink(seen.path))  # noqa: PTH115
    size = status.st_size if kind == "file" else None
    return FileChange(path, kind, mode=f"{stat.S_IMODE(status.st_mode):04o}", owner=owner, size=size)


def _digest(seen: _Seen | None) -> str | None:
    if seen is None or not stat.S_ISREG(seen.status.st_mode):
        return None
    with open(seen.path, "rb") as file:  # noqa: PTH123 (a name may be no valid text)
        return hashlib.file_digest(file, "sha256").hexdigest()
