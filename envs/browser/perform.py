"""Carries out one action of the agent's vocabulary in a session."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pivotgym.envs.browser.tab import Tab
from pivotgym.envs.trajectory import JsonObject

if TYPE_CHECKING:
    from pivotgym.envs.browser.session import Session

Button = Literal["left", "middle", "right"]
_BITS = {"Alt": 1, "Control": 2, "ControlOrMeta": 2, "Meta": 4, "Shift": 8}
_HELD = {"left": 1, "right": 2, "middle": 4}
_DRAG_STEPS = 5
MAX_TYPED = 20_000
"""Characters one action may type."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(?!\d)", re.IGNORECASE)
_SCHEMES = ("http://", "https://", "about:blank")


class ActionError(Exception):
    """The action could not be carried out; the message is what the agent reads."""


async def perform(session: Session, name: str, arguments: JsonObject) -> float | None:
    """Carries out an action, up to the page's settling.

    Returns:
        How many milliseconds the page's clock goes on, where the action says so itself.

    Raises:
        ActionError: it cannot be done on this page.
    """
    passing = await _ACTIONS[name](session, **arguments)
    return passing if isinstance(passing, float) else None


async def _in_page(session: Session, kind: str | None, *given: Any) -> Any:
    """The part of an action that happens inside the page."""
    call = ", ".join(json.dumps(part) for part in (session.clipboard, kind, *given))
    found = await session.active.evaluate(
        f"globalThis.__pivot ? __pivot.act({call}) : {{done: {json.dumps(not kind)}}}"
    )
    if isinstance(found, dict) and found.get("error"):
        raise ActionError(str(found["error"]))
    done = found.get("done") if isinstance(found, dict) else None
    if kind == "point" and not done:
        raise ActionError("this page has no elements")
    return done


async def _mouse(tab: Tab, *events: JsonObject) -> None:
    # Sent without waiting in between: a lone mouse movement is only answered with the next frame.
    await asyncio.gather(*(tab.send("Input.dispatchMouseEvent", event) for event in events))


def _clicks(x: float, y: float, button: str, count: int, modifiers: int = 0) -> list[JsonObject]:
    where: JsonObject = {"x": x, "y": y, "modifiers": modifiers}
    events: list[JsonObject] = [{**where, "type": "mouseMoved", "button": "none"}]
    for click in range(1, count + 1):
        pressed = {**where, "button": button, "clickCount": click}
        events.append({**pressed, "type": "mousePressed", "buttons": _HELD[button]})
        events.append({**pressed, "type": "mouseReleased", "buttons": 0})
    return events


async def _click_element(session: Session, bid: str, button: str, modifiers: Sequence[str], count: int) -> None:
    x, y = await _in_page(session, "point", bid)
    bits = 0
    for modifier in modifiers:
        bits |= _BITS[modifier]
    await _mouse(session.active, *_clicks(x, y, button, count, bits))
    session.mouse = (x, y)


async def _click(session: Session, bid: str, button: str = "left", modifiers: Sequence[str] = ()) -> None:
    await _click_element(session, bid, button, modifiers, 1)


async def _dblclick(session: Session, bid: str, button: str = "left", modifiers: Sequence[str] = ()) -> None:
    await _click_element(session, bid, button, modifiers, 2)


async def _hover(session: Session, bid: str) -> None:
    x, y = await _in_page(session, "point", bid)
    await _move(session, x, y)


async def _move(session: Session, x: float, y: float) -> None:
    await session.active.call(session.active.page.mouse.move(x, y))
    session.mouse = (x, y)


async def _fill(session: Session, bid: str, value: str) -> None:
    if len(value) > MAX_TYPED:
        raise ActionError(f"more than {MAX_TYPED} characters")
    if await _in_page(session, "fill", bid, value):
        return
    if value:
        await session.active.send("Input.insertText", {"text": value})
    else:
        await _keys(session, "Delete")


async def _clear(session: Session, bid: str) -> None:
    await _fill(session, bid, "")


async def _focus(session: Session, bid: str) -> None:
    await _in_page(session, "focus", bid)


async def _press(session: Session, bid: str, key_comb: str) -> None:
    await _in_page(session, "focus", bid)
    await _keys(session, key_comb)


async def _keys(session: Session, keys: str) -> None:
    await _keyboard(session, lambda page: page.keyboard.press(keys))


async def _keyboard(session: Session, what: Callable[[Any], Awaitable[Any]]) -> None:
    from playwright.async_api import Error

    try:
        await session.active.call(what(session.active.page))
    except Error as error:
        raise ActionError(str(error.message).removeprefix("Keyboard.press: ").splitlines()[0]) from error


async def _select(session: Session, bid: str, options: str | Sequence[str]) -> None:
    await _in_page(session, "choose", bid, [options] if isinstance(options, str) else list(options))


async def _upload(session: Session, bid: str, file: str | Sequence[str]) -> None:
    wanted = [file] if isinstance(file, str) else list(file)
    known = session.files
    names = [name.rpartition("/")[2] for name in wanted]
    missing = [name for name in names if name not in known]
    if missing:
        raise ActionError(f"there is no file {missing[0]!r}; there are: {', '.join(sorted(known)) or 'none'}")
    await _in_page(session, "upload", bid, [[name, known[name]] for name in names])


async def _drag(session: Session, from_bid: str, to_bid: str) -> None:
    from_x, from_y = await _in_page(session, "point", from_bid)
    to_x, to_y = await _in_page(session, "point", to_bid, True)
    from_x, from_y = await _in_page(session, "point", from_bid, True)  # the target may have scrolled it away
    await _drag_between(session, from_x, from_y, to_x, to_y)


