"""MiniWoB++ tasks on small applications: mail, posts, a menu to order from."""

from __future__ import annotations

import re

from miniwob_solvers import Node, Page, Solver, click, fill, quoted, solves, submit


def _thread(page: Page, sender: str) -> Node:
    """The list's entry of a sender's message."""
    text = next(node for node in page.texts() if node.name == sender)
    assert text.parent is not None
    return text.parent


@solves("email-inbox-important")
def star(goal: str, page: Page) -> Solver:
    sender = re.findall("email by (.*?) and", goal)[0]
    yield [click(_icons(page, sender)[1])]


@solves("email-inbox-delete")
def trash(goal: str, page: Page) -> Solver:
    sender = re.findall("email by (.*?) and", goal)[0]
    yield [click(_icons(page, sender)[0])]


def _icons(page: Page, sender: str) -> list[Node]:
    """Bin and star of a message."""
    return [node for node in _thread(page, sender).within() if node.role == "image"]


@solves("email-inbox-reply")
def reply(goal: str, page: Page) -> Solver:
    sender = re.findall("email by (.*?) and", goal)[0]
    page = yield [click(_thread(page, sender))]
    page = yield [click(page.labelled("Reply"))]
    page = yield [fill(page.all("textbox")[-1], quoted(goal)[0])]
    yield [click(page.all("image")[-1])]


@solves("email-inbox-forward")
def forward(goal: str, page: Page) -> Solver:
    sender, receiver = re.findall("email by (.*?) and forward that email to (.*)\\.", goal)[0]
    page = yield [click(_thread(page, sender))]
    page = yield [click(page.labelled("Forward"))]
    page = yield [fill(page.all("textbox")[0], receiver)]
    yield [click(page.all("image")[-1])]


@solves("email-inbox", "email-inbox-noscroll", "email-inbox-star-reply")
def mail(goal: str, page: Page) -> Solver:
    kind = star if "star icon" in goal else trash if "trash icon" in goal else forward if "forward" in goal else reply
    yield from kind(goal, page)


ACTIONS = ["Reply", "Retweet", "Like"]


@solves("social-media")
def post(goal: str, page: Page) -> Solver:
    user, wanted = re.findall('user (@\\S+), click on the "(.*)" button', goal)[0]
    icons = _post_icons(page, user)
    if wanted in ACTIONS:
        yield [click(icons[ACTIONS.index(wanted)])]
        return
    page = yield [click(icons[3])]
    item = next(node for node in page.texts() if node.name.startswith(wanted))
    yield [click(item)]


@solves("social-media-all", "social-media-some")
def posts(goal: str, page: Page) -> Solver:
    wanted, amount, user = re.findall('Click the "(.*)" button on (all|\\d+) posts? by (@\\S+) and', goal)[0]
    count = [node.name for node in page.texts()].count(user)
    for index in range(count if amount == "all" else int(amount)):
        page = yield [click(_post_icons(page, user, index)[["Reply", "Retweet", "Like", "Share"].index(wanted)])]
    yield submit(page)


def _post_icons(page: Page, user: str, index: int = 0) -> list[Node]:
    name = [node for node in page.texts() if node.name == user][index]
    return [node for node in page.after(name) if node.role == "image"][:4]


@solves("order-food")
def order(goal: str, page: Page) -> Solver:
    found = re.match("Order one of each item: (.*)", goal)
    assert found is not None
    for dish in found.group(1).split(", "):
        name = next(node for node in page.texts() if node.name == dish)
        plus = next(node for node in page.after(name) if node.role == "StaticText" and node.name == "+")
        page = yield [click(plus)]
    yield [click(page.all("button")[-1])]
