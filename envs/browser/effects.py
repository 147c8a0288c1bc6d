"""What differs between two states of a browser, as rows that can be compared."""

from __future__ import annotations

import difflib
from typing import Any

from pivotgym.envs.trajectory import JsonObject, canonical_json

LISTS = ("tree", "tabs", "cookies", "told", "dialogs")
"""Parts compared line by line; of the others each value."""
POSITION = ("focus", "mouse", "scroll", "selection", "clipboard", "now", "dialogs", "dom", "active")
"""Parts that say where the agent stands on the page rather than what the page has become."""


def page_changes(before: JsonObject, after: JsonObject) -> list[JsonObject]:
    """Rows of ``part``, ``path``, ``before`` and ``after``, or for lists of ``part``, ``removed`` and ``added``."""
    rows: list[JsonObject] = []
    for part in sorted({*before, *after}):
        one, two = before.get(part), after.get(part)
        if part in LISTS:
            rows += _list_changes(part, one or [], two or [])
        else:
            _value_changes(part, "", one, two, rows)
    return rows


def _list_changes(part: str, one: list[Any], two: list[Any]) -> list[JsonObject]:
    if one == two:
        return []
    old = [line.strip() if isinstance(line, str) else canonical_json(line) for line in one]
    new = [line.strip() if isinstance(line, str) else canonical_json(line) for line in two]
    removed, added = list[str](), list[str]()
    for kind, from_old, to_old, from_new, to_new in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        if kind != "equal":
            removed += old[from_old:to_old]
            added += new[from_new:to_new]
    return [{"part": part, "removed": removed, "added": added}]


def _value_changes(part: str, path: str, one: Any, two: Any, rows: list[JsonObject]) -> None:
    if one == two and type(one) is type(two):
        return
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted({*map(str, one), *map(str, two)}):
            _value_changes(part, f"{path}.{key}" if path else key, one.get(key), two.get(key), rows)
        return
    rows.append({"part": part, "path": path, "before": one, "after": two})
