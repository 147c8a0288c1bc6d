"""The result of a command as the text an agent reads."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pivotgym.envs.errors import NotRestorable
from pivotgym.envs.sandbox import CommandResult
from pivotgym.envs.terminal.tasks import TerminalTask

NO_OUTPUT = "(no output)"


def render(result: CommandResult, task: TerminalTask, idle_timeout: float | None = None, *, command: str = "") -> str:
    """What the agent reads of ``result``, in the form its task names.

    Args:
        result: of one command.
        task: its ``observation`` chooses the form, its ``timeout`` (seconds) is named where it was reached.
        idle_timeout: seconds without output after which a command is killed.
        command: for templates that repeat it.

    Raises:
        NotRestorable: the task's template is unusable.
    """
    if task.observation == "raw":
        return result.output
    if task.observation == "template":
        return _render_template(result, task, idle_timeout, command)
    lines = [note for note in (ending_note(result, task.timeout, idle_timeout),) if note]
    if not lines:
        return result.output or NO_OUTPUT
    text = result.output
    if text and not text.endswith("\n"):
        text += "\n"
    return text + lines[0]


def ending_note(result: CommandResult, timeout: float, idle_timeout: float | None = None) -> str:
    """How a command ended, in square brackets; empty for status 0."""
    status = "unknown" if result.status is None else str(result.status)
    notes = {
        "exit": "" if result.status == 0 else f"[exit status {status}]",
        "timeout": f"[killed: it ran for more than {timeout:g} s]",
        "idle": f"[killed: no output for {idle_timeout or 0:g} s]",
        "memory": "[killed: over the memory limit]",
        "disk": "[killed: over the disk limit]",
        "shell_exit": f"[the shell exited with status {status}; a new one was started]",
        "shell_killed": "[the shell was killed; a new one was started]",
    }
    return notes[result.ending]


def submission(result: CommandResult, marker: str | None) -> str | None:
    """What was handed in by a command that succeeds and whose output begins with a line that is ``marker``, or None."""
    if marker is None or result.status != 0:
        return None
    first, _, rest = result.output.lstrip().partition("\n")
    return rest if first.strip() == marker else None


class _Output(str):
    """The output for templates: a text, and for those that expect mini-swe-agent's first form an object of three."""

    returncode: int
    exception_info: str

    @property
    def output(self) -> str:
        return str(self)


def _render_template(result: CommandResult, task: TerminalTask, idle_timeout: float | None, command: str) -> str:
    # Agents with such templates read their commands' output in text mode, which has one line ending only.
    output = _Output(result.output.replace("\r\n", "\n").replace("\r", "\n"))
    output.returncode = -1 if result.status is None else result.status
    killed = result.ending not in ("exit", "shell_exit")
    output.exception_info = ending_note(result, task.timeout, idle_timeout) if killed else ""
    try:
        return _template(task.observation_template or "").render(
            output=output,
            returncode=output.returncode,
            exception_info=output.exception_info,
            command=command,
            cwd=result.cwd,
        )
    except TemplateError as error:
        raise NotRestorable("bad_template", f"observation_template: {error}") from error


@lru_cache(maxsize=64)
def _template(source: str) -> Template:
    # Templates come with recordings: they are not to be trusted, and a name they misspell is an error.
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(source)
