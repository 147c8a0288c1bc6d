"""Changes of a document in place. All return the document, since the whole of it may be replaced."""

from __future__ import annotations

from typing import Any

from .errors import PointerError
from .pointer import Pointer, index_of


def add(document: Any, pointer: Pointer, value: Any) -> Any:
    """Put a value at a key (in place of what is there), or into a list before the item at the index.

    Raises:
        PointerError: there is no such place.
    """
    if not pointer.keys:
        return value
    holder, key = pointer.parent().walk(document), pointer.keys[-1]
    if isinstance(holder, dict):
        holder[key] = value
    elif isinstance(holder, list):
        holder.insert(index_of(key, holder, insert=True), value)
    else:
        raise PointerError(f"nothing can be put into a {type(holder).__name__}")
    return document


def remove(document: Any, pointer: Pointer) -> Any:
    """Take a value away.

    Raises:
        PointerError: there is none, or it is the whole document.
    """
    holder, key = pointer.parent().walk(document), pointer.keys[-1]
    pointer.walk(document)
    del holder[index_of(key, holder) if isinstance(holder, list) else key]
    return document


def replace(document: Any, pointer: Pointer, value: Any) -> Any:
    """Put a value in the place of another.

    Raises:
        PointerError: there is none yet.
    """
    pointer.walk(document)
    if not pointer.keys:
        return value
    holder, key = pointer.parent().walk(document), pointer.keys[-1]
    holder[index_of(key, holder) if isinstance(holder, list) else key] = value
    return document
