"""What the tracker's tasks are about: fitting tickets, people and projects of an instance."""

from __future__ import annotations

import sqlite3

from pivotgym.envs.browser.apps.draw import Draw
from pivotgym.envs.browser.apps.spec import Step, find, link
from pivotgym.envs.browser.apps.tracker.lists import IS_OPEN, PAGE, TICKETS
from pivotgym.envs.browser.apps.tracker.world import OPEN, USER, add_ticket

Row = sqlite3.Row
FOUND = "Search tickets"


def ticket_link(ticket: Row) -> str:
    """A ticket as lists name it."""
    return f"{ticket['name']} {ticket['title']}"


def search(ticket: Row) -> list[Step]:
    """Finds a ticket by its number and opens its page."""
    return [*find(ticket["name"], FOUND), link(ticket_link(ticket))]


def quoted(ticket: Row) -> str:
    """A ticket as the user names it."""
    return f"{ticket['name']} (“{ticket['title']}”)"


def tickets(db: sqlite3.Connection, where: str = "1", *values: object) -> list[Row]:
    """Tickets by a condition, in the order of their ids."""
    return db.execute(f"{TICKETS} WHERE {where} ORDER BY t.id", values).fetchall()


def two(db: sqlite3.Connection, draw: Draw, where: str = "1", *values: object) -> tuple[Row, Row]:
    """Two different tickets by a condition."""
    first, second = draw.some(tickets(db, where, *values), 2)
    return first, second


def people(db: sqlite3.Connection, draw: Draw, number: int, without: set[int | None]) -> list[Row]:
    """Colleagues of the user."""
    rows = db.execute("SELECT * FROM users WHERE id <> ? ORDER BY id", (USER,)).fetchall()
    return draw.some([row for row in rows if row["id"] not in without], number)


def owner(db: sqlite3.Connection, ticket: Row) -> Row:
    """Who owns a ticket's component."""
    query = "SELECT u.* FROM components c JOIN users u ON u.id = c.owner_id WHERE c.id = ?"
    return db.execute(query, (ticket["component_id"],)).fetchone()  # type: ignore[no-any-return]


def open_groups(db: sqlite3.Connection, columns: str, low: int = 2, high: int = PAGE) -> list[tuple[object, ...]]:
    """Values of ``columns`` that some open tickets share, not more than a page of them."""
    query = f"SELECT {columns} FROM tickets t WHERE {IS_OPEN} GROUP BY {columns} HAVING count(*) BETWEEN ? AND ?"
    rows = db.execute(f"{query} ORDER BY {columns}", (low, high)).fetchall()
    return [tuple(row) for row in rows if None not in tuple(row)]


def report(db: sqlite3.Connection, draw: Draw, component: Row, title: str, body: str, *, days: int) -> Row:
    """A further ticket with the next number of its project."""
    project = component["project_id"]
    number = db.execute("SELECT max(number) + 1 FROM tickets WHERE project_id = ?", (project,)).fetchone()[0]
    id = add_ticket(db, draw, project, number, title, body, component["name"], ago=days * 24 * 60)
    if tickets(db, "t.id = ?", id)[0]["status"] not in OPEN:
        db.execute("UPDATE tickets SET status = 'Open' WHERE id = ?", (id,))
    return tickets(db, "t.id = ?", id)[0]


def name_of(db: sqlite3.Connection, table: str, id: object) -> str:
    """The name of a row."""
    return str(db.execute(f"SELECT name FROM {table} WHERE id = ?", (id,)).fetchone()[0])
