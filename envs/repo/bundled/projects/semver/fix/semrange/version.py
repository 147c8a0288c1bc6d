"""One version: its parts, its text and its place in the order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

NUMBER = r"(?:0|[1-9]\d*)"
WORDS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
PATTERN = re.compile(
    rf"(?P<major>{NUMBER})\.(?P<minor>{NUMBER})\.(?P<patch>{NUMBER})(?:-(?P<pre>{WORDS}))?(?:\+(?P<build>{WORDS}))?"
)


class InvalidVersion(ValueError):
    """The text is no semantic version."""


@total_ordering
@dataclass(frozen=True, eq=False)
class Version:
    """A semantic version. Versions that differ in their build metadata only are equal."""

    major: int
    minor: int = 0
    patch: int = 0
    prerelease: tuple[str, ...] = ()
    build: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Version:
        """Return the version that ``text`` spells."""
        match = PATTERN.fullmatch(text.strip())
        if match is None:
            raise InvalidVersion(f"no version: {text!r}")
        pre = tuple(match["pre"].split(".")) if match["pre"] else ()
        for word in pre:
            if word.isdigit() and len(word) > 1 and word.startswith("0"):
                raise InvalidVersion(f"leading zero in {text!r}")
        build = tuple(match["build"].split(".")) if match["build"] else ()
        return cls(int(match["major"]), int(match["minor"]), int(match["patch"]), pre, build)

    @property
    def release(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return (self.major, self.minor, self.patch)

    def precedence(self) -> tuple[object, ...]:
        """Return what versions are compared by: the release, final or not, the pre-release."""
        words = tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in self.prerelease)
        return (self.release, not self.prerelease, words)

    def bump(self, part: str) -> Version:
        """Return the next version in ``part``: ``major``, ``minor`` or ``patch``."""
        if part == "major":
            return Version(self.major + 1)
        if part == "minor":
            return Version(self.major, self.minor + 1)
        if part == "patch":
            return Version(*self.release) if self.prerelease else Version(self.major, self.minor, self.patch + 1)
        raise ValueError(f"no part of a version: {part!r}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.precedence() == other.precedence()

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.precedence() < other.precedence()

    def __hash__(self) -> int:
        return hash(self.precedence())

    def __str__(self) -> str:
        text = ".".join(map(str, self.release))
        if self.prerelease:
            text += "-" + ".".join(self.prerelease)
        if self.build:
            text += "+" + ".".join(self.build)
        return text
