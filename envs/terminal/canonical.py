"""Changed files by what they mean, where their bytes also hold the moment they were written.

Two runs of one command write other bytes into git's objects and index, into archives and into Python's caches although
they did the same. Such files are compared by what they hold: commits by tree, author, message and parents, the index by
its entries, archives by their members without times. Everything else is compared by its bytes.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import re
import shlex
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from pivotgym.envs.sandbox import Backend, FileChange, Sandbox, SandboxFileError, Snapshot
from pivotgym.envs.trajectory import JsonObject, canonical_json, digest

MAX_BYTES = 32 << 20
"""Larger archives, packed or unpacked, are compared by their bytes."""
_DEPTH = 2
"""Archives inside archives."""
MAX_COMMITS = 500
"""Commits beyond the newest so many are known by their ids."""
_ARCHIVE = re.compile(r"\.(?:tar|tgz|tbz2?|txz|gz|bz2|xz|zip|jar|whl)$", re.IGNORECASE)
_CACHE = re.compile(r"/__pycache__(?:/[^/]*\.pyc(?:\.\d+)?)?$")
_GIT = re.compile(
    r"^(?P<top>.*/\.git)/(?:objects|logs|refs|index|packed-refs|info/refs|gc\.log|HEAD|ORIG_HEAD|COMMIT_EDITMSG)(?:/|$)"
)
_REF = "%(refname)%1f%(symref)%1f%(objectname)%1f%(*objectname)%1f%(taggername) %(taggeremail)%1f%(contents)%1e"
_LOG = "%x1e%H%x1f%T%x1f%P%x1f%an <%ae>%x1f%B"
_SEEN = (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, RuntimeError)


def canonical_rows(
    backend: Backend, before: Snapshot, after: Snapshot, changes: Sequence[FileChange]
) -> list[JsonObject]:
    """The rows of ``changes``, in their order, without what differs in its moment only; git's own rows come last.

    Args:
        backend: of both snapshots.
        before: the snapshot compared with.
        after: the other.
        changes: what :meth:`Backend.changes` found between them.

    Returns:
        Rows as :meth:`FileChange.row` gives them. Of archives ``digest`` is that of the members. Of git repositories
        that changed ``{"git": path, "head": …, "refs": {…}, "index": …}``.
    """
    with ExitStack() as stack:
        boxes = _Boxes(backend, before, after, stack)
        tops = sorted({found["top"] for change in changes if (found := _GIT.match(change.path))})
        repositories = {top: held for top in tops if (held := _repository(boxes, top)) is not None}
        rows: list[JsonObject] = []
        for change in changes:
            found = _GIT.match(change.path)
            if found is not None and found["top"] in repositories:
                continue
            if change.kind != "absent" and _CACHE.search(change.path):
                continue
            row = _archive_row(boxes, change) if _is_archive(change) else change.row()
            if row is not None:
                rows.append(row)
    return [*rows, *(row for top in tops for row in repositories.get(top, []))]


class _Boxes:
    """Both states as sandboxes of root's, started when first asked for."""

    def __init__(self, backend: Backend, before: Snapshot, after: Snapshot, stack: ExitStack) -> None:
        self._backend, self._snapshots, self._stack = backend, (before, after), stack
        self._boxes: dict[int, Sandbox] = {}

    def both(self) -> tuple[Sandbox, Sandbox]:
        for index, snapshot in enumerate(self._snapshots):
            if index not in self._boxes:
                config = snapshot.config.model_copy(update={"user": "root", "workdir": "/", "env": {}})
                box = self._backend.load(snapshot, fresh_shell=True, config=config)
                self._stack.callback(box.stop)
                self._boxes[index] = box
        return self._boxes[0], self._boxes[1]


# Archives -----------------------------------------------------------------------------------------------------------


def _is_archive(change: FileChange) -> bool:
    return change.kind == "file" and (change.size or 0) <= MAX_BYTES and _ARCHIVE.search(change.path) is not None


def _archive_row(boxes: _Boxes, change: FileChange) -> JsonObject | None:
    earlier, later = boxes.both()
    row = change.row()
    held = _members(later, change.path)
    if held is None:
        return row
    same = change.before == "file" and _members(earlier, change.path) == held
    if same and _status(earlier, change.path) == _status(later, change.path):
        return None
    row.pop("size", None)
    return {**row, "digest": f"members {held}"}


def _members(box: Sandbox, path: str) -> str | None:
    try:
        return members_digest(box.read_file(path, max_bytes=MAX_BYTES))
    except SandboxFileError:
        return None


