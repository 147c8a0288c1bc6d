"""Text that is markup already, and how other text becomes markup."""

import re

REPLACE = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
FIXED = re.compile(r"(<[^>]*>|&#?\w+;)")


class Markup(str):
    """Text that may stand in a page as it is.

    Whatever combines it with other text escapes the other text and gives ``Markup`` again.
    """

    __slots__ = ()

    def __add__(self, other):
        return Markup(str(self) + str(escape(other)))

    def __radd__(self, other):
        return Markup(str(escape(other)) + str(self))

    def join(self, items):
        """Return the items with this text between them."""
        return Markup(str(self).join(str(item) for item in items))

    def format(self, *args, **kwargs):
        """Return this text with its fields filled in. Fields have no format of their own."""
        args = [escape(arg) for arg in args]
        kwargs = {name: escape(arg) for name, arg in kwargs.items()}
        return Markup(str(self).format(*args, **kwargs))

    def wrap(self, tag):
        """Return this text as the content of the element ``tag``."""
        return Markup(f"<{tag}>{self!s}</{tag}>")

    def upper(self):
        """Return this text in capitals; entities and tags stay as they are."""
        parts = FIXED.split(str(self))
        return Markup("".join(part if place % 2 else part.upper() for place, part in enumerate(parts)))

    def strip(self, chars=None):
        """Return this text without blanks at the ends."""
        return Markup(str(self).strip(chars))


def escape(value):
    """Return ``value`` as markup: ``Markup`` as it is, anything else as text with the special characters replaced."""
    if isinstance(value, Markup):
        return value
    return Markup("".join(REPLACE.get(char, char) for char in str(value)))
