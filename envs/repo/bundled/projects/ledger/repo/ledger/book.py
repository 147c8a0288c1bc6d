"""The book itself: entries, accounts, sales and refunds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from .money import MoneyError, allocate, parse_cents, parse_rate, share_of

TAX_ACCOUNT = "tax owed"
SALES_ACCOUNT = "sales"


@dataclass(frozen=True)
class Entry:
    """One movement of `cents` from the account `credit` to the account `debit`."""

    debit: str
    credit: str
    cents: int
    note: str = ""


class Ledger:
    """A list of entries and what follows from it."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.entries: list[Entry] = []

    def post_entry(self, debit: str, credit: str, amount: str | int, note: str = "") -> Entry:
        """Book an amount (text, or whole cents)."""
        cents = parse_cents(amount) if isinstance(amount, str) else amount
        if debit == credit:
            raise MoneyError(f"an entry needs two accounts, not {debit!r} twice")
        entry = Entry(debit, credit, cents, note)
        self.entries.append(entry)
        return entry

    def sell(self, account: str, net: str, rate: str = "0%", note: str = "sale") -> int:
        """Book a sale: the net amount and the tax on it. Returns the gross amount in cents."""
        return self._trade(account, parse_cents(net), parse_rate(rate), note)

    def refund(self, account: str, net: str, rate: str = "0%", note: str = "refund") -> int:
        """Book a sale back, tax included. Returns the gross amount in cents (negative)."""
        return self._trade(account, -parse_cents(net), parse_rate(rate), note)

    def _trade(self, account: str, cents: int, rate: Fraction, note: str) -> int:
        tax = share_of(cents, rate)
        self.post_entry(account, SALES_ACCOUNT, cents, note)
        if tax:
            self.post_entry(account, TAX_ACCOUNT, tax, f"tax on {note}")
        return cents + tax

    def split(self, debits: list[str], credit: str, amount: str, note: str = "") -> list[Entry]:
        """Book an amount in nearly equal parts on several accounts."""
        parts = allocate(parse_cents(amount), len(debits))
        return [self.post_entry(debit, credit, part, note) for debit, part in zip(debits, parts)]

    def balances(self) -> dict[str, int]:
        """The balance of every account in cents, by name."""
        sums: defaultdict[str, int] = defaultdict(int)
        for entry in self.entries:
            sums[entry.debit] += entry.cents
            sums[entry.credit] -= entry.cents
        return dict(sorted(sums.items()))

    def balance(self, account: str) -> int:
        """The balance of one account in cents; 0 where nothing was booked."""
        return self.balances().get(account, 0)

    def history(self, account: str) -> Iterator[tuple[Entry, int]]:
        """The entries that touch an account, each with the balance after it."""
        total = 0
        for entry in self.entries:
            if account == entry.debit:
                total += entry.cents
            elif account == entry.credit:
                total -= entry.cents
            else:
                continue
            yield entry, total

    def converted(self, currency: str, rate: Fraction) -> dict[str, int]:
        """All balances in another currency, `rate` units of it for one of ours."""
        if currency == self.currency:
            return self.balances()
        return {name: share_of(cents, rate) for name, cents in self.balances().items()}
