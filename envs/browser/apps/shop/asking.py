"""Tasks about finding out and comparing, and about the wish list."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from pivotgym.envs.browser.apps.draw import Draw, insert
from pivotgym.envs.browser.apps.shop.picking import amount, orders, search
from pivotgym.envs.browser.apps.shop.site import money
from pivotgym.envs.browser.apps.shop.world import CUSTOMER
from pivotgym.envs.browser.apps.spec import Built, Step, added, choose, find, link, press, removed, say


def weigh(db: sqlite3.Connection, draw: Draw) -> Built:
    """How much heavier one product is than another."""
    rows = db.execute("SELECT * FROM products ORDER BY id").fetchall()
    light, heavy = sorted(draw.some(rows, 2), key=lambda row: int(row["weight_g"]))
    if light["weight_g"] == heavy["weight_g"]:
        db.execute("UPDATE products SET weight_g = weight_g + 70 WHERE id = ?", (heavy["id"],))
        heavy = db.execute("SELECT * FROM products WHERE id = ?", (heavy["id"],)).fetchone()
    grams = heavy["weight_g"] - light["weight_g"]
    first, second = draw.some((light, heavy), 2)
    look = [*search(first["name"]), *search(second["name"])]
    return Built(
        f"By how many grams is the {heavy['name']} heavier than the {light['name']}? Tell me the number only.",
        [*look, say(f"{grams} g")],
        {
            "a weight": [*look, say(f"{heavy['weight_g']} g")],
            "many numbers": [say(f"{grams - 10}, {grams} or {grams + 10}")],
            "something bought": [*search(first["name"]), press("Save to wish list"), say(f"{grams} g")],
        },
        answer=[str(grams), f"{grams}g"],
    )


def open_orders_total(db: sqlite3.Connection, draw: Draw) -> Built:
    """What two orders cost together."""
    first, second = draw.some(orders(db, "Processing"), 2)
    total = first["total"] + second["total"]
    look = [
        link("Orders"),
        choose("Status", "Processing"),
        press("Show"),
        link(f"Order {first['id']}"),
        link("Orders"),
        link(f"Order {second['id']}"),
    ]
    return Built(
        "I have two orders that are still being processed. What do they cost me altogether, delivery included? "
        "Just tell "
        "me the amount.",
        [*look, say(money(total))],
        {
            "one of them": [*look, say(money(first["total"]))],
            "without delivery": [*look, say(money(total - first["shipping_price"] - second["shipping_price"]))],
        },
        answer=amount(total),
    )


def critic(db: sqlite3.Connection, draw: Draw) -> Built:
    """Who gave a product its lowest rating."""
    chosen = []
    for product in db.execute("SELECT id, name FROM products ORDER BY id").fetchall():
        reviews = db.execute(
            "SELECT r.rating, c.name FROM reviews r JOIN customers c ON c.id = r.customer_id WHERE product_id = ? "
            "ORDER BY rating, r.id",
            (product["id"],),
        ).fetchall()
        if len(reviews) > 2 and reviews[0]["rating"] < reviews[1]["rating"]:
            chosen.append((product["name"], [row["name"] for row in reviews]))
    name, authors = draw.pick(chosen)
    look = search(name)
    return Built(
        f"Which customer gave the {name} its worst rating? Answer with the full name.",
        [*look, say(authors[0])],
        {"another one": [*look, say(authors[-1])], "everybody": [*look, say(", ".join(authors))]},
        answer=[authors[0]],
        not_said=authors[1:],
    )


def wish_best_rated(db: sqlite3.Connection, draw: Draw) -> Built:
    """The best rated of three products goes on the wish list."""
    rated = db.execute(
        "SELECT p.id, p.name, round(avg(r.rating), 1) AS rating FROM products p JOIN reviews r ON r.product_id = p.id "
        "GROUP BY p.id ORDER BY p.id"
    ).fetchall()
    while True:
        three = draw.some(rated, 3)
        ranked = sorted(three, key=lambda row: -float(row["rating"]))
        if ranked[0]["rating"] > ranked[1]["rating"]:
            break
    best, second = ranked[0], ranked[1]
    looks = [step for row in three if row is not best for step in find(row["name"], "Search products")]

    def script(name: str) -> list[Step]:
        return [*looks, *search(name), press("Save to wish list"), say(f"The {name} is on your wish list.")]

    names = [f"the {row['name']}" for row in three]
    return Built(
        f"I can't decide between {names[0]}, {names[1]} and {names[2]}. Save the one with the best customer "
        "rating to my "
        "wish list.",
        script(best["name"]),
        {"the second best": script(second["name"]), "only told": [*looks, say(f"It is the {best['name']}.")]},
        [added("wishlist", customer_id=CUSTOMER, product_id=best["id"])],
    )


def affordable_wishes(db: sqlite3.Connection, draw: Draw) -> Built:
    """What costs less than a limit moves from the wish list to the cart."""
    rows = db.execute(
        "SELECT p.id, p.name, min(v.price) AS price FROM products p JOIN variants v ON v.product_id = p.id "
        "GROUP BY p.id HAVING min(v.stock) > 0 ORDER BY p.id"
    ).fetchall()
    wishes: list[sqlite3.Row] = []
    while len(wishes) < 4:
        wishes = list({row["price"] // 300: row for row in draw.some(rows, 4)}.values())
    wishes.sort(key=lambda row: int(row["price"]))
    for row in wishes:
        insert(db, "wishlist", customer_id=CUSTOMER, product_id=row["id"])
    limit = (wishes[2]["price"] + wishes[1]["price"]) // 200 * 100 + 100
    if not wishes[1]["price"] < limit <= wishes[2]["price"]:
        limit = wishes[2]["price"] // 100 * 100
    cheap = wishes[:2]

    def move(row: sqlite3.Row) -> Step:
        return press(f"Move {row['name']} to cart")

    def variants_of(row: sqlite3.Row) -> Callable[[int], bool]:
        ids = {found[0] for found in db.execute("SELECT id FROM variants WHERE product_id = ?", (row["id"],))}
        return ids.__contains__

    return Built(
        f"Move everything on my wish list that costs less than {money(limit)} to the cart. The rest stays on the list.",
        [link("Wish list"), *map(move, cheap), say("The affordable ones are in your cart.")],
        {
            "one missing": [link("Wish list"), move(cheap[0]), say("Done.")],
            "one too many": [link("Wish list"), *map(move, wishes[:3]), say("Done.")],
        },
        [
            change
            for row in cheap
            for change in (
                added("cart_lines", customer_id=CUSTOMER, variant_id=variants_of(row), quantity=1),
                removed("wishlist", customer_id=CUSTOMER, product_id=row["id"]),
            )
        ],
    )
