"""The desk's little world for one task: the customer, other customers, orders, tickets, drawn from a seed."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib.resources import files
from typing import TypeVar

from pivotgym.envs.tools.servicedesk.tools import TODAY
from pivotgym.envs.tools.sqlite_state import memory_database

T = TypeVar("T")

SCHEMA = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")

FIRST_NAMES = {
    "train": (
        *("ana", "ben", "cleo", "dan", "eva", "finn", "gina", "hugo", "ida", "jon", "kira", "leo", "mia", "nils"),
        *("ola", "pia", "rob", "sara", "tim", "uma", "vera", "will"),
    ),
    "heldout": (
        *("alma", "bruno", "carla", "dirk", "elsa", "felix", "greta", "hanno", "iris", "jack", "lena", "max"),
        *("nora", "otto", "paula", "rita", "sam", "tessa"),
    ),
    "long": (
        *("arthur", "bella", "colin", "dora", "emil", "frida", "georg", "helga", "igor", "judith", "karl", "lydia"),
        *("marek", "nadia", "oskar", "petra", "rosa", "stefan"),
    ),
}
SURNAMES = {
    "train": (
        *("bell", "cole", "dunn", "ford", "gray", "hill", "kent", "lane", "mann", "nash", "page", "reed", "shaw"),
        *("todd", "vance", "ward", "york"),
    ),
    "heldout": (
        *("bond", "cox", "dale", "fox", "grant", "hunt", "king", "lowe", "mills", "noble", "price", "rose"),
        *("stone", "tate", "wells", "young"),
    ),
    "long": (
        *("adams", "baker", "carter", "drake", "ellis", "frost", "green", "hayes", "irwin", "jones", "knight"),
        *("lloyd", "marsh", "norris", "parker", "quinn"),
    ),
}
STREETS = {
    "train": ("Oak Street", "Elm Road", "Mill Lane", "Park Avenue", "Hill Road", "River Street", "Church Lane"),
    "heldout": ("Lake Street", "Pine Road", "Garden Lane", "King Avenue", "Bridge Road", "Station Street"),
    "long": ("Forest Street", "Castle Road", "Harbour Lane", "Queen Avenue", "Valley Road", "Market Street"),
}
IDS = {"train": range(12, 90, 2), "heldout": range(13, 90, 2), "long": range(1000, 2000)}
"""Numbers of the orders and tickets there are; short ones where prompts must be short."""
NEW_IDS = {"train": range(100, 901, 2), "heldout": range(101, 902, 2), "long": range(3000, 9000)}
"""Where the numbers of new orders, tickets, repairs and escalations begin."""
ITEMS = (
    *("lamp", "kettle", "oven", "chair", "desk", "camera", "printer", "heater", "mixer", "radio", "drill", "clock"),
    *("fan", "bike", "toaster", "sofa"),
)
TOPICS = ("wifi", "email", "phone", "printer", "laptop", "tv", "router")
STATUSES = ("open", "planned", "waiting")
DOMAINS = ("mail.com", "post.net")


class Draw:
    """Random choices that stay the same over Python versions: only ``Random.random`` is guaranteed to."""

    def __init__(self, *seed: object) -> None:
        self._random = random.Random("/".join(map(str, seed)))

    def number(self, low: int, high: int, step: int = 1) -> int:
        """A whole number from ``low`` to ``high``, both included, in steps."""
        return low + step * int(self._random.random() * ((high - low) // step + 1))

    def pick(self, values: Sequence[T]) -> T:
        """One of ``values``."""
        return values[int(self._random.random() * len(values))]

    def some(self, values: Sequence[T], count: int) -> list[T]:
        """``count`` different ones of ``values``."""
        rest = list(values)
        return [rest.pop(int(self._random.random() * len(rest))) for _ in range(count)]

    def chance(self, share: float) -> bool:
        """True in ``share`` of the cases."""
        return self._random.random() < share


@dataclass
class Order:
    """One order; ``days`` since delivery, or the day it should arrive (``eta``)."""

    id: str
    item: str
    price: int
    status: str
    days: int | None = None
    eta: date | None = None


@dataclass
class Ticket:
    """One ticket."""

    id: str
    topic: str
    status: str
    days: int
    priority: str = "normal"


@dataclass
class Customer:
    """A customer with everything they own."""

    name: str
    email: str
    phone: str
    pin: str
    tier: str
    address: str
    code: str
    orders: list[Order] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)


@dataclass
class World:
    """Everything in the database of one task; the first customer is the one who writes."""

    customers: list[Customer]
    counters: dict[str, int]
    full_days: dict[date, date] = field(default_factory=dict)

    def database(self) -> sqlite3.Connection:
        """A new in-memory database of this world."""
        db = memory_database(SCHEMA)
        for number, customer in enumerate(self.customers, 1):
            about = (customer.name, customer.email, customer.phone, customer.pin, customer.tier, customer.address)
            db.execute("INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", (number, *about, customer.code))
            for order in customer.orders:
                eta = order.eta.isoformat() if order.eta else None
                row = (order.id, number, order.item, order.price, order.status, order.days, eta)
                db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            for ticket in customer.tickets:
                fault = (ticket.id, number, ticket.topic, ticket.priority, ticket.status, ticket.days)
                db.execute("INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?)", fault)
        db.executemany("INSERT INTO counters VALUES (?, ?)", sorted(self.counters.items()))
        days = sorted((full.isoformat(), free.isoformat()) for full, free in self.full_days.items())
        db.executemany("INSERT INTO full_days VALUES (?, ?)", days)
        return db


def draw_world(draw: Draw, split: str, orders: int | None = None, tickets: int = 2) -> World:
    """Three customers with two or three orders (or ``orders`` of them) and ``tickets`` tickets each.

    Ids and people are those of the split.
    """
    order_ids = draw.some(IDS[split], 3 * (orders or 3))
    ticket_ids = draw.some(IDS[split], 3 * tickets)
    counters = {letter: draw.pick(NEW_IDS[split]) for letter in "OTRE"}
    people = draw.some([(first, last) for first in FIRST_NAMES[split] for last in SURNAMES[split]], 3)
    phones = draw.some(range(1000, 9999), 3)
    customers = []
    for (first, last), phone in zip(people, phones, strict=True):
        customers.append(
            Customer(
                name=f"{first} {last}".title(),
                email=f"{first}{draw.number(10, 99)}@{draw.pick(DOMAINS)}",
                phone=f"55-{phone}",
                pin=str(draw.number(1000, 9999)),
                tier=draw.pick(("basic", "gold")),
                address=draw_address(draw, split),
                code=draw_code(draw),
            )
        )
        customer = customers[-1]
        count = orders or (2 if draw.chance(0.7) else 3)
        customer.orders = [draw_order(draw, f"O{order_ids.pop()}", item) for item in draw.some(ITEMS, count)]
        customer.tickets = [
            Ticket(f"T{ticket_ids.pop()}", topic, draw.pick(STATUSES), draw.number(1, 12))
            for topic in draw.some(TOPICS, tickets)
        ]
    if len({customer.email for customer in customers}) < len(customers):
        return draw_world(draw, split, orders, tickets)
    return World(customers, counters)


def draw_order(draw: Draw, id: str, item: str) -> Order:
    """An order of any kind."""
    price = 4 * draw.number(3, 24)
    if draw.chance(0.6):
        return Order(id, item, price, "delivered", days=draw.number(1, 500))
    return Order(id, item, price, draw.pick(("open", "shipped")), eta=TODAY + timedelta(draw.number(1, 20)))


def draw_address(draw: Draw, split: str) -> str:
    """A house number and a street of the split."""
    return f"{draw.number(2, 98)} {draw.pick(STREETS[split])}"


def draw_code(draw: Draw) -> str:
    """Four characters that are hard to confuse."""
    return draw.pick("ABCDEFGHKM") + str(draw.number(2, 9)) + draw.pick("NPRSTUVWX") + str(draw.number(2, 9))
