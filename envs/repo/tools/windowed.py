"""SWE-agent's file viewer of release 1: a window over one open file, edits by search and replace or by line range."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pivotgym.envs.repo.tools.lint import Problem, introduced, listed, problems
from pivotgym.envs.repo.tools.session import Session, TextFile, is_binary
from pivotgym.envs.repo.tools.state import EditorState, Refused, ToolResult

_OFFSET = 1 / 6
"""Part of the window that is above the line gone to."""
_RULE = "-" * 48
_REVIEW = (
    "1. The edited file is correctly indented\n2. The edited file does not contain duplicate lines\n"
    "3. The edit does not break existing functionality\n\nEdit the file again if necessary."
)
_REVIEW_SHORT = "(correct indentation, no duplicate lines, etc). Edit the file again if necessary."
_NOT_APPLIED = (
    "Your changes have NOT been applied. Please fix your edit command and try again.\n"
    "DO NOT re-run the same failed edit command. Running it again will lead to the same error."
)
_BROKEN = (
    "Your proposed edit has introduced new syntax error(s). Please read this error message carefully and then retry "
    "editing the file.\n\nERRORS:\n"
)
_USAGE = "Usage: edit <start_line>:<end_line>\n<replacement_text>\nend_of_edit"


@dataclass(frozen=True)
class _Window:
    """The open file and the lines in view.

    Attributes:
        session: where.
        path: as it is shown.
        real: of the file itself.
        file: its content.
        first: first line in view, from 0.
    """

    session: Session
    path: str
    real: str
    file: TextFile
    first: int

    @property
    def text(self) -> str:
        return self.file.text

    @property
    def count(self) -> int:
        return len(self.text.splitlines())

    @property
    def lines(self) -> tuple[int, int]:
        """First and last line in view, from 0."""
        return self.first, min(self.first + self.session.style.window - 1, self.count - 1)

    def at(self, first: float) -> _Window:
        """The window moved to that line, as far as the file goes."""
        style = self.session.style
        spare = 0 if style.release == "main" else 1
        return replace(self, first=max(0, min(int(first), self.count - spare - style.window)))

    def goto(self, line: int) -> _Window:
        """The window moved so that ``line``, from 0, is a sixth below its top."""
        return self.at(line - self.session.style.window * _OFFSET)

    def holding(self, text: str) -> _Window:
        """The same window over another text."""
        return replace(self, file=replace(self.file, text=text))

    def plain(self) -> str:
        """The lines in view."""
        first, last = self.lines
        return "\n".join(self.text.split("\n")[first : last + 1])

    def shown(self) -> str:
        """The lines in view with their numbers, and what is around."""
        first, last = self.lines
        rows = [f"[File: {self.path} ({self.count} lines total)]"]
        rows += [f"({first} more lines above)"] if first > 0 else []
        rows += [f"{number}:{line}" for number, line in enumerate(self.text.split("\n")[first : last + 1], first + 1)]
        rows += [f"({self.count - last - 1} more lines below)"] if last < self.count - 1 else []
        return "\n".join(rows)

    def state(self) -> EditorState:
        return self.session.state.model_copy(update={"open_file": self.real, "line": self.first})


def _window(session: Session, path: str | None = None) -> _Window:
    """The file at ``path``, or the one in view. Raises Refused."""
    shown = session.state.open_file if path is None else path
    if not shown:
        raise Refused("No file open. Use the open command first.", "no_file_open")
    real = session.absolute(shown)
    entry = session.look(real)
    if entry is None:
        raise Refused(f"Error: File {shown} not found", "no_file")
    if entry.kind == "directory":
        text = f"Error: {shown} is a directory. You can only open files. Use cd or ls to navigate directories."
        raise Refused(text, "directory")
    real = session.real(real)
    data = session.read(real)
    if is_binary(data):
        raise Refused(f"Error: {shown} is a binary file and cannot be shown.", "binary")
    window = _Window(session, shown, real, TextFile.of(data, keep_ends=False), session.state.line)
    return window.at(window.first)


def _result(window: _Window, before: str = "") -> ToolResult:
    return ToolResult(before + window.shown(), window.state())


def open_file(session: Session, path: str | None, line: int | str | None) -> ToolResult:
    """``open``: shows a file, from a line on."""
    if path is None:
        if not session.state.open_file:
            raise Refused('Usage: open "<file>"', "bad_arguments")
        return _result(_window(session))
    window = _window(session, path)
    number, notes = window.first, ""
    if line is not None:
        try:
            number = int(line)
        except ValueError:
            # The file is open from now on, although nothing of it is shown.
            return ToolResult(
                'Usage: open "<file>" [<line_number>]\nError: <line_number> must be a number', window.state()
            )
        if number > window.count:
            notes = (
                f"Warning: <line_number> ({number}) is greater than the number of lines in the file ({window.count})\n"
                f"Warning: Setting <line_number> to {window.count}\n"
            )
            number = window.count
        elif number < 1:
            notes = f"Warning: <line_number> ({number}) is less than 1\nWarning: Setting <line_number> to 1\n"
            number = 1
    return _result(window.goto(number - 1), notes)


def goto(session: Session, line: int | str | None) -> ToolResult:
    """``goto``: moves the window."""
    if line is None:
        raise Refused("Usage: goto <line>", "bad_arguments")
    try:
        number = int(line)
    except ValueError:
        raise Refused("Usage: goto <line>\nError: <line> must be a number", "bad_arguments") from None
    window = _window(session)
    if number > window.count:
        raise Refused(f"Error: <line> must be less than or equal to {window.count}", "bad_arguments")
    return _result(window.goto(number - 1))


def scroll(session: Session, direction: int) -> ToolResult:
    """``scroll_down`` (1) and ``scroll_up`` (-1)."""
    window = _window(session)
    style = session.style
    return _result(window.at(window.first + direction * (style.window - style.overlap)))


def create(session: Session, path: str) -> ToolResult:
    """``create``: makes an empty file and opens it."""
    real = session.absolute(path)
    if session.look(real) is not None:
        raise Refused(f"Warning: File '{path}' already exists.", "exists")
    text = "" if session.style.release in ("1.1", "main") else "\n"
    session.write(real, text.encode())
    real = session.real(real)
    made = session.moved(history=session.state.with_history(real, text.encode()).history)
    return _result(_Window(made, path, real, TextFile(text.encode(), text), 0).at(0))


# --------------------------------------------------------------------------------------------------------- edits


def replace_text(session: Session, search: str, new: str, every: bool) -> ToolResult:
    """``edit SEARCH REPLACE``: in the lines in view, or ``every`` occurrence in the file."""
    if not session.state.open_file:
        raise Refused("No file opened. Either `open` or `create` a file first.", "no_file_open")
    window = _window(session)
    if search == new:
        text = (
            "Your search and replace strings are the same. No changes were made. Please modify your search or replace "
            "strings."
        )
        raise Refused(text, "no_change")
    if not search:
        raise Refused("Your edit was not applied (file not modified): the search string is empty.", "bad_arguments")
    view, (start, last) = window.plain(), window.lines
    if every:
        place = window.text.find(search)
        if place < 0:
            raise _not_found(window, search)
        line = len(window.text[:place].split("\n"))
        after = window.holding(window.text.replace(search, new)).goto(line)
        span, count = None, window.text.count(search)
    else:
        if view.count(search) > 1:
            text = (
                f"Your edit was not applied (file not modified): Found more than one occurrence of {search!r} in the "
                "currently displayed lines.\nPlease make your search string more specific (for example, by including "
                "more lines of context).\n"
            )
            raise Refused(text, "not_unique")
        if search not in view:
            raise _not_found(window, search)
        line = start + len(view[: view.find(search)].split("\n")) - (0 if _is_first(session) else 1)
        after = window.holding(_with_lines(window.text, start, last, view.replace(search, new))).goto(line)
        span, count = (line, line + len(search.split("\n")) - 1), 1
    end = "\n" if _is_first(session) else "\n\n"
    _check(window, after, span, len(new.split("\n")), f"{_BROKEN}\n", end)
    what = f"Replaced {count} occurrences" if every else "Text replaced"
    note = f"{what}. Please review the changes and make sure they are correct"
    review = f"\n{_REVIEW_SHORT}\n" if session.style.release.startswith("1.0.dev") else f":\n\n{_REVIEW}\n"
    return _applied(window, after, note + review)


def _is_first(session: Session) -> bool:
    """Whether lines are counted as the first of release 1's editors did, one too far."""
    return session.style.release == "1.0.dev1"


