"""References: `${key}` and `${section:key}`."""

import re

from .errors import IniError

TOKEN = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^{}]*)\})")


def resolve(section, key, lookup, trail=()):
    """The text of a value with all its references replaced.

    `lookup(section, key)` gives the text of a value whose references are still in it.

    Raises:
        IniError: a reference leads back to itself, or `lookup` does not know a value.
    """
    here = (section, key)
    if here in trail:
        chain = " -> ".join(f"{s}:{k}" for s, k in (*trail, here))
        raise IniError(f"reference leads back to itself: {chain}")

    def replacement(match):
        if match["dollar"]:
            return "$"
        other, colon, name = match["name"].partition(":")
        if not colon:
            other, name = section, other
        return resolve(other.strip(), name.strip().lower(), lookup, (*trail, here))

    return TOKEN.sub(replacement, lookup(section, key))
