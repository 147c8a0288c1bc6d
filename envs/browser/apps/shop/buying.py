"""Tasks about buying: finding the right article, the cart, the checkout."""

from __future__ import annotations

import sqlite3

from pivotgym.envs.browser.apps.draw import Draw, people, place
from pivotgym.envs.browser.apps.shop.picking import (
    Row,
    address,
    address_line,
    bought,
    described,
    fill_cart,
    full_name,
    lines,
    method,
    options,
    orders,
    search,
    sibling,
    variants,
)
from pivotgym.envs.browser.apps.shop.site import money
from pivotgym.envs.browser.apps.shop.world import COUNTRIES, CUSTOMER
from pivotgym.envs.browser.apps.spec import (
    Built,
    Step,
    added,
    changed,
    choose,
    count,
    fill,
    link,
    pick,
    press,
    removed,
    say,
    tick,
)

TERMS = [tick("I accept the terms of sale"), press("Place order")]
CHECKOUT = [link("Cart"), link("Go to checkout")]


def buy_article(db: sqlite3.Connection, draw: Draw) -> Built:
    """Exactly this article, colour, size and number, to the default address."""
    (variant,) = variants(db, draw, 1, stock=8)
    quantity = draw.number(2, 4)
    other = sibling(db, variant)

    def script(which: Row, pieces: int) -> list[Step]:
        return [
            *search(which["name"]),
            *options(which),
            count("Quantity", pieces),
            press("Add to cart"),
            *CHECKOUT,
            *TERMS,
            say(f"I have ordered {pieces} × {full_name(which)}."),
        ]

    return Built(
        f"Please order {quantity} of the {described(variant)}. Standard delivery to my usual address is fine.",
        script(variant, quantity),
        {
            "another colour or size": script(other, quantity),
            "another number": script(variant, quantity - 1),
            "never ordered": [*script(variant, quantity)[:7], say("It is in the cart.")],
        },
        bought(db, [(variant, quantity)], address(db, "Home")),
    )


def cheapest_rated(db: sqlite3.Connection, draw: Draw) -> Built:
    """The cheapest product of a department that customers rate well enough, into the cart."""
    choices = []
    for category in db.execute("SELECT * FROM categories ORDER BY id").fetchall():
        for stars in (4, 3):
            found = db.execute(
                "SELECT p.id, p.name, min(v.price) AS price, (SELECT round(avg(rating), 1) FROM reviews r "
                "WHERE r.product_id = p.id) AS rating FROM products p JOIN variants v ON v.product_id = p.id "
                "WHERE p.category_id = ? GROUP BY p.id ORDER BY price, p.name",
                (category["id"],),
            ).fetchall()
            good = [row for row in found if row["rating"] >= stars]
            if len(good) > 1 and good[0]["price"] < good[1]["price"] and good[0]["id"] != found[0]["id"]:
                choices.append((category["name"], stars, good[0], found[0]))
    department, stars, best, tempting = draw.pick(choices)

    def script(product: Row, filters: bool) -> tuple[list[Step], Row]:
        query = "SELECT * FROM variants WHERE product_id = ? ORDER BY stock = 0, price, id LIMIT 1"
        chosen = db.execute(query, (product["id"],)).fetchone()
        db.execute("UPDATE variants SET stock = max(stock, 4) WHERE id = ?", (chosen["id"],))
        steps = [
            link(department),
            *([choose("Rating", f"{stars} and more")] if filters else []),
            choose("Sort by", "Price: low to high"),
            press("Apply filters"),
            link(product["name"]),
            *options(chosen),
            press("Add to cart"),
            say(f"The {product['name']} is in your cart."),
        ]
        return steps, chosen

    (expert, wanted), (wrong, _) = script(best, True), script(tempting, False)
    size = "" if wanted["size"] == "One size" else f", size {wanted['size']}"
    return Built(
        f"Which is the cheapest product in the department {department} (by its lowest price) that customers rate with "
        f"{stars} or more on average? Put one of it in my cart, in {wanted['colour'].lower()}{size}. Don't "
        "order it yet.",
        expert,
        {"the cheapest of all": wrong, "only told": [*expert[:4], say(f"It is the {best['name']}.")]},
        [added("cart_lines", customer_id=CUSTOMER, variant_id=wanted["id"], quantity=1)],
    )


def send_gift(db: sqlite3.Connection, draw: Draw) -> Built:
    """What is in the cart goes to the parents, by express, with a message."""
    items = fill_cart(db, draw, 2)
    note = draw.pick(("Happy birthday, with love!", "All the best for the new flat!", "Thank you for everything!"))
    to = address(db, "Parents")

    def script(label: str, code: str, message: str) -> list[Step]:
        return [
            *CHECKOUT,
            pick(address_line(address(db, label))),
            pick(method(db, code)),
            fill("Gift message (optional)", message),
            *TERMS,
            say("The gift is on its way to your parents."),
        ]

    return Built(
        f"The things in my cart are a present for my parents. Please order them: express, to my parents' address, and "
        f"with this gift message: {note}",
        script("Parents", "express", note),
        {"to another address": script("Office", "express", note), "too slow": script("Parents", "standard", note)},
        bought(db, items, to, shipping="express", note=note),
    )


