"""How many terminal columns text takes."""

import unicodedata

NO_WIDTH = {"Mn", "Me", "Cf"}  # marks that go onto the character before, and invisible controls


def char_width(char: str) -> int:
    """0, 1 or 2 terminal columns."""
    if unicodedata.category(char) in NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def display_width(text: str) -> int:
    """Terminal columns of a whole text."""
    return sum(char_width(char) for char in text)
