"""Paragraphs, list items and the like."""

from __future__ import annotations

import re
from typing import NamedTuple

ITEM = re.compile(r"(?P<lead> *(?:[-*]|[0-9]+\.) +)(?P<text>\S.*)")
TERM = re.compile(r"(?P<lead>\S.*? :: )(?P<text>.*)")
QUOTE = "> "
VERBATIM = "    "
HANGING = " " * 8  # below a term


class Block(NamedTuple):
    """A part of a text that is filled on its own.

    Attributes:
        kind: "paragraph", "item", "term", "quote", "verbatim" or "blank".
        text: its words, or the line itself if it is verbatim.
        first: the indent of its first line.
        rest: the indent of its other lines.
    """

    kind: str
    text: str = ""
    first: str = ""
    rest: str = ""


def _begin(line: str) -> Block | None:
    """The block that a line begins by its looks."""
    if item := ITEM.fullmatch(line):
        return Block("item", item["text"], item["lead"], " " * len(item["lead"]))
    if line.startswith(VERBATIM):
        return Block("verbatim", line)
    if line.startswith(QUOTE):
        return Block("quote", line[len(QUOTE) :], QUOTE, QUOTE)
    if term := TERM.fullmatch(line):
        return Block("term", term["text"], term["lead"], HANGING)
    return None


def parse_blocks(text: str) -> list[Block]:
    """The blocks of a text. Blank lines in a row are one block; those at the ends are left out."""
    blocks: list[Block] = []
    for line in text.strip("\n").splitlines():
        line = line.rstrip()
        above = blocks[-1] if blocks else Block("blank")
        block = _begin(line)
        if not line:
            if above.kind != "blank":
                blocks.append(Block("blank"))
        elif block is None and above.kind in ("blank", "verbatim"):
            blocks.append(Block("paragraph", line))
        elif block is None or (block.kind == above.kind == "quote"):
            more = line if block is None else block.text
            blocks[-1] = above._replace(text=f"{above.text} {more.strip()}")
        else:
            blocks.append(block)
    return blocks
