"""JSON Pointers."""

from __future__ import annotations

import re
from typing import Any

from .errors import PointerError

INDEX = re.compile(r"0|[1-9][0-9]*")
END = "-"


def escape(key: str) -> str:
    """A key as it stands in a pointer."""
    # Tildes first: those that stand for slashes must not be escaped again.
    return key.replace("~", "~0").replace("/", "~1")


def unescape(token: str) -> str:
    """The key that a token of a pointer stands for.

    Raises:
        PointerError: a tilde is followed by something other than 0 or 1.
    """
    if re.search(r"~(?![01])", token):
        raise PointerError(f"stray tilde: {token}")
    # Tildes last: one that comes out of ~0 must not join the digit behind it.
    return token.replace("~1", "/").replace("~0", "~")


def index_of(token: str, items: list[Any], *, insert: bool = False) -> int:
    """The index that a token means in a list.

    Args:
        token: a number without leading zeros, or `-` for the place behind the last item.
        items: the list.
        insert: whether the place behind the last item is allowed.

    Raises:
        PointerError: the token is no index, or there is no such place.
    """
    if token == END:
        index = len(items)
    elif INDEX.fullmatch(token):
        index = int(token)
    else:
        raise PointerError(f"not an index: {token}")
    if index >= len(items) + insert:
        raise PointerError(f"no such index: {token}")
    return index


class Pointer:
    """The way to a value: keys from the outside to the inside."""

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        self.keys = keys

    @classmethod
    def parse(cls, text: str) -> Pointer:
        """Read a pointer; the empty text is the whole document.

        Raises:
            PointerError: it does not begin with a slash, or has a stray tilde.
        """
        if not text:
            return cls()
        if not text.startswith("/"):
            raise PointerError(f"a pointer begins with a slash: {text}")
        return cls(tuple(unescape(token) for token in text[1:].split("/")))

    def __str__(self) -> str:
        return "".join("/" + escape(key) for key in self.keys)

    def __truediv__(self, key: str | int) -> Pointer:
        """The pointer to a member of what this one points to."""
        return Pointer((*self.keys, str(key)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pointer) and self.keys == other.keys

    def __hash__(self) -> int:
        return hash(self.keys)

    def is_inside(self, other: Pointer) -> bool:
        """True if this points to something within what `other` points to."""
        return len(self.keys) > len(other.keys) and self.keys[: len(other.keys)] == other.keys

    def walk(self, document: Any) -> Any:
        """The value this points to.

        Raises:
            PointerError: there is none.
        """
        value = document
        for key in self.keys:
            if isinstance(value, dict):
                if key not in value:
                    raise PointerError(f"no such key: {key}")
                value = value[key]
            elif isinstance(value, list):
                value = value[index_of(key, value)]
            else:
                raise PointerError(f"nothing lies below a {type(value).__name__}: {key}")
        return value

    def parent(self) -> Pointer:
        """The pointer to what holds the value.

        Raises:
            PointerError: this is the whole document.
        """
        if not self.keys:
            raise PointerError("the whole document has no parent")
        return Pointer(self.keys[:-1])


def get(document: Any, pointer: str) -> Any:
    """The value that a pointer leads to.

    Raises:
        PointerError: the pointer is malformed or leads nowhere.
    """
    return Pointer.parse(pointer).walk(document)
