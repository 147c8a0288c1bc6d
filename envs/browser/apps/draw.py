"""What both applications are filled with: people, places, and choices that stay the same over Python versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta

from pivotgym.envs.tools.servicedesk.world import Draw
from pivotgym.envs.tools.sqlite_state import memory_database

__all__ = ["Draw", "database", "earlier", "insert", "people", "place"]

START = datetime(2026, 3, 16, 9, 0)
"""When every instance begins, by the application's own clock."""

_FIRST = (
    *("Alice", "Bela", "Carmen", "David", "Esther", "Farid", "Gloria", "Henrik", "Imani", "Jonas", "Katya", "Luis"),
    *("Mona", "Noel", "Oona", "Pablo", "Quentin", "Rania", "Sven", "Tessa", "Umar", "Viola", "Wanda", "Yusuf"),
)
_LAST = (
    *("Abel", "Brandt", "Castro", "Duval", "Eriksen", "Fontana", "Gruber", "Haddad", "Ivanov", "Jansen", "Keller"),
    *("Lindqvist", "Moreau", "Novak", "Olsen", "Petrov", "Quist", "Rossi", "Santos", "Tanaka", "Ueda", "Varga"),
)
_STREETS = ("Mill Lane", "Station Road", "Birch Avenue", "Quay Street", "Orchard Way", "Castle Hill", "Ferry Row")
_CITIES = ("Aldermouth", "Brackwater", "Corwen Hill", "Dunmarsh", "Eastholm", "Fennbury", "Garrow", "Hartwick")


def people(draw: Draw, count: int) -> list[str]:
    """Full names; no two share a first or a last name."""
    return [f"{a} {b}" for a, b in zip(draw.some(_FIRST, count), draw.some(_LAST, count), strict=True)]


def place(draw: Draw) -> tuple[str, str, str]:
    """Street with number, five-digit postcode and city."""
    return f"{draw.number(2, 98)} {draw.pick(_STREETS)}", str(draw.number(10000, 99999)), draw.pick(_CITIES)


def earlier(minutes: int) -> str:
    """The time so many minutes before the start."""
    return (START - timedelta(minutes=minutes)).strftime("%Y-%m-%d %H:%M")


def insert(db: sqlite3.Connection, table: str, **values: object) -> int:
    """Adds a row and gives its id."""
    marks = ", ".join("?" for _ in values)
    query = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"
    return int(db.execute(query, tuple(values.values())).lastrowid or 0)


def database(schema: str, draw: Draw, fill: Callable[[sqlite3.Connection, Draw], None]) -> sqlite3.Connection:
    """A database of ``schema`` with a clock and a secret, filled by ``fill``."""
    db = memory_database(schema)
    secret = "".join(draw.pick("0123456789abcdef") for _ in range(32))
    db.execute("BEGIN")
    insert(db, "site", now=earlier(0), secret=secret)
    fill(db, draw)
    db.execute("COMMIT")
    return db
