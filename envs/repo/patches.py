"""Unified diffs: which paths they name, and applying them in a sandbox whose programs are trusted."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.changes import as_root, loaded
from pivotgym.envs.sandbox import Backend, Sandbox, SandboxError, Snapshot

_SECONDS = 120.0
_FOLDER = "/.patch"
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_ESCAPE = re.compile(rb'\\([0-7]{3}|[abtnvfr"\\])')
_PLAIN = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}
_NO_FILE = "/dev/null"
# What a person's git would ask for is said here; a repository above the folder would make git skip all paths. The
# last one is what SWE-bench falls back to.
_WAYS = (
    "git -c core.autocrlf=false -c safe.directory='*' apply --whitespace=nowarn {file}",
    "git -c core.autocrlf=false -c safe.directory='*' apply --whitespace=nowarn --recount --unidiff-zero {file}",
    "patch --batch --forward --no-backup-if-mismatch --fuzz=5 --strip=1 --input={file}",
)


def patch_paths(diff: str, *, field: str = "patch") -> list[str]:
    """The paths a diff changes, makes or removes, both sides of each, sorted.

    Raises:
        BadInput: it names none, or one outside of its folder.
    """
    found = set()
    for name in _names(diff):
        path = posixpath.normpath(name)
        if path.startswith(("/", "../")) or path in (".", ".."):
            raise BadInput(f"a path outside of the repository: {name[:200]!r}", field=field)
        found.add(path)
    if diff.strip() and not found:
        raise BadInput("no unified diff: it names no file", field=field)
    return sorted(found)


def _names(diff: str) -> Iterator[str]:
    old = new = 0  # lines of the hunk that are still to come: a removed line may look like a header
    for line in diff.split("\n"):
        line = line.rstrip("\r")
        if old > 0 or new > 0:
            old -= line[:1] != "+" and line[:1] != "\\"
            new -= line[:1] != "-" and line[:1] != "\\"
            continue
        hunk = _HUNK.match(line)
        if hunk is not None:
            old, new = (1 if count is None else int(count) for count in hunk.groups())
            continue
        start, _, rest = line.partition(" ")
        if start in ("---", "+++") and rest:
            name = _unquoted(rest.split("\t")[0])
            if name != _NO_FILE:
                yield name.partition("/")[2] if re.match(r"[abciow]/", name) else name
        elif line.startswith(("rename from ", "rename to ", "copy from ", "copy to ")):
            yield _unquoted(line.split(" ", 2)[2])
        elif line.startswith("diff --git "):
            yield from _both(line.removeprefix("diff --git "))


def _both(text: str) -> Iterator[str]:
    """The two names of a git header; they stand nowhere else for an empty, a binary or a mode-only change."""
    quoted = re.fullmatch(r'("(?:[^"\\]|\\.)*"|\S+) ("(?:[^"\\]|\\.)*"|\S+)', text)
    if quoted is not None:
        yield from (_unquoted(name).partition("/")[2] for name in quoted.groups())
    elif len(text) % 2 and text[: len(text) // 2].partition("/")[2] == text[len(text) // 2 + 1 :].partition("/")[2]:
        yield text[: len(text) // 2].partition("/")[2]


def _unquoted(name: str) -> str:
    if not (len(name) > 1 and name[0] == name[-1] == '"'):
        return name
    raw = name[1:-1].encode("utf-8", "surrogateescape")

    def plain(match: re.Match[bytes]) -> bytes:
        return bytes([int(match[1], 8)]) if len(match[1]) == 3 else _PLAIN.get(match[1], match[1])

    return _ESCAPE.sub(plain, raw).decode("utf-8", "surrogateescape")


def apply_patch(box: Sandbox, diff: str, root: str, *, field: str = "patch") -> None:
    """Applies a diff with git, or with ``patch`` where git will not.

    Args:
        box: runs as root; the programs in it are trusted.
        diff: a unified diff with git's prefixes; an empty one does nothing.
        root: absolute path of the repository.
        field: where the diff comes from, for the error.

    Raises:
        BadInput: it does not apply.
        SandboxError: the sandbox broke.
    """
    if not diff.strip():
        return
    patch_paths(diff, field=field)
    file = f"{_FOLDER}/diff"
    text = diff if diff.endswith("\n") else f"{diff}\n"
    box.write_file(file, text.encode("utf-8", "surrogateescape"), mode=0o600)
    said = []
    for way in _WAYS:
        result = box.run(
            f"( cd {shlex.quote(root)} && GIT_CEILING_DIRECTORIES={shlex.quote(posixpath.dirname(root))} "
            f"{way.format(file=file)} ) < /dev/null",
            timeout=_SECONDS,
        )
        if result.ending != "exit":
            raise SandboxError(f"applying a patch ended with {result.ending}")
        if result.status == 0:
            box.run(f"rm -rf {_FOLDER}")
            return
        said.append(result.output.strip()[:600])
    raise BadInput(f"the patch does not apply: {said[0]}", field=field)


def patched(backend: Backend, snapshot: Snapshot, diff: str, root: str, *, field: str = "patch") -> Snapshot:
    """The state after a diff, for example a task's reference; the caller closes it. Raises as :func:`apply_patch`."""
    with loaded(backend, snapshot, as_root(snapshot)) as box:
        apply_patch(box, diff, root, field=field)
        after = box.snapshot(live=True)
        if after is None:
            raise SandboxError(f"the state cannot be read: {box.incomplete}")
        return after
