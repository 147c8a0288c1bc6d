"""The agent's tools beside its shell: which there are, and what a call does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pivotgym.envs.repo.tasks import Interface
from pivotgym.envs.repo.tools import classic, editor, search, windowed
from pivotgym.envs.repo.tools.commands import TYPED, parse_command
from pivotgym.envs.repo.tools.definitions import definitions_of
from pivotgym.envs.repo.tools.filemap import filemap
from pivotgym.envs.repo.tools.session import Session
from pivotgym.envs.repo.tools.state import EditorState, Refused, ToolResult
from pivotgym.envs.repo.tools.submit import submit, submit_staged
from pivotgym.envs.sandbox import CommandResult, Sandbox
from pivotgym.envs.terminal.judging import printable
from pivotgym.envs.trajectory import JsonObject

_Command = Callable[[Session, JsonObject], ToolResult]
_THOUGHT = "Your thought has been logged."


class Toolbox:
    """The tools of one interface. Stateless: what they remember is in :class:`EditorState`.

    Args:
        interface: whose tools.
    """

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self._commands = _commands_of(interface)

    def definitions(self) -> list[JsonObject]:
        """OpenAI tool definitions of what is on offer beside the shell."""
        return definitions_of(self.interface)

    def knows(self, name: str) -> bool:
        """Whether :meth:`call` executes tools of that name, on offer or not: recordings use older names too."""
        return name in self._commands

    def call(
        self,
        box: Sandbox,
        state: EditorState,
        name: str,
        arguments: JsonObject,
        *,
        workdir: str,
        run: Callable[[str], CommandResult],
    ) -> ToolResult:
        """Executes one call. Whatever the arguments are, the agent gets a text.

        Args:
            box: the sandbox; paths are from where its shell stands.
            state: what the tools remember from before.
            name: of the tool.
            arguments: of the call.
            workdir: the repository.
            run: runs a command in the agent's session, for what only the sandbox's programs can do (git, grep).

        Returns:
            The text for the agent and the state from now on; of a refused call the state from before.

        Raises:
            SandboxError: the sandbox broke.
            MissingExtra: the check of Python edits is not installed.
        """
        command = self._commands.get(name)
        if command is None:
            return ToolResult(f"Error: unknown tool {name!r}", state, refused="unknown_tool")
        session = Session(box, state, workdir, run)
        try:
            if isinstance(arguments.get(TYPED), str):
                typed, arguments = parse_command(arguments[TYPED])
                if typed != name or TYPED in arguments:
                    text = f"Error: `{name}` takes its arguments as they are; it is no shell command to combine.\n"
                    raise Refused(text, "unparsed_command")
            done = command(session, arguments)
        except Refused as refused:
            return ToolResult(printable(refused.text), state, refused=refused.kind)
        return replace(done, text=printable(done.text))


def _commands_of(interface: Interface) -> dict[str, _Command]:
    if interface == "bash":
        return {}
    commands: dict[str, _Command] = {}
    for name in editor.NAMES:
        commands[name] = lambda session, given: editor.edit(session, given, interface)
    if interface == "swe-agent":
        commands = {name: _without_end(command) for name, command in commands.items()} | _SWE_AGENT
    else:
        commands |= {"submit": lambda session, given: submit(session)}
    if interface == "openhands":
        commands |= {"finish": _finish}
    if interface in ("openhands", "tools"):
        commands |= {"think": lambda session, given: ToolResult(_THOUGHT, session.state)}
    return commands


def _finish(session: Session, given: JsonObject) -> ToolResult:
    message = given.get("message", "")
    return ToolResult("", session.state, submitted=message if isinstance(message, str) else "")


# ------------------------------------------------------------------------------- SWE-agent's commands, by release


def _string(given: JsonObject, name: str, usage: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(f"Usage: {usage}\n", "bad_arguments")
    return value


def _optional(given: JsonObject, name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(f"Error: <{name}> must be a text\n", "bad_arguments")
    return value or None


def _line(given: JsonObject, name: str) -> int | str | None:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int | str | None):
        return str(value)
    return value


def _is_windowed(session: Session) -> bool:
    return session.style.family == "windowed"


def _open(session: Session, given: JsonObject) -> ToolResult:
    path, line = _optional(given, "path"), _line(given, "line_number")
    if _is_windowed(session):
        return windowed.open_file(session, path, line)
    return classic.open_file(session, path, line)


def _goto(session: Session, given: JsonObject) -> ToolResult:
    line = _line(given, "line_number")
    return windowed.goto(session, line) if _is_windowed(session) else classic.goto(session, line)


def _scroll(direction: int) -> _Command:
    def scroll(session: Session, given: JsonObject) -> ToolResult:
        return (windowed.scroll if _is_windowed(session) else classic.scroll)(session, direction)

    return scroll


def _create(session: Session, given: JsonObject) -> ToolResult:
    path = _string(given, "filename", "create <filename>")
    return windowed.create(session, path) if _is_windowed(session) else classic.create(session, path)


def _edit(session: Session, given: JsonObject) -> ToolResult:
    """Every form that was ever offered: the arguments tell which is meant."""
    if "search" in given or "replace" in given:
        search_for, new = given.get("search"), given.get("replace", "")
        if not isinstance(search_for, str) or not isinstance(new, str):
            raise Refused("Usage: edit <search> <replace> [<replace-all>]", "bad_arguments")
        every = given.get("replace_all", given.get("replace-all", False))
        return windowed.replace_text(session, search_for, new, every is True or every == "True" or every == "true")
    new = given.get("replacement_text", given.get("text"))
    if not isinstance(new, str):
        raise Refused("Usage: edit <start_line>:<end_line>\n<replacement_text>\nend_of_edit", "bad_arguments")
    lines = new.removesuffix("\n").split("\n") if new else []
    first, last = _line(given, "start_line"), _line(given, "end_line")
    if first is None and last is None:
        if _is_windowed(session):
            return windowed.rewrite_view(session, new)
        return classic.edit_selection(session, lines)
    if not _is_windowed(session):
        return classic.edit_lines(session, "" if first is None else first, "" if last is None else last, lines)
    if not isinstance(first, int) or not isinstance(last, int):
        raise Refused("Usage: edit <start_line>:<end_line>\n<replacement_text>\nend_of_edit\n", "bad_arguments")
    try:  # such a call goes through a here-document, whose output keeps its end
        done = windowed.replace_lines(session, first, last, "\n".join(lines))
    except Refused as refused:
        raise Refused(f"{refused.text}\n", refused.kind) from None
    return ToolResult(f"{done.text}\n", done.state)


def _insert(session: Session, given: JsonObject) -> ToolResult:
    text, line = given.get("text"), given.get("line")
    if not isinstance(text, str) or not isinstance(line, int | None) or isinstance(line, bool):
        raise Refused("Usage: insert <text> [<line>]", "bad_arguments")
    return windowed.insert(session, text, line)


def _set_cursors(session: Session, given: JsonObject) -> ToolResult:
    return classic.set_cursors(session, _line(given, "start_line"), _line(given, "end_line"))


def _found(usage: str, what: str, where: str, look: Callable[[Session, str, str | None], ToolResult]) -> _Command:
    def find(session: Session, given: JsonObject) -> ToolResult:
        return look(session, _string(given, what, usage), _optional(given, where))

    return find


def _without_end(command: _Command) -> _Command:
    """Release 1 shows what a command prints without its last line end, other than for a here-document."""

    def call(session: Session, given: JsonObject) -> ToolResult:
        try:
            done = command(session, given)
        except Refused as refused:
            raise Refused(_cut(session, refused.text), refused.kind) from None
        return ToolResult(_cut(session, done.text), done.state, done.submitted, done.refused)

    return call


def _cut(session: Session, text: str) -> str:
    return text.rstrip("\n") if _is_windowed(session) else text


def _leave(session: Session, given: Any) -> ToolResult:
    return ToolResult("Exited", session.state, submitted="")


_SWE_AGENT: dict[str, _Command] = {
    "open": _without_end(_open),
    "goto": _without_end(_goto),
    "scroll_down": _without_end(_scroll(1)),
    "scroll_up": _without_end(_scroll(-1)),
    "create": _without_end(_create),
    "edit": _edit,
    "insert": _without_end(_insert),
    "append": _without_end(_insert),
    "set_cursors": _set_cursors,
    "find_file": _without_end(
        _found("find_file <file_name> [<dir>]", "file_name", "dir", search.find_file),
    ),
    "search_dir": _without_end(_found("search_dir <search_term> [<dir>]", "search_term", "dir", search.search_dir)),
    "search_file": _without_end(
        _found("search_file <search_term> [<file>]", "search_term", "file", search.search_file)
    ),
    "filemap": _without_end(
        lambda session, given: filemap(session, _string(given, "file_path", "filemap <file_path>"))
    ),
    "submit": lambda session, given: submit_staged(session),
    **dict.fromkeys(("exit_forfeit", "exit_cost", "exit_context", "exit_format", "exit_error", "exit_api"), _leave),
}
