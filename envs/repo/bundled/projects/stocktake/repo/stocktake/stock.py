"""Amounts of items at places."""

from stocktake.book import changes
from stocktake.errors import OutOfStock, UnknownPlace


def check_amount(amount):
    """Raise ValueError unless ``amount`` is a whole number above zero."""
    if not isinstance(amount, int) or amount < 1:
        raise ValueError(f"no amount: {amount!r}")


def on_hand(book, place, item):
    """Return how many of ``item`` are at ``place``."""
    row = book.execute("SELECT amount FROM stock WHERE place = ? AND item = ?", (place, item)).fetchone()
    return row["amount"] if row else 0


def totals(book):
    """Return the amount of each item over all places; items that are out are left out."""
    rows = book.execute("SELECT item, sum(amount) AS amount FROM stock GROUP BY item HAVING sum(amount) > 0")
    return {row["item"]: row["amount"] for row in rows}


def journal(book):
    """Return (place, item, change, reason) of all changes, oldest first."""
    return [tuple(row) for row in book.execute("SELECT place, item, change, reason FROM journal ORDER BY number")]


def check_place(book, place):
    """Raise UnknownPlace unless something was received at ``place``."""
    if book.execute("SELECT 1 FROM stock WHERE place = ?", (place,)).fetchone() is None:
        raise UnknownPlace(place)


def _add(book, place, item, change, reason):
    book.execute(
        "INSERT INTO stock VALUES (?, ?, ?) ON CONFLICT (place, item) DO UPDATE SET amount = amount + excluded.amount",
        (place, item, change),
    )
    book.execute("INSERT INTO journal (place, item, change, reason) VALUES (?, ?, ?, ?)", (place, item, change, reason))


def receive(book, place, item, amount, reason="received"):
    """Add ``amount`` of ``item`` to ``place``."""
    check_amount(amount)
    with changes(book):
        _add(book, place, item, amount, reason)


def issue_item(book, place, item, amount, reason="issued"):
    """Take ``amount`` of ``item`` from ``place``."""
    check_amount(amount)
    with changes(book):
        check_place(book, place)
        there = on_hand(book, place, item)
        if there < amount:
            raise OutOfStock(place, item, amount, there)
        book.execute("UPDATE stock SET amount = amount - ? WHERE place = ? AND item = ?", (amount, place, item))
        book.execute(
            "INSERT INTO journal (place, item, change, reason) VALUES (?, ?, ?, ?)", (place, item, -amount, reason)
        )


def move(book, source, target, item, amount):
    """Take ``amount`` of ``item`` from ``source`` and add it to ``target``, a place that is known."""
    with changes(book):
        issue_item(book, source, item, amount, f"to {target}")
        check_place(book, target)
        receive(book, target, item, amount, f"from {source}")
