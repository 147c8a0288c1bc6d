"""What the shop's tasks are about: fitting articles, orders and addresses of an instance, and what an order changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from pivotgym.envs.browser.apps.draw import Draw, insert
from pivotgym.envs.browser.apps.shop.site import money
from pivotgym.envs.browser.apps.shop.world import CUSTOMER
from pivotgym.envs.browser.apps.spec import Change, Step, added, changed, choose, find, link, removed

Row = sqlite3.Row


def search(product: str) -> list[Step]:
    """Finds a product by name and opens its page."""
    return [*find(product, "Search products"), link(product)]


def options(variant: Row) -> list[Step]:
    """Chooses colour and size on a product's page."""
    return [choose("Colour", variant["colour"]), choose("Size", variant["size"])]


def variants(db: sqlite3.Connection, draw: Draw, number: int, *, stock: int = 5) -> list[Row]:
    """Well-stocked variants of different products."""
    rows = db.execute(
        "SELECT v.*, p.name FROM variants v JOIN products p ON p.id = v.product_id WHERE v.stock >= ? "
        "AND NOT EXISTS (SELECT 1 FROM cart_lines l WHERE l.variant_id = v.id) ORDER BY v.id",
        (stock,),
    ).fetchall()
    products = draw.some(sorted({row["product_id"] for row in rows}), number)
    return [draw.pick([row for row in rows if row["product_id"] == product]) for product in products]


def sibling(db: sqlite3.Connection, variant: Row) -> Row:
    """Another variant of the same product that is in stock (the task adds stock where there is none)."""
    query = (
        "SELECT v.*, p.name FROM variants v JOIN products p ON p.id = v.product_id WHERE product_id = ? AND v.id <> ?"
    )
    row = db.execute(f"{query} ORDER BY v.stock DESC, v.id LIMIT 1", (variant["product_id"], variant["id"])).fetchone()
    if row["stock"] < 5:
        db.execute("UPDATE variants SET stock = 9 WHERE id = ?", (row["id"],))
    return row  # type: ignore[no-any-return]


def fill_cart(db: sqlite3.Connection, draw: Draw, number: int) -> list[tuple[Row, int]]:
    """Puts articles into the customer's cart; gives variants and quantities."""
    lines = [(variant, draw.number(1, 2)) for variant in variants(db, draw, number)]
    for variant, quantity in lines:
        insert(db, "cart_lines", customer_id=CUSTOMER, variant_id=variant["id"], quantity=quantity)
    return lines


def full_name(variant: Row) -> str:
    """An article as the cart names it."""
    return f"{variant['name']}, {variant['colour']}, {variant['size']}"


def described(variant: Row) -> str:
    """An article as a person would name it."""
    size = "" if variant["size"] == "One size" else f" in size {variant['size']}"
    return f"{variant['name']} in {variant['colour'].lower()}{size.replace(' in', ',')}"


def address(db: sqlite3.Connection, label: str) -> Row:
    """One of the customer's addresses."""
    query = "SELECT * FROM addresses WHERE customer_id = ? AND label = ?"
    return db.execute(query, (CUSTOMER, label)).fetchone()  # type: ignore[no-any-return]


def address_line(row: Row) -> str:
    """An address as the radio buttons name it."""
    return f"{row['label']}: {row['recipient']}, {row['street']}, {row['postcode']} {row['city']}, {row['country']}"


def method(db: sqlite3.Connection, code: str) -> str:
    """A way of delivery as the radio buttons name it."""
    row = db.execute("SELECT * FROM shipping_methods WHERE code = ?", (code,)).fetchone()
    return f"{row['name']} ({money(row['price'])}, {row['days']})"


def orders(db: sqlite3.Connection, status: str) -> list[Row]:
    """The customer's orders in a state."""
    query = "SELECT * FROM orders WHERE customer_id = ? AND status = ? ORDER BY id"
    return db.execute(query, (CUSTOMER, status)).fetchall()


def lines(db: sqlite3.Connection, order: int) -> list[Row]:
    """The lines of an order."""
    return db.execute(
        "SELECT l.*, p.name, p.id AS product_id, v.colour, v.size FROM order_lines l JOIN variants v ON v.id = "
        "l.variant_id "
        "JOIN products p ON p.id = v.product_id WHERE l.order_id = ? ORDER BY l.id",
        (order,),
    ).fetchall()


def bought(
    db: sqlite3.Connection,
    items: Sequence[tuple[Row, int]],
    to: Row | dict[str, str],
    *,
    shipping: str = "standard",
    coupon: str | None = None,
    note: str = "",
) -> list[Change]:
    """What a placed order of these articles changes."""
    fee = db.execute("SELECT price FROM shipping_methods WHERE code = ?", (shipping,)).fetchone()[0]
    total = sum(variant["price"] * quantity for variant, quantity in items)
    percent = db.execute("SELECT percent FROM coupons WHERE code = ?", (coupon,)).fetchone() if coupon else (0,)
    discount = total * percent[0] // 100
    where = {key: to[key] for key in ("recipient", "street", "postcode", "city", "country")}
    changes = [
        added(
            "orders",
            customer_id=CUSTOMER,
            status="Processing",
            shipping=shipping,
            coupon=coupon,
            discount=discount,
            gift_note=note,
            total=total - discount + fee,
            **where,
        )
    ]
    for variant, quantity in items:
        changes.append(added("order_lines", variant_id=variant["id"], quantity=quantity))
        stock = db.execute("SELECT stock FROM variants WHERE id = ?", (variant["id"],)).fetchone()[0]
        changes.append(changed("variants", {"id": variant["id"]}, stock=stock - quantity))
    in_cart = db.execute("SELECT variant_id FROM cart_lines WHERE customer_id = ?", (CUSTOMER,)).fetchall()
    changes += [removed("cart_lines", customer_id=CUSTOMER, variant_id=row["variant_id"]) for row in in_cart]
    return changes


def amount(cents: int) -> list[str]:
    """Ways to write an amount of money."""
    plain = f"{cents // 100}.{cents % 100:02d}"
    return [plain, f"€{plain}", f"{plain}€"] + ([f"{cents // 100}"] if cents % 100 == 0 else [])
