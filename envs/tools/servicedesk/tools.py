"""The service desk's tools: 14 typed functions over its SQLite database.

They check ids, ownership and what is physically possible. The desk's rules (deadlines, limits, priorities) are the
agent's business: a tool does not stop an agent that breaks them.
"""

from __future__ import annotations

import json
import re
import sqlite3
from datetime import date
from typing import Any

from pivotgym.envs.tools.schema import ToolError

TODAY = date(2026, 3, 10)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"),
    "December",
)


def login(db: sqlite3.Connection, contact: str, pin: str | int) -> str:
    """Logs the customer in; shows tier and orders.

    Args:
        contact: e-mail or phone.
        pin: four digits.
    """
    contact = contact.strip().lower()
    digits = re.sub(r"\D", "", contact)
    row = db.execute("SELECT * FROM customers WHERE email = ?", (contact,)).fetchone()
    if row is None and digits and "@" not in contact:
        row = db.execute("SELECT * FROM customers WHERE replace(phone, '-', '') = ?", (digits,)).fetchone()
    if row is None:
        raise ToolError("unknown contact")
    if str(pin).strip() != row["pin"]:
        raise ToolError("wrong PIN")
    db.execute("INSERT OR REPLACE INTO session VALUES (1, ?)", (row["id"],))
    orders = db.execute("SELECT id, item FROM orders WHERE customer = ? ORDER BY id", (row["id"],))
    return _compact({"tier": row["tier"], "orders": {order["id"]: order["item"] for order in orders}})


def get_order(db: sqlite3.Connection, order: str) -> str:
    """Shows days since delivery and price; before delivery the status and when it should arrive."""
    row = _order(db, order)
    if row["status"] == "delivered":
        return _compact({"days": row["days"], "price": row["price"]})
    if row["eta"] is None:
        return _compact({"status": row["status"]})
    return _compact({"status": row["status"], "eta": say_date(date.fromisoformat(row["eta"]))})


def refund(db: sqlite3.Connection, order: str, amount: float) -> str:
    """Pays money back for a delivered order.

    Args:
        order: order id.
        amount: at most the price.
    """
    row = _order(db, order)
    if row["status"] != "delivered":
        raise ToolError(f"{row['id']} is {row['status']}")
    if not 0 < amount <= row["price"]:
        raise ToolError("amount must be above 0 and at most the price")
    if db.execute("SELECT 1 FROM refunds WHERE order_id = ?", (row["id"],)).fetchone():
        raise ToolError(f"{row['id']} is refunded already")
    db.execute("INSERT INTO refunds VALUES (?, ?)", (row["id"], float(amount)))
    return "ok"


def cancel(db: sqlite3.Connection, order: str) -> str:
    """Cancels an order that is not delivered."""
    row = _order(db, order)
    if row["status"] not in ("open", "shipped"):
        raise ToolError(f"{row['id']} is {row['status']}")
    db.execute("UPDATE orders SET status = 'cancelled' WHERE id = ?", (row["id"],))
    return "ok"


def replace(db: sqlite3.Connection, order: str) -> str:
    """Sends a new item for a delivered order; shows the new order."""
    row = _order(db, order)
    if row["status"] != "delivered":
        raise ToolError(f"{row['id']} is {row['status']}")
    new = _next(db, "O")
    db.execute("INSERT INTO orders VALUES (?, ?, ?, 0, 'open', NULL, NULL)", (new, row["customer"], row["item"]))
    db.execute("UPDATE orders SET status = 'replaced' WHERE id = ?", (row["id"],))
    return _compact({"order": new})


def repair(db: sqlite3.Connection, order: str) -> str:
    """Orders a repair of a delivered item; shows its number."""
    row = _order(db, order)
    if row["status"] != "delivered":
        raise ToolError(f"{row['id']} is {row['status']}")
    if db.execute("SELECT 1 FROM repairs WHERE order_id = ?", (row["id"],)).fetchone():
        raise ToolError(f"{row['id']} is in repair already")
    new = _next(db, "R")
    db.execute("INSERT INTO repairs VALUES (?, ?)", (new, row["id"]))
    return _compact({"repair": new})


def book(db: sqlite3.Connection, order: str, day: str) -> str:
    """Books a technician.

    Args:
        order: order id.
        day: a date.
    """
    row = _order(db, order)
    when = parse_date(day)
    if when <= TODAY:
        raise ToolError("the day is over")
    full = db.execute("SELECT next FROM full_days WHERE date = ?", (when.isoformat(),)).fetchone()
    if full is not None:
        raise ToolError(f"full, next {say_date(date.fromisoformat(full['next']))}")
    db.execute("INSERT OR REPLACE INTO visits VALUES (?, ?)", (row["id"], when.isoformat()))
    return "ok"


def open_ticket(db: sqlite3.Connection, topic: str, priority: str) -> str:
    """Opens a ticket about a fault.

    Args:
        topic: what has the fault.
        priority: normal, high or urgent.
    """
    priority = priority.strip().lower()
    if priority not in ("normal", "high", "urgent"):
        raise ToolError("priority must be normal, high or urgent")
    topic = re.sub(r"^(my|the|a) ", "", topic.strip().lower())
    new = _next(db, "T")
    db.execute("INSERT INTO tickets VALUES (?, ?, ?, ?, 'open', 0)", (new, _customer(db), topic, priority))
    return _compact({"ticket": new})


