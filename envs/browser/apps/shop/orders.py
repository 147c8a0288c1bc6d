"""Orders: looking at them, cancelling, sending them elsewhere, returning articles, ordering again."""

from __future__ import annotations

from werkzeug.wrappers import Response

from pivotgym.envs.browser.apps.shop.cart import put
from pivotgym.envs.browser.apps.shop.site import Visit, routes
from pivotgym.envs.browser.apps.shop.world import REASONS, REFUNDS, STATUSES
from pivotgym.envs.browser.apps.web import Row

_LINES = """
    SELECT l.*, v.colour, v.size, v.stock, p.name, p.id AS product_id, r.id AS return_id, r.quantity AS returned
    FROM order_lines l JOIN variants v ON v.id = l.variant_id JOIN products p ON p.id = v.product_id
    LEFT JOIN returns r ON r.order_line_id = l.id
"""


def _order(visit: Visit, order: int) -> Row:
    query = (
        "SELECT o.*, m.name AS method FROM orders o JOIN shipping_methods m ON m.code = o.shipping "
        "WHERE o.id = ? AND o.customer_id = ?"
    )
    return visit.get(query, order, visit.require_user()["id"])


def _in_the_works(visit: Visit, order: int) -> Row:
    row = _order(visit, order)
    if row["status"] != "Processing":
        visit.forbid("This order has left our warehouse and can no longer be changed.")
    return row


@routes.get("/orders")
def orders(visit: Visit) -> Response:
    """The customer's orders, the latest first."""
    status = visit.arg("status") if visit.arg("status") in STATUSES else ""
    rows = visit.all(
        "SELECT o.*, group_concat(p.name, ', ') AS items FROM orders o JOIN order_lines l ON l.order_id = o.id "
        "JOIN variants v ON v.id = l.variant_id JOIN products p ON p.id = v.product_id "
        "WHERE o.customer_id = ? AND (? = '' OR o.status = ?) GROUP BY o.id ORDER BY o.placed DESC, o.id DESC",
        *(visit.require_user()["id"], status, status),
    )
    return visit.page("orders.html.jinja", orders=rows, statuses=STATUSES, status=status)


@routes.get("/orders/<int:order>")
def order(visit: Visit, order: int) -> Response:
    """One order."""
    row = _order(visit, order)
    return visit.page(
        "order.html.jinja", order=row, lines=visit.all(f"{_LINES} WHERE l.order_id = ? ORDER BY l.id", order)
    )


@routes.get("/orders/<int:order>/cancel")
def ask_cancel(visit: Visit, order: int) -> Response:
    """Asks whether the order shall really be cancelled (for browsers without scripts)."""
    return visit.page("cancel.html.jinja", order=_in_the_works(visit, order))


@routes.post("/orders/<int:order>/cancel")
def cancel(visit: Visit, order: int) -> Response:
    """Cancels an order: its articles are in stock again."""
    _in_the_works(visit, order)
    visit.run("UPDATE orders SET status = 'Cancelled' WHERE id = ?", order)
    for line in visit.all("SELECT * FROM order_lines WHERE order_id = ?", order):
        visit.run("UPDATE variants SET stock = stock + ? WHERE id = ?", line["quantity"], line["variant_id"])
    return visit.redirect(f"/orders/{order}", "cancelled")


@routes.get("/orders/<int:order>/delivery")
def ask_delivery(visit: Visit, order: int) -> Response:
    """Where an order shall go instead."""
    return _show_delivery(visit, _in_the_works(visit, order), {}, 200)


def _show_delivery(visit: Visit, order: Row, errors: dict[str, str], status: int) -> Response:
    addresses = visit.all("SELECT * FROM addresses WHERE customer_id = ? ORDER BY id", order["customer_id"])
    return visit.page("delivery.html.jinja", status, order=order, addresses=addresses, errors=errors)


@routes.post("/orders/<int:order>/delivery")
def change_delivery(visit: Visit, order: int) -> Response:
    """Sends an order to another address of the customer."""
    row, form = _in_the_works(visit, order), visit.form
    addresses = visit.all("SELECT * FROM addresses WHERE customer_id = ?", row["customer_id"])
    chosen = form.choice("address", "a delivery address", [address["id"] for address in addresses])
    if form.errors:
        return _show_delivery(visit, row, form.errors, 422)
    to = next(address for address in addresses if str(address["id"]) == chosen)
    query = "UPDATE orders SET recipient = ?, street = ?, postcode = ?, city = ?, country = ? WHERE id = ?"
    visit.run(query, to["recipient"], to["street"], to["postcode"], to["city"], to["country"], order)
    return visit.redirect(f"/orders/{order}", "delivery")


@routes.post("/orders/<int:order>/again")
def again(visit: Visit, order: int) -> Response:
    """Puts the articles of an order into the cart."""
    row, complete = _order(visit, order), True
    for line in visit.all("SELECT * FROM order_lines WHERE order_id = ?", order):
        complete &= put(visit, row["customer_id"], line["variant_id"], line["quantity"]) >= line["quantity"]
    return visit.redirect("/cart", "again" if complete else "again-some")


def _returnable(visit: Visit, line: int) -> Row:
    row = visit.get(
        f"{_LINES} JOIN orders o ON o.id = l.order_id WHERE l.id = ? AND o.customer_id = ?",
        line,
        visit.require_user()["id"],
    )
    status = visit.value("SELECT status FROM orders WHERE id = ?", row["order_id"])
    if status != "Delivered" or row["return_id"] is not None:
        visit.forbid("This item cannot be returned.")
    return row


@routes.get("/returns/new/<int:line>")
def ask_return(visit: Visit, line: int) -> Response:
    """The form for a return."""
    return _show_return(visit, _returnable(visit, line), {}, 200)


def _show_return(visit: Visit, line: Row, errors: dict[str, str], status: int) -> Response:
    return visit.page(
        "return.html.jinja", status, line=line, reasons=REASONS, refunds=REFUNDS, errors=errors, sent=visit.form
    )


@routes.post("/returns/new/<int:line>")
def file_return(visit: Visit, line: int) -> Response:
    """Registers a return."""
    row, form = _returnable(visit, line), visit.form
    quantity = form.number("quantity", "a quantity", 1, row["quantity"])
    reason = form.choice("reason", "a reason", REASONS)
    refund = form.choice("refund", "how you want your money back", REFUNDS)
    note = form.text("note", "the comment", required=False, longest=500)
    if form.errors:
        return _show_return(visit, row, form.errors, 422)
    query = "INSERT INTO returns (order_line_id, quantity, reason, refund, note, created) VALUES (?, ?, ?, ?, ?, ?)"
    visit.run(query, line, quantity, reason, refund, note, visit.now)
    return visit.redirect("/returns", "returned")


@routes.get("/returns")
def returns(visit: Visit) -> Response:
    """The customer's returns."""
    rows = visit.all(
        "SELECT r.*, l.order_id, p.name, v.colour, v.size FROM returns r JOIN order_lines l ON l.id = r.order_line_id "
        "JOIN orders o ON o.id = l.order_id JOIN variants v ON v.id = l.variant_id JOIN products p ON p.id = "
        "v.product_id "
        "WHERE o.customer_id = ? ORDER BY r.id DESC",
        visit.require_user()["id"],
    )
    return visit.page("returns.html.jinja", returns=rows, refunds=REFUNDS)
