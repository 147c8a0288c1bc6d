"""Making patches from two documents."""

from __future__ import annotations

from typing import Any

from .patch import same
from .pointer import END, Pointer


def make_patch(old: Any, new: Any) -> list[dict[str, Any]]:
    """Operations that make `new` of `old`.

    Keys are taken in sorted order. Lists are compared item by item; what `new` has more is appended, what it has less
    is removed from the end.
    """
    operations: list[dict[str, Any]] = []
    _compare(old, new, Pointer(), operations)
    return operations


def _compare(old: Any, new: Any, here: Pointer, out: list[dict[str, Any]]) -> None:
    if same(old, new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in new:
                out.append({"op": "remove", "path": str(here / key)})
            elif key not in old:
                out.append({"op": "add", "path": str(here / key), "value": new[key]})
            else:
                _compare(old[key], new[key], here / key, out)
    elif isinstance(old, list) and isinstance(new, list):
        for index, (left, right) in enumerate(zip(old, new)):
            _compare(left, right, here / index, out)
        for index in range(len(old) - 1, len(new) - 1, -1):
            out.append({"op": "remove", "path": str(here / index)})
        for value in new[len(old) :]:
            out.append({"op": "add", "path": str(here / END), "value": value})
    else:
        out.append({"op": "replace", "path": str(here), "value": new})
