"""The cart and the checkout."""

from __future__ import annotations

import json

from werkzeug.wrappers import Response

from pivotgym.envs.browser.apps.forms import Form
from pivotgym.envs.browser.apps.shop.catalogue import show_product
from pivotgym.envs.browser.apps.shop.site import Visit, routes
from pivotgym.envs.browser.apps.shop.world import COUNTRIES
from pivotgym.envs.browser.apps.web import Row

MOST = 20
"""Pieces of one article in a cart."""


def lines_of(visit: Visit, customer: int) -> list[Row]:
    """The cart."""
    return visit.all(
        "SELECT l.quantity, v.*, v.id AS variant_id, p.name, p.id AS product_id FROM cart_lines l "
        "JOIN variants v ON v.id = l.variant_id JOIN products p ON p.id = v.product_id WHERE l.customer_id = ? "
        "ORDER BY p.name, v.id",
        customer,
    )


def put(visit: Visit, customer: int, variant: int, quantity: int) -> int:
    """Adds pieces to the cart as far as there are any; gives how many are in it then."""
    stock = visit.value("SELECT stock FROM variants WHERE id = ?", variant)
    old = visit.one("SELECT quantity FROM cart_lines WHERE customer_id = ? AND variant_id = ?", customer, variant)
    total = min((old["quantity"] if old else 0) + quantity, stock, MOST)
    if total > 0:
        visit.run("INSERT OR REPLACE INTO cart_lines VALUES (?, ?, ?)", customer, variant, total)
    return int(total)


@routes.post("/products/<int:product>/cart")
def add(visit: Visit, product: int) -> Response:
    """Adds a variant of a product."""
    user = visit.user
    if user is None:
        return visit.redirect(f"/signin?next=/products/{product}")
    form = visit.form
    variants = visit.all("SELECT * FROM variants WHERE product_id = ?", product)
    colour = form.choice("colour", "a colour", {variant["colour"] for variant in variants})
    size = form.choice("size", "a size", {variant["size"] for variant in variants})
    quantity = form.number("quantity", "a quantity", 1, MOST)
    if not form.errors:
        wanted = [variant for variant in variants if (variant["colour"], variant["size"]) == (colour, size)]
        if not wanted or wanted[0]["stock"] < quantity:
            left = wanted[0]["stock"] if wanted else 0
            form.errors["quantity"] = f"Only {left} of these left." if left else "Sold out in this colour and size."
    if form.errors:
        return show_product(visit, product, form.errors, 422)
    put(visit, user["id"], wanted[0]["id"], quantity)
    if visit.http.headers.get("X-Requested-With") == "fetch":
        query = "SELECT sum(quantity) FROM cart_lines WHERE customer_id = ?"
        answer = {"count": visit.value(query, user["id"]), "notice": visit.app.notices["added"]}
        return Response(json.dumps(answer), mimetype="application/json")
    return visit.redirect(f"/products/{product}", "added")


@routes.get("/cart")
def cart(visit: Visit) -> Response:
    """The cart."""
    return _show_cart(visit, {}, 200)


def _show_cart(visit: Visit, errors: dict[str, str], status: int) -> Response:
    lines = lines_of(visit, visit.require_user()["id"])
    total = sum(line["price"] * line["quantity"] for line in lines)
    return visit.page("cart.html.jinja", status, lines=lines, total=total, errors=errors, sent=visit.form)


@routes.post("/cart")
def update(visit: Visit) -> Response:
    """New quantities for all lines."""
    user, form = visit.require_user(), visit.form
    for line in lines_of(visit, user["id"]):
        field = f"quantity-{line['variant_id']}"
        quantity = form.number(field, f"a quantity of {line['name']}", 1, min(MOST, line["stock"]))
        query = "UPDATE cart_lines SET quantity = ? WHERE customer_id = ? AND variant_id = ?"
        visit.run(query, quantity, user["id"], line["variant_id"])
    return _show_cart(visit, form.errors, 422) if form.errors else visit.redirect("/cart", "updated")


@routes.post("/cart/<int:variant>/remove")
def remove(visit: Visit, variant: int) -> Response:
    """Takes a line out."""
    visit.run("DELETE FROM cart_lines WHERE customer_id = ? AND variant_id = ?", visit.require_user()["id"], variant)
    return visit.redirect("/cart", "removed")


