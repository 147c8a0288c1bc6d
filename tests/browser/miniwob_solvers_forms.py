"""MiniWoB++ tasks of filling in: texts, passwords, dates, tables, small sums."""

from __future__ import annotations

import re
from datetime import date, datetime

from miniwob_solvers import Node, Page, Solver, click, do, fill, quoted, solves, submit


@solves("enter-text", "enter-text-dynamic")
def text(goal: str, page: Page) -> Solver:
    page = yield [fill(page.find("textbox"), quoted(goal)[0])]
    yield submit(page)


@solves("enter-text-2")
def cased(goal: str, page: Page) -> Solver:
    wanted = quoted(goal)[0]
    page = yield [fill(page.find("textbox"), wanted.lower() if "lower case" in goal else wanted.upper())]
    yield submit(page)


@solves("enter-password")
def password(goal: str, page: Page) -> Solver:
    for index in range(2):
        page = yield [fill(page.all("textbox")[index], quoted(goal)[0])]
    yield submit(page)


@solves("login-user")
def login(goal: str, page: Page) -> Solver:
    for index, wanted in enumerate(quoted(goal)[:2]):
        page = yield [fill(page.all("textbox")[index], wanted)]
    yield submit(page, "Login")


@solves("login-user-popup")
def login_popup(goal: str, page: Page) -> Solver:
    wanted = quoted(goal)[:2]
    while True:
        # A window may come up over the form at any time; it has a button of its own.
        cover = next((node for node in page.all("button", "link", "generic") if node.name == "Cancel"), None)
        empty = next((pair for pair in zip(page.all("textbox"), wanted, strict=False) if not pair[0].value), None)
        if cover is not None:
            page = yield [click(cover)]
        elif empty is not None:
            page = yield [fill(*empty)]
        else:
            page = yield [click(page.find("button"))]


@solves("enter-date")
def typed_date(goal: str, page: Page) -> Solver:
    wanted = datetime.strptime(re.findall(r"\d+/\d+/\d+", goal)[0], "%m/%d/%Y")
    page = yield [fill(page.find("Date"), wanted.date().isoformat())]
    yield submit(page)


@solves("enter-time")
def typed_time(goal: str, page: Page) -> Solver:
    wanted = datetime.strptime(re.findall(r"\d+:\d+ [AP]M", goal)[0], "%I:%M %p")
    page = yield [fill(page.find("InputTime"), f"{wanted:%H:%M}")]
    yield submit(page)


@solves("choose-date", "choose-date-easy", "choose-date-medium", "choose-date-nodelay")
def picked_date(goal: str, page: Page) -> Solver:
    wanted = datetime.strptime(re.findall(r"\d+/\d+/\d+", goal)[0], "%m/%d/%Y").date()
    page = yield [click(page.find("textbox"))]
    while (shown := _month(page)) != (wanted.year, wanted.month):
        name = "Prev" if shown > (wanted.year, wanted.month) else "Next"
        page = yield [click(next(node for node in page.nodes if node.id and node.name == name))]
    page = yield [click(page.find("link", str(wanted.day)))]
    yield submit(page)


def _month(page: Page) -> tuple[int, int]:
    """The month a calendar shows."""
    names = [date(2016, month, 1).strftime("%B") for month in range(1, 13)]
    month = next(node for node in page.nodes if node.name in names)
    year = next(node for node in page.nodes if re.fullmatch(r"20\d\d", node.name))
    return int(year.name), names.index(month.name) + 1


@solves("find-word")
def word(goal: str, page: Page) -> Solver:
    found = re.search(r"(\d+)", goal)
    assert found is not None
    words = re.findall(r"[\w-]+", page.find("paragraph").text)
    page = yield [fill(page.find("textbox"), words[int(found.group(1)) - 1])]
    yield submit(page)


@solves("read-table")
def cell(goal: str, page: Page) -> Solver:
    wanted = re.findall("value of (.*?) into", goal)[0]
    page = yield [fill(page.find("textbox"), _cells(page)[wanted])]
    yield submit(page)


@solves("read-table-2")
def cells(goal: str, page: Page) -> Solver:
    for index, label in enumerate(node.text.rstrip(":") for node in page.all("LabelText")):
        page = yield [fill(page.all("textbox")[index], _cells(page)[label])]
    yield submit(page)


def _cells(page: Page) -> dict[str, str]:
    return {row.children[0].name: row.children[1].name for row in page.all("row")}


