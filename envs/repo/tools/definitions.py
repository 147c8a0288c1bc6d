"""The tools on offer, as OpenAI tool definitions."""

from __future__ import annotations

from typing import Any

from pivotgym.envs.repo.tasks import Interface
from pivotgym.envs.trajectory import JsonObject


def definitions_of(interface: Interface) -> list[JsonObject]:
    """Everything beside the shell, which the environment offers itself."""
    if interface == "tools":
        return [_editor(relative=True), _SUBMIT]
    if interface == "swe-agent":
        return [*_WINDOWED, _editor(relative=False), _SUBMIT]
    if interface == "openhands":
        return [_editor(relative=False), _THINK, _FINISH]
    return []


def _tool(name: str, description: str, properties: JsonObject, required: tuple[str, ...] = ()) -> JsonObject:
    parameters: JsonObject = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _text(description: str, **more: Any) -> JsonObject:
    return {"type": "string", "description": description, **more}


def _number(description: str) -> JsonObject:
    return {"type": "integer", "description": description}


def _editor(*, relative: bool) -> JsonObject:
    path = "Path of the file or directory" + (
        ", absolute or from the shell's directory." if relative else ", absolute."
    )
    return _tool(
        "str_replace_editor",
        "Views, creates and edits files. `view` shows a file with line numbers, or what is in a directory two levels "
        "deep. `create` makes a new file and never overwrites one. `str_replace` replaces `old_str`, which must occur "
        "exactly once and match to the last space. `insert` puts `new_str` after line `insert_line`. `undo_edit` takes "
        "the last change to the file back.",
        {
            "command": _text("What to do.", enum=["view", "create", "str_replace", "insert", "undo_edit"]),
            "path": _text(path),
            "file_text": _text("For `create`: the file's content."),
            "old_str": _text("For `str_replace`: the text to replace."),
            "new_str": _text("For `str_replace`: what replaces it, nothing by default. For `insert`: the new lines."),
            "insert_line": _number("For `insert`: the line after which to insert; 0 is the file's beginning."),
            "view_range": {
                "type": "array",
                "items": {"type": "integer"},
                "description": "For `view` of a file: first and last line, from 1; -1 as the last is the file's end.",
            },
        },
        ("command", "path"),
    )


_SUBMIT = _tool("submit", "Hands in the changes made to the repository and ends the task.", {})
_THINK = _tool(
    "think",
    "Notes a thought. Nothing is executed and nothing changes.",
    {"thought": _text("The thought.")},
    ("thought",),
)
_FINISH = _tool(
    "finish",
    "Ends the task with a last message.",
    {
        "message": _text("What was done."),
        "task_completed": _text("Whether it is done.", enum=["true", "false", "partial"]),
    },
)
_LINE = "The line, counted from 1."
_WINDOWED = [
    _tool(
        "open",
        "Opens a file in the viewer and shows its lines around `line_number`.",
        {"path": _text("The file."), "line_number": _number(_LINE)},
        ("path",),
    ),
    _tool("goto", "Moves the viewer to a line.", {"line_number": _number(_LINE)}, ("line_number",)),
    _tool("scroll_up", "Moves the viewer up by one window.", {}),
    _tool("scroll_down", "Moves the viewer down by one window.", {}),
    _tool("create", "Makes a new file and opens it.", {"filename": _text("The file.")}, ("filename",)),
    _tool(
        "edit",
        "Replaces `search`, which must occur exactly once in the lines shown, by `replace`. With `replace_all`, every "
        "occurrence in the open file. An edit that breaks a Python file's syntax is not applied.",
        {
            "search": _text("The text to replace, with its indentation."),
            "replace": _text("What replaces it."),
            "replace_all": {"type": "boolean", "description": "Replace every occurrence in the file."},
        },
        ("search", "replace"),
    ),
    _tool(
        "insert",
        "Inserts lines into the open file, at its end or after `line`.",
        {"text": _text("The new lines."), "line": _number("The line after which to insert.")},
        ("text",),
    ),
    _tool(
        "find_file",
        "Finds files by name or pattern.",
        {"file_name": _text("Name or shell pattern."), "dir": _text("Where; the current directory by default.")},
        ("file_name",),
    ),
    _tool(
        "search_dir",
        "Finds the files below a directory that hold a text.",
        {"search_term": _text("What to look for."), "dir": _text("Where; the current directory by default.")},
        ("search_term",),
    ),
    _tool(
        "search_file",
        "Finds the lines of a file that hold a text.",
        {"search_term": _text("What to look for."), "file": _text("Where; the open file by default.")},
        ("search_term",),
    ),
    _tool(
        "filemap",
        "Shows a Python file without the bodies of its longer functions.",
        {"file_path": _text("The file.")},
        ("file_path",),
    ),
]
