"""The applications as web sites: what every page keeps to, and what the forms refuse."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from apps_client import Client

from pivotgym.envs.browser import apps
from pivotgym.envs.browser.apps.shop import ShopTasks
from pivotgym.envs.browser.apps.shop.app import Shop
from pivotgym.envs.browser.apps.spec import choose, count, fill, link, pick, press, tick
from pivotgym.envs.browser.apps.taskset import AppTasks
from pivotgym.envs.browser.apps.tracker import TrackerTasks
from pivotgym.envs.browser.apps.tracker.app import Tracker
from pivotgym.envs.browser.apps.web import WebApp
from pivotgym.envs.browser.tasks import BrowserTask, Request, get_task_set
from pivotgym.envs.errors import BadInput, MissingExtra, NotRestorable
from pivotgym.envs.trajectory import Task

SETS: dict[str, AppTasks] = {"shop": ShopTasks(), "tracker": TrackerTasks()}
NAMES = list(SETS)
JUNK = ("0", "-1", "99999999999999999999999", "x", "%00", "a'b", "..", "²")


def visit(name: str, kind: str | None = None, seed: int = 0) -> Client:
    tasks = SETS[name]
    task = tasks.make(kind or next(iter(tasks.builders)), seed)
    spec = BrowserTask.of(task)
    site = tasks.open(task, spec)
    assert site is not None
    return Client(site, spec.url)


def crawl(client: Client, limit: int = 80) -> Iterator[str]:
    """The pages that links lead to from here, breadth first, so many of them."""
    queue, seen = [client.url], {client.url}
    for _ in range(limit):
        client.open(queue.pop(0))
        yield client.url
        for tag in client.soup.select("a[href]"):
            url = str(tag["href"])
            if url.startswith("/") and url not in seen:
                seen.add(url)
                queue.append(url)


@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_accessible_and_reading_changes_nothing(name: str) -> None:
    client = visit(name)
    before, pages = client.site.save(), 0
    for url in crawl(client):
        pages += 1
        soup = client.soup
        assert client.status == 200, url
        assert soup.html is not None and soup.html["lang"] == "en" and soup.title is not None and soup.title.get_text()
        assert len(soup.select("h1")) == 1 and len(soup.select("main")) == 1 and len(soup.select("header nav")) == 1
        ids = [str(tag["id"]) for tag in soup.select("[id]")]
        assert len(ids) == len(set(ids)), url
        for role in ("button", "textbox", "searchbox", "spinbutton", "combobox", "radio", "checkbox"):
            names = client.names(role)
            assert all(names) and len(names) == len(set(names)), (url, role, names)
        assert all(client.names("link")), url
        assert all(form.select_one("input[name=csrf]") for form in soup.select("form[method=post]")), url
    assert pages == 80
    assert client.site.save() == before


@pytest.mark.parametrize("name", NAMES)
def test_pages_hold_no_secrets(name: str) -> None:
    client = visit(name)
    assert isinstance(client.site, WebApp)
    users = "customers" if name == "shop" else "users"
    secrets = [row[0] for row in client.site.db.execute(f"SELECT password FROM {users}")]
    secrets += [client.site.db.execute("SELECT secret FROM site").fetchone()[0], "definition", "generator"]
    for url in itertools.islice(crawl(client), 40):
        text = str(client.soup)
        assert not [secret for secret in secrets if secret in text], url


@pytest.mark.parametrize("name", NAMES)
def test_tasks_carry_no_goal(name: str) -> None:
    tasks = SETS[name]
    for kind in tasks.builders:
        data = dict(tasks.make(kind, 0).data)
        built, _, _ = tasks.build(kind, 0)
        assert data.pop("goal") == built.instruction
        assert set(data["definition"]) == {"generator", "split"}
        assert set(data) <= {"set", "name", "url", "seed", "clock", "ends_on_message", "definition"}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_requests_bring_the_same_answers(name: str) -> None:
    for kind in list(SETS[name].builders)[:3]:
        built, _, _ = SETS[name].build(kind, 1)
        pages: list[list[str]] = []
        states = []
        for _ in range(2):
            client = visit(name, kind, 1)
            shown = pages.append([]) or pages[-1]  # type: ignore[func-returns-value]
            for step in built.expert:
                client.do(step)
                shown.append(str(client.soup))
            states.append(client.site.save())
        assert pages[0] == pages[1] and states[0] == states[1]


@pytest.mark.parametrize("name", NAMES)
def test_seeds_differ(name: str) -> None:
    kind = next(iter(SETS[name].builders))
    goals = {SETS[name].make(kind, seed).data["goal"] for seed in range(6)}
    fronts = {visit(name, kind, seed).text for seed in range(6)}
    assert len(goals) == 6 and len(fronts) == 6


def test_saved_states_are_independent() -> None:
    client = visit("shop", "tidy_cart")
    start = client.site.save()
    built, _, _ = SETS["shop"].build("tidy_cart", 0)
    client.run(built.expert[:3])
    middle = client.site.save()
    client.run(built.expert[3:])
    end = client.site.save()
    client.site.load(start)
    assert client.site.save() == start and client.site.facts(start) != client.site.facts(middle)
    client.site.load(middle)
    client.open("/cart")
    client.run(built.expert[3:])
    assert client.site.facts(client.site.save()) == client.site.facts(end)


def test_facts_leave_out_how_somebody_got_there() -> None:
    roundabout, direct = visit("shop"), visit("shop")
    for client in (roundabout, direct):
        client.open("/products/3")
    for label in ("Save to wish list", "Remove from wish list", "Save to wish list"):
        roundabout.do(press(label))
    direct.do(press("Save to wish list"))
    one, two = roundabout.site.save(), direct.site.save()
    assert one != two and roundabout.site.facts(one) == direct.site.facts(two)
    assert len(direct.site.facts(two)["wishlist"]) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("token", [None, "", "0" * 32])
def test_a_form_without_its_token_is_refused(name: str, token: str | None) -> None:
    client = visit(name)
    before = client.site.save()
    fields = {} if token is None else {"csrf": token}
    client.open("/signout", "POST", urlencode(fields).encode())
    assert client.status == 403 and "expired" in client.text and client.site.save() == before


@pytest.mark.parametrize("name", NAMES)
def test_wrong_addresses(name: str) -> None:
    client = visit(name)
    before = client.site.save()
    client.open("/no/such/page")
    assert client.status == 404 and client.soup.h1 is not None and client.soup.h1.get_text() == "Page not found"
    client.open("/link/0123456789abcdef")
    assert client.status == 404
    assert client.site.handle(Request("GET", "elsewhere.test", "/")) is None
    assert client.request("GET", f"http://{name}.test/static/../web.py").status == 404
    assert client.request("GET", f"http://{name}.test/static/style.css").status == 200
    assert client.request("DELETE", f"http://{name}.test/").status == 405
    assert client.site.save() == before


@pytest.mark.parametrize("name", NAMES)
def test_junk_in_addresses_and_forms_breaks_nothing(name: str) -> None:
    client = visit(name)
    before = client.site.save()
    rules = (Shop if name == "shop" else Tracker).rules
    hidden = client.soup.select_one("input[name=csrf]")
    assert hidden is not None
    token = str(hidden["value"])
    for rule, junk in itertools.product(rules, JUNK):
        path = junk.join(re.split(r"<[^>]+>", rule.rule))
        method = "POST" if "POST" in (rule.methods or ()) else "GET"
        if rule.arguments or method == "GET":
            body = urlencode({"csrf": token, "rating": junk, "ticket": junk, "label": junk, "quantity": junk}).encode()
            answer = client.request(method, f"http://{name}.test{path}?page={junk}&max={junk}&label={junk}", body)
            assert answer.status < 500, (method, path)
    assert client.site.save() == before


@pytest.mark.parametrize("name", NAMES)
def test_guests_sign_in_first_and_go_back_to_where_they_were(name: str) -> None:
    kind = "sign_in_and_update" if name == "shop" else "go_away"
    client = visit(name, kind)
    assert isinstance(client.site, WebApp)
    client.open("/orders?status=Shipped" if name == "shop" else "/tickets?status=open")
    assert "/signin?next=" in client.url
    table, column = ("customers", "email") if name == "shop" else ("users", "username")
    user = client.site.db.execute(f"SELECT * FROM {table} WHERE id = 1").fetchone()
    field, button = ("E-mail address", "Sign in to your account") if name == "shop" else ("User name", "Sign in")
    client.run([fill(field, user[column]), fill("Password", "wrong"), press(button)])
    assert client.status == 422 and "do not match" in client.text and client.soup.select_one("[role=alert]")
    client.run([fill("Password", user["password"]), press(button)])
    assert client.status == 200 and client.url.endswith(("status=Shipped", "status=open"))
    client.do(press("Sign out"))
    client.open("/account" if name == "shop" else "/settings")
    assert "/signin" in client.url


@pytest.mark.parametrize("to", ["//evil.test/", "http://evil.test/", "/\\evil.test", "javascript:alert(1)"])
def test_signing_in_leads_nowhere_else(to: str) -> None:
    client = visit("shop", "sign_in_and_update")
    client.open("/signin?" + urlencode({"next": to}))
    hidden = client.soup.select_one("input[name=next]")
    assert hidden is not None and hidden["value"] == "/account"


def test_shop_forms_say_what_is_wrong_and_change_nothing() -> None:
    client = visit("shop", "send_gift")
    client.open("/checkout")
    before = client.site.save()
    client.run(
        [pick("Another address"), fill("Postcode", "12"), fill("Voucher code (optional)", "NONE"), press("Place order")]
    )
    assert client.status == 422 and client.site.save() == before
    for said in ("Enter the recipient's name.", "of five digits", "voucher is not valid", "Accept the terms of sale."):
        assert said in client.text
    assert client.find("textbox", "Postcode")["aria-invalid"] == "true"
    assert client.find("textbox", "Postcode")["value"] == "12"
    client.open("/cart")
    name = next(name for name in client.names("spinbutton") if name.startswith("Quantity of"))
    client.run([count(name, 500), press("Update quantities")])
    assert client.status == 422 and client.site.save() == before
    client.open("/products/1")
    client.do(press("Add to cart"))
    assert client.status == 422 and "Choose a colour." in client.text and client.site.save() == before


def test_shop_refuses_what_is_not_the_customers() -> None:
    client = visit("shop")
    assert isinstance(client.site, WebApp)
    db = client.site.db
    foreign = db.execute("SELECT id FROM orders WHERE customer_id <> 1").fetchone()[0]
    shipped = db.execute("SELECT id FROM orders WHERE customer_id = 1 AND status = 'Shipped'").fetchone()[0]
    line = db.execute("SELECT id FROM order_lines WHERE order_id = ?", (shipped,)).fetchone()[0]
    unbought = db.execute(
        "SELECT id FROM products WHERE id NOT IN (SELECT v.product_id FROM order_lines l JOIN variants v ON v.id = "
        "l.variant_id JOIN orders o ON o.id = l.order_id WHERE o.customer_id = 1)"
    ).fetchone()[0]
    for url, status in (
        (f"/orders/{foreign}", 404),
        (f"/orders/{shipped}/cancel", 403),
        (f"/orders/{shipped}/delivery", 403),
        (f"/returns/new/{line}", 403),
        (f"/products/{unbought}/review", 403),
        ("/addresses/9", 404),
    ):
        client.open(url)
        assert client.status == status, url


def test_what_people_write_stays_text() -> None:
    client = visit("tracker")
    evil = "<script>alert(1)</script> & \"quotes\" 'too'"
    client.run(
        [link("New ticket"), choose("Project", client.names("link")[3]), fill("Title", evil), fill("Description", evil)]
    )
    part = next(option for option in client.find("combobox", "Component").select("option") if option["value"])
    client.run([choose("Component", part.get_text()), press("Create ticket")])
    shown = client.status, client.soup.h1.get_text() if client.soup.h1 else ""
    if client.status == 422:  # a component of another project
        assert "Choose a component of the project." in client.text
    else:
        assert evil in shown[1]
    assert not [tag for tag in client.soup.select("script") if "alert" in tag.get_text()]
    client.open("/tickets?" + urlencode({"q": evil}))
    assert client.status == 200 and evil in client.text


def test_tracker_forms_say_what_is_wrong_and_change_nothing() -> None:
    client = visit("tracker")
    client.open("/tickets")
    before = client.site.save()
    client.do(press("Change selected tickets"))
    assert client.status == 422 and "Select at least one ticket." in client.text
    client.open("/tickets/new")
    client.do(press("Create ticket"))
    assert client.status == 422 and {"Choose a project.", "Enter a title."} <= set(_problems(client))
    client.open("/settings")
    client.run([fill("Away note", "Gone fishing"), press("Save settings")])
    assert client.status == 422 and _problems(client) == ["Choose who stands in for you."]
    client.open("/labels")
    client.run([fill("Name", "BUG"), choose("Colour", "red"), press("Create label")])
    assert client.status == 422 and _problems(client) == ["There is a label of this name."]
    client.open("/tickets")
    name = next(name for name in client.names("link") if name[3:4] == "-")
    client.run([link(name), fill("Duplicate of", name.split()[0]), press("Close as duplicate")])
    assert client.status == 422 and _problems(client) == ["That is this ticket."]
    assert client.site.save() == before


def test_bulk_changes_reach_the_chosen_ones_only() -> None:
    client = visit("tracker")
    client.open("/tickets")
    boxes = [name for name in client.names("checkbox") if name.startswith("Select ") and "all" not in name]
    before = client.site.facts(client.site.save())["tickets"]
    client.run([tick(boxes[0]), tick(boxes[2]), choose("Set status", "Closed"), choose("Set priority", "Low")])
    client.do(press("Change selected tickets"))
    after = client.site.facts(client.site.save())["tickets"]
    chosen = {name.removeprefix("Select ").split("-")[1] for name in (boxes[0], boxes[2])}
    different = [key for key in before if before[key] != after[key]]
    assert {str(after[key]["number"]) for key in different} <= chosen
    hit = [row for row in after.values() if str(row["number"]) in chosen and row["status"] == "Closed"]
    assert {row["priority"] for row in hit} >= {"Low"}


def test_adding_to_the_cart_answers_scripts_in_json() -> None:
    client = visit("shop", "tidy_cart")
    assert isinstance(client.site, WebApp)
    row = client.site.db.execute("SELECT * FROM variants WHERE stock > 4 ORDER BY id").fetchone()
    client.open(f"/products/{row['product_id']}")
    token = client.soup.select_one("form[data-options] input[name=csrf]")
    assert token is not None
    fields = {"csrf": token["value"], "colour": row["colour"], "size": row["size"], "quantity": "1"}
    before = client.site.db.execute("SELECT sum(quantity) FROM cart_lines").fetchone()[0]
    url = f"http://shop.test/products/{row['product_id']}/cart"
    answer = client.request("POST", url, urlencode(fields).encode(), {"x-requested-with": "fetch"})
    assert json.loads(answer.body) == {"count": before + 1, "notice": "Added to your cart."}


def test_splits_and_unknown_tasks() -> None:
    for name, tasks in SETS.items():
        assert isinstance(get_task_set(name), type(tasks))
        train, heldout = tasks.tasks("train"), tasks.tasks("heldout")
        assert len(train) + len(heldout) == len(tasks.tasks()) == 3 * len(tasks.builders)
        assert 0.15 < len(heldout) / len(tasks.tasks()) < 0.25
        assert len({task.id for task in tasks.tasks()}) == len(tasks.tasks())
        with pytest.raises(BadInput):
            tasks.tasks("test")
        with pytest.raises(NotRestorable):
            tasks.build("no_such_kind", 0)
        data = dict(train[0].data)
        data["definition"] = {"generator": 99, "split": "train"}
        old = Task(env="pivotgym/Browser-v0", id="old", data=data)
        with pytest.raises(NotRestorable):
            tasks.open(old, BrowserTask.of(old))


def test_without_werkzeug_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "werkzeug", None)
    with pytest.raises(MissingExtra, match=r"werkzeug is not installed: pip install 'pivotgym\[browser\]'"):
        importlib.reload(apps)


def _problems(client: Client) -> list[str]:
    return [tag.get_text() for tag in client.soup.select("p.problem")]
