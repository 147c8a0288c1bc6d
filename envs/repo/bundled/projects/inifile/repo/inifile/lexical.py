"""How a single line is put together: comments and quotes."""

from .errors import IniError

COMMENT_SIGNS = ";#"
QUOTES = "\"'"


def is_blank(line):
    """True for a line that holds nothing but blanks or a comment."""
    text = line.strip()
    return not text or text[0] in COMMENT_SIGNS


def comment_start(text):
    """Index at which the comment of a value begins, blanks before it included; len(text) if it has none."""
    start = len(text)
    for index, sign in enumerate(text):
        if sign in COMMENT_SIGNS and (index == 0 or text[index - 1].isspace()):
            start = index
            break
    return len(text[:start].rstrip())


def split_value(text):
    """Value and comment of the right-hand side of a line, both without the blanks around them.

    Raises:
        IniError: a quote is not closed, or something other than a comment follows it.
    """
    text = text.strip()
    if not text or text[0] not in QUOTES:
        start = comment_start(text)
        return text[:start], text[start:].strip()
    end = text.find(text[0], 1)
    if end < 0:
        raise IniError(f"quote is not closed: {text}")
    comment = text[end + 1 :].strip()
    if comment and comment[0] not in COMMENT_SIGNS:
        raise IniError(f"text after the closing quote: {text}")
    return text[1:end], comment


def bare_value(text):
    """What the right-hand side of a line says, without its comment and quotes.

    Raises:
        IniError: see `split_value`.
    """
    return split_value(text)[0]
