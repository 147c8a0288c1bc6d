"""Filling lines with words."""

from __future__ import annotations

from .words import cut_up


def fill_lines(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Set a text in lines; see the README for the rules.

    Args:
        text: any text; line breaks in it count as blanks.
        width: the most characters of a line.
        first: what stands in front of the first line.
        rest: what stands in front of the others.

    Returns:
        The lines, without blanks at their ends. A text without words gives one line, or none if `first` is blank.

    Raises:
        ValueError: an indent leaves no room for text.
    """
    room, later = width - len(first), width - len(rest)
    if min(room, later) < 1:
        raise ValueError(f"no room for text in {width} columns")
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) <= room:
            line = f"{line} {word}"
            continue
        if line:
            lines.append(line)
        *full, line = cut_up(word, later if lines else room, later)
        lines.extend(full)
        room = later if lines else room
    lines.append(line)
    done = [((rest if number else first) + line).rstrip() for number, line in enumerate(lines)]
    return [] if done == [""] else done
