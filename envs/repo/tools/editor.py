"""``str_replace_editor``: view, create, replace an exact string, insert, undo.

Three dialects of one tool. Ours (``tools``) takes paths relative to the shell's directory and keeps tabs and line ends.
SWE-agent's and OpenHands's say what those agents' own editors say, with the same line arithmetic and the same changes
to a file's tabs and line ends, so that their recordings replay. In all of them undo gives back the very bytes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any, Literal

from pivotgym.envs.repo.tools.session import Session, TextFile, encoded, is_binary
from pivotgym.envs.repo.tools.state import Refused, ToolResult
from pivotgym.envs.sandbox import SandboxFileError
from pivotgym.envs.trajectory import JsonObject

Dialect = Literal["tools", "swe-agent", "openhands"]
NAMES = ("str_replace_editor", "str_replace_based_edit_tool")
COMMANDS = ("view", "create", "str_replace", "insert", "undo_edit")
MAX_SHOWN = 16_000
"""Characters of one answer; what is more is cut off."""
_AROUND = 4
"""Lines shown before and after an edit."""
_LOOK_FURTHER = (
    "only part of this file has been shown to you. You should retry this tool after you have searched inside the file "
    "with `grep -n` in order to find the line numbers of what you are looking for.</NOTE>"
)
_CLIPPED = {
    "tools": f"<response clipped><NOTE>To save on context {_LOOK_FURTHER}",
    "openhands": f"<response clipped><NOTE>Due to the max output limit, {_LOOK_FURTHER}",
}
_CLIPPED_FOLDER = (
    "<response clipped><NOTE>Due to the max output limit, only part of this directory has been shown to you. You "
    "should use `ls -la` instead to view large directories incrementally.</NOTE>"
)
_EDITED = "Review the changes and make sure they are as expected. Edit the file again if necessary."
_INSERTED = (
    "Review the changes and make sure they are as expected (correct indentation, no duplicate lines, etc). "
    "Edit the file again if necessary."
)


def edit(session: Session, arguments: JsonObject, dialect: Dialect) -> ToolResult:
    """Executes one call.

    Args:
        session: where.
        arguments: ``command``, ``path`` and what the command needs.
        dialect: how it behaves and speaks.

    Raises:
        Refused: nothing was done.
    """
    try:
        return _Editor(session, dialect).call(arguments)
    except Refused as refused:
        if dialect == "openhands":
            raise Refused(f"ERROR:\n{refused.text}", refused.kind) from None
        raise


class _Editor:
    def __init__(self, session: Session, dialect: Dialect) -> None:
        self.session, self.dialect = session, dialect
        self.openhands = dialect == "openhands"

    def call(self, arguments: JsonObject) -> ToolResult:
        command, path = arguments.get("command"), arguments.get("path")
        if not isinstance(path, str) or not path:
            raise Refused(self._missing("path", str(command)), "bad_arguments")
        commands: dict[str, Callable[[str, JsonObject], ToolResult]] = {
            "view": self._view,
            "create": self._create,
            "str_replace": self._replace,
            "insert": self._insert,
            "undo_edit": self._undo,
        }
        if not isinstance(command, str) or command not in commands:
            allowed = ", ".join(COMMANDS) if self.openhands else ", ".join(f'"{one}"' for one in COMMANDS)
            name = "oh_editor" if self.openhands else NAMES[0]
            text = f"Unrecognized command {command}. The allowed commands for the {name} tool are: {allowed}"
            raise Refused(text, "bad_arguments")
        return commands[command](self._checked(command, path), arguments)

    # What every command asks first ------------------------------------------------------------------------------

    def _checked(self, command: str, path: str) -> str:
        if not path.startswith("/") and self.dialect != "tools":
            raise self._relative(path)
        path = self.session.absolute(path)
        entry = self.session.look(path)
        if entry is None and command != "create":
            raise self._bad_path(path, f"The path {path} does not exist. Please provide a valid path.", "no_file")
        if entry is not None and command == "create":
            text = f"File already exists at: {path}. Cannot overwrite files using command `create`."
            raise self._bad_path(path, text, "exists")
        if entry is not None and entry.kind == "directory" and command != "view":
            end = "." if self.openhands else ""
            text = f"The path {path} is a directory and only the `view` command can be used on directories{end}"
            raise self._bad_path(path, text, "directory")
        return path

    def _relative(self, path: str) -> Refused:
        meant = self.session.absolute(path)
        if self.openhands:
            text = "The path should be an absolute path, starting with `/`."
            if self.session.look(meant) is not None:
                text += f" Maybe you meant {meant}?"
            return self._bad_path(path, text, "bad_path")
        text = f"The path {path} is not an absolute path, it should start with `/`. Maybe you meant {meant}?"
        return Refused(text, "bad_path")

    def _bad_path(self, path: str, text: str, kind: str) -> Refused:
        return Refused(f"Invalid `path` parameter: {path}. {text}" if self.openhands else text, kind)

    def _bad(self, name: str, value: Any, hint: str, kind: str = "bad_arguments") -> Refused:
        parameter = f"Invalid `{name}` parameter: {value}." if self.openhands else f"Invalid `{name}`: {value}."
        return Refused(f"{parameter} {hint}", kind)

    def _missing(self, name: str, command: str) -> str:
        return f"Parameter `{name}` is required for command: {command}{'.' if self.openhands else ''}"

    def _required(self, arguments: JsonObject, name: str, command: str, kind: type) -> Any:
        value = arguments.get(name)
        if kind is int and isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}", value):
            value = int(value)
        if value is None:
            raise Refused(self._missing(name, command), "bad_arguments")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self._bad(name, value, f"It should be {'an integer' if kind is int else 'a string'}.")
        return value

    def _read(self, path: str) -> TextFile:
        try:
            data = self.session.read(path)
        except Refused as refused:
            if self.openhands and refused.kind == "too_large":
                raise Refused(f"File validation failed for {path}: {refused.text}", refused.kind) from None
            raise
        if is_binary(data):
            if self.openhands:
                reason = "File appears to be binary and this file type cannot be read or edited by this tool."
                raise Refused(f"File validation failed for {path}: {reason}", "binary")
            raise Refused(f"The file {path} is binary and cannot be shown or edited with this tool.", "binary")
        return TextFile.of(data, keep_ends=self.dialect == "tools")

    def _write(self, path: str, file: TextFile, text: str, answer: str) -> ToolResult:
        self.session.write(path, file.written(text))
        return ToolResult(answer, self.session.state.with_history(path, file.data))

    # The commands -----------------------------------------------------------------------------------------------

    def _view(self, path: str, arguments: JsonObject) -> ToolResult:
        wanted = arguments.get("view_range")
        entry = self.session.look(path)
        if entry is not None and entry.kind == "directory":
            if wanted:
                text = "The `view_range` parameter is not allowed when `path` points to a directory."
                raise self._bad("view_range", wanted, text) if self.openhands else Refused(text, "bad_arguments")
            return ToolResult(self._folder(path), self.session.state)
        text = self._read(path).text
        first = 1
        note = ""
        if wanted:
            text, first, note = self._range(text, wanted)
        shown = self._shown(text, path, first)
        return ToolResult(shown if not note else f"NOTE: {note}.\n{shown}", self.session.state)

    def _range(self, text: str, wanted: Any) -> tuple[str, int, str]:
        """The lines asked for, the number of the first one, and what is to be said beside."""
        whole = isinstance(wanted, list) and len(wanted) == 2
        if not whole or not all(isinstance(one, int) and not isinstance(one, bool) for one in wanted):
            hint = "It should be a list of two integers."
            raise (
                self._bad("view_range", wanted, hint)
                if self.openhands
                else Refused(f"Invalid `view_range`. {hint}", "bad_arguments")
            )
        lines = text.split("\n")
        if self.openhands and lines[-1] == "":
            lines.pop()  # it counts lines, not line feeds
        count, (first, last) = len(lines), wanted
        end = "." if self.openhands else ""
        if first < 1 or first > count:
            hint = f"Its first element `{first}` should be within the range of lines of the file: {[1, count]}{end}"
            raise self._bad("view_range", wanted, hint)
        note = ""
        if last > count:
            if not self.openhands:
                hint = f"Its second element `{last}` should be smaller than the number of lines in the file: `{count}`"
                raise self._bad("view_range", wanted, hint)
            note = f"We only show up to {count} since there're only {count} lines in this file"
            last = count
        if last != -1 and last < first:
            how = "greater than or equal to the first element" if self.openhands else "larger or equal than its first"
            raise self._bad("view_range", wanted, f"Its second element `{last}` should be {how} `{first}`{end}")
        return "\n".join(lines[first - 1 : count if last == -1 else last]), first, note

    def _create(self, path: str, arguments: JsonObject) -> ToolResult:
        text = self._required(arguments, "file_text", "create", str)
        folder = posixpath.dirname(path)
        if self.dialect == "swe-agent" and self.session.look(folder) is None:
            raise Refused(f"The parent directory {folder} does not exist. Please create it first.", "no_directory")
        data = encoded(text)
        self.session.write(path, data)
        return ToolResult(f"File created successfully at: {path}", self.session.state.with_history(path, data))

    def _replace(self, path: str, arguments: JsonObject) -> ToolResult:
        old = self._required(arguments, "old_str", "str_replace", str)
        new = arguments.get("new_str")
        new = self._required(arguments, "new_str", "str_replace", str) if new is not None else ""
        if self.openhands and arguments.get("new_str") == old:
            hint = "No replacement was performed. `new_str` and `old_str` must be different."
            raise self._bad("new_str", new, hint, "no_change")
        file = self._read(path)
        text = file.text
        if self.dialect == "swe-agent":  # it knows no tabs
            text, old, new = text.expandtabs(), old.expandtabs(), new.expandtabs()
        elif file.crlf:
            old, new = old.replace("\r\n", "\n"), new.replace("\r\n", "\n")
        if old == "":
            text = "No replacement was performed, old_str is empty."
            raise Refused(text, "not_found")
        if self.openhands and old not in text:
            old, new = old.strip(), new.strip()
        places = [found.start() for found in re.finditer(re.escape(old), text)] if old else []
        if not places:
            message = f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}."
            raise Refused(message, "not_found")
        if len(places) > 1:
            if self.dialect == "swe-agent":  # it looks line by line, where a text of several lines is never found
                lines = [number for number, line in enumerate(text.split("\n"), 1) if old in line]
            else:
                lines = sorted({text.count("\n", 0, place) + 1 for place in places})
            end = "." if self.openhands else ""
            message = (
                f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines {lines}. "
                f"Please ensure it is unique{end}"
            )
            raise Refused(message, "not_unique")
        if new == old:
            message = f"No replacement was performed, old_str `{old}` is the same as new_str `{new}`."
            raise Refused(message, "no_change")
        changed = text[: places[0]] + new + text[places[0] + len(old) :]
        before = text.count("\n", 0, places[0])
        lines_after = changed.split("\n")
        if self.openhands:
            first = max(0, before + 1 - _AROUND) + 1
            last = before + 1 + _AROUND + new.count("\n")
            # It shows what it read line by line, so that a line feed at the end makes one more number.
            snippet = "".join(f"{line}\n" for line in lines_after[first - 1 : last])
            if last >= len(lines_after):
                snippet = snippet[:-1]
        else:
            first = max(1, before - _AROUND)
            last = min(before + _AROUND + new.count("\n"), len(changed.splitlines()))
            snippet = "\n".join(lines_after[first - 1 : last])
        shown = self._shown(snippet, f"a snippet of {path}", first)
        return self._write(path, file, changed, f"The file {path} has been edited. {shown}{_EDITED}")

    def _insert(self, path: str, arguments: JsonObject) -> ToolResult:
        number = self._required(arguments, "insert_line", "insert", int)
        new = self._required(arguments, "new_str", "insert", str)
        file = self._read(path)
        text = file.text
        if self.dialect == "swe-agent":
            text, new = text.expandtabs(), new.expandtabs()
        elif file.crlf:
            new = new.replace("\r\n", "\n")
        lines = text.split("\n")
        ended = lines[-1] == ""
        count = len(lines) - 1 if self.openhands and ended else len(lines)
        if number < 0 or number > count:
            if self.openhands:
                hint = f"It should be within the range of allowed values: {[0, count]}"
                raise self._bad("insert_line", number, hint)
            raise Refused(
                f"Invalid `insert_line` parameter: {number}. It should be within the range of lines of the file: "
                f"{[0, count]}",
                "bad_arguments",
            )
        added = new.split("\n")
        if self.openhands and number == len(lines) and not ended:
            # It appends to a last line that has no end.
            changed = text + new + "\n"
        else:
            changed = "\n".join([*lines[:number], *added, *lines[number:]])
        first = max(1, number - _AROUND + 1)
        if self.openhands:
            end = min(count + len(added), number + _AROUND + len(added))
            after = changed.split("\n")
            snippet = "".join(f"{line}\n" for line in after[max(0, number - _AROUND) : end])
            if end >= len(after):
                snippet = snippet[:-1]
        else:
            snippet = "\n".join([*lines[max(0, number - _AROUND) : number], *added, *lines[number : number + _AROUND]])
        shown = self._shown(snippet, "a snippet of the edited file", first)
        return self._write(path, file, changed, f"The file {path} has been edited. {shown}{_INSERTED}")

    def _undo(self, path: str, arguments: JsonObject) -> ToolResult:
        state, data = self.session.state.without_last(path)
        if data is None:
            raise Refused(f"No edit history found for {path}.", "no_history")
        self.session.write(path, data)
        text = TextFile.of(data, keep_ends=self.dialect == "tools").text
        return ToolResult(f"Last edit to {path} undone successfully. {self._shown(text, path)}", state)

    # How things are shown ---------------------------------------------------------------------------------------

    def _shown(self, text: str, what: str, first: int = 1) -> str:
        text = self._clipped(text, _CLIPPED["openhands" if self.openhands else "tools"])
        if self.dialect == "swe-agent":
            text = text.expandtabs()
        numbered = "\n".join(f"{number:6}\t{line}" for number, line in enumerate(text.split("\n"), first))
        return f"Here's the result of running `cat -n` on {what}:\n{numbered}\n"

    def _clipped(self, text: str, note: str) -> str:
        return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + note

    def _folder(self, path: str) -> str:
        head = f"Here's the files and directories up to 2 levels deep in {path}, excluding hidden items:\n"
        found, hidden = self._two_levels(path)
        if self.openhands:
            listed = self._clipped("\n".join(found), _CLIPPED_FOLDER)
            text = head + listed
            if hidden:
                text += f"\n\n{hidden} hidden files/directories in this directory are excluded. "
                text += f"You can use 'ls -la {path}' to see them."
            return text
        return head + "".join(f"{one}\n" for one in found) + "\n"

    def _two_levels(self, path: str) -> tuple[list[str], int]:
        """Paths at most two levels below, sorted, and how many hidden ones the folder itself has."""
        try:
            tree = self.session.box.tree(self.session.real(path))
        except SandboxFileError as error:
            raise Refused(f"The directory {path} cannot be listed: {error}", "unreadable") from None
        parts = {below: below.split("/") for below in tree if below}
        shown = {
            below: tree[below].kind == "directory"
            for below, names in parts.items()
            if len(names) <= 2 and not any(name.startswith(".") for name in names)
        }
        marked = "/" if self.openhands else ""
        base = path.rstrip("/")
        found = [path + (marked if path != "/" else "")]
        found += [f"{base}/{below}{marked if folder else ''}" for below, folder in shown.items()]
        hidden = sum(1 for names in parts.values() if len(names) == 1 and names[0].startswith("."))
        return sorted(found), hidden