def _status(box: Sandbox, path: str) -> str:
    return box.run(f"stat -c '%a %u:%g' -- {shlex.quote(path)}").output


def members_digest(data: bytes, depth: int = 0) -> str | None:
    """A digest of what an archive or compressed file holds, without times; None for anything else."""
    if depth > _DEPTH:
        return None
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            return _digest(_zip_members(data, depth))
        unpacked = _decompressed(data)
        plain = data if unpacked is None else unpacked
        if len(plain) >= 262 and plain[257:262] == b"ustar":
            return _digest(_tar_members(plain, depth))
        return None if unpacked is None else _digest([_content(unpacked, depth)])
    except _SEEN:
        return None


def _decompressed(data: bytes) -> bytes | None:
    readers: list[tuple[bytes, Any]] = [(b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)]
    for magic, opens in readers:
        if data.startswith(magic):
            with opens(io.BytesIO(data)) as file:
                plain: bytes = file.read(MAX_BYTES + 1)
            if len(plain) > MAX_BYTES:
                raise ValueError("too large unpacked")
            return plain
    return None


def _tar_members(data: bytes, depth: int) -> list[list[object]]:
    rows: list[list[object]] = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            content = _content(file.read(), depth) if file is not None else ""
            kind = member.type.decode("latin-1")
            rows.append([member.name, kind, member.mode, member.uid, member.gid, member.linkname, content])
    return sorted(rows, key=repr)


def _zip_members(data: bytes, depth: int) -> list[list[object]]:
    rows: list[list[object]] = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
            raise ValueError("too large unpacked")
        for member in archive.infolist():
            content = _content(archive.read(member), depth)
            rows.append([member.filename, member.external_attr, content])
    return sorted(rows, key=repr)


def _content(data: bytes, depth: int) -> str:
    return members_digest(data, depth + 1) or hashlib.sha256(data).hexdigest()


def _digest(rows: Sequence[object]) -> str:
    return digest(canonical_json(list(rows)))


# git ----------------------------------------------------------------------------------------------------------------


def _repository(boxes: _Boxes, top: str) -> list[JsonObject] | None:
    """A row that says what a repository holds now, none where that is what it held; None where git cannot say."""
    earlier, later = boxes.both()
    held, holds = _state(earlier, top), _state(later, top)
    if holds is None:
        return None
    return [] if held == holds else [{"git": top, **holds}]


def _state(box: Sandbox, top: str) -> JsonObject | None:
    git = f"git -c safe.directory='*' -c core.fsmonitor=false --git-dir={shlex.quote(top)}"
    refs = box.run(f"{git} for-each-ref --format='{_REF}'")
    if refs.status != 0:
        return None
    head = box.run(f"{git} symbolic-ref -q HEAD || {git} rev-parse HEAD").output.strip()
    index = box.run(f"{git} ls-files --stage --full-name -z | sha256sum").output.split()
    log = box.run(f"{git} log --all --topo-order --max-count={MAX_COMMITS} --format='{_LOG}' 2>/dev/null")
    detached = box.run(f"{git} log --topo-order --max-count={MAX_COMMITS} --format='{_LOG}' HEAD 2>/dev/null")
    names = _commits(log.output + detached.output)
    rows = [record.strip("\n").split("\x1f") for record in refs.output.split("\x1e") if record.count("\x1f") == 5]
    return {
        "head": names.get(head, head),
        "refs": {row[0]: _target(row, names) for row in rows},
        "index": index[0] if index else "",
    }


def _target(row: Sequence[str], names: Mapping[str, str]) -> str:
    _, symbolic, number, tagged, tagger, message = row
    if not tagged:
        return symbolic or names.get(number, number)
    return "tag " + digest(canonical_json([names.get(tagged, tagged), tagger, message.strip()]))


def _commits(log: str) -> dict[str, str]:
    """By id what a commit is, whenever it was made: a digest of tree, parents, author and message."""
    found = [record.strip("\n").split("\x1f") for record in log.split("\x1e") if record.count("\x1f") == 4]
    parts = {number: (tree, parents.split(), author, message) for number, tree, parents, author, message in found}
    names: dict[str, str] = {}
    for start in parts:
        waiting = [start]  # not recursive: histories are long
        while waiting:
            number = waiting[-1]
            tree, parents, author, message = parts[number]
            missing = [parent for parent in parents if parent in parts and parent not in names]
            if number in names or not missing:
                waiting.pop()
                known = [names.get(parent, parent) for parent in parents]
                names.setdefault(number, digest(canonical_json([tree, known, author, message.strip()])))
            else:
                waiting += missing
    return names
