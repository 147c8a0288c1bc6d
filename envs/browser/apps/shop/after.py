"""Tasks about orders and the account: cancelling, returning, reviewing, moving house."""

from __future__ import annotations

import sqlite3

from pivotgym.envs.browser.apps.draw import Draw, earlier, insert, place
from pivotgym.envs.browser.apps.shop.account import NEWSLETTERS
from pivotgym.envs.browser.apps.shop.picking import Row, address, address_line, lines, orders, search
from pivotgym.envs.browser.apps.shop.world import CUSTOMER, REASONS, REFUNDS
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


def cancel_order(db: sqlite3.Connection, draw: Draw) -> Built:
    """The one of two orders in the works that has a certain product in it."""
    order, other = draw.some(orders(db, "Processing"), 2)
    content = lines(db, order["id"])

    def script(number: int) -> list[Step]:
        return [
            link("Orders"),
            link(f"Order {number}"),
            link("Cancel order"),
            press("Yes, cancel the order"),
            say("The order is cancelled."),
        ]

    expert = script(order["id"])
    stock = {
        line["variant_id"]: db.execute("SELECT stock FROM variants WHERE id = ?", (line["variant_id"],)).fetchone()[0]
        for line in content
    }
    return Built(
        f"I don't need the {draw.pick(content)['name']} any more. Please cancel the order it is in; all of that "
        "order, if "
        "there is more in it.",
        expert,
        {"another order": script(other["id"]), "not confirmed": [*expert[:3], expert[-1]]},
        [
            changed("orders", {"id": order["id"]}, status="Cancelled"),
            *(
                changed("variants", {"id": line["variant_id"]}, stock=stock[line["variant_id"]] + line["quantity"])
                for line in content
            ),
        ],
    )


def redirect_order(db: sqlite3.Connection, draw: Draw) -> Built:
    """An order in the works goes to another of the customer's addresses."""
    order, other = draw.some(orders(db, "Processing"), 2)
    label, wrong_label = draw.some(("Office", "Parents"), 2)
    to = address(db, label)
    where = {"Office": "to my office", "Parents": "to my parents"}[label]

    def script(number: int, name: str) -> list[Step]:
        return [
            link("Orders"),
            link(f"Order {number}"),
            link("Change delivery address"),
            pick(address_line(address(db, name))),
            press("Change address"),
            say("The order goes there now."),
        ]

    differ = {key: to[key] for key in ("recipient", "street", "postcode", "city", "country") if to[key] != order[key]}
    return Built(
        f"The order with the {draw.pick(lines(db, order['id']))['name']} should go {where} instead of to my home.",
        script(order["id"], label),
        {"another order": script(other["id"], label), "another address": script(order["id"], wrong_label)},
        [changed("orders", {"id": order["id"]}, **differ)],
    )


def return_article(db: sqlite3.Connection, draw: Draw) -> Built:
    """A return with reason, refund and comment."""
    order = draw.pick(orders(db, "Delivered"))
    line, other = draw.some(lines(db, order["id"]), 2)
    db.execute("UPDATE order_lines SET quantity = 3 WHERE id = ?", (line["id"],))
    pieces = draw.number(2, 3)
    reason, wrong_reason = draw.some(REASONS, 2)
    refund = draw.pick(list(REFUNDS))
    wanted = {"card": "the money back on my card, the way I paid", "credit": "store credit"}[refund]
    note = draw.pick(("Please send me a label.", "The box is gone.", "Everything is still packed."))

    def script(article: Row, number: int, why: str) -> list[Step]:
        return [
            link("Orders"),
            link(f"Order {order['id']}"),
            link(f"Return {article['name']}"),
            *([count("Quantity", number)] if number > 1 else []),
            choose("Reason", why),
            pick(REFUNDS[refund]),
            fill("Comment (optional)", note),
            press("Register return"),
            say("The return is registered."),
        ]

    return Built(
        f"I want to send back {pieces} of the three pieces of {line['name']} from order {order['id']}. Reason: "
        f"{reason.lower()}. I would like {wanted}. Add this comment: {note}",
        script(line, pieces, reason),
        {
            "another article": script(other, 1, reason),
            "one piece only": script(line, 1, reason),
            "another reason": script(line, pieces, wrong_reason),
        },
        [added("returns", order_line_id=line["id"], quantity=pieces, reason=reason, refund=refund, note=note)],
    )


def write_review(db: sqlite3.Connection, draw: Draw) -> Built:
    """A review of something the customer has."""
    order = draw.pick(orders(db, "Delivered"))
    line = draw.pick(lines(db, order["id"]))
    rating = draw.number(2, 5)
    title = draw.pick(("As it should be", "Good for the price", "I am using it daily"))
    body = draw.pick(("It does what it says and looks nice.", "Sturdy, and easy to clean.", "I would take it again."))

    def script(stars: int, headline: str) -> list[Step]:
        return [
            *search(line["name"]),
            link("Write a review"),
            pick(f"{stars} stars" if stars > 1 else "1 star"),
            fill("Headline", headline),
            fill("Review", body),
            press("Publish review"),
            say("Your review is published."),
        ]

    return Built(
        f"Please review the {line['name']} I bought for me: {rating} stars, headline “{title}”, and as text: {body}",
        script(rating, title),
        {"another rating": script(rating - 1, title), "not published": [*script(rating, title)[:-2], say("Done.")]},
        [added("reviews", product_id=line["product_id"], customer_id=CUSTOMER, rating=rating, title=title, body=body)],
    )


