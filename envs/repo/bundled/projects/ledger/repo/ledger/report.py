"""Plain-text reports, and entries from CSV files."""

from __future__ import annotations

import csv
from pathlib import Path

from .book import Ledger
from .money import MoneyError, format_cents


def load_csv(path: Path, currency: str = "EUR") -> Ledger:
    """Read a book from a CSV file with the columns debit, credit, amount, note."""
    book = Ledger(currency)
    with open(path, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                book.post_entry(row["debit"], row["credit"], row["amount"], row.get("note") or "")
            except (KeyError, MoneyError) as problem:
                raise MoneyError(f"{path.name}, line {number}: {problem}") from problem
    return book


def balance_sheet(book: Ledger) -> str:
    """One line for each account, amounts flush right."""
    rows = [(name, format_cents(cents)) for name, cents in book.balances().items()]
    wide = max((len(name) for name, _ in rows), default=0)
    high = max((len(amount) for _, amount in rows), default=0)
    return "\n".join(f"{name:<{wide}}  {amount:>{high}} {book.currency}" for name, amount in rows)


def statement(book: Ledger, account: str) -> str:
    """Every entry of one account with the balance after it."""
    lines = [f"{entry.note or '-'}: {format_cents(total)}" for entry, total in book.history(account)]
    return "\n".join(lines)
