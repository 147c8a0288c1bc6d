"""Orders: made of lines, sent as a whole."""

from stocktake.book import changes
from stocktake.errors import UnknownOrder
from stocktake.stock import check_amount, issue_item


def create_order(book, customer, lines):
    """Enter an order of ``lines`` (item: amount) and return its number."""
    if not lines:
        raise ValueError("an order needs a line")
    with changes(book):
        number = book.execute("INSERT INTO orders (customer) VALUES (?)", (customer,)).lastrowid
        for item, amount in lines.items():
            check_amount(amount)
            book.execute("INSERT INTO order_lines (number, item, amount) VALUES (?, ?, ?)", (number, item, amount))
    return number


def order_state(book, number):
    """Return the state of an order (``open`` or ``sent``) and how many of each item were sent."""
    row = book.execute("SELECT state FROM orders WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise UnknownOrder(number)
    lines = book.execute("SELECT item, sent FROM order_lines WHERE number = ? ORDER BY rowid", (number,))
    return row["state"], {line["item"]: line["sent"] for line in lines}


def open_orders(book):
    """Return (number, customer) of the orders that are not sent."""
    rows = book.execute("SELECT number, customer FROM orders WHERE state = 'open' ORDER BY number")
    return [tuple(row) for row in rows]


def ship(book, number, place):
    """Take all lines of an open order from ``place`` and mark it as sent."""
    with changes(book):
        if order_state(book, number)[0] != "open":
            raise UnknownOrder(number)
        lines = book.execute(
            "SELECT rowid, item, amount FROM order_lines WHERE number = ? ORDER BY rowid", (number,)
        ).fetchall()
        for line in lines:
            issue_item(book, place, line["item"], line["amount"], f"order {number}")
            book.execute("UPDATE order_lines SET sent = amount WHERE rowid = ?", (line["rowid"],))
        book.execute("UPDATE orders SET state = 'sent' WHERE number = ?", (number,))
