"""SWE-agent's ``.traj`` files, old (text, ``edit 1:1 … end_of_edit``) and 1.x (tool calls, ``replay_config``).

The conversation is the recorded ``history``. A bash command becomes a call of ``bash``; the agent's own commands
(``open``, ``edit``, ``submit`` …) become calls of tools of those names, with the recorded arguments or, where the agent
wrote text, with what its words mean (:mod:`pivotgym.envs.repo.tools.commands`). A recording about a repository is a
task of ``pivotgym/Repo-v0``, which has these tools; any other one is a task at a terminal. :func:`export_document`
gives the recorded document back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import OnError, PathLike, Row, expect, join, load_rows, require, validate
from pivotgym.envs.formats.swe_agent_style import instance_of, repository_of, style_of
from pivotgym.envs.formats.terminal_common import (
    bash_call,
    keep,
    opening_texts,
    raw_of,
    recorded_task,
    row_name,
    tools_of,
)
from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.repo.tools.commands import parse_command
from pivotgym.envs.repo.tools.shown import EXACT, OPEN_FILE
from pivotgym.envs.repo.tools.state import STYLE
from pivotgym.envs.trajectory import UNDELIVERED, JsonObject, Message, Outcome, Task, ToolCall, Trajectory

FORMAT = "swe-agent"
# fmt: off
SPECIAL_COMMANDS = frozenset((
    "open", "goto", "scroll_up", "scroll_down", "create", "edit", "insert", "append", "search_dir",
    "search_file", "find_file", "filemap", "submit", "str_replace_editor", "review_on_submit", "undo_edit",
    "set_cursors", "view_image", "exit_forfeit", "exit_cost", "exit_context", "exit_format", "exit_error", "exit_api",
    "skip", "right_click", "left_click",
))
# fmt: on
"""Commands of SWE-agent's tool bundles, and the pseudo actions with which it ends a run."""
_REFUSALS = ("Interactive operation '", "Your bash command contained syntax errors and was NOT executed")
"""How an answer begins that says a command was not run, for recordings without configuration."""
_ROLES = ("system", "developer", "user", "assistant", "tool")
_STATE = re.compile(r"\n\(Open file: [^\n]*\)\n\(Current directory: [^\n]*\)\nbash-\$\s*$")
_NEXT_STEP = "{{observation}}\n(Open file: {{open_file}})\n(Current directory: {{working_dir}})\nbash-$"


def is_swe_agent(row: Any) -> bool:
    """Whether a row is a ``.traj`` document."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("trajectory"), list)
        and "info" in row
        and bool({"history", "environment", "replay_config"} & set(row))
    )


def read_swe_agent(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory per document.

    Raises:
        BadInput: with file, line and field.
    """
    return load_rows(path, lambda row: _read_document(row, Path(path)), on_error, errors)


def export_document(trajectory: Trajectory) -> JsonObject:
    """The recorded document; texts edited since the import as edited.

    Raises:
        BadInput: the trajectory does not come from :func:`read_swe_agent`.
    """
    if trajectory.source.get("format") != FORMAT:
        raise BadInput(f"trajectory {trajectory.id!r} does not come from SWE-agent", field="source.format")
    document: JsonObject = dict(trajectory.source["document"])
    if not trajectory.source.get("no_history"):
        document["history"] = [raw_of(message) for message in trajectory.messages]
    return document


# ----------------------------------------------------------------------------------------------------- documents


def _read_document(row: Row, path: Path) -> Trajectory:
    document: JsonObject = expect(row.value, dict, file=path, line=row.line, field=row.field)
    steps = require(document, "trajectory", file=path, line=row.line, field=row.field)
    where = join(row.field, "trajectory")
    expect(steps, list, file=path, line=row.line, field=where)
    for number, step in enumerate(steps):
        expect(step, dict, file=path, line=row.line, field=join(where, number))
    history = expect(document.get("history", []), list, file=path, line=row.line, field=join(row.field, "history"))
    source: JsonObject = {"format": FORMAT}
    if history:
        where = join(row.field, "history")
    else:
        history = list(_history_of(steps))
        source["no_history"] = True
    source["document"] = {key: one for key, one in document.items() if key != "history" or "no_history" in source}
    messages = list(_messages(history, path, row.line, where))
    if not messages:
        raise BadInput("empty: a recording has at least one message", file=path, line=row.line, field=where)
    config = _json_object(document.get("replay_config"))
    _mark_refused(messages, config)
    name = _name(document, path, row.number)
    info = document["info"] if isinstance(document.get("info"), dict) else {}
    status, submission = info.get("exit_status"), info.get("submission")
    return Trajectory(
        id=name,
        task=_task(name, messages, steps, config),
        tools=tools_of(messages),
        messages=messages,
        outcome=Outcome(
            termination=status if isinstance(status, str) else None,
            details={"submission": submission} if isinstance(submission, str) else {},
        ),
        source=source,
    )


