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
    for found in _WORD.finditer(fold(text)):
        yield Word(found.group(), found.start(), found.end())
