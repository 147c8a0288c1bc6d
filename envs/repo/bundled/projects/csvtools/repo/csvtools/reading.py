"""From text to rows.

The reader works in two steps: it gathers the lines of a record (a record goes on while a quote is
open), then it takes the record apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from .dialects import EXCEL, Dialect


class FormatError(ValueError):
    """The text breaks the rules of its dialect."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


def _records(text: str, dialect: Dialect) -> Iterator[tuple[int, str]]:
    """Yield each record without its end, and the number of the line that it starts on."""
    pending: list[str] = []
    start = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if not pending:
            start = number
        pending.append(line)
        record = "\n".join(pending)
        if record.count(dialect.quote) % 2 == 0:
            if record:
                yield start, record
            pending = []
    if pending:
        raise FormatError(start, "a quote is never closed")


def _quoted(record: str, place: int, dialect: Dialect) -> tuple[str, int]:
    """Read the field whose opening quote stands at `place`; returns it and the place behind it."""
    parts = []
    place += 1
    while True:
        close = record.index(dialect.quote, place)
        parts.append(record[place:close])
        place = close + 1
        if record[place : place + 1] != dialect.quote:
            return dialect.quote.join(parts), place
        place += 1


def _fields(record: str, line: int, dialect: Dialect) -> list[str]:
    """Take one record apart."""
    fields = []
    place = 0
    while True:
        if record[place : place + 1] == dialect.quote:
            field, place = _quoted(record, place, dialect)
            if place < len(record) and record[place] != dialect.delimiter:
                raise FormatError(line, f"{record[place]!r} after a closing quote")
        else:
            close = record.find(dialect.delimiter, place)
            close = len(record) if close < 0 else close
            field, place = record[place:close], close
            if dialect.quote in field:
                raise FormatError(line, "a quote within a bare field")
        fields.append(field)
        if place >= len(record):
            return fields
        place += 1


def read_rows(text: str, dialect: Dialect = EXCEL) -> Iterator[list[str]]:
    """Yield the rows of a text.

    Raises:
        FormatError: A quote is not closed, or stands where none may stand.
    """
    for line, record in _records(text, dialect):
        yield _fields(record, line, dialect)
