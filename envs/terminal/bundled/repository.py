"""A git repository of a final state, read without believing the git program in it.

References are read as files. Objects are listed by git and kept only under the hash of their content, so an object that
is found is the right one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shlex
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pivotgym.envs.terminal.bundled.look import Look, Wrong, decode

_SIZE = re.compile(r"[0-9]{1,12}")
_ENTRIES = 10_000
"""Paths of a commit that are read: a few trees in one another may stand for more than can be."""


@dataclass(frozen=True)
class Commit:
    """A commit object."""

    id: str
    tree: str
    parents: tuple[str, ...]
    author: str
    message: str

    @property
    def subject(self) -> str:
        """The message's first line; empty where there is none."""
        return self.message.partition("\n")[0].rstrip()


class Repository:
    """The repository at ``path``."""

    def __init__(self, look: Look, path: str) -> None:
        self._look, self._path = look, path
        dump = f"/tmp/.{secrets.token_hex(8)}"
        look.box.run(
            f"/usr/bin/git -c safe.directory='*' -C {shlex.quote(look.path(path))} "
            f"cat-file --batch-all-objects --batch > {dump}"
        )
        self._objects = _parse(look.bytes(dump))
        self._walked = 0

    def head(self) -> str:
        """The checked out branch; ``""`` where HEAD is detached."""
        text = self._look.text(f"{self._path}/.git/HEAD").strip()
        return text.removeprefix("ref: refs/heads/") if text.startswith("ref: refs/heads/") else ""

    def refs(self) -> dict[str, str]:
        """Object ids by reference (``refs/heads/main`` …)."""
        found = {}
        if not self._look.absent(f"{self._path}/.git/packed-refs"):
            for line in self._look.text(f"{self._path}/.git/packed-refs").splitlines():
                if line[:1] not in ("#", "^", ""):
                    id, _, name = line.partition(" ")
                    found[name] = id
        for name in self._look.files(f"{self._path}/.git/refs"):
            found[f"refs/{name}"] = self._look.text(f"{self._path}/.git/refs/{name}").strip()
        return found

    def branch(self, name: str) -> Commit:
        """The commit a branch points to. Raises Wrong."""
        refs = self.refs()
        if f"refs/heads/{name}" not in refs:
            raise Wrong(f"there is no branch {name}")
        return self.commit(refs[f"refs/heads/{name}"])

    def commit(self, id: str) -> Commit:
        """A commit. Raises Wrong."""
        head, _, message = decode(self._get(id, "commit"), id).partition("\n\n")
        fields = [line.split(" ", 1) for line in head.splitlines() if " " in line]
        values = dict(reversed(fields))
        parents = tuple(value for key, value in fields if key == "parent")
        if not {"tree", "author"} <= values.keys():
            raise Wrong(f"commit {id} is malformed")
        return Commit(id, values["tree"], parents, values["author"].rsplit(" ", 2)[0], message.strip())

    def history(self, commit: Commit) -> list[Commit]:
        """A commit and its first parents, newest first."""
        found = [commit]
        while found[-1].parents:
            found.append(self.commit(found[-1].parents[0]))
        return found

    def files(self, commit: Commit) -> dict[str, bytes]:
        """The content of every file of a commit."""
        return {path: self._get(id, "blob") for path, id in self._walk(commit.tree, "")}

    def staged(self) -> dict[str, str]:
        """Blob ids by path, of the index. Raises Wrong for a conflict."""
        data = self._look.bytes(f"{self._path}/.git/index")
        if data[:4] != b"DIRC" or data[4:8] not in (b"\0\0\0\2", b"\0\0\0\3"):
            raise Wrong("the index cannot be read")
        try:
            return _staged(data)
        except (struct.error, ValueError) as error:
            raise Wrong(f"the index cannot be read: {error}") from error

    def clean(self, branch: str) -> Commit:
        """Raises Wrong unless ``branch`` is checked out and index and tracked files are as in it; gives its commit."""
        if self.head() != branch:
            raise Wrong(f"the branch {branch} is not checked out")
        commit = self.branch(branch)
        blobs = dict(self._walk(commit.tree, ""))
        if self.staged() != blobs:
            raise Wrong("there are changes in the index that are not committed")
        for path, id in blobs.items():
            if _hash("blob", self._look.bytes(f"{self._path}/{path}")) != id:
                raise Wrong(f"{path} has changes that are not committed")
        return commit

    def _walk(self, tree: str, prefix: str) -> list[tuple[str, str]]:
        data, found = self._get(tree, "tree"), list[tuple[str, str]]()
        while data:
            head, _, rest = data.partition(b"\0")
            mode, _, name = head.decode(errors="replace").partition(" ")
            id, data = rest[:20].hex(), rest[20:]
            if prefix.count("/") > 20:
                raise Wrong("there are too many folders in one another")
            self._walked += 1
            if self._walked > _ENTRIES:
                raise Wrong("there are too many files in a commit")
            found += self._walk(id, f"{prefix}{name}/") if mode == "40000" else [(prefix + name, id)]
        return found

    def _get(self, id: str, kind: str) -> bytes:
        if id not in self._objects or self._objects[id][0] != kind:
            raise Wrong(f"the repository has no {kind} {id}")
        return self._objects[id][1]