def order_to_new_address(db: sqlite3.Connection, draw: Draw) -> Built:
    """What is in the cart goes to an address the shop does not know yet."""
    items = fill_cart(db, draw, 1)
    street, postcode, city = place(draw)
    to = {
        "recipient": people(draw, 1)[0],
        "street": street,
        "postcode": postcode,
        "city": city,
        "country": draw.pick(COUNTRIES),
    }

    def script(code: str) -> list[Step]:
        return [
            *CHECKOUT,
            pick("Another address"),
            fill("Recipient", to["recipient"]),
            fill("Street and number", street),
            fill("Postcode", code),
            fill("Town or city", city),
            choose("Country", to["country"]),
            *TERMS,
            say("The order is placed."),
        ]

    return Built(
        f"Order what is in my cart for a friend, standard delivery. It should go to {to['recipient']}, {street}, "
        f"{postcode} {city}, {to['country']}. That is a one-off, no need to save the address.",
        script(postcode),
        {
            "a mistyped postcode": script(postcode[::-1] if postcode != postcode[::-1] else "11111"),
            "to the usual address": [*CHECKOUT, *TERMS, say("The order is placed.")],
        },
        bought(db, items, to),
    )


def use_voucher(db: sqlite3.Connection, draw: Draw) -> Built:
    """The best voucher the cart is large enough for, collected in the store."""
    items = fill_cart(db, draw, 3)
    total = sum(variant["price"] * quantity for variant, quantity in items)
    coupons = db.execute("SELECT * FROM coupons WHERE minimum <= ? ORDER BY percent", (max(total, 3000),)).fetchall()
    if total < 3000:
        db.execute("UPDATE coupons SET minimum = ? WHERE code = 'SPRING10'", (total // 2,))
    best = coupons[-1]["code"]
    others = [row["code"] for row in db.execute("SELECT code FROM coupons ORDER BY percent") if row["code"] != best]

    def script(code: str | None) -> list[Step]:
        enter = [fill("Voucher code (optional)", code)] if code else []
        collect = [pick(method(db, "pickup"))]
        return [*CHECKOUT, *collect, *enter, *TERMS, say("The order is placed, with the voucher.")]

    rules = db.execute("SELECT * FROM coupons ORDER BY percent").fetchall()
    listed = "; ".join(f"{row['code']}: {row['percent']}% from {money(row['minimum'])}" for row in rules)
    return Built(
        f"I have three vouchers, of which one order can use one ({listed}; what counts is the price of the "
        "items). Order "
        "what is in my cart with the voucher that saves most. I will collect it in the store.",
        script(best),
        {"without": script(None), "another voucher": script(others[0])},
        bought(db, items, address(db, "Home"), shipping="pickup", coupon=best),
    )


def tidy_cart(db: sqlite3.Connection, draw: Draw) -> Built:
    """One line in another number, one line out."""
    (first, old), (second, _), (third, _) = fill_cart(db, draw, 3)
    quantity = old + draw.number(1, 2)

    def script(gone: Row) -> list[Step]:
        return [
            link("Cart"),
            count(f"Quantity of {full_name(first)}", quantity),
            press("Update quantities"),
            press(f"Remove {full_name(gone)}"),
            say("Your cart is as you want it."),
        ]

    expert = script(second)
    return Built(
        f"In my cart, make it {quantity} of the {described(first)}, and take the {described(second)} out. Leave "
        "the rest, "
        "and don't order yet.",
        expert,
        {"another line": script(third), "not sent": [*expert[:2], *expert[3:]]},
        [
            changed("cart_lines", {"customer_id": CUSTOMER, "variant_id": first["id"]}, quantity=quantity),
            removed("cart_lines", customer_id=CUSTOMER, variant_id=second["id"]),
        ],
    )


def order_again(db: sqlite3.Connection, draw: Draw) -> Built:
    """An old order once more, another way of delivery."""
    old, other = draw.some(orders(db, "Delivered"), 2)
    db.execute("UPDATE variants SET stock = stock + 5 WHERE id IN (SELECT variant_id FROM order_lines)")
    items = []
    for line in lines(db, old["id"]):
        items.append(
            (db.execute("SELECT * FROM variants WHERE id = ?", (line["variant_id"],)).fetchone(), line["quantity"])
        )
    names = " and the ".join(line["name"] for line in lines(db, old["id"]))

    def script(order: int, code: str) -> list[Step]:
        return [
            link("Orders"),
            link(f"Order {order}"),
            press("Order again"),
            link("Go to checkout"),
            pick(method(db, code)),
            *TERMS,
            say("I have ordered the same again."),
        ]

    return Built(
        f"I once ordered the {names} together. Please order exactly the same again, with express delivery to my usual "
        "address.",
        script(old["id"], "express"),
        {"another order": script(other["id"], "express"), "too slow": script(old["id"], "standard")},
        bought(db, items, address(db, "Home"), shipping="express"),
    )
