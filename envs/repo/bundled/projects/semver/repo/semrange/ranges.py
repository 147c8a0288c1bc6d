"""Ranges: comparisons, all of which or any of which a version must meet."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from .version import InvalidVersion, Version

COMPARE: dict[str, Callable[[Version, Version], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TERM = re.compile(r"(?P<op>\^|~|<=|>=|<|>|=)?(?P<numbers>\d+(?:\.\d+){0,2})(?P<rest>[-+].*)?")


@dataclass(frozen=True)
class Comparison:
    """One limit."""

    op: str
    version: Version

    def meets(self, version: Version) -> bool:
        """Whether ``version`` is on the right side of the limit."""
        return COMPARE[self.op](version, self.version)


@dataclass(frozen=True)
class Range:
    """Groups of comparisons: a version meets all of at least one group."""

    groups: tuple[tuple[Comparison, ...], ...]

    def allows(self, version: Version) -> bool:
        """Whether ``version`` lies in the range."""
        return any(self._group_allows(group, version) for group in self.groups)

    @staticmethod
    def _group_allows(group: tuple[Comparison, ...], version: Version) -> bool:
        if not all(comparison.meets(version) for comparison in group):
            return False
        if not version.prerelease:
            return True
        named = [c.version for c in group if c.version.prerelease]
        return any(limit.release == version.release for limit in named)


def parse_range(text: str) -> Range:
    """Return the range that ``text`` describes; the README lists the forms."""
    return Range(tuple(_group(part) for part in text.split("||")))


def _group(text: str) -> tuple[Comparison, ...]:
    words = text.split()
    if not words:
        raise InvalidVersion(f"empty range: {text!r}")
    found: list[Comparison] = []
    for word in words:
        found.extend([] if word == "*" else _term(word))
    return tuple(found)


def _term(word: str) -> list[Comparison]:
    match = TERM.fullmatch(word)
    if match is None:
        raise InvalidVersion(f"no range: {word!r}")
    numbers = match["numbers"].split(".")
    padded = ".".join(numbers + ["0"] * (3 - len(numbers)))
    low = Version.parse(padded + (match["rest"] or ""))
    if match["op"] == "^":
        return [Comparison(">=", low), Comparison("<", _next_breaking(low, len(numbers)))]
    if match["op"] == "~":
        return [Comparison(">=", low), Comparison("<", low.bump("minor" if len(numbers) > 1 else "major"))]
    return [Comparison(match["op"] or "=", low)]


def _next_breaking(low: Version, given: int) -> Version:
    """Return the first version that may break users of ``low``: the leftmost number that is not zero goes up."""
    if low.major or given == 1:
        return low.bump("major")
    if low.minor or given == 2:
        return low.bump("minor")
    return Version(0, 0, low.patch + 1)
