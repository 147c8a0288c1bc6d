"""What the commands do. Each takes texts by name and its settings and returns the output."""

from __future__ import annotations

import textwrap


def number(texts: dict[str, str], start: int, blank: bool, sep: str) -> str:
    """Put its number before each line; the numbers go on from text to text."""
    output = []
    count = start
    for text in texts.values():
        for line in text.splitlines():
            if line.strip() or blank:
                output.append(f"{count}{sep}{line}")
                count += 1
            else:
                output.append(line)
    return "".join(line + "\n" for line in output)


def wrap(texts: dict[str, str], width: int, keep_indent: bool) -> str:
    """Break lines that are longer than ``width``."""
    output = []
    for text in texts.values():
        for line in text.splitlines():
            if len(line) <= width:
                output.append(line)
                continue
            indent = line[: len(line) - len(line.lstrip())]
            later = indent if keep_indent else ""
            output.extend(
                textwrap.wrap(
                    line.strip(), width, initial_indent=indent, subsequent_indent=later, break_on_hyphens=False
                )
            )
    return "".join(line + "\n" for line in output)


def stats(texts: dict[str, str], total: bool, words_only: bool) -> str:
    """Count lines, words and characters of each text."""
    rows = [(name, len(text.splitlines()), len(text.split()), len(text)) for name, text in texts.items()]
    if total:
        rows.append(("total", *[sum(row[column] for row in rows) for column in (1, 2, 3)]))
    if words_only:
        return "".join(f"{name} {words}\n" for name, _, words, _ in rows)
    return "".join(f"{name} {lines} {words} {chars}\n" for name, lines, words, chars in rows)


JOBS = {"number": number, "wrap": wrap, "stats": stats}
