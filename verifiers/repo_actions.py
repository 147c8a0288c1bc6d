"""Calls of viewers and searches as the shell commands that show the same, so that all ways to look can be compared."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.terminal.env import COMMAND_TOOLS
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall

EDITORS = ("str_replace_editor", "str_replace_based_edit_tool")
"""Names of the editor whose argument ``command`` says what it does."""
_WINDOWED = ("open", "goto", "scroll_up", "scroll_down")
_HEADER = re.compile(r"^\[File: (?P<path>.+) \(\d+ lines total\)\]$", re.MULTILINE)
_NUMBERED = re.compile(r"^(\d+):", re.MULTILINE)


def shell_tool(env: AgentEnv) -> str | None:
    """The name under which the episode has a shell; None where it has none."""
    offered = [tool.get("function", tool).get("name") for tool in env.tools]
    return next((name for name in COMMAND_TOOLS if name in offered), None)


def as_commands(env: AgentEnv, action: Message, shown: Sequence[str], *, numbered: bool) -> Message | None:
    """The action with every call that looks at files replaced by a shell command that shows the same.

    Args:
        env: the environment; the replaced calls are of its shell's name.
        action: has calls.
        shown: what each call showed, as far as known: a windowed viewer's lines depend on what was open before.
        numbered: whether lines are shown with their numbers, as viewers do. A demonstration's numbers are its
            viewer's and nothing that has to be shown; an action that shows them tells them.

    Returns:
        None where a call is neither a command nor looks at files.
    """
    name = shell_tool(env)
    if name is None:
        return None
    calls: list[ToolCall] = []
    for position, call in enumerate(action.tool_calls):
        if call.name in COMMAND_TOOLS:
            calls.append(call)
            continue
        text = shown[position] if position < len(shown) else ""
        arguments = call.arguments if isinstance(call.arguments, dict) else {}
        command = _looks(call.name, arguments, text, numbered)
        if command is None:
            return None
        calls.append(ToolCall(name=name, arguments={"command": command}, id=call.id))
    return action.model_copy(update={"tool_calls": calls})


def only_looks(call: ToolCall) -> bool:
    """Whether a call of these tools cannot change a file."""
    arguments = call.arguments if isinstance(call.arguments, dict) else {}
    if call.name in EDITORS:
        return arguments.get("command") == "view"
    return call.name in (*_WINDOWED, "search_dir", "search_file", "find_file", "filemap", "think")


def _looks(tool: str, arguments: JsonObject, shown: str, numbered: bool) -> str | None:
    if tool in EDITORS:
        if arguments.get("command") != "view":
            return None
        return _view(str(arguments.get("path", "")), arguments.get("view_range"), shown, numbered)
    if tool in _WINDOWED:
        header, lines = _HEADER.search(shown), _NUMBERED.findall(shown)
        if header is None or not lines:
            return ":"
        return _lines(header["path"], int(lines[0]), int(lines[-1]), numbered)
    if tool == "think":
        return ":"
    return _search(tool, arguments)


def _view(path: str, view_range: object, shown: str, numbered: bool) -> str:
    if re.search(r"\bfiles and directories\b", shown.split("\n", 1)[0]):
        return f"find {shlex.quote(path)} -maxdepth 2 -not -path '*/.*'"
    if isinstance(view_range, list) and len(view_range) == 2 and all(isinstance(one, int) for one in view_range):
        return _lines(path, view_range[0], view_range[1], numbered)
    return f"cat {'-n ' if numbered else ''}-- {shlex.quote(path)}"


def _lines(path: str, first: int, last: int, numbered: bool) -> str:
    end = "$" if last == -1 else str(last)
    if numbered:
        return f"cat -n -- {shlex.quote(path)} | sed -n '{first},{end}p'"
    return f"sed -n '{first},{end}p' -- {shlex.quote(path)}"


def _search(tool: str, arguments: JsonObject) -> str | None:
    def given(*names: str) -> str | None:
        return next((str(arguments[name]) for name in names if arguments.get(name)), None)

    term, folder = given("search_term", "term"), shlex.quote(given("dir", "directory", "path") or ".")
    if tool == "search_dir" and term is not None:
        return f"grep -rIcF -- {shlex.quote(term)} {folder} | grep -v ':0$'"
    if tool == "search_file" and term is not None:
        return f"grep -nF -- {shlex.quote(term)} {shlex.quote(given('file', 'path') or '')}"
    if tool == "find_file":
        return f"find {folder} -name {shlex.quote(given('file_name', 'filename', 'file') or '')}"
    return None
