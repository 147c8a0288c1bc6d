"""Filling lines with words."""

from __future__ import annotations

from .words import split_words


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
    room = width - len(first)
    if room < 1 or width - len(rest) < 1:
        raise ValueError(f"no room for text in {width} columns")
    lines: list[str] = []
    line = ""
    for word in split_words(text, width):
        if line and len(line) + 1 + len(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    lines.append(line)
    done = [((rest if number else first) + line).rstrip() for number, line in enumerate(lines)]
    return [] if done == [""] else done