def _not_found(window: _Window, search: str) -> Refused:
    lines = [window.text.count("\n", 0, place) + 1 for place in _places(window.text, search)]
    if not lines:
        text = (
            f"Your edit was not applied (file not modified): Text {search!r} not found in displayed lines (or anywhere "
            "in the file).\nPlease modify your search string. Did you forget to properly handle whitespace/indentation?"
            "\nYou can also call `open` again to re-display the file with the correct context.\n"
        )
        return Refused(text, "not_found")
    listing = "\n".join(f"- line {line}" for line in lines)
    text = (
        f"Your edit was not applied (file not modified): Text {search!r} not found in displayed lines.\n\nHowever, we "
        f"found the following occurrences of your search string in the file:\n\n{listing}\n\nYou can use the `goto` "
        "command to navigate to these locations before running the edit command again.\n"
    )
    return Refused(text, "not_found")


def _places(text: str, search: str) -> list[int]:
    found, place = [], text.find(search)
    while place >= 0:
        found.append(place)
        place = text.find(search, place + len(search))
    return found


def replace_lines(session: Session, first: int, last: int, new: str) -> ToolResult:
    """``edit FIRST:LAST``: lines by number, from 1; an empty text deletes them."""
    if not session.state.open_file:
        raise Refused("No file opened. Use the `open` command first.", "no_file_open")
    window = _window(session)
    start, stop = first - 1, last - 1
    if start < 0 or stop < start - 1:
        raise Refused(_USAGE, "bad_arguments")
    after = window.holding(_with_lines(window.text, start, stop, new))
    # The window stays where it is while the error is shown.
    _check(window, after, (start, stop), len(new.splitlines()), _BROKEN, "\n\n")
    note = f"File updated. Please review the changes and make sure they are correct\n{_REVIEW_SHORT}\n"
    return _applied(window, after.goto(start), note)


