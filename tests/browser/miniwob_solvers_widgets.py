"""MiniWoB++ tasks with the mouse and the keyboard: sliders, spinners, dragging, scrolling, styling, a game."""

from __future__ import annotations

import re

from miniwob_solvers import Node, Page, Solver, Turn, click, do, fill, solves, submit


def _nudge(node: Node, by: int, up: str = "ArrowRight", down: str = "ArrowLeft") -> Turn:
    return [do("press", bid=node.target, key_comb=up if by > 0 else down)] * min(abs(by), 20)


@solves("use-slider")
def slider(goal: str, page: Page) -> Solver:
    wanted = int(re.findall(r"Select (-?\d+)", goal)[0])
    page = yield [click(page.find("generic"))]
    while (now := _number(page)) != wanted:
        page = yield _nudge(page.find("generic"), wanted - now)
    yield submit(page)


def _number(page: Page) -> int:
    return next(int(node.name) for node in page.texts() if re.fullmatch(r"-?\d+", node.name))


@solves("use-spinner")
def spinner(goal: str, page: Page) -> Solver:
    wanted = int(re.findall(r"Select (-?\d+)", goal)[0])
    field = page.find("spinbutton")
    page = yield _nudge(field, wanted - int(field.value or 0), "ArrowUp", "ArrowDown")
    yield submit(page)


@solves("use-colorwheel")
def colour(goal: str, page: Page) -> Solver:
    colours = {
        "red": "FF0000",
        "blue": "0000FF",
        "green": "008000",
        "lime": "00FF00",
        "yellow": "FFFF00",
        "white": "FFFFFF",
        "black": "000000",
        "maroon": "800000",
        "navy": "000080",
        "aqua": "00FFFF",
        "teal": "008080",
        "olive": "808000",
        "purple": "800080",
        "silver": "C0C0C0",
        "gray": "808080",
        "grey": "808080",
        "fuchsia": "FF00FF",
        "magenta": "FF00FF",
        "orange": "FFA500",
        "cyan": "00FFFF",
        "pink": "FFC0CB",
        "brown": "A52A2A",
    }
    page = yield [fill(page.find("textbox"), colours[goal.split()[1]])]
    page = yield [do("press", bid=page.find("textbox").target, key_comb="Tab")]
    yield submit(page)


@solves("drag-box")
def boxes(goal: str, page: Page) -> Solver:
    small, large = (page.labelled(name) for name in ("s", "L"))
    assert small is not None and large is not None
    page = yield [do("drag_and_drop", from_bid=small.target, to_bid=large.target)]
    yield submit(page)


@solves("drag-sort-numbers")
def sorted_list(goal: str, page: Page) -> Solver:
    while True:
        items = page.all("listitem")
        now = [int(node.text) for node in items]
        wanted = sorted(now)
        place = next((index for index, pair in enumerate(zip(now, wanted, strict=True)) if pair[0] != pair[1]), None)
        if place is None:
            yield submit(page)
            return
        mover = items[now.index(wanted[place])]
        page = yield [do("drag_and_drop", from_bid=mover.target, to_bid=items[place].target)]


@solves("scroll-text-2")
def scrolled(goal: str, page: Page) -> Solver:
    key = "Control+Home" if "top" in goal else "Control+End"
    page = yield [do("press", bid=page.find("textbox").target, key_comb=key)]
    yield submit(page)


@solves("tic-tac-toe")
def noughts(goal: str, page: Page) -> Solver:
    lines = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
    cells = [node.target for node in page.all("generic", "image")]
    mine = set[int]()
    while True:
        # Crosses and noughts are pictures: what we did not put there is the other's.
        held = dict.fromkeys(range(9), "")
        for node in page.all("image"):
            cell = cells.index(node.target)
            held[cell] = "X" if cell in mine else "O"
        move = None
        for mark in ("X", "O"):
            for line in lines:
                free = [cell for cell in line if not held[cell]]
                if len(free) == 1 and sum(held[cell] == mark for cell in line) == 2 and move is None:
                    move = free[0]
        if move is None:
            move = next(cell for cell in (4, 0, 2, 6, 8, 1, 3, 5, 7) if not held[cell])
        mine.add(move)
        page = yield [do("click", bid=cells[move])]


@solves("text-editor")
def styled(goal: str, page: Page) -> Solver:
    area = page.find("paragraph")
    page = yield [click(area), do("keyboard_press", key="Control+a")]
    keys = {"bold": "Control+b", "italics": "Control+i", "underlined": "Control+u"}
    wanted = next((key for name, key in keys.items() if name in goal), None)
    assert wanted is not None, goal
    page = yield [do("keyboard_press", key=wanted)]
    yield submit(page)
