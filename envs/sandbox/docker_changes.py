"""What differs between two images, read through the daemon: no program inside has a say in it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

from pivotgym.envs.sandbox.base import FileChange
from pivotgym.envs.sandbox.docker_api import archive_of, as_sandbox_error, labels, path_stat, retried
from pivotgym.envs.sandbox.docker_files import kind_of, permissions_of

if TYPE_CHECKING:
    from docker import APIClient

_FOLDER_BYTES = 8 << 20
"""A folder with several changed paths is read as a whole up to this size: one request costs as much as reading it."""
_REQUESTS = 40
"""More requests than this cost more than reading everything."""
_NOT_OF_THE_IMAGE = ("/dev", "/proc", "/sys", "/.dockerenv", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Made by the daemon for each container."""


class _TooMany(Exception):
    pass


def compare(client: APIClient, before: str, after: str, paths: Sequence[str] | None) -> list[FileChange]:
    """Paths that differ between two images, sorted. Of a removed folder only the folder is named.

    Args:
        client: of the daemon.
        before: id of the first image.
        after: id of the second.
        paths: all that can differ; None where that is not known, then everything is read.

    Raises:
        SandboxError: the daemon fails.
    """
    with as_sandbox_error("comparing two states"):
        if paths is not None:
            wanted = sorted(path for path in paths if not _is_made_by_daemon(path))
            try:
                return _differences(_some(client, before, wanted), _some(client, after, wanted))
            except _TooMany:
                pass
        return _differences(_everything(client, before), _everything(client, after))


def _is_made_by_daemon(path: str) -> bool:
    return path == "/" or any(path == own or path.startswith(f"{own}/") for own in _NOT_OF_THE_IMAGE)


def _differences(one: dict[str, FileChange], two: dict[str, FileChange]) -> list[FileChange]:
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


@contextlib.contextmanager
def unstarted(client: APIClient, image: str) -> Iterator[str]:
    """A container of an image that never runs: a way to its files."""
    made = retried(client.create_container, image, entrypoint=["bash"], network_disabled=True, labels=labels())["Id"]
    try:
        yield made
    finally:
        client.remove_container(made, v=True, force=True)


def _some(client: APIClient, image: str, wanted: Sequence[str]) -> dict[str, FileChange]:
    """What certain paths are in an image; those that are not there are left out."""
    with unstarted(client, image) as container:
        reader = _Reader(client, container, set(wanted))
        for path in wanted:  # sorted: a folder comes before what is in it
            if path not in reader.done:
                reader.read(path)
        return reader.rows


class _Reader:
    def __init__(self, client: APIClient, container: str, wanted: set[str]) -> None:
        self._client, self._container, self._wanted = client, container, wanted
        self._requests = 0
        self.rows: dict[str, FileChange] = {}
        self.done: set[str] = set()

    def read(self, path: str) -> None:
        """Reads a path and, if it is a folder of which there is not too much, all wanted paths in it."""
        self._requests += 1
        if self._requests > _REQUESTS:
            raise _TooMany
        self.done.add(path)
        described = path_stat(self._client, self._container, path)
        if described is None:
            self._nothing_below(path)
            return
        if kind_of(described) == "socket":  # archives hold none
            mode = f"{permissions_of(described):04o}"
            self.rows[path] = FileChange(path, "socket", mode=mode)
            self._nothing_below(path)
            return
        below = [other for other in self._wanted if other.startswith(f"{path}/")]
        linked: list[str] = []
        with archive_of(self._client, self._container, path) as response:
            if response is None:
                return
            above = posixpath.dirname(path)
            with tarfile.open(fileobj=cast(IO[bytes], response.raw), mode="r|") as archive:
                for member in archive:
                    inside = posixpath.join(above, member.name.rstrip("/"))
                    if inside in self._wanted and member.islnk():
                        linked.append(inside)
                    elif inside in self._wanted:
                        self.rows[inside] = _row(inside, member, archive)
                    if not below or archive.offset > _FOLDER_BYTES:
                        break
                else:
                    # The whole folder was read: what was not met is a socket, a second name or not there.
                    met = {*self.rows, *linked}
                    for other in below:
                        self.done.add(other)
                        if other not in met and posixpath.dirname(other) in met:
                            self.done.discard(other)
        for other in linked:
            self.read(other)

    def _nothing_below(self, path: str) -> None:
        self.done |= {other for other in self._wanted if other.startswith(f"{path}/")}


def _everything(client: APIClient, image: str) -> dict[str, FileChange]:
    rows: dict[str, FileChange] = {}
    linked: list[tuple[str, str]] = []
    with unstarted(client, image) as container:
        pieces = _Pieces(client.export(container, chunk_size=1 << 20))
        with tarfile.open(fileobj=cast(IO[bytes], pieces), mode="r|", bufsize=1 << 20) as archive:
            for member in archive:
                path = posixpath.normpath(f"/{member.name}")
                if _is_made_by_daemon(path):
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
