"""Globs as regular expressions."""

from __future__ import annotations

import re
from functools import lru_cache


class GlobError(ValueError):
    """A text is no pattern."""


def _set(pattern: str, place: int) -> tuple[str, int]:
    """The expression of the `[...]` that opens at `place`, and the place behind it."""
    close = pattern.find("]", place + 2)
    if close < 0:
        raise GlobError(f"a set is never closed: {pattern!r}")
    body = pattern[place + 1 : close]
    negated = body.startswith("!")
    signs = re.sub(r"([\\\[\]^&~|])", r"\\\1", body[1:] if negated else body)
    return (f"[^/{signs}]" if negated else f"(?!/)[{signs}]"), close + 1


@lru_cache(maxsize=256)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern for whole paths.

    Raises:
        GlobError: The pattern is empty, or one of its sets is not closed.
    """
    if not pattern:
        raise GlobError("a pattern is not empty")
    parts = []
    place = 0
    while place < len(pattern):
        begins = place == 0 or pattern[place - 1] == "/"
        if begins and pattern.startswith("**/", place):
            parts.append("(?:[^/]+/)*")
            place += 3
        elif begins and pattern[place:] == "**":
            parts.append(".+")
            place += 2
        elif pattern[place] == "*":
            parts.append("[^/]*")
            place += 1
        elif pattern[place] == "?":
            parts.append("[^/]")
            place += 1
        elif pattern[place] == "[":
            part, place = _set(pattern, place)
            parts.append(part)
        else:
            parts.append(re.escape(pattern[place]))
            place += 1
    return re.compile("".join(parts), re.DOTALL)


def glob_match(pattern: str, path: str) -> bool:
    """Whether a pattern matches a whole path."""
    return compile_glob(pattern).fullmatch(path) is not None
