"""Copy-on-write tables: forks of a large in-memory database that cost a few shallow dict copies.

A table is a ``dict`` from keys to records (any deep-copyable value). Many tables may share their records. A table
hands out a shared record only while its session says that nothing will be changed; otherwise a record becomes the
table's own, by a deep copy, the moment it is touched.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from copy import deepcopy
from typing import Any

from pivotgym.envs.trajectory import JsonObject, canonical_json

Table = dict[str, Any]


class Access:
    """How the running call may touch the records of its session's tables.

    Attributes:
        writing: records are copied before they are handed out. False only while a call runs that changes nothing.
    """

    __slots__ = ("writing",)

    def __init__(self, writing: bool = True) -> None:
        self.writing = writing


_MISSING = object()


class CowTable(dict[str, Any]):
    """A ``dict`` that shares its records with a frozen one until they are touched.

    Code that reads a dict in C without asking its methods (pydantic's serialiser, ``json``) sees the shared records,
    which is safe: it does not change them.

    Args:
        origin: the frozen table; neither it nor its records are ever changed.
        access: shared by all tables of a session.
        changed: keys whose record may differ from the base that all sessions start from.
    """

    __slots__ = ("_access", "_changed", "_origin", "_owned")

    def __init__(self, origin: Table, access: Access, changed: frozenset[str] = frozenset()) -> None:
        super().__init__(origin)
        self._access = access
        self._origin: Table | None = origin  # None as soon as this table may differ from it
        self._owned: set[str] = set()
        self._changed = changed

    def freeze(self) -> tuple[Table, frozenset[str]]:
        """The present content as a frozen table, and the keys that may differ from the base.

        From here on the records are shared again. A table that nobody touched gives back its origin, at no cost.
        """
        if self._origin is None:
            self._origin = dict(dict.items(self))
            self._changed |= self._owned
            self._owned = set()
        return self._origin, self._changed

    def _own(self, key: str, record: Any) -> Any:
        if not self._access.writing or key in self._owned:
            return record
        record = deepcopy(record)
        super().__setitem__(key, record)
        self._touch(key)
        return record

    def _touch(self, key: str) -> None:
        self._owned.add(key)
        self._origin = None

    def _own_all(self) -> None:
        if self._access.writing:
            for key, record in list(super().items()):
                self._own(key, record)

    # Reading -------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        return self._own(key, super().__getitem__(key))

    def get(self, key: str, default: Any = None) -> Any:
        """The record under ``key`` or ``default``."""
        record = super().get(key, _MISSING)
        return default if record is _MISSING else self._own(key, record)

    def __iter__(self) -> Iterator[str]:
        # Overridden although it adds nothing: it makes dict(table) and {**table} ask __getitem__ for the records.
        return super().__iter__()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """All records."""
        self._own_all()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """All keys with their records."""
        self._own_all()
        return super().items()

    def copy(self) -> Table:
        """A plain dict of the records."""
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    # Writing -------------------------------------------------------------------------------------------------

    def __setitem__(self, key: str, record: Any) -> None:
        super().__setitem__(key, record)
        self._touch(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._touch(key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The record under ``key``, which is ``default`` from now on where there was none."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Removes a record and returns it, free to be changed."""
        if key not in self:
            if default is _MISSING:
                raise KeyError(key)
            return default
        record = self[key]
        del self[key]
        return record

    def popitem(self) -> tuple[str, Any]:
        """Removes the last record and returns it with its key."""
        key = next(reversed(self), None)
        if key is None:
            raise KeyError("popitem(): dictionary is empty")
        return key, self.pop(key)

    def update(self, *args: Any, **records: Any) -> None:
        """Takes in other records."""
        for key, record in dict(*args, **records).items():
            self[key] = record

    def __ior__(self, other: Any) -> CowTable:  # type: ignore[override]
        self.update(other)
        return self

    def clear(self) -> None:
        """Removes everything."""
        for key in list(self):
            self._touch(key)
        super().clear()

    # Copies are plain dicts: they outlive the session and its access -------------------------------------------

    def __copy__(self) -> Table:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Table:
        return deepcopy(dict(dict.items(self)), memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, (dict(dict.items(self)),))


def diff_tables(path: str, before: Mapping[str, Any], after: Mapping[str, Any], dump: Dump) -> list[JsonObject]:
    """What differs between two tables: added, removed and changed records, sorted by key.

    Args:
        path: put in front of each record's key.
        before: one table.
        after: the other; records that are the same object in both are not looked at.
        dump: a record to JSON.

    Returns:
        ``{"path": "orders/W1", "kind": "added|removed|changed", "before": …, "after": …}``: whole records where one
        side lacks them, and for changed ones only the leaves that differ, keyed by their path.
    """
    if before is after:
        return []
    changes: list[JsonObject] = []
    differing = [key for key, record in after.items() if before.get(key, _MISSING) is not record]
    gone = [key for key in before if key not in after]
    for key in sorted({*differing, *gone}):
        where = f"{path}/{key}" if path else key
        if key not in after:
            changes.append({"path": where, "kind": "removed", "before": dump(before[key])})
        elif key not in before:
            changes.append({"path": where, "kind": "added", "after": dump(after[key])})
        else:
            old, new = differing_leaves(dump(before[key]), dump(after[key]))
            if old or new:
                changes.append({"path": where, "kind": "changed", "before": old, "after": new})
    return changes


Dump = Callable[[Any], Any]


def differing_leaves(before: Any, after: Any) -> tuple[JsonObject, JsonObject]:
    """The leaves of two JSON values that differ, keyed by path; a side that lacks a leaf lacks the key."""
    old, new = flatten(before), flatten(after)
    shared = {key for key in old.keys() & new.keys() if _same(old[key], new[key])}
    return (
        {key: old[key] for key in sorted(old) if key not in shared},
        {key: new[key] for key in sorted(new) if key not in shared},
    )


def flatten(value: Any, path: str = "") -> JsonObject:
    """A JSON value as its leaves, keyed by path (``payment_history/0/amount``). Empty containers are leaves."""
    if isinstance(value, dict) and value:
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and value:
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {path: value}
    leaves: JsonObject = {}
    for key, item in items:
        leaves |= flatten(item, f"{path}/{key}" if path else key)
    return leaves


def _same(one: Any, other: Any) -> bool:
    # 1 and 1.0 are one value, True and 1 are not.
    return isinstance(one, bool) == isinstance(other, bool) and (
        one == other or canonical_json(one) == canonical_json(other)
    )
