"""What a terminal action changed, as far as it matters: caches left out, databases compared by what they hold.

A terminal environment's ``diff`` compares git repositories and archives by what they mean. Here SQLite files follow,
which keep counters. All else is compared byte by byte, but for what two runs of the demonstration differ in themselves.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pivotgym.envs.terminal.normalise import normalise
from pivotgym.envs.trajectory import JsonObject, canonical_json
from pivotgym.verifiers.terminal_commands import loop_variables

_CACHES = (
    r"(?:.*/)?__pycache__(?:/[^/]+\.pyc(?:\.\d+)?)?",  # Python's byte code
    r"(?:.*/)?\.pytest_cache(?:/(?:README\.md|CACHEDIR\.TAG|\.gitignore|v(?:/cache(?:/(?:nodeids|lastfailed|stepwise))?)?))?",
    r"(?:.*/)?\.mypy_cache(?:/(?:CACHEDIR\.TAG|\.gitignore|missing_stubs|\d\.\d+(?:/.*)?))?",
    r"(?:.*/)?\.ruff_cache(?:/(?:CACHEDIR\.TAG|\.gitignore|\d+\.\d+\.\d+(?:/\d+)?))?",
)
_INSTALLERS = (
    r"(?:/root|/home/[^/]+)/\.cache(?:/pip(?:/(?:http|http-v2|wheels|selfcheck)(?:/.*)?)?)?",
    r"/var/lib/dpkg/(?:lock.*|.*-old)|/var/cache/(?:apt|ldconfig|debconf)(?:/.*)?",
    r"/var/log/(?:apt(?:/.*)?|dpkg\.log|alternatives\.log)|/etc/ld\.so\.cache",
)
INCIDENTAL = (*_CACHES, *_INSTALLERS)
"""Paths (regular expressions, the whole path) that programs write beside what they are for.

That they are added or modified there is no part of a change, unless the demonstration speaks of them; that they are
deleted is. The last three count as incidental only where a command installs something.
"""
_INSTALLS = re.compile(r"\b(?:apt|apt-get|dpkg|pip\d*|ldconfig|uv|conda)\b")

MAX_READ = 16 << 20
"""Files above so many bytes are compared byte by byte."""
_MAX_TEXT = 1 << 20
_SQLITE_STEPS = 2_000
_TEMPORARY = re.compile(r"^/tmp/tmp(?:\.[A-Za-z0-9]{6,12}|(?=[a-z0-9_]*[\d_])[a-z0-9_]{8})(?=/|$)")
_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK", "zip"))

Reader = Callable[[str], bytes | None]
"""A file's content after the action; None where it cannot be read."""


@dataclass(frozen=True)
class Change:
    """What an action changed, as far as it matters.

    Attributes:
        rows: in canonical order.
        texts: by place (see :func:`place`) the texts with something in them that may differ from run to run.
    """

    rows: list[JsonObject]
    texts: dict[str, str] = field(default_factory=dict)


def significant(
    rows: Sequence[JsonObject], read: Reader, source: str, incidental: Iterable[str] = (), named: str = ""
) -> Change:
    """The part of a change that matters.

    Args:
        rows: as a terminal environment's ``diff`` gives them.
        read: gives the changed files' contents.
        source: bash source of the action; its loop variables do not count.
        incidental: regular expressions of paths to leave out whatever became of them.
        named: source of the demonstration; the caches it names count.
    """
    declared = _any(incidental)
    made = _any(INCIDENTAL if _INSTALLS.search(named + "\n" + source) else _CACHES)
    loops = loop_variables(source)
    kept: list[JsonObject] = []
    texts: dict[str, str] = {}
    for row in rows:
        if "path" in row:
            path = row["path"]
            by_product = row.get("kind") != "absent" and made.fullmatch(path) and not _is_named(path, named)
            if declared.fullmatch(path) or by_product:
                continue
            row, text = _by_content(row, read)
        # Directories are compared by the verifier, without the first of them.
        elif row.get("shell") == "directories" or (row.get("shell") == "variable" and row.get("name") in loops):
            continue
        else:
            text = row.get("value") if row.get("shell") == "variable" else None
        kept.append(row)
        if text is not None and normalise(text) != text:
            texts[place(row)] = text
    return Change(sorted(kept, key=canonical_json), texts)


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)")


def _is_named(path: str, source: str) -> bool:
    return any(part.startswith((".", "__")) and part in source for part in path.split("/"))


def place(row: JsonObject) -> str:
    """What a row is about: a path, a repository, a part of the shell."""
    return str(
        row.get("path") or row.get("git") or f"{row.get('shell')} {row.get('name', row.get('value', ''))}".strip()
    )


