"""The actions of a browser agent: BrowserGym's vocabulary, as tools and as calls in text.

Names, parameters and their order are those of BrowserGym's high-level action set, so that its recordings and agents
trained on it can be used as they are.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from pivotgym.envs.trajectory import JsonObject, Message, ToolCall

_STRING: JsonObject = {"type": "string"}
_BID: JsonObject = {"type": "string", "description": "The element's id: what stands in [brackets] before it."}
_NUMBER: JsonObject = {"type": "number"}
_BUTTON: JsonObject = {"type": "string", "enum": ["left", "middle", "right"], "default": "left"}
_MODIFIERS: JsonObject = {
    "type": "array",
    "items": {"type": "string", "enum": ["Alt", "Control", "ControlOrMeta", "Meta", "Shift"]},
    "default": [],
}
_STRINGS: JsonObject = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


def _tool(name: str, description: str, optional: tuple[str, ...] = (), **parameters: JsonObject) -> JsonObject:
    schema = {
        "type": "object",
        "properties": parameters,
        "required": [parameter for parameter in parameters if parameter not in optional],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS: list[JsonObject] = [
    _tool("noop", "Do nothing for a while.", ("wait_ms",), wait_ms={**_NUMBER, "default": 1000, "maximum": 60_000}),
    _tool("click", "Click an element.", ("button", "modifiers"), bid=_BID, button=_BUTTON, modifiers=_MODIFIERS),
    _tool(
        "dblclick", "Double-click an element.", ("button", "modifiers"), bid=_BID, button=_BUTTON, modifiers=_MODIFIERS
    ),
    _tool("hover", "Move the mouse over an element.", bid=_BID),
    _tool("fill", "Replace the text of an input field.", bid=_BID, value=_STRING),
    _tool("clear", "Empty an input field.", bid=_BID),
    _tool("focus", "Give an element the keyboard focus.", bid=_BID),
    _tool("press", "Press keys on an element, such as Enter, Tab or Control+a.", bid=_BID, key_comb=_STRING),
    _tool("select_option", "Choose options of a <select> by value or label.", bid=_BID, options=_STRINGS),
    _tool("drag_and_drop", "Drag an element onto another.", from_bid=_BID, to_bid=_BID),
    _tool("scroll", "Scroll the page by so many pixels.", delta_x=_NUMBER, delta_y=_NUMBER),
    _tool("upload_file", "Choose files for a file input.", bid=_BID, file=_STRINGS),
    _tool("mouse_move", "Move the mouse to a point of the page.", x=_NUMBER, y=_NUMBER),
    _tool("mouse_down", "Press a mouse button at a point.", ("button",), x=_NUMBER, y=_NUMBER, button=_BUTTON),
    _tool("mouse_up", "Release a mouse button at a point.", ("button",), x=_NUMBER, y=_NUMBER, button=_BUTTON),
    _tool("mouse_click", "Click at a point.", ("button",), x=_NUMBER, y=_NUMBER, button=_BUTTON),
    _tool("mouse_dblclick", "Double-click at a point.", ("button",), x=_NUMBER, y=_NUMBER, button=_BUTTON),
    _tool(
        "mouse_drag_and_drop",
        "Drag from one point to another.",
        from_x=_NUMBER,
        from_y=_NUMBER,
        to_x=_NUMBER,
        to_y=_NUMBER,
    ),
    _tool("keyboard_press", "Press keys on whatever has the focus.", key=_STRING),
    _tool("keyboard_down", "Press a key and hold it.", key=_STRING),
    _tool("keyboard_up", "Release a key.", key=_STRING),
    _tool("keyboard_type", "Type a text into whatever has the focus, key by key.", text=_STRING),
    _tool("keyboard_insert_text", "Insert a text at once, without key events.", text=_STRING),
    _tool("goto", "Open an address.", url=_STRING),
    _tool("go_back", "Go back in the tab's history."),
    _tool("go_forward", "Go forward in the tab's history."),
    _tool("new_tab", "Open an empty tab and go to it."),
    _tool("tab_close", "Close the current tab."),
    _tool("tab_focus", "Go to another tab.", index={"type": "integer", "minimum": 0}),
    _tool("send_msg_to_user", "Tell the user something.", text=_STRING),
    _tool("report_infeasible", "Tell the user that the task cannot be done.", reason=_STRING),
]
"""All actions, as OpenAI tool schemas."""

BY_NAME: dict[str, JsonObject] = {str(tool["function"]["name"]): tool for tool in TOOLS}
_FENCE = re.compile(r"```[a-z]*\n?(.*?)```", re.DOTALL)
_ACTION = re.compile(r"<action>(.*?)</action>", re.DOTALL)
_CALL = re.compile(r"^\s*[a-z_]+\(", re.MULTILINE)
MAX_CALLS_TEXT = 50_000
"""Longer texts of calls are malformed."""


class NotCalls(ValueError):
    """The text holds no calls that can be read; the message says why."""


def parse_calls(text: str) -> list[ToolCall]:
    """Reads calls such as ``click('a51')``, one a line, out of an answer in text.

    They stand between ``<action>`` tags, in a fenced block, or bare behind the reasoning. Arguments are literals: the
    text is parsed and never run.

    Raises:
        NotCalls: there are none, or one is not readable.
    """
    if len(text) > MAX_CALLS_TEXT:
        raise NotCalls(f"more than {MAX_CALLS_TEXT} characters")
    thought, closing, rest = text.rpartition("</think>")
    del thought, closing
    found = _ACTION.findall(rest) or _FENCE.findall(rest)
    if not found:
        start = _CALL.search(rest)
        if start is None:
            raise NotCalls("no call such as click('12')")
        found = [rest[start.start() :]]
    try:
        tree = ast.parse("\n".join(part.strip() for part in found))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotCalls(f"not readable: {getattr(error, 'msg', None) or type(error).__name__}") from None
    calls = [_read_call(statement) for statement in tree.body]
    if not calls:
        raise NotCalls("no call such as click('12')")
    return calls


def _read_call(statement: ast.stmt) -> ToolCall:
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise NotCalls("every line must be one call such as click('12')")
    name = call.func.id
    tool = BY_NAME.get(name)
    if tool is None:
        raise NotCalls(f"unknown action {name!r}")
    known = list(tool["function"]["parameters"]["properties"])
    if len(call.args) > len(known):
        raise NotCalls(f"{name} takes at most {len(known)} arguments")
    arguments: JsonObject = {}
    pairs: list[tuple[str | None, ast.expr]] = list(zip(known, call.args, strict=False))
    pairs += [(keyword.arg, keyword.value) for keyword in call.keywords]
    for parameter, node in pairs:
        if parameter is None or parameter not in known:
            raise NotCalls(f"{name} has no parameter {parameter!r}")
        if parameter in arguments:
            raise NotCalls(f"{name}: {parameter} is given twice")
        arguments[parameter] = _literal(name, node)
    return ToolCall(name=name, arguments=arguments)


def _literal(name: str, node: ast.expr) -> Any:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise NotCalls(f"{name}: arguments must be plain values") from None
    if isinstance(value, tuple):
        value = list(value)
    plain = isinstance(value, str | int | float | bool | list) or value is None
    if not plain or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
        raise NotCalls(f"{name}: arguments must be texts, numbers or lists of texts")
    return value


def spell(call: ToolCall) -> str:
    """A call in BrowserGym's spelling: ``fill('a12', 'text')``."""
    arguments = call.arguments if isinstance(call.arguments, dict) else {}
    tool = BY_NAME.get(call.name)
    known = list(tool["function"]["parameters"]["properties"]) if tool is not None else []
    given: list[str] = []
    positional = True
    for parameter in known:
        if parameter not in arguments:
            positional = False
            continue
        value = repr(arguments[parameter])
        given.append(value if positional else f"{parameter}={value}")
    return f"{call.name}({', '.join(given)})"


def calls_of(action: Message) -> list[ToolCall]:
    """What an action wants done: its tool calls, or the calls in its text. Empty where the text holds none."""
    if action.tool_calls:
        return action.tool_calls
    try:
        return parse_calls(action.text)
    except NotCalls:
        return []
