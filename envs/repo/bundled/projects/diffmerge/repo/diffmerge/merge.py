"""Bring the changes of two sides together."""

from __future__ import annotations

from dataclasses import dataclass, field

from diffmerge.changes import FieldChanges, Removed, compare
from diffmerge.records import Records


@dataclass(frozen=True)
class Conflict:
    """What the two sides do not agree on. None stands for a value that is not there."""

    record: str
    field: str | None
    base: str | None = None
    ours: str | None = None
    theirs: str | None = None


@dataclass
class MergeResult:
    """The merged records and what was in conflict."""

    records: Records = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)


def three_way(base: Records, ours: Records, theirs: Records) -> MergeResult:
    """Merge what became of ``base`` on two sides; the README has the rules."""
    our_changes, their_changes = compare(base, ours), compare(base, theirs)
    result = MergeResult()
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        mine, other = our_changes.get(name), their_changes.get(name)
        if isinstance(mine, Removed) or isinstance(other, Removed):
            kept = other if isinstance(mine, Removed) else mine
            if not kept:
                continue  # removed here, unchanged there
            result.conflicts.append(Conflict(name, None))
            result.records[name] = dict(theirs[name] if isinstance(mine, Removed) else ours[name])
            continue
        start = base.get(name, {})
        result.records[name] = _merge_fields(name, start, mine or {}, other or {}, result.conflicts)
        if name in ours:
            result.records[name] = _ordered(result.records[name], ours[name])
    return result


def _merge_fields(
    name: str, start: dict[str, str], mine: FieldChanges, other: FieldChanges, conflicts: list[Conflict]
) -> dict[str, str]:
    """Return the fields of a record that no side removed; add to ``conflicts``."""
    merged = dict(start)
    for key in [*mine, *(key for key in other if key not in mine)]:
        change = mine.get(key, other.get(key))
        if key in mine and key in other and mine[key] != other[key]:
            conflicts.append(Conflict(name, key, start.get(key), mine[key], other[key]))
            change = mine[key]
        merged[key] = change
    return merged


def _ordered(fields: dict[str, str], like: dict[str, str]) -> dict[str, str]:
    """Return ``fields`` in the order of ``like``, what is not there behind."""
    keys = [key for key in like if key in fields]
    return {key: fields[key] for key in [*keys, *(key for key in fields if key not in like)]}
