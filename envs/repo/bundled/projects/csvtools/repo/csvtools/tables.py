"""Rows under a header."""

from __future__ import annotations

from collections.abc import Callable

from .dialects import EXCEL, Dialect
from .reading import read_rows
from .writing import write_rows


class Table:
    """A header and rows of the same length."""

    def __init__(self, header: list[str], rows: list[list[str]]) -> None:
        for number, row in enumerate(rows, start=1):
            if len(row) != len(header):
                raise ValueError(f"row {number} has {len(row)} fields, the header has {len(header)}")
        self.header = header
        self.rows = rows

    @classmethod
    def from_text(cls, text: str, dialect: Dialect = EXCEL) -> Table:
        rows = list(read_rows(text, dialect))
        return cls(rows[0], rows[1:]) if rows else cls([], [])

    def to_text(self, dialect: Dialect = EXCEL) -> str:
        return write_rows([self.header, *self.rows], dialect)

    def select(self, *names: str) -> Table:
        """A table of the named columns, in the order of the names."""
        places = [self.header.index(name) for name in names]
        return Table(list(names), [[row[place] for place in places] for row in self.rows])

    def where(self, name: str, holds: Callable[[str], bool]) -> Table:
        """A table of the rows whose field under `name` holds."""
        place = self.header.index(name)
        return Table(self.header, [row for row in self.rows if holds(row[place])])
