"""Split the text of an expression into tokens."""

import re
from dataclasses import dataclass


class ParseError(ValueError):
    """The text is no expression. ``column`` counts from 1."""

    def __init__(self, message, column):
        super().__init__(f"{message} at column {column}")
        self.column = column


@dataclass(frozen=True)
class Token:
    """One word of the input: ``kind`` is ``number``, ``name``, ``op`` or ``end``."""

    kind: str
    text: str
    column: int


WORD = re.compile(r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<name>[A-Za-z_]\w*)|(?P<op>[-+*/%^!(),]))")


def tokenize(text):
    """Return the tokens of ``text``; the last one is of kind ``end``."""
    tokens = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = WORD.match(text, position)
        if match is None:
            column = position + len(text[position:]) - len(text[position:].lstrip()) + 1
            raise ParseError(f"unexpected character {text[column - 1]!r}", column)
        kind = match.lastgroup
        tokens.append(Token(kind, match[kind], match.start(kind) + 1))
        position = match.end()
    tokens.append(Token("end", "", end + 1))
    return tokens
