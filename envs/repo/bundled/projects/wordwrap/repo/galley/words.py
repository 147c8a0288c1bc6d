"""Words of a text."""

from __future__ import annotations

from collections.abc import Iterator


def split_words(text: str, longest: int) -> Iterator[str]:
    """The words of a text; those of more than `longest` characters come in pieces of that length."""
    for word in text.split():
        while len(word) > longest:
            yield word[:longest]
            word = word[longest:]
        yield word


def widest(text: str) -> int:
    """The length of the longest word; 0 if there is none."""
    return max((len(word) for word in text.split()), default=0)