def get_ticket(db: sqlite3.Connection, id: str) -> str:
    """Shows a ticket's status and age in days."""
    row = _ticket(db, id)
    return _compact({"status": row["status"], "days": row["days"]})


def close_ticket(db: sqlite3.Connection, id: str) -> str:
    """Closes a ticket."""
    row = _ticket(db, id)
    if row["status"] == "closed":
        raise ToolError(f"{row['id']} is closed already")
    db.execute("UPDATE tickets SET status = 'closed' WHERE id = ?", (row["id"],))
    return "ok"


def escalate(db: sqlite3.Connection, id: str) -> str:
    """Hands an order or ticket to a manager; shows the case."""
    about = _order(db, id)["id"] if _id(id).startswith("O") else _ticket(db, id)["id"]
    if db.execute("SELECT 1 FROM escalations WHERE about = ?", (about,)).fetchone():
        raise ToolError(f"{about} is escalated already")
    new = _next(db, "E")
    db.execute("INSERT INTO escalations VALUES (?, ?)", (new, about))
    return _compact({"case": new})


def set_address(db: sqlite3.Connection, address: str) -> str:
    """Changes the customer's address."""
    address = " ".join(address.replace(",", " ").strip(" .").title().split())
    if not address:
        raise ToolError("empty address")
    db.execute("UPDATE customers SET address = ? WHERE id = ?", (address, _customer(db)))
    return "ok"


def reset_password(db: sqlite3.Connection) -> str:
    """Resets the password; shows the new code."""
    customer = _customer(db)
    db.execute("UPDATE customers SET password_reset = 1 WHERE id = ?", (customer,))
    row = db.execute("SELECT code FROM customers WHERE id = ?", (customer,)).fetchone()
    return _compact({"code": row["code"]})


def note(db: sqlite3.Connection, topic: str) -> str:
    """Notes a refused request.

    Args:
        topic: refund or cancel.
    """
    db.execute("INSERT INTO notes (customer, topic) VALUES (?, ?)", (_customer(db), topic.strip().lower()))
    return "ok"


FUNCTIONS = (
    login,
    get_order,
    refund,
    cancel,
    replace,
    repair,
    book,
    open_ticket,
    get_ticket,
    close_ticket,
    escalate,
    set_address,
    reset_password,
    note,
)


def _customer(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT customer FROM session").fetchone()
    if row is None:
        raise ToolError("log in first")
    return int(row["customer"])


def _id(text: str) -> str:
    return text.strip().lstrip("#").upper()


def _order(db: sqlite3.Connection, order: str) -> sqlite3.Row:
    return _owned(db, "orders", "order", order)


def _ticket(db: sqlite3.Connection, ticket: str) -> sqlite3.Row:
    return _owned(db, "tickets", "ticket", ticket)


def _owned(db: sqlite3.Connection, table: str, what: str, id: str) -> sqlite3.Row:
    query = f"SELECT * FROM {table} WHERE id = ? AND customer = ?"
    row: sqlite3.Row | None = db.execute(query, (_id(id), _customer(db))).fetchone()
    if row is None:
        raise ToolError(f"this customer has no {what} {_id(id)[:20]}")
    return row


def _next(db: sqlite3.Connection, letter: str) -> str:
    row = db.execute("SELECT next FROM counters WHERE letter = ?", (letter,)).fetchone()
    db.execute("UPDATE counters SET next = next + 1 WHERE letter = ?", (letter,))
    return f"{letter}{row['next']}"


def say_date(day: date) -> str:
    """``14 March``: short, because numbers cost a small model a token a digit."""
    return f"{day.day} {_MONTHS[day.month - 1]}"


def parse_date(text: str) -> date:
    """ISO, ``14 March``, ``March 14`` or ``14.3.``, each with or without the year."""
    words = re.findall(r"[a-z]+|\d+", text.lower())
    # Longer ones are part of no date, and int() and date() refuse them with errors of their own.
    numbers = [int(word) for word in words if word.isdigit() and len(word) <= 4]
    names = [i for word in words for i, month in enumerate(_MONTHS, 1) if word.startswith(month[:3].lower())]
    try:
        if any(word.isdigit() and len(word) > 4 for word in words):
            raise ValueError("no part of a date has so many digits")
        if re.fullmatch(r"\s*\d{4}-\d{1,2}-\d{1,2}\s*", text):
            return date(*numbers)
        if names and numbers:
            return date(numbers[1] if len(numbers) > 1 else TODAY.year, names[0], numbers[0])
        if len(numbers) in (2, 3) and "." in text:
            return date(numbers[2] if len(numbers) > 2 else TODAY.year, numbers[1], numbers[0])
    except (ValueError, OverflowError):
        pass
    raise ToolError("the day is no date, write it like 14 March")


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
