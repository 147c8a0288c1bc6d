"""SWE-agent's file viewers before release 1: a window around a line, edits by line range or of the selected lines.

Their window is named by its middle. A window of an odd number of lines has half a line on either side; where such a
half is rounded up and where down is part of what recordings show.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pivotgym.envs.repo.tools.lint import introduced, listed, problems
from pivotgym.envs.repo.tools.session import Session, TextFile, is_binary
from pivotgym.envs.repo.tools.state import EditorState, Refused, ToolResult

_NO_FILE = "No file open. Use the open command first."
_EDITED = (
    "File updated. Please review the changes and make sure they are correct (correct indentation, no duplicate lines, "
    "etc). Edit the file again if necessary.\n"
)
_RULE = "-" * 49
_NOT_APPLIED = (
    "Your changes have NOT been applied. Please fix your edit command and try again.\n"
    "You either need to 1) Specify the correct start/end line arguments or 2) Correct your edit code.\n"
    "DO NOT re-run the same failed edit command. Running it again will lead to the same error.\n"
)
_FIRST, _LAST = "<<<<< START CURSOR >>>>>", "<<<<< END CURSOR >>>>>"
_PATIENCE = 3
"""From so many scrolls in a row on a warning is shown (release 0.7)."""


@dataclass(frozen=True)
class _View:
    """A file and the window over it.

    Attributes:
        session: where.
        path: of the file, without links.
        data: its bytes.
        middle: line in the middle of the window, from 1.
        window: lines in view.
        cursors: first and last selected line.
    """

    session: Session
    path: str
    data: bytes
    middle: int
    window: int
    cursors: tuple[int, int]

    @property
    def lines(self) -> list[str]:
        """The file's lines; carriage returns stay."""
        lines = TextFile.raw(self.data).text.split("\n")
        return lines[:-1] if lines[-1] == "" else lines

    def constrained(self) -> _View:
        """The window as far as the file goes."""
        half = self.window // 2
        return replace(self, middle=max(min(self.middle, len(self.lines) - half), half))

    def shown(self) -> tuple[str, tuple[int, int]]:
        """The window's text, and the selection as far as it is in the window."""
        return self._with_cursors() if self.session.style.family == "cursors" else (self._plain(), self.cursors)

    def _plain(self) -> str:
        lines, half = self.lines, self.window / 2
        above = math.floor(max(0, self.middle - half))
        below = math.floor(max(0, len(lines) - self.middle - half) + 0.5)
        rows = [f"[File: {self.path} ({len(lines)} lines total)]"]
        rows += [f"({above} more lines above)"] if above > 0 else []
        if is_binary(self.data):
            rows.append("Binary file (standard input) matches")
        else:
            upto = lines[: math.floor(max(self.middle + half, half))]
            start = max(0, len(upto) - self.window)
            rows += [f"{number}:{line}" for number, line in enumerate(upto[start:], start + 1)]
        rows += [f"({below} more lines below)"] if below > 0 else []
        return "".join(f"{row}\n" for row in rows)

    def _with_cursors(self) -> tuple[str, tuple[int, int]]:
        lines = self.lines
        first, last = max(1, self.middle - self.window // 2), self.middle + self.window // 2
        inside = min(last, max(1, len(lines)))
        moved, cursors = [], []
        for name, cursor in zip(("START_CURSOR", "END_CURSOR"), self.cursors, strict=True):
            to = first if cursor < first else min(cursor, inside)
            moved += [f"{name} moved to {to}"] if to != cursor else []
            cursors.append(to)
        rows = [f"[File: {self.path} ({len(lines)} lines total)]"]
        rows += [f"({first - 1} more lines above)"] if first > 1 else []
        shown = lines[first - 1 : min(last, len(lines))]
        for number in range(first, first + len(shown) + 1):
            rows += [_FIRST] if number == cursors[0] else []
            rows += [f"{number}:{shown[number - first]}"] if number - first < len(shown) else []
            rows += [_LAST] if number == cursors[1] else []
        below = len(lines) - first - len(shown)
        rows += [f"({below} more lines below)"] if below > 0 else []
        rows += [*moved, ""] if moved else []
        return "".join(f"{row}\n" for row in rows), (cursors[0], cursors[1])

    def state(self, cursors: tuple[int, int]) -> EditorState:
        changes = {"open_file": self.path, "line": self.middle, "cursors": cursors, "scrolls": 0}
        return self.session.state.model_copy(update=changes)


def _open(session: Session) -> _View:
    """The file in view. Raises Refused."""
    state = session.state
    if not state.open_file:
        raise Refused(f"{_NO_FILE}\n", "no_file_open")
    return _View(
        session, state.open_file, _read(session, state.open_file), state.line, state.style.window, state.cursors
    )


def _read(session: Session, path: str) -> bytes:
    try:
        return session.read(path)
    except Refused as refused:
        raise Refused(f"{refused.text}\n", refused.kind) from None


def _result(view: _View, before: str = "", after: str = "") -> ToolResult:
    view = view.constrained()
    text, cursors = view.shown()
    return ToolResult(before + text + after, view.state(cursors))


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def open_file(session: Session, path: str | None, line: str | int | None) -> ToolResult:
    """``open``: shows a file, from a line on."""
    quoted = '"<file>"' if session.style.release == "0.7" and session.style.family == "classic" else "<file>"
    if not path:
        raise Refused(f"Usage: open {quoted}\n", "bad_arguments")
    window = session.style.window
    real = session.absolute(path)
    entry = session.look(real)
    middle, notes = window // 2, ""
    number = None if line is None or line == "" else _number(str(line))
    if line not in (None, "") and number is None:
        usage = f"Usage: open {quoted} [<line_number>]\nError: <line_number> must be a number\n"
        raise Refused(usage, "bad_arguments")
    if entry is not None and entry.kind == "directory":
        text = f"Error: {path} is a directory. You can only open files. Use cd or ls to navigate directories.\n"
        raise Refused(text, "directory")
    if entry is None or entry.kind != "file":
        raise Refused(f"File {path} not found\n", "no_file")
    real = session.real(real)
    view = _View(session, real, _read(session, real), middle, window, session.state.cursors)
    if number is not None:
        count = len(view.lines)
        if number > count:
            notes = (
                f"Warning: <line_number> ({number}) is greater than the number of lines in the file ({count})\n"
                f"Warning: Setting <line_number> to {count}\n"
            )
            middle = count
        elif number < 1:
            notes = f"Warning: <line_number> ({number}) is less than 1\nWarning: Setting <line_number> to 1\n"
            middle = 1
        elif session.style.family == "cursors":
            middle = number
        else:
            middle = _from_top(number, window)
    return _result(replace(view, middle=middle), notes)


def _from_top(line: int, window: int) -> int:
    """The middle of the window that has ``line`` a sixth below its top."""
    return math.floor(max(line + window / 2 - window // 6, 1))


def goto(session: Session, line: str | int | None) -> ToolResult:
    """``goto``: moves the window."""
    view = _open(session)
    if line in (None, ""):
        raise Refused("Usage: goto <line>\n", "bad_arguments")
    number = _number(str(line))
    if number is None:
        raise Refused("Usage: goto <line>\nError: <line> must be a number\n", "bad_arguments")
    if number > len(view.lines):
        raise Refused(f"Error: <line> must be less than or equal to {len(view.lines)}\n", "bad_arguments")
    return _result(replace(view, middle=_from_top(number, view.window)))


def scroll(session: Session, direction: int) -> ToolResult:
    """``scroll_down`` (1) and ``scroll_up`` (-1)."""
    view = _open(session)
    step = view.window - session.style.overlap
    done = _result(replace(view, middle=view.middle + direction * step))
    scrolls = session.state.scrolls + 1
    text = done.text
    if session.style.release == "0.7" and session.style.family == "classic" and scrolls >= _PATIENCE:
        text += (
            "\nWARNING: Scrolling many times in a row is very inefficient.\n"
            "If you know what you are looking for, use `search_file <pattern>` instead.\n\n"
        )
    return ToolResult(text, done.state.model_copy(update={"scrolls": scrolls}))


def create(session: Session, path: str) -> ToolResult:
    """``create``: makes a file of one empty line and opens it; one that is there is only opened."""
    if not path:
        raise Refused("Usage: create <filename>\n", "bad_arguments")
    real = session.absolute(path)
    entry = session.look(real)
    if entry is not None:
        note = f"Error: File '{path}' already exists.\n"
        if entry.kind != "file":
            raise Refused(note, "exists")
        opened = open_file(session, path, None)
        return ToolResult(note + opened.text, opened.state)
    session.write(real, b"\n")
    real = session.real(real)
    made = session.moved(history=session.state.with_history(real, b"\n").history)
    return open_file(made, path, None)


def set_cursors(session: Session, first: str | int | None, last: str | int | None) -> ToolResult:
    """``set_cursors``: selects lines."""
    view = _open(session)
    usage = "Usage: set_cursors <start_line> <end_line>\n"
    if first is None or last is None:
        raise Refused(usage, "bad_arguments")
    one, other = _number(str(first)), _number(str(last))
    if one is None or other is None:
        name = "start_line" if one is None else "end_line"
        raise Refused(f"{usage}Error: {name} must be a number\n", "bad_arguments")
    if one > other:
        raise Refused(f"{usage}Error: start_line must be less than or equal to end_line\n", "bad_arguments")
    moved = replace(view, cursors=(one, other))
    text, cursors = moved.shown()
    return ToolResult(text, moved.state(cursors))


# --------------------------------------------------------------------------------------------------------- edits


def edit_lines(session: Session, first: str | int, last: str | int, new: Sequence[str]) -> ToolResult:
    """``edit FIRST:LAST``: lines by number, from 1; no new lines delete them."""
    if not session.state.open_file:
        raise Refused("No file open. Use the `open` command first.\n", "no_file_open")
    usage = "Usage: edit <start_line>:<end_line>\n"
    if str(first) == "" or str(last) == "":
        raise Refused(usage, "bad_arguments")
    start, stop = _number(str(first)), _number(str(last))
    if start is None or stop is None:
        name = "start_line" if start is None else "end_line"
        raise Refused(f"{usage}Error: {name} must be a number\n", "bad_arguments")
    if start < 1:
        raise Refused(f"{usage}Error: start_line must be at least 1\n", "bad_arguments")
    view = _open(session)
    return _edit(view, start - 1, stop, new, replace(view, middle=start - 1))


def edit_selection(session: Session, new: Sequence[str]) -> ToolResult:
    """``edit``: the selected lines."""
    if not session.state.open_file:
        raise Refused("No file open. Use the `open` command first.\n", "no_file_open")
    view = _open(session)
    first = view.cursors[0]
    selected = replace(view, cursors=(first, first + len(new) - 1 if new else first))
    return _edit(view, max(0, first - 1), max(0, view.cursors[1]), new, selected)


def _edit(view: _View, start: int, stop: int, new: Sequence[str], then: _View) -> ToolResult:
    """Lines after ``start`` up to ``stop`` become ``new``, unless that breaks the file; ``then`` is what is shown."""
    session, old = view.session, view.lines
    if is_binary(view.data):
        raise Refused(f"{view.path} is a binary file and cannot be edited.\n", "binary")
    file = TextFile.raw(view.data)
    lines = [*old[:start], *new, *old[stop:]]
    text = "".join(f"{line}\n" for line in lines) or "\n"
    data = file.written(text)
    found = problems(view.path, data)
    if session.style.release != "0.6" and session.style.family == "classic" and found:
        found = introduced(problems(view.path, view.data), found, (start + 1, stop), len(new))
    if found:
        raise Refused(_refusal(view, data, start, stop, len(new), listed(found), then.cursors), "syntax_error")
    session.write(view.path, data)
    shown = replace(then, data=data).constrained()
    body, cursors = shown.shown()
    return ToolResult(body + _EDITED, shown.state(cursors).with_history(view.path, view.data))


def _refusal(view: _View, data: bytes, start: int, stop: int, added: int, errors: str, cursors: tuple[int, int]) -> str:
    old = view.session.style.release == "0.6"
    advice = (
        "Please understand the fixes and retry your edit commmand."
        if old
        else "Please read this error message carefully and then retry editing the file."
    )
    spare = 0 if view.session.style.family == "cursors" else 1
    middle = (stop - start + spare) // 2 + start
    applied = replace(view, data=data, middle=added // 2 + start, window=added + 10, cursors=cursors).constrained()
    original = replace(view, middle=middle, window=stop - start + 10).constrained()
    return (
        f"Your proposed edit has introduced new syntax error(s). {advice}\n\nERRORS:\n{errors}\n\n"
        f"This is how your edit would have looked if applied\n{_RULE}\n{applied.shown()[0]}{_RULE}\n\n"
        f"This is the original code before your edit\n{_RULE}\n{original.shown()[0]}{_RULE}\n{_NOT_APPLIED}"
    )