def _name(document: JsonObject, path: Path, number: int) -> str:
    stem = path.name.removesuffix(".gz").removesuffix(".traj")
    return stem if number == 1 and stem else row_name(path, number)


def _json_object(value: Any) -> JsonObject:
    """An object, also where it was recorded as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _at(value: JsonObject, *keys: str) -> Any:
    found: Any = value
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _history_of(steps: Sequence[JsonObject]) -> Iterator[JsonObject]:
    """A conversation made of the steps: what the first one was asked, then what was answered and what came back."""
    asked = steps[0].get("query") or steps[0].get("messages") if steps else None
    for one in asked if isinstance(asked, list) else ():
        if isinstance(one, dict):
            yield one
    for step in steps:
        yield {
            "role": "assistant",
            "content": step.get("response") or step.get("thought"),
            "action": step.get("action"),
        }
        yield {"role": "user", "content": step.get("observation")}


# ------------------------------------------------------------------------------------------------------ messages


def _messages(history: Sequence[Any], path: Path, line: int, where: str) -> Iterator[Message]:
    pending: list[str | None] = []
    for number, raw in enumerate(history):
        field = join(where, number)
        expect(raw, dict, file=path, line=line, field=field)
        role, content = raw.get("role"), raw.get("content")
        if role not in _ROLES:
            raise BadInput(f"unknown role {role!r}", file=path, line=line, field=join(field, "role"))
        data: JsonObject = {"role": role, "content": content, "source": keep(raw, content)}
        if role == "assistant" and raw.get("is_demo"):
            data["source"][UNDELIVERED] = "part of a demonstration"
            pending = []
        elif role == "assistant":
            calls = _calls(raw, number)
            data["tool_calls"] = calls
            pending = [call.id for call in calls]
        elif role == "tool" or (role == "user" and pending and not raw.get("is_demo")):
            ids = raw.get("tool_call_ids")
            data["role"] = "tool"
            data["tool_call_id"] = ids[0] if isinstance(ids, list) and ids else (pending[0] if pending else None)
            pending = pending[1:]
        yield validate(Message, data, file=path, line=line, field=field)


def _mark_refused(messages: Sequence[Message], config: JsonObject) -> None:
    """Marks commands that the agent did not run (editors, broken syntax), with what it said instead."""
    templates = [
        _at(config, "agent", "tools", "filter", "blocklist_error_template"),
        _at(config, "agent", "templates", "shell_check_error_template"),
    ]
    beginnings = [re.split(r"\{+\w+\}+", one)[0] for one in templates if isinstance(one, str)]
    told = tuple(one for one in beginnings if len(one) > 10) or _REFUSALS
    for action, answer in pairwise(messages):
        if answer.role == "tool" and action.role == "assistant" and answer.text.startswith(told):
            action.source[UNDELIVERED] = "the agent did not run it"
            answer.source[UNDELIVERED] = "says why it was not run"


def _calls(raw: JsonObject, number: int) -> list[ToolCall]:
    recorded = raw.get("tool_calls")
    calls = []
    for one in recorded if isinstance(recorded, list) else ():
        function = one.get("function") if isinstance(one, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            arguments = function.get("arguments")
            arguments = arguments if isinstance(arguments, str | dict) else {}
            calls.append(ToolCall(name=function["name"], arguments=arguments, id=one.get("id")))
    action = raw.get("action")
    if calls or not isinstance(action, str) or not action.strip():
        return calls
    name, text = action.split(maxsplit=1)[0], action.rstrip("\n")
    if name in SPECIAL_COMMANDS:
        return [ToolCall(name=name, arguments=parse_command(text)[1], id=f"call_{number}")]
    return [bash_call(text, f"call_{number}")]


# --------------------------------------------------------------------------------------------------------- task


def _task(name: str, messages: Sequence[Message], steps: Sequence[JsonObject], config: JsonObject) -> Task:
    tools = _at(config, "agent", "tools")
    timeout = _at(config, "agent", "tools", "execution_timeout")
    variables = _at(config, "agent", "tools", "env_variables")
    repository = _at(config, "env", "repo", "repo_name")
    workdir = _directory(steps) or (f"/{repository}" if isinstance(repository, str) else None)
    image = _at(config, "env", "deployment", "image")
    template = _template(messages, steps, config, workdir or "/")
    fields: JsonObject = {
        "image": image if isinstance(image, str) else None,
        "workdir": workdir,
        "env": {key: str(value) for key, value in variables.items()} if isinstance(variables, dict) else None,
        "timeout": float(timeout) if tools and isinstance(timeout, int | float) and timeout > 0 else 30.0,
        "observation": "template" if template else "raw",
        "observation_template": template,
    }
    own = any(call.name in SPECIAL_COMMANDS for message in messages for call in message.tool_calls)
    instance = instance_of(name, config)
    if not (own or instance or isinstance(repository, str)):
        return recorded_task(name, messages, **fields)
    system, instruction = opening_texts(messages)
    return RepoTask(
        system=system,
        instruction=instruction,
        interface="swe-agent",
        repository=repository_of(config),
        definition={STYLE: style_of(messages, steps, config), **instance},
        **{key: value for key, value in fields.items() if value is not None},
    ).task(name)


def _directory(steps: Sequence[JsonObject]) -> str | None:
    """The working directory after the first command: what the agent started in, as far as that is recorded."""
    state = _json_object(steps[0].get("state")) if steps else {}
    found = state.get("working_dir")
    return found if isinstance(found, str) and found.startswith("/") else None


def _template(messages: Sequence[Message], steps: Sequence[JsonObject], config: JsonObject, workdir: str) -> str | None:
    """How an observation was shown; None where neither the configuration nor the texts tell.

    The open file is part of it; where the environment names none, the template says that none is open.
    """
    shown = _at(config, "agent", "templates", "next_step_template")
    empty = _at(config, "agent", "templates", "next_step_no_output_template")
    if not isinstance(shown, str):
        texts = [message.text for message in messages if message.role == "tool"]
        if not texts or not all(_STATE.search(text) for text in texts):
            return None
        shown, empty = _NEXT_STEP, _shown_for_nothing(messages, steps)
    observations = [
        text for step in steps if isinstance(text := step.get("observation"), str) and text and _is_bash(step)
    ]
    as_printed = any(text.endswith("\n") for text in observations)
    text = "output" if as_printed else f"(output if {EXACT} | default(false) else output.rstrip())"
    if any("\r\n" in str(step.get("observation")) for step in steps):  # its shell was on a terminal of its own
        text += r".replace('\n', '\r\n')"
    names = (
        f"{{% set observation = {text} %}}{{% set open_file = {OPEN_FILE} | default('n/a') %}}"
        f"{{% set working_dir = cwd | default({json.dumps(workdir)}) %}}"
    )
    if not isinstance(empty, str):
        return names + _jinja(shown)
    return f"{names}{{% if observation.strip() %}}{_jinja(shown)}{{% else %}}{_jinja(empty)}{{% endif %}}"


def _is_bash(step: JsonObject) -> bool:
    words = str(step.get("action") or "").split(maxsplit=1)
    return not words or words[0] not in SPECIAL_COMMANDS


def _shown_for_nothing(messages: Sequence[Message], steps: Sequence[JsonObject]) -> str | None:
    """What the recording showed for a command without output."""
    own = [number for number, message in enumerate(messages) if message.role == "assistant" and message.delivered]
    if len(own) != len(steps):
        return None
    for number, step in zip(own, steps, strict=True):
        answer = messages[number + 1 : number + 2]
        if not str(step.get("observation") or "").strip() and answer and answer[0].role == "tool":
            return _STATE.sub("", answer[0].text) + _NEXT_STEP.removeprefix("{{observation}}")
    return None


def _jinja(template: str) -> str:
    """Early 1.x wrote ``{observation}``, later ``{{observation}}``."""
    return re.sub(r"(?<!\{)\{(observation|open_file|working_dir)\}(?!\})", r"{{\1}}", template)