@solves("simple-arithmetic")
def arithmetic(goal: str, page: Page) -> Solver:
    one, sign, other = _sum(next(node.name for node in page.texts()).rstrip(" ="))
    result = {"+": one + other, "-": one - other, "x": one * other, "*": one * other}.get(sign)
    page = yield [fill(page.find("textbox"), str(one // other if result is None else result))]
    yield submit(page)


@solves("simple-algebra")
def algebra(goal: str, page: Page) -> Solver:
    left, _, right = next(node.name for node in page.texts()).partition(" = ")
    one, sign, other = left.split()
    whole = int(right)
    if one == "x":
        solution = whole - int(other) if sign == "+" else whole + int(other)
    else:
        solution = whole - int(one) if sign == "+" else int(one) - whole
    page = yield [fill(page.find("textbox"), str(solution))]
    yield submit(page)


def _sum(spelled: str) -> tuple[int, str, int]:
    found = re.fullmatch(r"(-?\d+) (\S) (-?\d+)", spelled.strip())
    assert found is not None, spelled
    return int(found.group(1)), found.group(2), int(found.group(3))


@solves("text-transform")
def letters(goal: str, page: Page) -> Solver:
    field = page.find("textbox")
    shown = "".join(node.name for node in page.before(field)[::-1] if node.role == "StaticText")
    page = yield [fill(field, shown)]
    yield submit(page)


@solves("scroll-text")
def last_word(goal: str, page: Page) -> Solver:
    area, field = page.all("textbox")
    page = yield [fill(field, re.findall(r"[\w-]+", area.value)[-1])]
    yield submit(page)


@solves("copy-paste", "copy-paste-2")
def pasted(goal: str, page: Page) -> Solver:
    found = re.search(r"(\d)\w\w text area", goal)
    area = page.all("textbox")[int(found.group(1)) - 1 if found else 0]
    page = yield [
        do("press", bid=area.target, key_comb="Control+a"),
        do("press", bid=area.target, key_comb="Control+c"),
    ]
    field = page.all("textbox")[-1]
    page = yield [do("press", bid=field.target, key_comb="Control+v")]
    yield submit(page)


@solves("generate-number")
def generated(goal: str, page: Page) -> Solver:
    limit = int(re.findall(r"than (-?\d+)", goal)[0])
    while True:
        page = yield [click(page.find("button", "Generate"))]
        number = int(page.texts()[0].name)
        if number < limit if "less" in goal else number > limit:
            yield submit(page)
            return


@solves("guess-number")
def guess(goal: str, page: Page) -> Solver:
    low, high = 0, 9
    while True:
        number = (low + high) // 2
        page = yield [fill(page.find("spinbutton"), str(number))]
        page = yield submit(page)
        said = " ".join(node.name for node in page.texts())
        if "higher" in said:
            low = number + 1
        else:
            high = number - 1


@solves("form-sequence-2")
def radio_and_text(goal: str, page: Page) -> Solver:
    which, field = (int(found) for found in re.findall(r"(\d)(?:st|nd|rd)", goal))
    page = yield [click(page.all("radio")[which - 1])]
    page = yield [fill(page.all("textbox")[field - 1], quoted(goal)[0])]
    yield submit(page)


@solves("form-sequence-3")
def list_and_button(goal: str, page: Page) -> Solver:
    wanted = re.findall("Choose (.*?) from", goal)[0]
    page = yield [do("select_option", bid=page.find("combobox").target, options=wanted)]
    yield submit(page, quoted(goal)[0])


@solves("multi-layouts", "multi-orderings")
def movies(goal: str, page: Page) -> Solver:
    found = re.fullmatch(r"Search for (.*) movies directed by (.*) from year (\d+)\.", goal)
    assert found is not None
    wanted = dict(zip(("genre", "director", "year"), found.groups(), strict=True))
    for index in range(3):
        field = page.all("textbox")[index]
        label = next(_label(node) for node in page.before(field) if _label(node))
        page = yield [fill(field, wanted[label])]
    yield [click(next(node for node in page.nodes[::-1] if node.id and node.clickable))]


def _label(node: Node) -> str:
    name = node.name.lower()
    kinds = {"genre": "genre", "director": "director", "year": "year", "date": "year"}
    return next((kind for word, kind in kinds.items() if word in name), "")


@solves("search-engine")
def search(goal: str, page: Page) -> Solver:
    wanted = int(re.findall(r"the (\d+)", goal)[0])
    page = yield [fill(page.find("textbox"), quoted(goal)[0])]
    page = yield submit(page, "Search")
    for _ in range((wanted - 1) // 3):
        page = yield [click(page.find("link", ">"))]
    results = [node for node in page.all("link") if not re.fullmatch(r"\d+|<|>", node.name)]
    yield [click(results[(wanted - 1) % 3])]


@solves("use-autocomplete", "use-autocomplete-nodelay")
def completed(goal: str, page: Page) -> Solver:
    start, end = [*quoted(goal), ""][:2]
    field = page.find("textbox")
    page = yield [do("click", bid=field.target), do("keyboard_type", text=start)]
    items = page.all("menuitem", "option", "listitem")
    yield_to = next((node for node in items if (node.name or node.text).endswith(end)), None)
    page = yield [click(yield_to)]
    yield submit(page)


@solves("phone-book")
def contact(goal: str, page: Page) -> Solver:
    found = re.fullmatch(r"Find (.*) in the contact book and click on their (.*)\.", goal)
    assert found is not None
    name, what = found.groups()
    label = {"phone number": "Phone:", "email": "Email:", "address": "Address:"}[what]
    while page.find("heading").name != name:
        page = yield [click(page.find("link", ">"))]
    text = next(node for node in page.texts() if node.name == label)
    yield [click(next(node for node in page.after(text) if node.role == "link"))]
