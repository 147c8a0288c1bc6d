"""Cut the source of a template into pieces, and the inside of a tag into words."""

import re

PIECE = re.compile(r"\{\{(?P<value>.*?)\}\}|\{%(?P<tag>.*?)%\}", re.DOTALL)
WORD = re.compile(r"""\s*(?:(?P<text>"[^"]*"|'[^']*')|(?P<name>[A-Za-z_][\w.]*)|(?P<mark>[|(),]))""")


def pieces(source):
    """Yield (kind, text, line) for each piece; ``kind`` is ``text``, ``value`` or ``tag``."""
    position = 0
    for match in PIECE.finditer(source):
        if match.start() > position:
            yield "text", source[position : match.start()], source.count("\n", 0, position) + 1
        kind = match.lastgroup
        yield kind, match[kind].strip(), source.count("\n", 0, match.start()) + 1
        position = match.end()
    if position < len(source):
        yield "text", source[position:], source.count("\n", 0, position) + 1


def words(inside):
    """Return the (kind, text) of the words of a tag, or None where something else stands."""
    found = []
    position = 0
    while position < len(inside):
        match = WORD.match(inside, position)
        if match is None:
            return None
        found.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return found
