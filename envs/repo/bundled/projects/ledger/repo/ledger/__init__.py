"""Double-entry bookkeeping in whole cents."""

from .book import Entry, Ledger
from .money import MoneyError, allocate, format_cents, parse_cents, parse_rate, share_of

__all__ = [
    "Entry",
    "Ledger",
    "MoneyError",
    "allocate",
    "format_cents",
    "parse_cents",
    "parse_rate",
    "share_of",
]
