"""Files inside a container through the daemon's archive API, which resolves links inside the container only."""

from __future__ import annotations

import io
import posixpath
import re
import stat as modes
import tarfile
import time
from typing import TYPE_CHECKING, Any

from pivotgym.envs.sandbox.base import Entry, SandboxFileError
from pivotgym.envs.sandbox.docker_api import archive_of, as_sandbox_error, path_fault, path_stat, retried

if TYPE_CHECKING:
    from docker import APIClient

# Bits of Go's os.FileMode, in which the daemon describes a path.
_GO_KINDS = {1 << 31: "directory", 1 << 27: "link", 1 << 26: "device", 1 << 25: "fifo", 1 << 24: "socket"}
_GO_REST = 1 << 21 | 1 << 19
"""Character device (beside the device bit), irregular."""
_COVERED = ("/proc", "/sys", "/dev")
"""Where a running container has the kernel's file systems. What the daemon writes there lies below them, unseen."""


def kind_of(described: dict[str, Any]) -> str:
    """``file``, ``directory``, ``link``, ``device``, ``fifo`` or ``socket``."""
    mode = int(described["mode"])
    for bit, kind in _GO_KINDS.items():
        if mode & bit:
            return kind
    return "device" if mode & _GO_REST else "file"


def permissions_of(described: dict[str, Any]) -> int:
    """Permission bits with set-user, set-group and sticky, as ``chmod`` takes them."""
    mode = int(described["mode"])
    special = [(1 << 23, modes.S_ISUID), (1 << 22, modes.S_ISGID), (1 << 20, modes.S_ISVTX)]
    return mode & 0o777 | sum(ours for theirs, ours in special if mode & theirs)


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise SandboxFileError(f"{path!r}: no absolute path")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise SandboxFileError(f"{path!r}: no UTF-8, which the daemon's paths are") from None
    return posixpath.normpath(path)


def _resolved(client: APIClient, container: str, path: str) -> tuple[str, dict[str, Any] | None]:
    """A path with a link at its end followed, as the daemon resolved it, and what is there."""
    described = retried(path_stat, client, container, path)
    if described is not None and kind_of(described) == "link":
        path = str(described["linkTarget"]) or path
        described = retried(path_stat, client, container, path)
        if described is not None and kind_of(described) == "link":
            raise SandboxFileError(f"{path}: a link that leads to itself")
    return path, described


def read_file(client: APIClient, container: str, path: str, max_bytes: int) -> bytes:
    """A regular file's content.

    Raises:
        SandboxFileError: nothing there, no regular file, or too large.
        SandboxError: the daemon fails.
    """
    asked = _absolute(path)
    with as_sandbox_error(f"reading {path}"):
        found, described = _resolved(client, container, asked)
        if described is None:
            raise SandboxFileError(f"{path}: no such file")
        if kind_of(described) != "file":
            raise SandboxFileError(f"{path}: no regular file")
        if int(described["size"]) > max_bytes:
            raise SandboxFileError(f"{path}: {described['size']} bytes, more than the {max_bytes} allowed")
        # What runs inside may exchange the file meanwhile: what came is looked at again.
        with archive_of(client, container, found) as response:
            if response is None:
                raise SandboxFileError(f"{path}: no such file")
            try:
                with tarfile.open(fileobj=response.raw, mode="r|") as archive:
                    member = archive.next()
                    if member is None or not member.isreg():
                        raise SandboxFileError(f"{path}: no regular file")
                    if member.size > max_bytes:
                        raise SandboxFileError(f"{path}: {member.size} bytes, more than the {max_bytes} allowed")
                    file = archive.extractfile(member)
                    assert file is not None
                    return file.read()
            except tarfile.TarError as error:
                raise SandboxFileError(f"{path}: {error}") from None


def tree(client: APIClient, container: str, path: str, max_entries: int) -> dict[str, Entry]:
    """Everything below a path, see :meth:`Sandbox.tree`; from the archive the daemon makes of it.

    Raises:
        SandboxFileError: nothing there, a link that the daemon cannot follow (in a circle, through a file), which it
            describes in the listing of the directory above only, or too many entries.
        SandboxError: the daemon fails.
    """
    asked = _absolute(path)
    found: dict[str, Entry] = {}
    with as_sandbox_error(f"listing {path}"), archive_of(client, container, asked) as response:
        if response is None:
            raise SandboxFileError(f"{path}: no such file or directory")
        try:
            with tarfile.open(fileobj=response.raw, mode="r|") as archive:
                for member in archive:
                    # The archive's names begin with the path's own last part.
                    name = member.name.partition("/")[2] if found else ""
                    found[name] = _listed(member, found)
                    if len(found) > max_entries:
                        raise SandboxFileError(f"{path}: more than {max_entries} entries")
        except tarfile.TarError as error:
            raise SandboxFileError(f"{path}: {error}") from None
    return found