def _staged(data: bytes) -> dict[str, str]:
    found, at = {}, 12
    for _ in range(struct.unpack(">I", data[8:12])[0]):
        flags = struct.unpack(">H", data[at + 60 : at + 62])[0]
        start = at + (64 if flags & 0x4000 else 62)
        end = data.index(b"\0", start)
        if flags & 0x3000:
            raise Wrong("there is an unresolved conflict")
        found[data[start:end].decode(errors="replace")] = data[at + 40 : at + 60].hex()
        at += (end - at + 8) // 8 * 8
    return found


def _parse(data: bytes) -> dict[str, tuple[str, bytes]]:
    found, at = {}, 0
    while at < len(data):
        end = data.find(b"\n", at)
        words = data[at:end].decode(errors="replace").split(" ")
        if end < 0 or len(words) != 3 or not _SIZE.fullmatch(words[2]):
            break
        size = int(words[2])
        content = data[end + 1 : end + 1 + size]
        found[_hash(words[1], content)] = (words[1], content)
        at = end + size + 2
    return found


def _hash(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Change:
    """A commit to be made in a set-up.

    Attributes:
        who: the author's first name in lower case.
        when: ``2024-03-05 10:00``, in UTC.
        message: of the commit.
        files: content of the files it writes; None deletes one.
    """

    who: str
    when: str
    message: str
    files: Mapping[str, str | None]


def create(path: str, changes: Sequence[Change], **branches: tuple[str, Sequence[Change]]) -> str:
    """Bash source that makes a repository with ``main`` checked out; equal arguments give equal commit ids everywhere.

    Args:
        path: where.
        changes: the commits of ``main``.
        branches: further branches, each with where it starts and its commits.
    """
    streams = [_stream("main", "", changes)]
    streams += [_stream(name.replace("_", "-"), start, more) for name, (start, more) in branches.items()]
    imports = "".join(f"git -C {path} fast-import --quiet <<'END_OF_STREAM'\n{text}END_OF_STREAM\n" for text in streams)
    return (
        f"git init -q -b main {path}\n{imports}git -C {path} reset -q --hard main\n"
        f"git -C {path} config user.name Dev\ngit -C {path} config user.email dev@example.org\n"
    )


ENV = {
    "GIT_AUTHOR_DATE": "2024-06-03T09:00:00+0000",
    "GIT_COMMITTER_DATE": "2024-06-03T09:00:00+0000",
    "GIT_PAGER": "cat",
}
"""Of the agent's shell: commits made there have ids that do not depend on the day."""


def commit_ids(changes: Sequence[Change]) -> list[str]:
    """The ids of the commits that :func:`create` makes of ``changes``."""
    files: dict[str, str] = {}
    found: list[str] = []
    for change in changes:
        for path, content in change.files.items():
            if content is None:
                files.pop(path)
            else:
                files[path] = _hash("blob", content.encode())
        parent = f"parent {found[-1]}\n" if found else ""
        person = _person(change)
        text = f"tree {_tree_id(files)}\n{parent}author {person}\ncommitter {person}\n\n{change.message}"
        found.append(_hash("commit", text.encode()))
    return found


def _tree_id(files: Mapping[str, str]) -> str:
    rows = {name: ("100644", id) for name, id in files.items() if "/" not in name}
    for folder in {name.split("/", 1)[0] for name in files if "/" in name}:
        below = {name.split("/", 1)[1]: id for name, id in files.items() if name.startswith(f"{folder}/")}
        rows[folder] = ("40000", _tree_id(below))
    # Git sorts a folder as if its name ended in a slash.
    ordered = sorted(rows.items(), key=lambda row: row[0] + "/" * (row[1][0] == "40000"))
    return _hash("tree", b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(id) for name, (mode, id) in ordered))


def _person(change: Change) -> str:
    seconds = int(datetime.fromisoformat(change.when).replace(tzinfo=UTC).timestamp())
    return f"{change.who.capitalize()} <{change.who}@example.org> {seconds} +0000"


def _stream(branch: str, start: str, changes: Sequence[Change]) -> str:
    parts = []
    for change in changes:
        person = _person(change)
        parts.append(f"commit refs/heads/{branch}\nauthor {person}\ncommitter {person}\n{_data(change.message)}")
        if start and change is changes[0]:
            parts.append(f"from {start}\n")
        for path, content in change.files.items():
            parts.append(f"D {path}\n" if content is None else f"M 100644 inline {path}\n{_data(content)}")
    return "".join(parts)


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"
