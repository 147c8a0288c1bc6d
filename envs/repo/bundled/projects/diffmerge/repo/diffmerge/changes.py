"""What one side did to the records."""

from __future__ import annotations

from typing import Final

from diffmerge.records import Records


class Removed:
    """The kind of :data:`REMOVED`."""

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED: Final = Removed()
"""Stands for a record or a field that a side took out."""

FieldChanges = dict[str, "str | Removed"]


def compare(base: Records, side: Records) -> dict[str, FieldChanges | Removed]:
    """Return the changes that lead from ``base`` to ``side``.

    Returns:
        For each record that is not the same in both: ``REMOVED``, or its fields that are not the same with what
        became of them, the new value or ``REMOVED``. A new record has all its fields there.
    """
    changes: dict[str, FieldChanges | Removed] = {}
    for name in base:
        if name not in side:
            changes[name] = REMOVED
    for name, fields in side.items():
        before = base.get(name, {})
        changed = compare_fields(before, fields)
        if changed or name not in base:
            changes[name] = changed
    return changes


def compare_fields(before: dict[str, str], after: dict[str, str]) -> FieldChanges:
    """Return the changes that lead from the fields ``before`` to the fields ``after``."""
    changed: FieldChanges = {}
    for field, value in after.items():
        if before.get(field) != value:
            changed[field] = value
    return changed
