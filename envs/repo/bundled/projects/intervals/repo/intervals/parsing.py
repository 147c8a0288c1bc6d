"""Intervals as text: `9-12, 13-17`."""

from __future__ import annotations

import re

_PIECE = re.compile(r"(-?\d+)-(-?\d+)")


class SpanError(ValueError):
    """A text is no list of intervals."""


def read_pieces(text: str) -> list[tuple[int, int]]:
    """The intervals of a text as they stand there."""
    pieces = []
    for part in text.split(","):
        part = part.strip()
        if not part:
            continue
        found = _PIECE.fullmatch(part)
        if found is None:
            raise SpanError(f"not an interval: {part!r}")
        start, end = int(found.group(1)), int(found.group(2))
        if end < start:
            raise SpanError(f"the interval {part!r} ends before it starts")
        pieces.append((start, end))
    return pieces


def write_pieces(pieces: list[tuple[int, int]]) -> str:
    """The inverse of `read_pieces`."""
    return ", ".join(f"{start}-{end}" for start, end in pieces)
