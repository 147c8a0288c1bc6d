"""Customer accounts: signing in, details, addresses, wish list."""

from __future__ import annotations

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from pivotgym.envs.browser.apps.shop.cart import put, read_address
from pivotgym.envs.browser.apps.shop.site import Visit, routes
from pivotgym.envs.browser.apps.shop.world import COUNTRIES

NEWSLETTERS = {"weekly": "Every week", "monthly": "Once a month", "never": "Never"}


@routes.get("/signin")
def signin(visit: Visit) -> Response:
    """The sign-in page."""
    return visit.page("signin.html.jinja", next=visit.local(visit.arg("next"), "/account"), errors={}, sent=visit.form)


@routes.post("/signin")
def check_in(visit: Visit) -> Response:
    """Checks e-mail and password."""
    form = visit.form
    email, password = form.text("email", "your e-mail address"), form.text("password", "your password")
    next_url = visit.local(form.raw("next"), "/account")
    user = visit.one("SELECT * FROM customers WHERE email = ? AND password = ?", email.lower(), password)
    if not form.errors and user is None:
        form.errors["password"] = "E-mail address and password do not match."
    if user is None:
        return visit.page("signin.html.jinja", 422, next=next_url, errors=form.errors, sent=form)
    return visit.sign_in(user["id"], next_url)


@routes.get("/link/<key>")
def link(visit: Visit, key: str) -> Response:
    """A sign-in link, as it is sent by mail."""
    for row in visit.all("SELECT id FROM customers"):
        if visit.app.seal(f"link {row['id']}") == key:
            return visit.sign_in(row["id"], "/")
    raise NotFound("This sign-in link is not valid any more.")


@routes.post("/signout")
def signout(visit: Visit) -> Response:
    """Ends the session."""
    return visit.sign_out("/?notice=out")


@routes.get("/account")
def account(visit: Visit) -> Response:
    """Details and addresses."""
    return _show_account(visit, {}, 200)


def _show_account(visit: Visit, errors: dict[str, str], status: int) -> Response:
    user = visit.require_user()
    addresses = visit.all("SELECT * FROM addresses WHERE customer_id = ? ORDER BY id", user["id"])
    return visit.page(
        "account.html.jinja", status, addresses=addresses, newsletters=NEWSLETTERS, errors=errors, sent=visit.form
    )


@routes.post("/account")
def save_account(visit: Visit) -> Response:
    """Changes the details."""
    user, form = visit.require_user(), visit.form
    name = form.text("name", "your name", longest=80)
    phone = form.match("phone", "a phone number", r"[0-9 +]{6,20}", "of digits and blanks")
    newsletter = form.choice("newsletter", "how often you want the newsletter", NEWSLETTERS)
    if form.errors:
        return _show_account(visit, form.errors, 422)
    query = "UPDATE customers SET name = ?, phone = ?, newsletter = ? WHERE id = ?"
    visit.run(query, name, phone, newsletter, user["id"])
    return visit.redirect("/account", "profile")


@routes.get("/addresses/new")
def new_address(visit: Visit) -> Response:
    """The form for a further address."""
    visit.require_user()
    return visit.page("address.html.jinja", address=None, countries=COUNTRIES, errors={}, sent=visit.form)


@routes.get("/addresses/<int:address>")
def edit_address(visit: Visit, address: int) -> Response:
    """The form that changes an address."""
    row = visit.get("SELECT * FROM addresses WHERE id = ? AND customer_id = ?", address, visit.require_user()["id"])
    return visit.page("address.html.jinja", address=row, countries=COUNTRIES, errors={}, sent=visit.form)


@routes.post("/addresses/new")
def add_address(visit: Visit) -> Response:
    """Adds an address."""
    return _save_address(visit, None)


@routes.post("/addresses/<int:address>")
def change_address(visit: Visit, address: int) -> Response:
    """Changes an address."""
    return _save_address(visit, address)


def _save_address(visit: Visit, address: int | None) -> Response:
    user, form = visit.require_user(), visit.form
    row = None
    if address is not None:
        row = visit.get("SELECT * FROM addresses WHERE id = ? AND customer_id = ?", address, user["id"])
    label, values = form.text("label", "a name for this address", longest=30), read_address(form)
    if form.errors:
        return visit.page("address.html.jinja", 422, address=row, countries=COUNTRIES, errors=form.errors, sent=form)
    fields = (label, *values.values())
    if address is None:
        query = "INSERT INTO addresses (customer_id, label, recipient, street, postcode, city, country) "
        address = visit.run(query + "VALUES (?, ?, ?, ?, ?, ?, ?)", user["id"], *fields)
    else:
        query = (
            "UPDATE addresses SET label = ?, recipient = ?, street = ?, postcode = ?, city = ?, country = ? "
            "WHERE id = ?"
        )
        visit.run(query, *fields, address)
    if form.flag("default"):
        visit.run("UPDATE customers SET default_address = ? WHERE id = ?", address, user["id"])
    return visit.redirect("/account", "address")


@routes.post("/addresses/<int:address>/delete")
def delete_address(visit: Visit, address: int) -> Response:
    """Deletes an address that is not the default one."""
    user = visit.require_user()
    visit.get("SELECT 1 FROM addresses WHERE id = ? AND customer_id = ?", address, user["id"])
    if user["default_address"] == address:
        visit.forbid("The default address cannot be deleted. Make another address the default first.")
    visit.run("DELETE FROM addresses WHERE id = ?", address)
    return visit.redirect("/account", "address-deleted")


@routes.get("/wishlist")
def wishlist(visit: Visit) -> Response:
    """The wish list."""
    items = visit.all(
        "SELECT p.*, min(v.price) AS price, sum(v.stock) AS stock FROM wishlist w JOIN products p ON p.id = "
        "w.product_id "
        "JOIN variants v ON v.product_id = p.id WHERE w.customer_id = ? GROUP BY p.id ORDER BY p.name",
        visit.require_user()["id"],
    )
    return visit.page("wishlist.html.jinja", items=items)


@routes.post("/wishlist/<int:product>/move")
def move(visit: Visit, product: int) -> Response:
    """Moves a product from the wish list to the cart, in its cheapest variant that is in stock."""
    user = visit.require_user()
    wished = (user["id"], product)
    visit.get("SELECT 1 FROM wishlist WHERE customer_id = ? AND product_id = ?", *wished)
    query = "SELECT id FROM variants WHERE product_id = ? AND stock > 0 ORDER BY price, id LIMIT 1"
    variant = visit.one(query, product)
    if variant is None:
        visit.forbid("This product is sold out.")
    put(visit, user["id"], variant["id"], 1)
    visit.run("DELETE FROM wishlist WHERE customer_id = ? AND product_id = ?", *wished)
    return visit.redirect("/wishlist", "added")