async def _drag_between(session: Session, from_x: float, from_y: float, to_x: float, to_y: float) -> None:
    tab = session.active
    mouse = tab.page.mouse
    await tab.call(mouse.move(from_x, from_y))
    await tab.call(mouse.down())
    await tab.call(mouse.move(to_x, to_y, steps=_DRAG_STEPS))
    await tab.call(mouse.move(to_x, to_y))
    await tab.call(mouse.up())
    session.mouse = (to_x, to_y)


async def _drag_points(session: Session, from_x: float, from_y: float, to_x: float, to_y: float) -> None:
    await _in_page(session, None)
    await _drag_between(session, from_x, from_y, to_x, to_y)


async def _scroll(session: Session, delta_x: float, delta_y: float) -> None:
    await _in_page(session, "scroll", delta_x, delta_y)


async def _mouse_move(session: Session, x: float, y: float) -> None:
    await _in_page(session, None)
    await _move(session, x, y)


async def _mouse_down(session: Session, x: float, y: float, button: Button = "left") -> None:
    await _mouse_move(session, x, y)
    await session.active.call(session.active.page.mouse.down(button=button))


async def _mouse_up(session: Session, x: float, y: float, button: Button = "left") -> None:
    await _mouse_move(session, x, y)
    await session.active.call(session.active.page.mouse.up(button=button))


async def _mouse_click(session: Session, x: float, y: float, button: str = "left") -> None:
    await _in_page(session, None)
    await _mouse(session.active, *_clicks(x, y, button, 1))
    session.mouse = (x, y)


async def _mouse_dblclick(session: Session, x: float, y: float, button: str = "left") -> None:
    await _in_page(session, None)
    await _mouse(session.active, *_clicks(x, y, button, 2))
    session.mouse = (x, y)


async def _keyboard_press(session: Session, key: str) -> None:
    await _in_page(session, None)
    await _keys(session, key)


async def _keyboard_down(session: Session, key: str) -> None:
    await _in_page(session, None)
    await _keyboard(session, lambda page: page.keyboard.down(key))


async def _keyboard_up(session: Session, key: str) -> None:
    await _in_page(session, None)
    await _keyboard(session, lambda page: page.keyboard.up(key))


async def _keyboard_type(session: Session, text: str) -> None:
    if len(text) > MAX_TYPED // 10:
        raise ActionError(f"more than {MAX_TYPED // 10} characters: use keyboard_insert_text")
    await _in_page(session, None)
    await _keyboard(session, lambda page: page.keyboard.type(text))


async def _keyboard_insert(session: Session, text: str) -> None:
    if len(text) > MAX_TYPED:
        raise ActionError(f"more than {MAX_TYPED} characters")
    await _in_page(session, None)
    await session.active.send("Input.insertText", {"text": text})


async def _noop(session: Session, wait_ms: float = 1000) -> float:
    await _in_page(session, None)
    return min(max(float(wait_ms), 0.0), 60_000.0)


async def _goto(session: Session, url: str) -> None:
    wanted = url.strip()
    if not _SCHEME.match(wanted):
        wanted = f"http://{wanted}"
    if not wanted.lower().startswith(_SCHEMES):
        raise ActionError(f"only http and https addresses can be opened, not {url[:200]!r}")
    await _in_page(session, None)
    failed = await session.active.goto(wanted)
    if failed:
        raise ActionError(failed)


async def _travel(session: Session, steps: int) -> None:
    await _in_page(session, None)
    session.past()
    history = await session.active.send("Page.getNavigationHistory")
    index = history["currentIndex"] + steps
    if not 0 <= index < len(history["entries"]):
        raise ActionError("there is no page to go back to" if steps < 0 else "there is no page to go forward to")
    stops = session.active.stops
    await session.active.send("Page.navigateToHistoryEntry", {"entryId": history["entries"][index]["id"]})
    session.active.expect_load(stops)


async def _go_back(session: Session) -> None:
    await _travel(session, -1)


async def _go_forward(session: Session) -> None:
    await _travel(session, 1)


async def _new_tab(session: Session) -> None:
    await _in_page(session, None)
    await session.new_tab()


async def _tab_close(session: Session) -> None:
    await session.close_tab()


async def _tab_focus(session: Session, index: int) -> None:
    await _in_page(session, None)
    if not 0 <= index < len(session.tabs):
        raise ActionError(f"there is no tab {index}: there are {len(session.tabs)}")
    await session.show(session.tabs[index])


async def _say(session: Session, text: str) -> None:
    await _in_page(session, None)
    session.told.append(text)


async def _infeasible(session: Session, reason: str) -> None:
    await _in_page(session, None)
    session.told.append(reason)


_ACTIONS: dict[str, Callable[..., Awaitable[Any]]] = {
    "noop": _noop,
    "click": _click,
    "dblclick": _dblclick,
    "hover": _hover,
    "fill": _fill,
    "clear": _clear,
    "focus": _focus,
    "press": _press,
    "select_option": _select,
    "drag_and_drop": _drag,
    "scroll": _scroll,
    "upload_file": _upload,
    "mouse_move": _mouse_move,
    "mouse_down": _mouse_down,
    "mouse_up": _mouse_up,
    "mouse_click": _mouse_click,
    "mouse_dblclick": _mouse_dblclick,
    "mouse_drag_and_drop": _drag_points,
    "keyboard_press": _keyboard_press,
    "keyboard_down": _keyboard_down,
    "keyboard_up": _keyboard_up,
    "keyboard_type": _keyboard_type,
    "keyboard_insert_text": _keyboard_insert,
    "goto": _goto,
    "go_back": _go_back,
    "go_forward": _go_forward,
    "new_tab": _new_tab,
    "tab_close": _tab_close,
    "tab_focus": _tab_focus,
    "send_msg_to_user": _say,
    "report_infeasible": _infeasible,
}
