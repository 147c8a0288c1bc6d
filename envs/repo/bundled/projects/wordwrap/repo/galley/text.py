"""Whole texts."""

from __future__ import annotations

from .blocks import parse_blocks
from .lines import fill_lines
from .words import widest


def set_text(text: str, width: int) -> str:
    """Set a whole text in lines of at most `width` characters; verbatim lines may be longer.

    Raises:
        ValueError: an indent leaves no room for text.
    """
    out: list[str] = []
    for block in parse_blocks(text):
        if block.kind == "blank":
            out.append("")
        elif block.kind == "verbatim":
            out.append(block.text)
        else:
            out.extend(fill_lines(block.text, width, block.first, block.rest))
    return "".join(f"{line}\n" for line in out)


def least_width(text: str) -> int:
    """The least width at which no word of the text has to be cut, whichever line it comes to stand on."""
    widths = [
        max(len(block.first), len(block.rest)) + widest(block.text)
        for block in parse_blocks(text)
        if block.kind not in ("blank", "verbatim")
    ]
    return max(widths, default=0)
