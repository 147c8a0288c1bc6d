"""From rows to text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .dialects import EXCEL, Dialect


def _must_quote(field: str, alone: bool, dialect: Dialect) -> bool:
    special = {dialect.delimiter, dialect.quote, "\n", "\r"}
    return dialect.quote_all or (alone and not field) or any(sign in special for sign in field)


def write_field(field: str, dialect: Dialect = EXCEL, alone: bool = False) -> str:
    """One field as text. `alone` says that it is the only one of its row."""
    if not _must_quote(field, alone, dialect):
        return field
    return dialect.quote + field.replace(dialect.quote, dialect.quote * 2) + dialect.quote


def write_rows(rows: Iterable[Sequence[str]], dialect: Dialect = EXCEL) -> str:
    """Rows as text, each with its end."""
    lines = []
    for row in rows:
        fields = [write_field(field, dialect, alone=len(row) == 1) for field in row]
        lines.append(dialect.delimiter.join(fields) + dialect.end)
    return "".join(lines)
