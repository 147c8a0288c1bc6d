"""The catalogue: front page, categories, search with filters, product pages and their reviews."""

from __future__ import annotations

from werkzeug.wrappers import Response

from pivotgym.envs.browser.apps.shop.site import Visit, money, routes
from pivotgym.envs.browser.apps.web import Row

PAGE = 9
"""Products on one page of a list."""
SORTS = {
    "name": ("Name", "p.name"),
    "price": ("Price: low to high", "price, p.name"),
    "price-desc": ("Price: high to low", "price DESC, p.name"),
    "rating": ("Customer rating", "rating DESC, p.name"),
    "newest": ("Newest", "p.added DESC, p.name"),
}
_LIST = """
    SELECT p.*, c.name AS category, min(v.price) AS price, max(v.price) AS top_price, sum(v.stock) AS stock,
        (SELECT round(avg(rating), 1) FROM reviews r WHERE r.product_id = p.id) AS rating,
        (SELECT count(*) FROM reviews r WHERE r.product_id = p.id) AS reviews
    FROM products p JOIN categories c ON c.id = p.category_id JOIN variants v ON v.product_id = p.id
"""


@routes.get("/")
def home(visit: Visit) -> Response:
    """The front page."""
    newest = visit.all(f"{_LIST} GROUP BY p.id ORDER BY p.added DESC, p.id LIMIT 3")
    return visit.page("home.html.jinja", categories=visit.all("SELECT * FROM categories ORDER BY id"), newest=newest)


