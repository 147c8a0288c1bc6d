"""The file and its tables."""

import sqlite3
from contextlib import contextmanager

SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (
    place TEXT NOT NULL,
    item TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (place, item)
);
CREATE TABLE IF NOT EXISTS journal (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    place TEXT NOT NULL,
    item TEXT NOT NULL,
    change INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY,
    customer TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open'
);
CREATE TABLE IF NOT EXISTS order_lines (
    number INTEGER NOT NULL REFERENCES orders (number),
    item TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    sent INTEGER NOT NULL DEFAULT 0
);
"""


def open_book(path=":memory:"):
    """Return a connection to the stock book at ``path``; the tables are made if they are missing."""
    book = sqlite3.connect(path, isolation_level=None)  # transactions are begun and ended by changes()
    book.row_factory = sqlite3.Row
    book.executescript(SCHEMA)
    return book


@contextmanager
def changes(book):
    """Make all changes within the block one. A block within another one belongs to that."""
    if book.in_transaction:
        yield book
        return
    book.execute("BEGIN IMMEDIATE")
    try:
        yield book
    except BaseException:
        book.execute("ROLLBACK")
        raise
    book.execute("COMMIT")
