"""What a Playwright script says, statement by statement, whatever language it is written in.

Both readers hand over chains such as ``page.get_by_role("button", name="Add").click()``, in Python's names. Here a
chain becomes a :class:`Step`: an action of the environment's vocabulary, and the locators that Playwright itself
resolves once the step is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.trajectory import JsonObject

LOCATORS: dict[str, tuple[int, frozenset[str]]] = {
    "get_by_role": (
        1,
        frozenset(
            {"name", "exact", "checked", "disabled", "expanded", "include_hidden", "level", "pressed", "selected"}
        ),
    ),
    **{
        f"get_by_{what}": (1, frozenset({"exact"}))
        for what in ("label", "text", "placeholder", "alt_text", "title", "test_id")
    },
    "locator": (1, frozenset({"has_text", "has_not_text", "has", "has_not"})),
    "frame_locator": (1, frozenset()),
    "filter": (0, frozenset({"has_text", "has_not_text", "has", "has_not", "visible"})),
    "nth": (1, frozenset()),
    "and_": (1, frozenset()),
    "or_": (1, frozenset()),
}
"""Methods that make a locator: how many arguments they take in order, and their options."""
PROPERTIES = frozenset({"first", "last", "content_frame", "owner"})
_IGNORED = frozenset(
    {"timeout", "no_wait_after", "force", "strict", "trial", "delay", "wait_until", "referer", "steps"}
)
"""Options that say how long to wait and the like: the environment decides that."""
_ON_ELEMENT: dict[str, tuple[int, frozenset[str]]] = {
    "click": (0, frozenset({"button", "modifiers", "click_count"})),
    "dblclick": (0, frozenset({"button", "modifiers"})),
    "tap": (0, frozenset()),
    "hover": (0, frozenset()),
    "focus": (0, frozenset()),
    "clear": (0, frozenset()),
    "check": (0, frozenset()),
    "uncheck": (0, frozenset()),
    "set_checked": (1, frozenset()),
    "fill": (1, frozenset()),
    "press": (1, frozenset()),
    "type": (1, frozenset()),
    "press_sequentially": (1, frozenset()),
    "select_option": (1, frozenset({"value", "label", "index"})),
    "set_input_files": (1, frozenset()),
    "drag_to": (1, frozenset()),
}
_OF_PAGE: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {
    ("goto",): ("goto", ("url",)),
    ("go_back",): ("go_back", ()),
    ("go_forward",): ("go_forward", ()),
    ("reload",): ("reload", ()),
    ("close",): ("tab_close", ()),
    ("bring_to_front",): ("show", ()),
    ("wait_for_timeout",): ("noop", ("wait_ms",)),
    ("keyboard", "press"): ("keyboard_press", ("key",)),
    ("keyboard", "down"): ("keyboard_down", ("key",)),
    ("keyboard", "up"): ("keyboard_up", ("key",)),
    ("keyboard", "type"): ("keyboard_type", ("text",)),
    ("keyboard", "insert_text"): ("keyboard_insert_text", ("text",)),
    ("mouse", "click"): ("mouse_click", ("x", "y")),
    ("mouse", "dblclick"): ("mouse_dblclick", ("x", "y")),
    ("mouse", "move"): ("mouse_move", ("x", "y")),
    ("mouse", "wheel"): ("scroll", ("delta_x", "delta_y")),
}
_NOTED = frozenset(
    {"pause", "screenshot", "once", "on", "set_viewport_size", "set_default_timeout", "set_default_navigation_timeout"}
    | {"scroll_into_view_if_needed", "wait_for", "title", "content"}
)
_TYPES: dict[str, tuple[type, ...]] = {
    "fill": (str,),
    "press": (str,),
    "type": (str,),
    "press_sequentially": (str,),
    "set_checked": (bool,),
    "select_option": (str, list, dict),
    "set_input_files": (str, list),
    "drag_to": (),
}


class Unreadable(ValueError):
    """A statement that is none of those recorders write; the message says what is wrong."""


@dataclass(frozen=True)
class Pattern:
    """A regular expression; ``flags`` in JavaScript's letters."""

    source: str
    flags: str = ""


