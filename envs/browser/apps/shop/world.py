"""What is in the shop: products, reviews, customers and their orders, drawn from a seed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pivotgym.envs.browser.apps.draw import Draw, database, earlier, insert, people, place

SCHEMA = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")
CUSTOMER = 1
"""The customer the tasks are about."""
DAY = 24 * 60
COUNTRIES = ("Norland", "Estmark", "Valoria")
SIZES = ("Small", "Medium", "Large")
REASONS = ("Damaged on arrival", "Wrong item", "Does not fit", "Not as described", "Changed my mind")
REFUNDS = {"card": "Original payment method", "credit": "Store credit"}
STATUSES = ("Processing", "Shipped", "Delivered", "Cancelled")

_SERIES = (
    *("Harbour", "Linden", "Fjord", "Meadow", "Atlas", "Pebble", "Juniper", "Cove", "Ember", "Willow", "Tundra"),
    *("Sable", "Marlow", "Quill", "Rowan", "Halden"),
)
_BRANDS = ("Nordvik", "Casa Lume", "Oak & Iron", "Ferrow", "Tilde")
_COLOURS = ("Black", "White", "Sand", "Moss green", "Navy", "Rust", "Grey")
_CARE = {
    "Textiles": ("Machine wash at 30 degrees.", "Machine wash at 60 degrees.", "Hand wash only."),
    "Kitchen": ("Dishwasher safe.", "Wash by hand.", "Rinse and dry at once."),
    "Garden": ("Take it inside in winter.", "Rinse with water.", "Oil once a year."),
}
_DRY = ("Wipe with a dry cloth.", "Wipe with a damp cloth.", "Dust now and then.")
_PRAISE = (
    *("Looks even better than in the pictures.", "Arrived quickly and well packed.", "Feels solid and well made."),
    *("Goes with everything we have.", "Exactly what I was looking for.", "A good present, too."),
)
_BLAME = (
    *("The colour is a bit darker than shown.", "One corner was scratched.", "Smaller than I had expected."),
    *("The instructions could be clearer.", "It wobbles a little.", "A bit pricey for what it is."),
)
_TITLES = {
    5: ("Love it", "Perfect", "Would buy again"),
    4: ("Very good", "Nearly perfect", "Happy with it"),
    3: ("It is all right", "Mixed feelings", "Does the job"),
    2: ("Not convinced", "Expected more", "Meh"),
    1: ("Disappointed", "Sent it back", "Avoid"),
}


@dataclass(frozen=True)
class _Kind:
    noun: str
    low: int
    high: int
    weight: int
    materials: Sequence[str]
    sized: bool


_CATEGORIES: dict[str, Sequence[_Kind]] = {
    "Lighting": (
        _Kind("table lamp", 29, 89, 1800, ("Brass", "Ceramic", "Oak"), False),
        _Kind("pendant light", 45, 140, 2400, ("Glass", "Steel", "Paper"), True),
        _Kind("candle holder", 9, 35, 600, ("Iron", "Glass", "Brass"), False),
    ),
    "Kitchen": (
        _Kind("cutting board", 15, 49, 1200, ("Oak", "Bamboo", "Beech"), True),
        _Kind("kettle", 25, 79, 1500, ("Steel", "Enamel"), False),
        _Kind("mixing bowl", 12, 38, 900, ("Steel", "Ceramic", "Glass"), True),
    ),
    "Textiles": (
        _Kind("wool throw", 39, 119, 1300, ("Wool", "Merino wool"), True),
        _Kind("cushion cover", 12, 32, 300, ("Linen", "Cotton", "Velvet"), True),
        _Kind("bath towel", 14, 42, 700, ("Cotton", "Bamboo fibre"), True),
    ),
    "Furniture": (
        _Kind("stool", 49, 129, 4200, ("Oak", "Beech", "Steel"), False),
        _Kind("bookcase", 99, 289, 18500, ("Oak", "Pine"), True),
        _Kind("side table", 59, 179, 6400, ("Walnut", "Glass", "Marble"), False),
    ),
    "Garden": (
        _Kind("planter", 19, 69, 2600, ("Terracotta", "Concrete", "Zinc"), True),
        _Kind("watering can", 15, 45, 800, ("Zinc", "Steel"), False),
        _Kind("bird house", 17, 39, 1100, ("Pine", "Larch"), False),
    ),
}


def shop_world(seed: str) -> sqlite3.Connection:
    """A shop with forty-five products, nine customers and a history; the same for the same seed."""
    return database(SCHEMA, Draw(seed, "shop"), _fill)


def _fill(db: sqlite3.Connection, draw: Draw) -> None:
    for code, name, price, days in (
        ("standard", "Standard", 490, "3 to 5 working days"),
        ("express", "Express", 1290, "next working day"),
        ("pickup", "Collect in store", 0, "ready in 2 days"),
    ):
        insert(db, "shipping_methods", code=code, name=name, price=price, days=days)
    for code, percent, minimum in (("SPRING10", 10, 3000), ("HOME15", 15, 8000), ("NORTH20", 20, 20000)):
        insert(db, "coupons", code=code, percent=percent, minimum=minimum)
    _customers(db, draw)
    for number, (category, kinds) in enumerate(_CATEGORIES.items(), 1):
        insert(db, "categories", id=number, slug=category.lower(), name=category)
        for kind in kinds:
            for series in draw.some(_SERIES, 3):
                _product(db, draw, number, kind, series, draw.pick(_CARE.get(category, _DRY)))
    _reviews(db, draw)
    _history(db, draw)


def _customers(db: sqlite3.Connection, draw: Draw) -> None:
    for number, name in enumerate(people(draw, 9), CUSTOMER):
        mail = name.lower().replace(" ", ".") + "@example.com"
        password = f"{draw.pick(_SERIES).lower()}-{draw.number(100, 999)}"
        insert(
            db,
            "customers",
            id=number,
            name=name,
            email=mail,
            password=password,
            joined=earlier(draw.number(300, 900) * DAY),
            phone=f"0{draw.number(100, 999)} {draw.number(100000, 999999)}",
        )
        country = draw.pick(COUNTRIES)
        for label in ("Home", "Office", "Parents") if number == CUSTOMER else ("Home",):
            street, postcode, city = place(draw)
            recipient = name if label != "Parents" else f"{draw.pick(('Erik', 'Marta', 'Rosa'))} {name.split()[1]}"
            address = insert(
                db,
                "addresses",
                customer_id=number,
                label=label,
                recipient=recipient,
                street=street,
                postcode=postcode,
                city=city,
                country=country,
            )
            if label == "Home":
                db.execute("UPDATE customers SET default_address = ? WHERE id = ?", (address, number))


def _product(db: sqlite3.Connection, draw: Draw, category: int, kind: _Kind, series: str, care: str) -> None:
    material = draw.pick(kind.materials)
    name = f"{series} {kind.noun}"
    text = (
        f"The {name} is made of {material.lower()} and finished by hand. "
        f"{draw.pick(('A quiet piece for every room.', 'Made to last.', 'Part of our classic range.'))}"
    )
    product = insert(
        db,
        "products",
        category_id=category,
        name=name,
        brand=draw.pick(_BRANDS),
        description=text,
        material=material,
        weight_g=kind.weight + 10 * draw.number(-kind.weight // 50, kind.weight // 50),
        warranty_months=draw.pick((12, 24, 36, 60)),
        care=care,
        added=earlier(draw.number(20, 700) * DAY),
    )
    price = 100 * draw.number(kind.low, kind.high) - draw.pick((1, 5, 10, 50))
    for colour in draw.some(_COLOURS, draw.number(2, 3)):
        for step, size in enumerate(SIZES if kind.sized else ("One size",)):
            stock = 0 if draw.chance(0.12) else draw.number(3, 24)
            extra = step * 100 * max(1, price // 500)
            insert(db, "variants", product_id=product, colour=colour, size=size, price=price + extra, stock=stock)


def _reviews(db: sqlite3.Connection, draw: Draw) -> None:
    for (product,) in db.execute("SELECT id FROM products ORDER BY id").fetchall():
        others = range(CUSTOMER + 1, CUSTOMER + 9)
        lean = draw.number(2, 5)
        for customer in draw.some(others, draw.number(2, 5)):
            rating = max(1, min(5, lean + draw.number(-1, 1)))
            body = f"{draw.pick(_PRAISE if rating > 2 else _BLAME)} {draw.pick(_BLAME if rating < 5 else _PRAISE)}"
            insert(
                db,
                "reviews",
                product_id=product,
                customer_id=customer,
                rating=rating,
                title=draw.pick(_TITLES[rating]),
                body=body,
                created=earlier(draw.number(5, 300) * DAY),
            )


def _history(db: sqlite3.Connection, draw: Draw) -> None:
    """Orders of every customer: one each, but seven of the first one, all of different products."""
    number = draw.number(20400, 21000)
    stocked = db.execute("SELECT id, product_id FROM variants WHERE stock > 0 ORDER BY id").fetchall()
    variants = [row["id"] for row in stocked]
    owners = [(other, "Delivered") for other in range(2, 10)]
    owners += [(CUSTOMER, status) for status in (*("Delivered",) * 4, "Shipped", "Processing", "Processing")]
    products = draw.some(sorted({row["product_id"] for row in stocked}), 14)
    mine = [draw.pick([row["id"] for row in stocked if row["product_id"] == product]) for product in products]
    for count, (owner, status) in enumerate(owners):
        number += draw.number(1, 9)
        days = {"Delivered": 200 - 12 * count, "Shipped": 3, "Processing": 1}[status]
        lines = [mine.pop() for _ in range(2)] if owner == CUSTOMER else draw.some(variants, 2)
        place_order(db, draw, number, owner, status, lines, days * DAY - 7 * count)


def place_order(
    db: sqlite3.Connection, draw: Draw, number: int, owner: int, status: str, variants: Sequence[int], ago: int
) -> None:
    """Adds an order of the past, sent to the customer's default address, ``ago`` minutes ago."""
    address = db.execute(
        "SELECT a.* FROM addresses a JOIN customers c ON c.default_address = a.id WHERE c.id = ?", (owner,)
    ).fetchone()
    lines = []
    for variant in dict.fromkeys(variants):
        price = db.execute("SELECT price FROM variants WHERE id = ?", (variant,)).fetchone()[0]
        lines.append((variant, draw.pick((1, 1, 2)), price))
    code = draw.pick(("standard", "express"))
    fee = db.execute("SELECT price FROM shipping_methods WHERE code = ?", (code,)).fetchone()[0]
    insert(
        db,
        "orders",
        id=number,
        customer_id=owner,
        status=status,
        placed=earlier(ago),
        recipient=address["recipient"],
        street=address["street"],
        postcode=address["postcode"],
        city=address["city"],
        country=address["country"],
        shipping=code,
        shipping_price=fee,
        total=fee + sum(quantity * price for _, quantity, price in lines),
    )
    for variant, quantity, price in lines:
        insert(db, "order_lines", order_id=number, variant_id=variant, quantity=quantity, price=price)
