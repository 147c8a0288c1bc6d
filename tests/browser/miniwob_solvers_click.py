"""MiniWoB++ tasks of clicking: buttons, boxes, tabs, menus, dialogs, trees."""

from __future__ import annotations

import re

from miniwob_solvers import Page, Solver, Turn, click, do, quoted, solves, submit


@solves("click-test")
def one_button(goal: str, page: Page) -> Solver:
    yield [click(page.find("button"))]


@solves("click-test-2", "click-test-transfer")
def named_button(goal: str, page: Page) -> Solver:
    yield [click(page.find("button", goal.rstrip(".").split()[-1]))]


@solves("click-button", "unicode-test", "click-dialog-2")
def quoted_button(goal: str, page: Page) -> Solver:
    wanted = quoted(goal)[0]
    yield [click(page.find("button", "Close" if wanted == "x" else wanted))]


@solves("click-dialog")
def close_dialog(goal: str, page: Page) -> Solver:
    yield [click(page.find("button", "Close"))]


@solves("click-button-sequence")
def two_buttons(goal: str, page: Page) -> Solver:
    for name in ("ONE", "TWO"):
        page = yield [click(page.find("button", name))]


@solves("button-delay")
def delayed_button(goal: str, page: Page) -> Solver:
    seconds = int(re.findall(r"\d+", goal)[0])
    page = yield [click(page.find("button", "ONE"))]
    page = yield [do("noop", wait_ms=1000 * seconds)]
    yield [click(page.find("button", "TWO"))]


@solves("click-link")
def quoted_link(goal: str, page: Page) -> Solver:
    yield [click(page.labelled(quoted(goal)[0]))]


@solves("click-checkboxes", "click-checkboxes-large", "click-checkboxes-transfer")
def boxes(goal: str, page: Page) -> Solver:
    wanted = goal.removeprefix("Select ").removesuffix(" and click Submit.").split(", ")
    for name in wanted:
        if name != "nothing":
            page = yield [click(page.find("checkbox", name))]
    yield submit(page)


@solves("click-option")
def radio(goal: str, page: Page) -> Solver:
    page = yield [click(page.find("radio", goal.removeprefix("Select ").removesuffix(" and click Submit.")))]
    yield submit(page)


@solves("click-widget")
def widget(goal: str, page: Page) -> Solver:
    kind = quoted(goal)[0]
    if kind in ("text", "textarea"):
        # Only a text field of one line has a click handler of its own.
        yield [click(next(node for node in page.all("textbox") if node.clickable == (kind == "text")))]
    else:
        yield [click(page.find(kind))]


@solves("click-collapsible", "click-collapsible-nodelay")
def one_section(goal: str, page: Page) -> Solver:
    page = yield [click(page.find("tab"))]
    yield submit(page)


@solves("click-collapsible-2", "click-collapsible-2-nodelay")
def sections(goal: str, page: Page) -> Solver:
    wanted = quoted(goal)[0]
    for name in [tab.name for tab in page.all("tab")]:
        page = yield [click(page.find("tab", name))]
        link = page.labelled(wanted)
        if link is not None:
            yield [click(link)]
            return


@solves("click-tab")
def tab(goal: str, page: Page) -> Solver:
    yield [click(page.find("link", goal.removeprefix("Click on ").rstrip(".")))]


@solves("click-tab-2", "click-tab-2-easy", "click-tab-2-medium", "click-tab-2-hard")
def tabs(goal: str, page: Page) -> Solver:
    wanted = quoted(goal)[0]
    names = [node.name for node in page.all("tab")]
    for name in [None, *names]:
        if name is not None:
            page = yield [click(page.find("link", name))]
        link = next((node for node in page.find("tabpanel").within() if node.id and node.text == wanted), None)
        if link is not None:
            yield [click(link)]
            return


@solves("click-menu")
def menu(goal: str, page: Page) -> Solver:
    *above, last = goal.removeprefix("Select ").split(">")
    for name in above:
        page = yield [do("hover", bid=page.find("menuitem", name).target)]
    yield [click(page.find("menuitem", last))]


