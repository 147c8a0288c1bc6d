"""An agent's change of a repository, read from outside: no program the agent could replace has a part in it."""

from __future__ import annotations

import io
import shlex
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from pivotgym.envs.repo.rules import HELPER, Rules, is_known_module, leads_outside, modules_of
from pivotgym.envs.sandbox import Backend, Sandbox, SandboxConfig, SandboxError, SandboxFileError, Snapshot
from pivotgym.envs.sandbox.base import FileChange

MAX_FILE_BYTES = 8 << 20
"""A larger file is no part of a change."""
MAX_BYTES = 64 << 20
"""What all files of a change may hold together."""
MAX_FILES = 4000
_MAX_PATH = 1024
_UNPACK_SECONDS = 120.0
_FOLDER = "/.change"


Probe = Callable[[Sequence[str]], tuple[set[str], set[str]]]
"""Of some names of top-level modules: folders of the repository (relative) on the module path, and those of the names
that stand for modules somewhere else."""
Refine = Callable[[Rules, Sandbox, Mapping[str, bool]], Rules]
"""The rules with what a look at the repository as it was adds about some paths, and whether they were there."""


@dataclass(frozen=True)
class Item:
    """One path of a change.

    Attributes:
        kind: what stands there afterwards.
        data: content of a file.
        executable: of a file.
        target: of a link.
        was: what stood there before, see :class:`pivotgym.envs.sandbox.base.FileChange`.
    """

    kind: Literal["file", "link", "absent"]
    data: bytes = b""
    executable: bool = False
    target: str = ""
    was: str = "absent"


