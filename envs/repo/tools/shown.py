"""How what a command or a tool printed is shown to the agent."""

from __future__ import annotations

import json

from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.repo.tools.state import EditorState
from pivotgym.envs.sandbox import CommandResult
from pivotgym.envs.terminal.render import render

OPEN_FILE = "editor_file"
"""What a task's observation template reads the open file from."""
EXACT = "exact"
"""Set in a task's observation template where the text is a tool's: its last line end is part of it."""


def show_command(
    result: CommandResult, spec: RepoTask, state: EditorState, idle_timeout: float | None = None, *, command: str = ""
) -> str:
    """A shell command's result in the form the task names; a template sees the open file.

    Args:
        result: of the command.
        spec: the task.
        state: of the tools.
        idle_timeout: seconds without output after which a command is killed.
        command: for templates that repeat it.
    """
    return render(result, _with_names(spec, state, exact=False), idle_timeout, command=command)


def show_tool(text: str, spec: RepoTask, state: EditorState, cwd: str) -> str:
    """A tool's text in the form the task names: as it is, or in the same template as a command's output."""
    if spec.observation != "template":
        return text
    result = CommandResult(text, 0, cwd=cwd)
    return render(result, _with_names(spec, state, exact=True))


def _with_names(spec: RepoTask, state: EditorState, *, exact: bool) -> RepoTask:
    if spec.observation != "template" or not spec.observation_template:
        return spec
    name = json.dumps(state.open_file or "n/a")
    names = f"{{% set {OPEN_FILE} = {name} %}}{{% set {EXACT} = {'true' if exact else 'false'} %}}"
    return spec.model_copy(update={"observation_template": names + spec.observation_template})