def rewrite_view(session: Session, new: str) -> ToolResult:
    """``edit TEXT``: the lines in view become ``new``."""
    if not session.state.open_file:
        raise Refused("No file opened. Either `open` a file first.", "no_file_open")
    window = _window(session)
    start, last = window.lines
    after = window.holding(_with_lines(window.text, start, last, new))
    _check(window, after, (start, last), len(new.split("\n")), f"{_BROKEN}\n", "\n")
    done = _applied(window, after.at(after.first), "")
    return replace(done, text="Edit successful.")


def insert(session: Session, text: str, line: int | None) -> ToolResult:
    """``insert``: new lines after a line, at the end of the file without one."""
    if not session.state.open_file:
        raise Refused("No file opened. Use the `create` or `open` command first.", "no_file_open")
    window = _window(session)
    if not text:
        return _result(window)
    text = text.removesuffix("\n")
    old = window.text
    if line is not None and session.style.release != "main":
        line -= 1
    if line is None:
        after, place = (f"{old.removesuffix(chr(10))}\n{text}" if old else text), window.count
    elif line < 0:
        after, place = (f"{text}\n{old.removeprefix(chr(10))}" if old else text), 0
    else:
        lines = old.split("\n")
        lines.insert(line, text)
        after, place = "\n".join(lines), line
    changed = window.holding(after).goto(place)
    head = _BROKEN.replace("(s). ", "(s).\n") + "\n"
    _check(window, changed, (place, place), len(text.split("\n")), head, "\n\n")
    return _applied(window, changed, "")


def _with_lines(text: str, start: int, stop: int, new: str) -> str:
    lines = text.split("\n")
    lines[start : stop + 1] = new.split("\n") if new else []
    return "\n".join(lines)


def _check(before: _Window, after: _Window, span: tuple[int, int] | None, added: int, head: str, end: str) -> None:
    """Raises Refused where the edit brings syntax errors; ``span`` None counts those that were there too."""
    path = before.real
    found: list[Problem] = problems(path, after.file.written(after.text))
    if found and span is not None:
        known = problems(path, before.file.data)
        found = introduced(known, found, span, added)
        found = [one for one in found if not known or one.line >= span[0]]
    if not found:
        return
    text = (
        f"{head}{listed(found)}{end}This is how your edit would have looked if applied\n{_RULE}\n{after.shown()}\n"
        f"{_RULE}\n\n"
        f"This is the original code before your edit\n{_RULE}\n{before.shown()}\n{_RULE}\n\n{_NOT_APPLIED}"
    )
    raise Refused(text, "syntax_error")


def _applied(before: _Window, after: _Window, note: str) -> ToolResult:
    session = after.session
    session.write(after.real, before.file.written(after.text))
    state = after.state().with_history(after.real, before.file.data)
    return ToolResult(note + after.shown(), state)