@dataclass
class Part:
    """One link of a chain: ``name(*values, **options)``, or ``name`` alone where ``values`` is None."""

    name: str
    values: list[Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Chain:
    """``base.part.part``."""

    base: str
    parts: list[Part]


class Step(BaseModel):
    """One thing a script does.

    Attributes:
        kind: an action's name, or ``check``, ``uncheck``, ``type``, ``reload``, ``show``, ``new_tab``.
        page: the variable that holds the page.
        locator: where, as ``[[method, arguments, options], ...]``; None for actions on the page.
        target: the same for the other end of a drag.
        arguments: further arguments.
        line: 1-based.
        text: the statement.
        opens: the variable that holds the page this opens.
        notes: statements around it that do nothing: expectations, waits.
    """

    model_config = ConfigDict(extra="forbid")

    kind: str
    page: str = "page"
    locator: list[Any] | None = None
    target: list[Any] | None = None
    arguments: JsonObject = Field(default_factory=dict)
    line: int = 0
    text: str = ""
    opens: str | None = None
    notes: list[str] = Field(default_factory=list)


def step_of(chain: Chain, pages: Sequence[str]) -> Step | None:
    """What a chain on a page does; None for one that only waits or looks. Raises Unreadable."""
    if chain.base not in pages:
        raise Unreadable(f"{chain.base!r} is no page")
    if not chain.parts:
        raise Unreadable("nothing is done with the page")
    last = chain.parts[-1]
    whole = tuple(part.name for part in chain.parts)
    if last.values is None:
        raise Unreadable(f".{last.name} does nothing")
    if last.name in _NOTED or (last.name.startswith(("wait_for_", "expect_")) and whole not in _OF_PAGE):
        return None
    if whole in _OF_PAGE:
        return _on_page(chain.base, last, *_OF_PAGE[whole])
    if last.name not in _ON_ELEMENT:
        raise Unreadable(f"unknown call .{last.name}()")
    above = chain.parts[:-1]
    if not above:  # page.click("css") and its like
        if not last.values:
            raise Unreadable(f".{last.name}() names no element")
        above, last = [Part("locator", last.values[:1])], Part(last.name, last.values[1:], last.options)
    return _on_element(chain.base, last, locator_of(above, pages))


def locator_of(parts: Sequence[Part], pages: Sequence[str]) -> list[Any]:
    """The locator that these parts make, as JSON. Raises Unreadable."""
    found: list[Any] = []
    for part in parts:
        if part.name in PROPERTIES and not part.values and not part.options:
            found.append([part.name, None, {}])
            continue
        if part.name not in LOCATORS or part.values is None:
            raise Unreadable(f"unknown locator .{part.name}")
        count, options = LOCATORS[part.name]
        if len(part.values) != count:
            raise Unreadable(f".{part.name}() takes {count} arguments, not {len(part.values)}")
        unknown = [name for name in part.options if name not in options]
        if unknown:
            raise Unreadable(f".{part.name}() has no option {unknown[0]!r}")
        values = [_value(value, pages) for value in part.values]
        given = {name: _value(value, pages) for name, value in part.options.items()}
        kind = int if part.name == "nth" else (dict, list) if part.name in ("and_", "or_") else (str, dict)
        if values and (not isinstance(values[0], kind) or isinstance(values[0], bool)):
            raise Unreadable(f".{part.name}() does not take {part.values[0]!r}")
        found.append([part.name, values, given])
    return found


def _value(value: Any, pages: Sequence[str]) -> Any:
    if isinstance(value, Pattern):
        return {"regex": value.source, "flags": value.flags}
    if isinstance(value, Chain):
        if value.base not in pages:
            raise Unreadable(f"{value.base!r} is no page")
        return {"locator": locator_of(value.parts, pages)}
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    raise Unreadable(f"cannot be used here: {value!r}")


def _on_page(page: str, last: Part, kind: str, names: tuple[str, ...]) -> Step:
    values = last.values or []
    options = {name: value for name, value in last.options.items() if name not in _IGNORED and name != "button"}
    if len(values) != len(names) or options:
        raise Unreadable(f".{last.name}() takes {', '.join(names) or 'no arguments'} here")
    texts = ("url", "key", "text")
    for name, value in zip(names, values, strict=True):
        fits = isinstance(value, str) if name in texts else isinstance(value, int | float) and value is not True
        if not fits:
            raise Unreadable(f".{last.name}(): {name} cannot be {value!r}")
    arguments = dict(zip(names, values, strict=True))
    if "button" in last.options:
        arguments["button"] = last.options["button"]
    return Step(kind=kind, page=page, arguments=arguments)


def _on_element(page: str, last: Part, locator: list[Any]) -> Step:
    name, values = last.name, list(last.values or [])
    count, known = _ON_ELEMENT[name]
    options = {key: value for key, value in last.options.items() if key not in _IGNORED}
    unknown = [key for key in options if key not in known]
    if unknown:
        raise Unreadable(f".{name}() has no option {unknown[0]!r} here")
    if name == "select_option" and not values and options:
        values = [options]
    if len(values) != count:
        raise Unreadable(f".{name}() takes {count} arguments, not {len(values)}")
    if values and _TYPES[name] and not isinstance(values[0], _TYPES[name]):
        raise Unreadable(f".{name}() does not take {values[0]!r}")
    step = Step(kind=name, page=page, locator=locator)
    if name == "drag_to":
        if not isinstance(values[0], Chain) or values[0].base != page:
            raise Unreadable(".drag_to() takes a locator of the same page")
        step.kind, step.target = "drag_and_drop", locator_of(values[0].parts, [page])
    elif name == "tap":
        step.kind = "click"
    elif name == "click" and options.pop("click_count", 1) == 2:
        step.kind = "dblclick"
    elif name == "set_checked":
        step.kind = "check" if values[0] else "uncheck"
    elif name == "press_sequentially":
        step.kind, step.arguments = "type", {"text": values[0]}
    elif name == "set_input_files":
        step.kind, step.arguments = "upload_file", {"file": _texts(values[0])}
    elif name == "select_option":
        step.arguments = _options(values[0])
    elif name in ("fill", "press", "type"):
        step.arguments = {{"fill": "value", "press": "key_comb", "type": "text"}[name]: values[0]}
    if name in ("click", "dblclick"):
        step.arguments = options
    return step


def _options(wanted: Any) -> JsonObject:
    """Values or labels of options; an index is looked up when the step is run."""
    if isinstance(wanted, dict):
        if len(wanted) != 1 or next(iter(wanted)) not in ("value", "label", "index"):
            raise Unreadable(f".select_option() does not take {wanted!r}")
        key, value = next(iter(wanted.items()))
        if key == "index":
            if not isinstance(value, int) or isinstance(value, bool):
                raise Unreadable(f".select_option(): index cannot be {value!r}")
            return {"index": value}
        wanted = value
    return {"options": _texts(wanted)}


def _texts(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(one, str) for one in value)):
        return value
    raise Unreadable(f"expected a text or texts, not {value!r}")