@solves("click-pie")
def pie(goal: str, page: Page) -> Solver:
    page = yield [click(page.labelled("+"))]
    yield [click(page.labelled(quoted(goal)[0]))]


@solves("click-scroll-list", "choose-list")
def chosen(goal: str, page: Page) -> Solver:
    wanted = re.fullmatch(r"Select (.*) from the (?:scroll )?list and click Submit\.", goal)
    field = page.seek("listbox") or page.find("combobox")
    page = yield [do("select_option", bid=field.target, options=wanted.group(1).split(", "))]
    yield submit(page)


@solves("navigate-tree")
def tree(goal: str, page: Page) -> Solver:
    wanted, tried = quoted(goal)[0], set[str]()
    while True:
        found = page.labelled(wanted)
        if found is not None:
            yield [click(found)]
            return
        closed = next(
            node
            for node in page.all("listitem")
            if any(child.role == "generic" for child in node.children) and node.target not in tried
        )
        tried.add(closed.target)
        page = yield [click([child for child in closed.children if child.role == "generic"][-1])]


@solves("focus-text", "focus-text-2")
def focus(goal: str, page: Page) -> Solver:
    found = re.search(r"(\d)\w\w input", goal)
    yield [click(page.all("textbox")[int(found.group(1)) - 1 if found else 0])]


@solves("ascending-numbers")
def ascending(goal: str, page: Page) -> Solver:
    # After the first one the others are covered, and lie in the same order.
    rank = sorted(range(len(page.texts())), key=lambda index: int(page.texts()[index].name))
    places = [node.target for node in page.all("generic")]
    page = yield [do("click", bid=places[rank[0]])]
    left = [index for index in range(len(places)) if index != rank[0]]
    covers = dict(zip(left, [node.target for node in page.all("graphics-symbol")], strict=True))
    for index in rank[1:]:
        page = yield [do("click", bid=covers[index])]


@solves("find-greatest")
def greatest(goal: str, page: Page) -> Solver:
    cards = [node for node in page.all("generic") if node.text.isdigit()]
    page = yield [click(max(cards, key=lambda node: int(node.text)))]
    yield submit(page)


@solves("odd-or-even")
def parity(goal: str, page: Page) -> Solver:
    for number in [node.name for node in page.texts()]:
        line = next(node for node in page.texts() if node.name == number)
        odd = next(node for node in page.before(line) if node.role == "button")
        even = next(node for node in page.after(line) if node.role == "button")
        page = yield [click(odd if int(number) % 2 else even)]
    yield submit(page)


@solves("buy-ticket")
def ticket(goal: str, page: Page) -> Solver:
    offers = []
    for button in page.all("button"):
        time = next(node.name for node in page.before(button) if re.match(r"\d+h", node.name))
        hours, minutes = (int(part) for part in re.findall(r"\d+", time))
        offers.append((int(button.name.rpartition("$")[2]), 60 * hours + minutes, button))
    by = 0 if "cost" in goal or "cheap" in goal or "expens" in goal else 1
    best = min if re.search("cheapest|shortest|least", goal) else max
    yield [click(best(offers, key=lambda offer: offer[by])[2])]


@solves("stock-market")
def stock(goal: str, page: Page) -> Solver:
    limit = float(goal.rpartition("$")[2].rstrip("."))
    while True:
        price = next(float(node.name[1:]) for node in page.texts() if node.name.startswith("$"))
        page = yield [click(page.find("button", "Buy")) if price < limit else do("noop", wait_ms=200)]


@solves("sign-agreement")
def agreement(goal: str, page: Page) -> Solver:
    if "cancel" in goal:
        yield submit(page, "Cancel")
        return
    page = yield [do("press", bid=page.find("textbox").target, key_comb="Control+End")]
    name = next((text for text in quoted(goal)), None)
    turn: Turn = [do("fill", bid=page.find("textbox", "Name").target, value=name or "A B")]
    page = yield turn
    yield submit(page, "Agree")