def lower_rating(db: sqlite3.Connection, draw: Draw) -> Built:
    """An earlier review gets another rating; its words stay."""
    mine = [line for order in orders(db, "Delivered") for line in lines(db, order["id"])]
    products = sorted({line["product_id"] for line in mine})
    chosen, other = draw.some(products, 2)
    old, new = draw.number(4, 5), draw.number(1, 3)
    for product in (chosen, other):
        insert(
            db,
            "reviews",
            product_id=product,
            customer_id=CUSTOMER,
            rating=old,
            title="My first impression",
            body="Nice so far, let us see how long it lasts.",
            created=earlier(9000),
        )
    names = {row["id"]: row["name"] for row in db.execute("SELECT id, name FROM products")}
    review = db.execute(
        "SELECT id FROM reviews WHERE product_id = ? AND customer_id = ?", (chosen, CUSTOMER)
    ).fetchone()

    def script(product: int) -> list[Step]:
        return [
            *search(names[product]),
            link("Change your review"),
            pick(f"{new} stars" if new > 1 else "1 star"),
            press("Publish review"),
            say("Your rating is changed."),
        ]

    return Built(
        f"My {names[chosen]} broke. Change the rating in my review of it to {new} "
        f"{'stars' if new > 1 else 'star'}; leave its headline and text.",
        script(chosen),
        {
            "another product": script(other),
            "deleted": [*search(names[chosen]), link("Change your review"), press("Delete review"), say("It is gone.")],
        },
        [changed("reviews", {"id": review["id"]}, rating=new)],
    )


def move_house(db: sqlite3.Connection, draw: Draw) -> Built:
    """The home address changes."""
    home = address(db, "Home")
    street, postcode, city = place(draw)
    while city == home["city"]:
        street, postcode, city = place(draw)

    def script(label: str, town: str) -> list[Step]:
        return [
            link("Account"),
            link(f"Edit {label}"),
            fill("Street and number", street),
            fill("Postcode", postcode),
            fill("Town or city", town),
            press("Save address"),
            say("Your address is changed."),
        ]

    return Built(
        f"We have moved: my home address is now {street}, {postcode} {city}, same country. Please change it in "
        "my account.",
        script("Home", city),
        {"another address": script("Office", city), "the old town": script("Home", home["city"])},
        [changed("addresses", {"id": home["id"]}, street=street, postcode=postcode, city=city)],
    )


def swap_default(db: sqlite3.Connection, draw: Draw) -> Built:
    """Another address becomes the default one, and an old one goes."""
    keep, gone = draw.some(("Office", "Parents"), 2)
    names = {"Office": "my office", "Parents": "my parents"}

    def script(default: str, deleted: str) -> list[Step]:
        return [
            link("Account"),
            link(f"Edit {default}"),
            tick("Use as default address"),
            press("Save address"),
            press(f"Delete {deleted}"),
            say("Done."),
        ]

    return Built(
        f"From now on everything should go to {names[keep]} by default. And delete the address of "
        f"{names[gone]}, but keep "
        "that of my home.",
        script(keep, gone),
        {"the home deleted": script(keep, "Home"), "only the default": [*script(keep, gone)[:4], say("Done.")]},
        [
            changed("customers", {"id": CUSTOMER}, default_address=address(db, keep)["id"]),
            removed("addresses", id=address(db, gone)["id"]),
        ],
    )


def sign_in_and_update(db: sqlite3.Connection, draw: Draw) -> Built:
    """Signing in with a password, then new details."""
    user = db.execute("SELECT * FROM customers WHERE id = ?", (CUSTOMER,)).fetchone()
    phone = f"0{draw.number(100, 999)} {draw.number(100000, 999999)}"
    newsletter, wrong = draw.some([key for key in NEWSLETTERS if key != user["newsletter"]], 2)
    wish = {"weekly": "the newsletter every week", "never": "no newsletter any more", "monthly": ""}[newsletter]

    def script(letter: str) -> list[Step]:
        return [
            link("Sign in"),
            fill("E-mail address", user["email"]),
            fill("Password", user["password"]),
            press("Sign in to your account"),
            fill("Phone", phone),
            choose("Newsletter", NEWSLETTERS[letter]),
            press("Save details"),
            say("Your details are saved."),
        ]

    return Built(
        f"Sign in as {user['email']} with the password {user['password']} and bring my details up to date: the "
        "new phone "
        f"number is {phone}, and I want {wish}.",
        script(newsletter),
        {"the other choice": script(wrong), "not saved": [*script(newsletter)[:-2], say("Done.")]},
        [changed("customers", {"id": CUSTOMER}, phone=phone, newsletter=newsletter)],
        signed_in=False,
    )