@routes.get("/checkout")
def checkout(visit: Visit) -> Response:
    """The checkout form."""
    user = visit.require_user()
    if not lines_of(visit, user["id"]):
        return visit.redirect("/cart")
    sent = {"address": str(user["default_address"] or ""), "shipping": "standard", "coupon": visit.arg("coupon")}
    return _show_checkout(visit, Form(sent), 200)


def _show_checkout(visit: Visit, form: Form, status: int) -> Response:
    user = visit.require_user()
    lines = lines_of(visit, user["id"])
    return visit.page(
        "checkout.html.jinja",
        status,
        lines=lines,
        total=sum(line["price"] * line["quantity"] for line in lines),
        addresses=visit.all("SELECT * FROM addresses WHERE customer_id = ? ORDER BY id", user["id"]),
        methods=visit.all("SELECT * FROM shipping_methods ORDER BY price DESC, code"),
        countries=COUNTRIES,
        sent=form,
        errors=form.errors,
    )


def read_address(form: Form, prefix: str = "") -> dict[str, str]:
    """The fields of an address."""
    return {
        "recipient": form.text(f"{prefix}recipient", "the recipient's name", longest=80),
        "street": form.text(f"{prefix}street", "street and number", longest=80),
        "postcode": form.match(f"{prefix}postcode", "a postcode", r"[0-9]{5}", "of five digits"),
        "city": form.text(f"{prefix}city", "a town or city", longest=60),
        "country": form.choice(f"{prefix}country", "a country", COUNTRIES),
    }


@routes.post("/checkout")
def place(visit: Visit) -> Response:
    """Places the order."""
    user, form = visit.require_user(), visit.form
    lines = lines_of(visit, user["id"])
    if not lines:
        return visit.redirect("/cart")
    addresses = visit.all("SELECT * FROM addresses WHERE customer_id = ?", user["id"])
    chosen = form.choice("address", "a delivery address", [*(row["id"] for row in addresses), "new"])
    if chosen == "new":
        to = read_address(form, "new-")
    else:
        to = {key: row[key] for row in addresses if str(row["id"]) == chosen for key in row.keys()}  # noqa: SIM118
    method = form.choice(
        "shipping", "a way of delivery", [r["code"] for r in visit.all("SELECT * FROM shipping_methods")]
    )
    note = form.text("gift_note", "the gift message", required=False, longest=200)
    total = sum(line["price"] * line["quantity"] for line in lines)
    code = form.raw("coupon").upper()
    coupon = visit.one("SELECT * FROM coupons WHERE code = ?", code)
    if code and (coupon is None or total < coupon["minimum"]):
        form.errors["coupon"] = "This voucher is not valid for your order."
    if not form.flag("terms"):
        form.errors["terms"] = "Accept the terms of sale."
    for line in lines:
        if line["stock"] < line["quantity"]:
            form.errors["lines"] = f"Only {line['stock']} of {line['name']} left."
    if form.errors:
        return _show_checkout(visit, form, 422)
    fee = visit.value("SELECT price FROM shipping_methods WHERE code = ?", method)
    discount = total * coupon["percent"] // 100 if coupon and code else 0
    order = visit.run(
        "INSERT INTO orders (customer_id, status, placed, recipient, street, postcode, city, country, shipping, "
        "shipping_price, coupon, discount, gift_note, total) VALUES (?, 'Processing', ?, ?, ?, ?, ?, ?, ?, ?, "
        "?, ?, ?, ?)",
        *(user["id"], visit.now, to["recipient"], to["street"], to["postcode"], to["city"], to["country"], method),
        *(fee, code or None, discount, note, total - discount + fee),
    )
    for line in lines:
        query = "INSERT INTO order_lines (order_id, variant_id, quantity, price) VALUES (?, ?, ?, ?)"
        visit.run(query, order, line["variant_id"], line["quantity"], line["price"])
        visit.run("UPDATE variants SET stock = stock - ? WHERE id = ?", line["quantity"], line["variant_id"])
    visit.run("DELETE FROM cart_lines WHERE customer_id = ?", user["id"])
    return visit.redirect(f"/orders/{order}", "placed")
