"""Taking texts apart into words that can be compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

_WORD = re.compile(r"\w+")


class Word(NamedTuple):
    """A word of a text: its comparable form, and the part of the text that it covers."""

    form: str
    start: int
    end: int


def fold(text: str) -> str:
    """A text without case and accents."""
    plain = unicodedata.normalize("NFD", text.casefold())
    return "".join(sign for sign in plain if not unicodedata.combining(sign))


def words_of(text: str) -> Iterator[Word]:
    """Yield the words of a text in order."""
    # Folding changes lengths, so words are found in the text as written. The stand-in keeps the
    # places while it makes an accent part of the word before it.
    outline = "".join("_" if unicodedata.combining(sign) else sign for sign in text)
    for found in _WORD.finditer(outline):
        start, end = found.span()
        form = fold(text[start:end])
        if form:
            yield Word(form, start, end)