@dataclass(frozen=True)
class Change:
    """What an agent made of a repository.

    Attributes:
        items: what counts, by path in the repository.
        left_out: what does not, by path, or by the folder above it, each with its reason.
        problem: why the change as a whole cannot be taken; empty where it can.
    """

    items: dict[str, Item] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of its files."""
        return sum(len(item.data) for item in self.items.values())


@contextmanager
def loaded(backend: Backend, snapshot: Snapshot, config: SandboxConfig | None = None) -> Iterator[Sandbox]:
    """A sandbox in that state with a fresh shell, stopped on leaving."""
    box = backend.load(snapshot, fresh_shell=True, config=config)
    try:
        yield box
    finally:
        box.stop()


def as_root(snapshot: Snapshot) -> SandboxConfig:
    """How a fork of ``snapshot`` runs in which we work, not the agent."""
    return snapshot.config.model_copy(update={"user": "root", "workdir": "/"})


def read_change(
    backend: Backend,
    before: Snapshot,
    after: Snapshot,
    root: str,
    rules: Rules,
    *,
    probe: Probe | None = None,
    refine: Refine | None = None,
) -> Change:
    """What of ``after`` counts as a change of the repository.

    Args:
        backend: of both snapshots.
        before: without the agent.
        after: with what it did.
        root: absolute path of the repository.
        rules: what may not come.
        probe: asks the Python that runs the tests what it knows; a new module does not take a known one's place.
        refine: knows which modules the tests use.

    Raises:
        SandboxError: a snapshot cannot be read.
    """
    top = root.rstrip("/")
    rows = backend.changes(before, after)
    for row in rows:
        if row.kind != "directory" and (row.path == top or top.startswith(f"{row.path}/")):
            return Change(problem=f"the repository's folder {top} is {_now(row.kind)}")
    inside = [row for row in rows if row.path.startswith(f"{top}/")]
    gone = [row for row in inside if row.before == "directory" and row.kind != "directory"]
    below: dict[str, dict[str, str]] = {}
    if gone:
        with loaded(backend, before) as box:
            for row in gone:
                try:
                    entries = box.tree(row.path, max_entries=1_000_000)
                except SandboxFileError as error:
                    raise SandboxError(f"the repository cannot be read: {error}") from error
                for name, entry in entries.items():
                    if name and entry.kind != "directory":
                        inner = below.setdefault(row.path[len(top) + 1 :], {})
                        inner[f"{row.path}/{name}"[len(top) + 1 :]] = entry.kind
    paths = {row.path[len(top) + 1 :]: row.before != "absent" for row in inside if row.kind != "directory"}
    paths |= {path: True for inner in below.values() for path in inner}
    asked = {path: existed for path, existed in paths.items() if rules.asks(path, existed=existed)}
    if asked and refine is not None:
        with loaded(backend, before) as box:
            rules = refine(rules, box, asked)
    reader = _Reader(top, rules)
    for folder, inner in below.items():
        for path, kind in inner.items():
            reader.delete(path, kind, folder)
    taken = [row for row in inside if row.kind != "directory" or row.before not in ("absent", "directory")]
    if any(row.kind == "file" for row in taken):
        with loaded(backend, after) as box:
            for row in taken:
                reader.take(row, box)
    else:
        for row in taken:
            reader.take(row, None)
    if reader.problem:
        return Change(left_out=reader.left_out, problem=reader.problem)
    _leave_out_modules(reader, before, backend, top, probe)
    return Change(dict(sorted(reader.items.items())), dict(sorted(reader.left_out.items())))


class _Reader:
    """Collects items, path by path."""

    def __init__(self, top: str, rules: Rules) -> None:
        self.top, self.rules = top, rules
        self.items: dict[str, Item] = {}
        self.left_out: dict[str, str] = {}
        self.problem = ""
        self._bytes = 0
        self._held: set[str] = set()

    def delete(self, path: str, kind: str, folder: str) -> None:
        """What stood below ``folder``, which is gone."""
        if not self._refused(path, existed=True):
            self.items.setdefault(path, Item("absent", was=kind))
        elif self.left_out.get(path) == HELPER:
            self._held.add(folder)

    def take(self, row: FileChange, box: Sandbox | None) -> None:
        """One row of the differences."""
        path = row.path[len(self.top) + 1 :]
        if self.problem or self._refused(path, existed=row.before != "absent"):
            return
        if path in self._held and row.kind != "directory":
            # Something in a folder's place that holds what stays.
            if row.kind != "absent":
                self.left_out[path] = HELPER
            return
        if row.kind in ("absent", "directory"):  # a folder in a file's place: what is in it has rows of its own
            if row.before != "directory":
                self.items.setdefault(path, Item("absent", was=row.before))
        elif row.kind == "link":
            target = row.target or ""
            if leads_outside(path, target):
                self.left_out[path] = f"a link out of the repository: {target[:200]}"
            else:
                self.items[path] = Item("link", target=target, was=row.before)
        elif row.kind != "file" or box is None:
            self.left_out[path] = f"no file but a {row.kind}"
        elif (row.size or 0) > MAX_FILE_BYTES:
            self.left_out[path] = f"{row.size} bytes, more than {MAX_FILE_BYTES}"
        else:
            self._file(row, path, box)
        if len(self.items) > MAX_FILES:
            self.problem = f"the change has more than {MAX_FILES} files"

    def _file(self, row: FileChange, path: str, box: Sandbox) -> None:
        try:
            data = box.read_file(row.path, max_bytes=MAX_FILE_BYTES)
        except SandboxFileError as error:
            self.left_out[path] = f"cannot be read: {error}"
            return
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            self.problem = f"the change has more than {MAX_BYTES >> 20} MiB"
            return
        executable = bool(int(row.mode or "0", 8) & 0o111)
        self.items[path] = Item("file", data, executable, was=row.before)

    def _refused(self, path: str, *, existed: bool) -> bool:
        refusal = self.rules.refusal(path, existed=existed)
        if refusal is None and len(path) > _MAX_PATH:
            refusal = path, f"a path of more than {_MAX_PATH} characters"
        if refusal is not None:
            self.left_out[refusal[0]] = refusal[1]
        return refusal is not None


def _leave_out_modules(reader: _Reader, before: Snapshot, backend: Backend, top: str, probe: Probe | None) -> None:
    """Leaves out new top-level modules that would be imported in place of others."""
    added = {path: item for path, item in reader.items.items() if item.kind != "absent" and item.was == "absent"}
    names = {part.partition(".")[0] for path in added for part in path.split("/")}
    if not added:
        return
    roots, installed = (set[str](), set[str]()) if probe is None else probe(sorted(filter(str.isidentifier, names)))
    roots |= reader.rules.import_roots()
    new = {pair for path, item in added.items() for pair in modules_of(path, roots, link=item.kind == "link")}
    new = {pair for pair in new if is_known_module(pair[1]) or pair[1] in installed}
    if not new:
        return
    with loaded(backend, before) as box:
        new = {pair for pair in new if not _exists(box, top, *pair)}
    for path in added:
        for root, name in sorted(new):
            start = f"{root}/{name}" if root else name
            if path == start or path.startswith((f"{start}/", f"{start}.")):
                del reader.items[path]
                reader.left_out[path] = f"would be imported in place of the module {name}"
                break


def _exists(box: Sandbox, top: str, root: str, name: str) -> bool:
    """Whether the repository had that module before."""
    start = f"{top}/{root}/{name}" if root else f"{top}/{name}"
    for path in (f"{start}.py", f"{start}/__init__.py"):
        try:
            box.read_file(path)
        except SandboxFileError:
            continue
        return True
    return False


def apply_change(box: Sandbox, change: Change, root: str) -> str:
    """Puts a change into a sandbox, as root.

    Args:
        box: a fork of the state before; the programs in it are trusted.
        change: of the repository.
        root: absolute path of the repository.

    Returns:
        What hindered it; empty where all is in place.

    Raises:
        SandboxError: the sandbox broke.
    """
    if not change.items:
        return ""
    # A link or file that is replaced goes first: nothing is written through it. Byte code may look as new as its
    # changed source; the pristine one goes.
    gone = [path for path, item in change.items.items() if item.kind != "file" or item.was not in ("file", "absent")]
    gone += [path for path, item in change.items.items() if item.was == "directory" and path not in gone]
    stale = [_byte_code(path) for path in change.items if path.endswith(".py")]
    try:
        box.write_file(f"{_FOLDER}/gone", b"".join(_name(f"./{path}") + b"\0" for path in gone), mode=0o600)
        box.write_file(f"{_FOLDER}/stale", b"".join(_name(f"./{path}") + b"\0" for path in stale), mode=0o600)
        box.write_file(f"{_FOLDER}/archive", _archive(change), mode=0o600)
    except SandboxFileError as error:
        return f"the change cannot be brought in: {error}"
    result = box.run(
        f"cd {shlex.quote(root)} && xargs -0 -r rm -rf -- < {_FOLDER}/gone "
        f"&& xargs -0 -r sh -c 'for stem; do rm -f -- \"$stem\".*.pyc; done' sh < {_FOLDER}/stale "
        f"&& tar -xpf {_FOLDER}/archive --no-same-owner && rm -rf {_FOLDER}",
        timeout=_UNPACK_SECONDS,
    )
    if result.ending == "exit" and result.status == 0:
        return ""
    how = f"status {result.status}" if result.ending == "exit" else result.ending
    return f"the change cannot be brought in ({how}): {result.output.strip()[-500:]}"


def _byte_code(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name[:-3]}" if folder else f"__pycache__/{name[:-3]}"


def _name(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _archive(change: Change) -> bytes:
    data, now = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        # Links come last: no file goes through one that came with the change.
        for path, item in sorted(change.items.items(), key=lambda pair: pair[1].kind == "link"):
            if item.kind == "absent":
                continue
            member = tarfile.TarInfo(f"./{path}")
            member.mtime, member.uname, member.gname = now, "root", "root"
            if item.kind == "link":
                member.type, member.linkname = tarfile.SYMTYPE, item.target
                archive.addfile(member)
            else:
                member.mode, member.size = 0o755 if item.executable else 0o644, len(item.data)
                archive.addfile(member, io.BytesIO(item.data))
    return data.getvalue()


def _now(kind: str) -> str:
    return "gone" if kind == "absent" else f"a {kind} now"
