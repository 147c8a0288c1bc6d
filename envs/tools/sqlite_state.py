"""SQLite databases as domain state: in memory, saved by ``serialize()``, compared row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pivotgym.envs.snapshots import State
from pivotgym.envs.trajectory import JsonObject


def memory_database(script: str = "") -> sqlite3.Connection:
    """An empty in-memory database for one session, after running ``script``.

    Small pages keep small databases small when saved; foreign keys are enforced; rows read as :class:`sqlite3.Row`;
    no implicit transactions, because every tool call runs in a savepoint of its own.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA page_size = 512")
    _prepare(connection)
    if script:
        connection.executescript(script)
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")


class SqliteState:
    """Saving, loading, comparing and guarding a SQLite connection."""

    def save(self, live: sqlite3.Connection) -> State:
        """A byte copy of the database."""
        payload = live.serialize()
        return State(payload, len(payload))

    def load(self, state: State) -> sqlite3.Connection:
        """A new connection on a copy of the saved database."""
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        connection.deserialize(state.payload)
        _prepare(connection)
        return connection

    def close(self, live: sqlite3.Connection) -> None:
        """Closes the connection; a second time does nothing."""
        live.close()

    @contextmanager
    def guard(self, live: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """Runs a tool in a savepoint: when it raises, nothing it did remains."""
        if live.isolation_level is not None:
            _prepare(live)
        live.execute("SAVEPOINT tool_call")
        try:
            yield live
        except BaseException:
            if live.in_transaction:
                live.execute("ROLLBACK TO tool_call")
                live.execute("RELEASE tool_call")
            raise
        if live.in_transaction:
            live.execute("RELEASE tool_call")

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """Rows that differ, by table and primary key (``rowid`` where a table has none).

        Returns:
            ``{"table", "key", "before", "after"}`` a row, sorted; ``before`` is None for an added row, ``after`` for a
            removed one, else both hold only the columns that differ. A table whose definition differs gives
            ``{"table", "key": None, "before": sql, "after": sql}`` alone.
        """
        if before.payload == after.payload:
            return []
        connection = sqlite3.connect(":memory:")
        try:
            connection.execute("ATTACH ':memory:' AS later")
            connection.deserialize(before.payload)
            connection.deserialize(after.payload, name="later")
            return _compare(connection)
        finally:
            connection.close()


def _compare(connection: sqlite3.Connection) -> list[JsonObject]:
    tables = {side: _tables(connection, side) for side in ("main", "later")}
    changes: list[JsonObject] = []
    for table in sorted(tables["main"].keys() | tables["later"].keys()):
        old, new = tables["main"].get(table), tables["later"].get(table)
        if old != new:
            changes.append({"table": table, "key": None, "before": old, "after": new})
            continue
        changes += _compare_table(connection, table)
    return changes


def _tables(connection: sqlite3.Connection, side: str) -> dict[str, str]:
    query = (
        f"SELECT name, sql FROM {side}.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    return dict(connection.execute(query).fetchall())


def _compare_table(connection: sqlite3.Connection, table: str) -> list[JsonObject]:
    name = _quoted(table)
    columns = [(row[1], row[5]) for row in connection.execute(f"PRAGMA main.table_info({name})")]
    keys = [column for column, position in sorted(columns, key=lambda item: item[1]) if position]
    names = [column for column, _ in columns]
    # EXCEPT would compare under a column's own collation and miss a change of case.
    picked = ", ".join(f"{_quoted(column)} COLLATE BINARY" for column in names)
    if not keys:
        keys, names, picked = ["rowid"], ["rowid", *names], f"rowid, {picked}"
    gone, come = (
        {_key(row, names, keys): row for row in connection.execute(_except(name, picked, first, second))}
        for first, second in (("main", "later"), ("later", "main"))
    )
    changes: list[JsonObject] = []
    for key in sorted(gone.keys() | come.keys(), key=repr):
        old, new = gone.get(key), come.get(key)
        differ = [i for i in range(len(names)) if old is None or new is None or old[i] != new[i]]
        if names[0] == "rowid" and old is not None and new is not None:
            differ = [i for i in differ if names[i] != "rowid"]
        changes.append(
            {
                "table": table,
                "key": dict(zip(keys, key, strict=True)),
                "before": None if old is None else {names[i]: _json(old[i]) for i in differ},
                "after": None if new is None else {names[i]: _json(new[i]) for i in differ},
            }
        )
    return changes


def _except(name: str, picked: str, first: str, second: str) -> str:
    return f"SELECT {picked} FROM {first}.{name} EXCEPT SELECT {picked} FROM {second}.{name}"


def _key(row: Any, names: list[str], keys: list[str]) -> tuple[Any, ...]:
    return tuple(_json(row[names.index(key)]) for key in keys)


def _json(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