def compare(wanted: Sequence[JsonObject], given: Sequence[JsonObject]) -> tuple[list[JsonObject], list[JsonObject]]:
    """Rows that are missing, and rows that are too many."""
    ours, theirs = {canonical_json(row): row for row in wanted}, {canonical_json(row): row for row in given}
    missing = [row for key, row in ours.items() if key not in theirs]
    return missing, [row for key, row in theirs.items() if key not in ours]


def settle(
    missing: list[JsonObject], extra: list[JsonObject], wanted: Change, again: Change, given: Change
) -> tuple[list[JsonObject], list[JsonObject]]:
    """``missing`` and ``extra`` without the pairs that differ in nothing but what two demonstrations differ in.

    Args:
        missing: of the demonstration's rows.
        extra: rows of the action that is judged.
        wanted: what the demonstration changed.
        again: what it changed when it was run once more.
        given: what the action changed.
    """
    moved = {place(row) for row in wanted.rows} != {place(row) for row in again.rows}
    left, rest = [], list(extra)
    for row in missing:
        partner = next((other for other in rest if _alike(row, other, moved, wanted, again, given)), None)
        if partner is None:
            left.append(row)
        else:
            rest.remove(partner)
    return left, rest


def _alike(row: JsonObject, other: JsonObject, moved: bool, wanted: Change, again: Change, given: Change) -> bool:
    def plain(name: str) -> str:
        return _TEMPORARY.sub("/tmp/TEMPORARY", name) if moved else name

    if plain(place(row)) != plain(place(other)):
        return False
    held = ("path", "digest", "size", "value")
    if any(row.get(key) != other.get(key) for key in {*row, *other} - {*held}):
        return False
    if all(row.get(key) == other.get(key) for key in held[1:]):
        return True
    third = next((name for name in again.texts if plain(name) == plain(place(row))), "")
    texts = [wanted.texts.get(place(row)), again.texts.get(third), given.texts.get(place(other))]
    if None in texts:
        return False
    lines = [text.split("\n") for text in texts if text is not None]
    masked = [normalise(text).split("\n") for text in texts if text is not None]
    if len({len(found) for found in (*lines, *masked)}) != 1:
        return False
    for number, (once, twice, now) in enumerate(zip(*lines, strict=True)):
        if once != now and (once == twice or len({found[number] for found in masked}) != 1):
            return False
    return True


def loosely(change: Change) -> list[JsonObject]:
    """The rows with everything masked that may differ from run to run: whether two states lead to the same."""
    found = []
    for row in change.rows:
        text = change.texts.get(place(row))
        masked = {key: value for key, value in row.items() if text is None or key not in ("digest", "size", "value")}
        if "path" in masked:
            masked["path"] = _TEMPORARY.sub("/tmp/TEMPORARY", masked["path"])
        if text is not None:
            masked["text"] = _digest(normalise(text))
        found.append(masked)
    return sorted(found, key=canonical_json)


def _by_content(row: JsonObject, read: Reader) -> tuple[JsonObject, str | None]:
    archive = str(row.get("digest", "")).startswith("members ")
    if row.get("kind") != "file" or not (archive or 0 < row.get("size", 0) <= MAX_READ):
        return row, None
    data = read(row["path"])
    if data is None:
        return row, None
    if archive:
        packed = next((name for magic, name in _PACKED if data.startswith(magic)), "plain")
        return {**row, "packed": packed}, None
    meaning = content(data)
    if meaning is None:
        return row, _text(data)
    return {**{key: value for key, value in row.items() if key not in ("digest", "size")}, "content": meaning}, None


def content(data: bytes) -> str | None:
    """What a database says; None for files compared by their bytes."""
    try:
        return f"sqlite {_digest(dump(data))}" if data.startswith(b"SQLite format 3\0") else None
    except (sqlite3.Error, UnicodeError):
        return None  # damaged, or too large to read: its bytes are compared


def _text(data: bytes) -> str | None:
    if b"\0" in data[:4096] or len(data) > _MAX_TEXT:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def dump(data: bytes) -> str:
    """Schema and rows of a SQLite database as SQL. The file is the agent's: it is read in memory and within bounds.

    Raises:
        sqlite3.Error: it is damaged or takes too long to read.
    """
    connection = sqlite3.connect(":memory:")
    try:
        # A header that says WAL cannot be opened in memory; the pages are the same.
        connection.deserialize(data[:18] + b"\x01\x01" + data[20:])
        connection.execute("pragma trusted_schema = off")
        steps = iter(range(_SQLITE_STEPS))
        connection.set_progress_handler(lambda: 1 if next(steps, None) is None else 0, 10_000)
        return "\n".join(connection.iterdump())
    finally:
        connection.close()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
