"""Words of a text."""

from __future__ import annotations

from collections.abc import Iterator


def cut_up(word: str, room: int, later: int) -> Iterator[str]:
    """The pieces of a word: the first of at most `room` characters, the others of at most `later`."""
    while len(word) > room:
        yield word[:room]
        word, room = word[room:], later
    yield word


def widest(text: str) -> int:
    """The length of the longest word; 0 if there is none."""
    return max((len(word) for word in text.split()), default=0)
