"""Showing where the hits stand."""

from __future__ import annotations

from .query import wanted_phrases
from .words import words_of


def spans(text: str, query: str) -> list[tuple[int, int]]:
    """Start and end of every hit in a text, in order, overlapping ones joined."""
    words = list(words_of(text))
    found = set()
    for phrase in wanted_phrases(query):
        for first in range(len(words) - len(phrase) + 1):
            part = words[first : first + len(phrase)]
            if tuple(word.form for word in part) == phrase:
                found.add((part[0].start, part[-1].end))
    joined: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def highlight(text: str, query: str, before: str = "[", after: str = "]") -> str:
    """The text with marks around every hit."""
    parts = []
    done = 0
    for start, end in spans(text, query):
        parts += [text[done:start], before, text[start:end], after]
        done = end
    return "".join(parts) + text[done:]


def snippet(text: str, query: str, width: int = 40) -> str:
    """At most `width` characters of the text, around its first hit, cut ends shown by dots."""
    if len(text) <= width:
        return text
    start, end = next(iter(spans(text, query)), (0, 0))
    left = max(0, min(start - (width - (end - start)) // 2, len(text) - width))
    return ("..." if left else "") + text[left : left + width] + ("..." if left + width < len(text) else "")
