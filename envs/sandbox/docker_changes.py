"""What differs between two images, read through the daemon: no program inside has a say in it.

The daemon's own list of a container's changes is not used: it compares sizes and times, so it misses a file that was
written over with as many bytes and had its time set back.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import posixpath
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any, cast

from pivotgym.envs.sandbox.base import FileChange
from pivotgym.envs.sandbox.docker_api import as_sandbox_error, unstarted
from pivotgym.envs.sandbox.docker_overlay import compare_layers, layer_folders

if TYPE_CHECKING:
    from docker import APIClient

NOT_OF_THE_IMAGE = frozenset(
    ("/dev", "/proc", "/sys", "/.dockerenv", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab")
)
"""Made by the daemon for each container."""
_KEPT = 4

Rows = dict[str, FileChange]


class Differ:
    """Compares images of one daemon. Safe for use from several threads.

    Args:
        client: of the daemon.
        look_at_layers: read the layers' folders where that is possible, instead of whole images.
    """

    def __init__(self, client: APIClient, *, look_at_layers: bool = True) -> None:
        self._client, self._look_at_layers = client, look_at_layers
        self._lock = threading.Lock()
        self._read: collections.OrderedDict[str, Rows] = collections.OrderedDict()

    def compare(self, before: str, after: str) -> list[FileChange]:
        """Paths that differ between two images, sorted. Of a removed folder only the folder is named.

        Args:
            before: id of the first image.
            after: id of the second.

        Raises:
            SandboxError: the daemon fails.
        """
        with as_sandbox_error("comparing two states"):
            if self._look_at_layers:
                one, two = layer_folders(self._client, before), layer_folders(self._client, after)
                if one is not None and two is not None:
                    return compare_layers(one, two, NOT_OF_THE_IMAGE)
            with ThreadPoolExecutor(2) as side_by_side:
                return _differences(*side_by_side.map(self._everything, (before, after)))

    def _everything(self, image: str) -> Rows:
        with self._lock:
            if image in self._read:
                self._read.move_to_end(image)
                return self._read[image]
        rows = _read_image(self._client, image)
        with self._lock:
            self._read[image] = rows
            while len(self._read) > _KEPT:
                self._read.popitem(last=False)
        return rows


def _differences(one: Rows, two: Rows) -> list[FileChange]:
    found = []
    for path in sorted({*one, *two}):
        absent = FileChange(path, "absent")
        before, after = one.get(path, absent), two.get(path, absent)
        if before == after:
            continue
        above = posixpath.dirname(path)
        if after.kind == "absent" and above in one and two.get(above, absent).kind != "directory":
            continue  # gone with its folder
        found.append(dataclasses.replace(after, before=before.kind))
    return found


def _read_image(client: APIClient, image: str) -> Rows:
    """All paths of an image. Sockets are missing: archives hold none."""
    rows: Rows = {}
    linked: list[tuple[str, str]] = []
    with unstarted(client, image) as container:
        pieces = _Pieces(client.export(container, chunk_size=1 << 20))
        with tarfile.open(fileobj=cast(IO[bytes], pieces), mode="r|", bufsize=1 << 20) as archive:
            for member in archive:
                path = posixpath.normpath(f"/{member.name}")
                if path == "/" or f"/{path.split('/')[1]}" in NOT_OF_THE_IMAGE or path in NOT_OF_THE_IMAGE:
                    continue
                if member.islnk():
                    linked.append((path, posixpath.normpath(f"/{member.linkname}")))
                else:
                    rows[path] = _row(path, member, archive)
    for path, target in linked:
        if target in rows:
            rows[path] = dataclasses.replace(rows[target], path=path)
    return rows


class _Pieces:
    """An iterator of bytes as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), b""

    def read(self, size: int) -> bytes:
        held = [self._rest]
        have = len(self._rest)
        while have < size and (piece := next(self._pieces, None)) is not None:
            held.append(piece)
            have += len(piece)
        data = b"".join(held)
        data, self._rest = data[:size], data[size:]
        return data


def _row(path: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> FileChange:
    mode, owner = f"{member.mode & 0o7777:04o}", f"{member.uid}:{member.gid}"
    if member.issym():
        return FileChange(path, "link", owner=owner, target=member.linkname)
    if member.isdir():
        return FileChange(path, "directory", mode=mode, owner=owner)
    if member.isfifo():
        return FileChange(path, "fifo", mode=mode, owner=owner)
    if member.isdev():
        return FileChange(path, "device", mode=mode, owner=owner)
    file: Any = archive.extractfile(member)
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return FileChange(path, "file", mode=mode, owner=owner, digest=digest.hexdigest(), size=member.size)
