"""What a terminal action changed, as far as it matters: caches left out, databases compared by what they hold.

A terminal environment's ``diff`` compares git repositories and archives by what they mean. Here SQLite files follow,
which keep counters, and texts with the moment they were written in them.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence

from pivotgym.envs.terminal.normalise import normalise
from pivotgym.envs.trajectory import JsonObject, canonical_json
from pivotgym.verifiers.terminal_commands import loop_variables

INCIDENTAL = (
    r"(?:.*/)?__pycache__(?:/.*)?",  # Python's byte code
    r"(?:.*/)?\.pytest_cache(?:/.*)?",
    r"(?:.*/)?\.mypy_cache(?:/.*)?",
    r"(?:.*/)?\.ruff_cache(?:/.*)?",
    r"(?:/root|/home/[^/]+)/\.cache(?:/.*)?",
    r"(?:/root|/home/[^/]+)/\.(?:bash|python|sqlite|psql|mysql|node_repl)_history",
    r"(?:/root|/home/[^/]+)/\.(?:viminfo|lesshst|wget-hsts)",
    r"(?:/root|/home/[^/]+)/\.local/share/nano(?:/.*)?",
    r"/var/lib/dpkg/(?:lock.*|.*-old)|/var/cache/(?:apt|ldconfig|debconf)(?:/.*)?|/var/log/(?:apt|dpkg).*",
    r"/etc/ld\.so\.cache",
)
"""Paths (regular expressions, the whole path) that programs write beside what they are for: no part of a change."""

MAX_READ = 16 << 20
"""Files above so many bytes are compared byte by byte."""
_MAX_TEXT = 1 << 20
_SQLITE_STEPS = 2_000
_TEMPORARY = re.compile(r"^/tmp/tmp(?:\.[A-Za-z0-9]{6,12}|(?=[a-z0-9_]*[\d_])[a-z0-9_]{8})(?=/|$)")
_PACKED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK", "zip"))

Reader = Callable[[str], bytes | None]
"""A file's content after the action; None where it cannot be read."""


def significant(
    rows: Sequence[JsonObject], read: Reader, source: str, incidental: Iterable[str] = INCIDENTAL
) -> list[JsonObject]:
    """The rows of a change that matter, in canonical order.

    Args:
        rows: as a terminal environment's ``diff`` gives them.
        read: gives the changed files' contents.
        source: bash source of the action; its loop variables do not count.
        incidental: regular expressions of paths to leave out.
    """
    skip = re.compile("|".join(f"(?:{pattern})" for pattern in incidental) or r"(?!)")
    loops = loop_variables(source)
    kept: list[JsonObject] = []
    for row in rows:
        if "path" in row:
            if not skip.fullmatch(row["path"]):
                kept.append(_by_content(row, read))
        elif row.get("shell") == "variable" and row.get("name") in loops:
            continue
        elif row.get("shell") != "directories":  # compared by the verifier, without the first of them
            kept.append(row)
    return sorted(kept, key=canonical_json)


def compare(wanted: Sequence[JsonObject], given: Sequence[JsonObject]) -> tuple[list[JsonObject], list[JsonObject]]:
    """Rows that are missing, and rows that are too many."""
    ours, theirs = {canonical_json(row): row for row in wanted}, {canonical_json(row): row for row in given}
    missing = [row for key, row in ours.items() if key not in theirs]
    return missing, [row for key, row in theirs.items() if key not in ours]


def _by_content(row: JsonObject, read: Reader) -> JsonObject:
    found = {**row, "path": _TEMPORARY.sub("/tmp/TEMPORARY", row["path"])}
    archive = str(row.get("digest", "")).startswith("members ")
    if row.get("kind") != "file" or not (archive or 0 < row.get("size", 0) <= MAX_READ):
        return found
    data = read(row["path"])
    if data is None:
        return found
    if archive:
        packed = next((name for magic, name in _PACKED if data.startswith(magic)), "plain")
        return {**found, "packed": packed}
    meaning = content(data)
    if meaning is None:
        return found
    return {**{key: value for key, value in found.items() if key not in ("digest", "size")}, "content": meaning}


def content(data: bytes) -> str | None:
    """What a database, or a text that holds the moment it was written, says; None for files compared by their bytes."""
    try:
        if data.startswith(b"SQLite format 3\0"):
            return f"sqlite {_digest(dump(data))}"
    except (sqlite3.Error, UnicodeError):
        return None  # damaged, or too large to read: its bytes are compared
    if b"\0" in data[:4096] or len(data) > _MAX_TEXT:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    plain = normalise(text)
    return None if plain == text else f"text {_digest(plain)}"


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
