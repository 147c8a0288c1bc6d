"""Applying patches."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from . import edit
from .errors import PatchError, PointerError
from .pointer import Pointer

MEMBERS = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("from", "path"),
    "copy": ("from", "path"),
    "test": ("path", "value"),
}


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right))
    return bool(left == right)


def _carry_out(document: Any, operation: dict[str, Any]) -> Any:
    kind = operation.get("op")
    if kind not in MEMBERS:
        raise PatchError(f"no such operation: {kind}")
    for member in MEMBERS[kind]:
        if member not in operation:
            raise PatchError(f"{kind} needs {member}")
    path = Pointer.parse(operation["path"])
    if kind == "add":
        return edit.add(document, path, deepcopy(operation["value"]))
    if kind == "remove":
        return edit.remove(document, path)
    if kind == "replace":
        return edit.replace(document, path, deepcopy(operation["value"]))
    if kind == "test":
        if not same(path.walk(document), operation["value"]):
            raise PatchError(f"test failed at {operation['path']}")
        return document
    source = Pointer.parse(operation["from"])
    value = source.walk(document)
    if kind == "copy":
        return edit.add(document, path, deepcopy(value))
    if path.is_inside(source):
        raise PatchError("a value cannot be moved into itself")
    if path == source:
        return document
    return edit.add(edit.remove(document, source), path, value)


def apply_patch(document: Any, operations: list[dict[str, Any]]) -> Any:
    """The document after all operations; the document itself is left alone.

    Raises:
        PatchError: an operation is malformed or cannot be carried out; the message begins with its number.
    """
    result = deepcopy(document)
    for number, operation in enumerate(operations):
        try:
            result = _carry_out(result, operation)
        except (PatchError, PointerError) as error:
            raise PatchError(f"{number}: {error}") from error
    return result
