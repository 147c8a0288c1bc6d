"""SWE-agent's commands as the agent typed them, taken apart into the arguments of a tool call."""

from __future__ import annotations

import re
import shlex
from typing import Any

from pivotgym.envs.trajectory import JsonObject

TYPED = "command_line"
"""The argument that holds a whole command where its parts are not known."""
PARAMETERS: dict[str, tuple[str, ...]] = {
    "open": ("path", "line_number"),
    "goto": ("line_number",),
    "scroll_up": (),
    "scroll_down": (),
    "create": ("filename",),
    "set_cursors": ("start_line", "end_line"),
    "insert": ("text", "line"),
    "search_dir": ("search_term", "dir"),
    "search_file": ("search_term", "file"),
    "find_file": ("file_name", "dir"),
    "filemap": ("file_path",),
    "submit": (),
    "exit_forfeit": (),
}
"""Parameters of each command by position. ``edit`` has several forms, see :func:`parse_command`."""
_NUMBERS = ("line_number", "line", "start_line", "end_line")
_RANGE = re.compile(r"(\S*):(\S*)")
_END_OF_EDIT = "end_of_edit"
_SHELL = re.compile(r"[|&;<>()$`*?\[\]{}~\n]")
"""What a shell would act on: a command with such a word is more than a call."""


def parse_command(text: str) -> tuple[str, JsonObject]:
    """Name and arguments of a typed command.

    Where it is more than a call (a pipe, a variable, a pattern, too many words), its arguments are only
    :data:`TYPED`, the text.
    """
    typed = text.rstrip("\n")
    name = typed.split(maxsplit=1)[0] if typed.strip() else ""
    arguments = _edit(typed) if name == "edit" else _call(name, typed)
    return name, {TYPED: typed} if arguments is None else arguments


def _edit(typed: str) -> JsonObject | None:
    """``edit 1:2`` or ``edit`` and lines up to ``end_of_edit``, or ``edit SEARCH REPLACE [ALL]``, or ``edit TEXT``."""
    head, newline, body = typed.partition("\n")
    words = head.split()
    if newline and len(words) <= 2 and (len(words) == 1 or _RANGE.fullmatch(words[1])):
        lines = body.split("\n")
        if _END_OF_EDIT in lines:
            end = lines.index(_END_OF_EDIT)
            if any(line.strip() for line in lines[end + 1 :]):
                return None
            lines = lines[:end]
        new = "".join(f"{line}\n" for line in lines)
        if len(words) == 1:
            return {"replacement_text": new}
        first, _, last = words[1].partition(":")
        return {
            "start_line": _value("start_line", first),
            "end_line": _value("end_line", last),
            "replacement_text": new,
        }
    parts = _words(typed)
    if parts is None or not 2 <= len(parts) <= 4:
        return None
    if len(parts) == 2:
        return {"text": parts[1]}
    return {"search": parts[1], "replace": parts[2], **({"replace_all": bool(parts[3])} if len(parts) == 4 else {})}


def _call(name: str, typed: str) -> JsonObject | None:
    parameters = PARAMETERS.get(name)
    parts = _words(typed)
    if parameters is None or parts is None or len(parts) - 1 > len(parameters):
        return None
    return {key: _value(key, part) for key, part in zip(parameters, parts[1:], strict=False)}


def _words(typed: str) -> list[str] | None:
    """The words of a simple command; None where a shell would do more than split it."""
    lexer = shlex.shlex(typed, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        return None
    plain = re.sub(r"'[^']*'|\"(?:[^\"\\$`]|\\.)*\"|\\.", "", typed, flags=re.DOTALL)
    return None if _SHELL.search(plain) else words


def _value(name: str, text: str) -> Any:
    return int(text) if name in _NUMBERS and re.fullmatch(r"-?[0-9]{1,15}", text) else text