def _listed(member: tarfile.TarInfo, found: dict[str, Entry]) -> Entry:
    if member.islnk():  # a second name of a file that came before
        other = found.get(member.linkname.partition("/")[2])
        return Entry("file", member.mode & 0o7777, other.size if other is not None else 0)
    for kind, is_it in (
        ("directory", member.isdir()),
        ("link", member.issym()),
        ("fifo", member.isfifo()),
        ("file", member.isreg()),
    ):
        if is_it:
            target = member.linkname if kind == "link" else ""
            return Entry(kind, member.mode & 0o7777, member.size if kind == "file" else 0, target)
    return Entry("device", member.mode & 0o7777)


def write_file(
    client: APIClient, container: str, path: str, data: bytes, mode: int, owner: tuple[int, int], limit: int
) -> None:
    """Writes a file that belongs to ``owner`` (user and group number); makes the directories above it.

    Raises:
        SandboxFileError: there is something that is no regular file, a file in the place of a directory, or the file
            would be larger than ``limit``.
        SandboxError: the daemon fails.
    """
    if len(data) > limit:
        raise SandboxFileError(f"{path}: {len(data)} bytes, more than the {limit} one file may have")
    if path.endswith("/"):
        raise SandboxFileError(f"{path}: a directory")
    asked = _absolute(path)
    with as_sandbox_error(f"writing {path}"):
        found, described = _resolved(client, container, asked)
        if described is not None and kind_of(described) != "file":
            raise SandboxFileError(f"{path}: no regular file")
        folder, missing = _missing_folders(client, container, posixpath.dirname(found))
        if missing and found != asked:
            raise SandboxFileError(f"{path}: a link into a directory that is not there")
        name = "/".join([*missing, posixpath.basename(found)])
        if any(f"{posixpath.join(folder, name)}/".startswith(f"{top}/") for top in _COVERED):
            raise SandboxFileError(f"{path}: not on a file system of the sandbox's own")
        member = _entry(name, owner, mode & 0o7777)
        member.size = len(data)
        _put(client, container, folder, [*_folder_entries(missing, owner), (member, data)])


def make_folders(client: APIClient, container: str, path: str, owner: tuple[int, int]) -> None:
    """Makes the directories of ``path`` that are not there. Raises SandboxFileError, SandboxError."""
    with as_sandbox_error(f"making {path}"):
        folder, missing = _missing_folders(client, container, _absolute(path))
        if missing:
            _put(client, container, folder, _folder_entries(missing, owner))


def _missing_folders(client: APIClient, container: str, path: str) -> tuple[str, list[str]]:
    """The deepest directory of ``path`` that is there, without links, and the names that are missing below it.

    Raises:
        SandboxFileError: something on the way is no directory, or a link to nothing.
    """
    folder, names = "/", [name for name in path.split("/") if name]
    for number, name in enumerate(names):
        below = posixpath.join(folder, name)
        found, described = _resolved(client, container, below)
        if described is None:
            if found != below:  # the daemon would put a directory in the place of the link
                raise SandboxFileError(f"{path}: {below} is a link to nothing")
            return folder, names[number:]
        if kind_of(described) != "directory":
            raise SandboxFileError(f"{path}: {below} is no directory")
        folder = found
    return folder, []


def _folder_entries(names: list[str], owner: tuple[int, int]) -> list[tuple[tarfile.TarInfo, bytes]]:
    entries = []
    for count in range(1, len(names) + 1):
        entry = _entry("/".join(names[:count]), owner, 0o755)
        entry.type = tarfile.DIRTYPE
        entries.append((entry, b""))
    return entries


def _entry(name: str, owner: tuple[int, int], mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.uid, entry.gid = owner
    entry.mode, entry.mtime = mode, time.time()
    return entry


# What is on the way may be exchanged between the look and the writing, or be a mount (/etc/hosts): these are the words.
_IN_THE_WAY = re.compile(
    r"^extraction point is not a directory|^could not find the file "
    r"|: (no such file or directory|is a directory|file exists|directory not empty|device or resource busy)$"
)


def _put(client: APIClient, container: str, folder: str, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Unpacks entries. Raises SandboxFileError where something in the container is in their way."""
    from docker.errors import APIError

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry, data in entries:
            archive.addfile(entry, io.BytesIO(data))
    try:
        retried(client.put_archive, container, folder, packed.getvalue())
    except APIError as error:
        said = str(error.explanation or "").strip()
        fault = path_fault(said) or (_IN_THE_WAY.search(said.lower()) and said)
        if not fault:
            raise
        raise SandboxFileError(f"{posixpath.join(folder, entries[-1][0].name)[:200]}: {fault[:200]}") from None
