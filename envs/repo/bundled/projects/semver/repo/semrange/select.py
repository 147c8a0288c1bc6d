"""Choose among the texts of versions."""

from __future__ import annotations

from collections.abc import Iterable

from .ranges import parse_range
from .version import Version


def sort_versions(texts: Iterable[str]) -> list[str]:
    """Return the texts from the oldest version to the newest; equal versions keep their order."""
    return sorted(texts, key=Version.parse)


def matching(texts: Iterable[str], wanted: str) -> list[str]:
    """Return the texts that the range ``wanted`` allows, oldest first."""
    allowed = parse_range(wanted)
    return [text for text in sort_versions(texts) if allowed.allows(Version.parse(text))]


def newest(texts: Iterable[str], wanted: str = "*") -> str | None:
    """Return the newest text that the range ``wanted`` allows, or None."""
    found = matching(texts, wanted)
    return found[-1] if found else None