@routes.get("/products")
def products(visit: Visit) -> Response:
    """All products that match the filters, a page of them."""
    where, values = ["1"], list[object]()
    words = visit.arg("q").split()
    for word in words[:6]:
        where.append("(p.name LIKE ? OR p.material LIKE ? OR p.brand LIKE ? OR c.name LIKE ?)")
        values += [f"%{word}%"] * 4
    for field, column in (("category", "c.slug"), ("brand", "p.brand"), ("material", "p.material")):
        if visit.arg(field):
            where.append(f"{column} = ?")
            values.append(visit.arg(field))
    having = ["1"]
    if visit.arg("max"):
        having.append("min(v.price) <= ?")
        values.append(visit.number("max", 0) * 100)
    if visit.arg("stars"):
        having.append("rating >= ?")
        values.append(visit.number("stars", 0))
    if visit.arg("stock"):
        having.append("sum(v.stock) > 0")
    sort = visit.arg("sort") if visit.arg("sort") in SORTS else "name"
    query = f"{_LIST} WHERE {' AND '.join(where)} GROUP BY p.id HAVING {' AND '.join(having)} ORDER BY {SORTS[sort][1]}"
    found = visit.all(query, *values)
    pages = max(1, -(-len(found) // PAGE))
    page = min(max(1, visit.number("page", 1)), pages)
    return visit.page(
        "products.html.jinja",
        products=found[(page - 1) * PAGE : page * PAGE],
        count=len(found),
        page=page,
        pages=pages,
        sort=sort,
        sorts=SORTS,
        categories=visit.all("SELECT * FROM categories ORDER BY id"),
        brands=[row[0] for row in visit.all("SELECT DISTINCT brand FROM products ORDER BY brand")],
        materials=[row[0] for row in visit.all("SELECT DISTINCT material FROM products ORDER BY material")],
    )


@routes.get("/products/<int:product>")
def product(visit: Visit, product: int) -> Response:
    """One product with its options, facts and reviews."""
    return show_product(visit, product)


def show_product(visit: Visit, product: int, errors: dict[str, str] | None = None, status: int = 200) -> Response:
    """The product page, with what is wrong with the form that was sent to it."""
    row = visit.get(f"{_LIST} WHERE p.id = ? GROUP BY p.id", product)
    variants = visit.all("SELECT * FROM variants WHERE product_id = ? ORDER BY id", product)
    reviews = visit.all(
        "SELECT r.*, c.name AS author FROM reviews r JOIN customers c ON c.id = r.customer_id WHERE product_id = ? "
        "ORDER BY r.created DESC, r.id",
        product,
    )
    mine = visit.user["id"] if visit.user else 0
    return visit.page(
        "product.html.jinja",
        status,
        product=row,
        variants=variants,
        colours=list(dict.fromkeys(variant["colour"] for variant in variants)),
        sizes=list(dict.fromkeys(variant["size"] for variant in variants)),
        options={f"{variant['colour']}/{variant['size']}": _option(variant) for variant in variants},
        reviews=reviews,
        bought=_bought(visit, product, mine),
        reviewed=any(review["customer_id"] == mine for review in reviews),
        wished=visit.one("SELECT 1 FROM wishlist WHERE customer_id = ? AND product_id = ?", mine, product) is not None,
        errors=errors or {},
        sent=visit.form,
    )


def _option(variant: Row) -> list[object]:
    return [money(variant["price"]), variant["stock"]]


def _bought(visit: Visit, product: int, customer: int) -> bool:
    return (
        visit.one(
            "SELECT 1 FROM order_lines l JOIN orders o ON o.id = l.order_id JOIN variants v ON v.id = l.variant_id "
            "WHERE v.product_id = ? AND o.customer_id = ? AND o.status = 'Delivered'",
            product,
            customer,
        )
        is not None
    )


@routes.get("/products/<int:product>/review")
def review(visit: Visit, product: int) -> Response:
    """The form for a review; it holds the customer's earlier one."""
    return _show_review(visit, product, {}, 200)


def _show_review(visit: Visit, product: int, errors: dict[str, str], status: int) -> Response:
    user = visit.require_user()
    row = visit.get("SELECT * FROM products WHERE id = ?", product)
    if not _bought(visit, product, user["id"]):
        visit.forbid("Only customers who have received this product can review it.")
    old = visit.one("SELECT * FROM reviews WHERE product_id = ? AND customer_id = ?", product, user["id"])
    return visit.page(
        "review.html.jinja", status, product=row, old=old, errors=errors, sent=visit.form, was_sent=bool(errors)
    )


@routes.post("/products/<int:product>/review")
def save_review(visit: Visit, product: int) -> Response:
    """Adds or changes the customer's review."""
    user = visit.require_user()
    if not _bought(visit, product, user["id"]):
        visit.forbid("Only customers who have received this product can review it.")
    form = visit.form
    rating = form.choice("rating", "a rating", range(1, 6))
    title = form.text("title", "a headline", longest=60)
    body = form.text("body", "your review", longest=1000)
    if form.errors:
        return _show_review(visit, product, form.errors, 422)
    visit.run(
        "INSERT INTO reviews (product_id, customer_id, rating, title, body, created) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (product_id, customer_id) DO UPDATE SET rating = excluded.rating, title = excluded.title, "
        "body = excluded.body, created = excluded.created",
        *(product, user["id"], int(rating), title, body, visit.now),
    )
    return visit.redirect(f"/products/{product}", "review")


@routes.post("/products/<int:product>/review/delete")
def delete_review(visit: Visit, product: int) -> Response:
    """Takes the customer's review away."""
    user = visit.require_user()
    visit.run("DELETE FROM reviews WHERE product_id = ? AND customer_id = ?", product, user["id"])
    return visit.redirect(f"/products/{product}", "review-deleted")


@routes.post("/products/<int:product>/wish")
def wish(visit: Visit, product: int) -> Response:
    """Puts a product on the wish list, or takes it off."""
    user = visit.require_user()
    visit.get("SELECT 1 FROM products WHERE id = ?", product)
    back = visit.local(visit.form.raw("back"), f"/products/{product}")
    if visit.form.raw("remove"):
        visit.run("DELETE FROM wishlist WHERE customer_id = ? AND product_id = ?", user["id"], product)
        return visit.redirect(back, "unwished")
    visit.run("INSERT OR IGNORE INTO wishlist VALUES (?, ?)", user["id"], product)
    return visit.redirect(back, "wished")
