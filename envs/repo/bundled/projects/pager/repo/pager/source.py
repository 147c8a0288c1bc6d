"""Where rows come from."""

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, Protocol


class Source(Protocol):
    """Rows in the order of a key."""

    def fetch(self, after: Any, limit: int) -> list[Any]:
        """Return at most ``limit`` rows whose key is greater than ``after`` (None: from the start)."""

    def key_of(self, row: Any) -> Any:
        """Return the key of a row."""


class RowSource:
    """Rows (dicts) of a list, in the order of one of their fields."""

    def __init__(self, rows: Iterable[dict[str, Any]], key: str = "id") -> None:
        self.key = key
        self.all = sorted(rows, key=self.key_of)

    def key_of(self, row: dict[str, Any]) -> Any:
        """Return the key of a row."""
        return row[self.key]

    def add(self, row: dict[str, Any]) -> None:
        """Put a row in its place."""
        self.all.insert(bisect_right(self.all, self.key_of(row), key=self.key_of), row)

    def fetch(self, after: Any, limit: int) -> list[dict[str, Any]]:
        """Return at most ``limit`` rows that follow the key ``after``."""
        start = 0 if after is None else bisect_right(self.all, after, key=self.key_of)
        return self.all[start : start + limit]


class TableSource:
    """Rows of a table, in the order of its primary key, which must be the first column."""

    def __init__(self, connection: sqlite3.Connection, table: str, key: str = "id") -> None:
        self.connection = connection
        self.table = table
        self.key = key

    def key_of(self, row: tuple[Any, ...]) -> Any:
        """Return the key of a row."""
        return row[0]

    def fetch(self, after: Any, limit: int) -> list[tuple[Any, ...]]:
        """Return at most ``limit`` rows that follow the key ``after``."""
        where, values = ("", []) if after is None else (f"WHERE {self.key} > ?", [after])
        query = f"SELECT * FROM {self.table} {where} ORDER BY {self.key} LIMIT ?"
        return self.connection.execute(query, [*values, limit]).fetchall()
