"""mini-swe-agent's trajectory files, from the bare list of messages of its first releases to format 1.1 of release 2.

A recorded command is a call of ``bash``, whatever form the agent gave it: a fenced or tagged block in its text, a tool
call, an item of the Responses API. What it got back is a tool message with the recorded text, and the task carries the
template that text was made with, so that executing the command again gives it again. :func:`export_document` gives
the recorded document back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.repo_common import instance_row, recorded_repo_task
from pivotgym.envs.formats.rows import (
    OnError,
    PathLike,
    Row,
    expect,
    join,
    load_document,
    load_rows,
    shape_of,
    validate,
)
from pivotgym.envs.formats.terminal_common import (
    RAW,
    adapt_template,
    bash_call,
    infer_template,
    keep,
    looks_shown,
    raw_of,
    recorded_task,
    row_name,
    tools_of,
)
from pivotgym.envs.trajectory import UNDELIVERED, JsonObject, Message, Outcome, Task, ToolCall, Trajectory

FORMAT = "mini-swe-agent"
FINISH_MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
_OLD_MARKERS = ("MINI_SWE_AGENT_FINAL_OUTPUT",)
_MARKERS = (FINISH_MARKER, *_OLD_MARKERS)
#: Where the agent looked for its command, newest first, for recordings that do not say.
_ACTION_PATTERNS = (
    r"```mswea_bash_command\s*\n(.*?)\n```",
    r"<mswea_bash_command>(.*?)</mswea_bash_command>",
    r"```bash\s*\n(.*?)\n```",
)
#: By the last word of the environment's class: how it runs a command.
_SHELLS = {
    "LocalEnvironment": ["/bin/sh", "-c"],
    "DockerEnvironment": ["bash", "-lc"],
    "SingularityEnvironment": ["bash", "-c"],
    "BubblewrapEnvironment": ["bash", "-c"],
    "SwerexDockerEnvironment": ["bash", "-c"],
    "SwerexModalEnvironment": ["bash", "-c"],
}
_ROLES = ("system", "developer", "user", "assistant", "tool", "exit", "human")


def is_mini_swe_agent(row: Any) -> bool:
    """Whether a row is a trajectory document, or a message of a file that is only the list of them."""
    if not isinstance(row, dict):
        return False
    if str(row.get("trajectory_format", "")).startswith("mini-swe-agent"):
        return True
    if "messages" in row:
        info = row.get("info")
        return isinstance(info, dict) and bool({"mini_version", "model_stats", "exit_status"} & set(info))
    return set(row) <= {"role", "content", "timestamp", "extra"} and row.get("role") in _ROLES and "content" in row


def read_mini_swe_agent(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory per document; a file that is a list of messages is one.

    Raises:
        BadInput: with file, line and field.
    """
    if shape_of(path) == "array":
        document = load_document(path)
        if isinstance(document, list) and document and isinstance(document[0], dict) and "role" in document[0]:
            yield _read_document(Row({"messages": document}, 1, 1), Path(path), listed=True)
            return
    yield from load_rows(path, lambda row: _read_document(row, Path(path)), on_error, errors)


def export_document(trajectory: Trajectory) -> Any:
    """The recorded document (an object, or the list of messages it was).

    Raises:
        BadInput: the trajectory does not come from :func:`read_mini_swe_agent`.
    """
    if trajectory.source.get("format") != FORMAT:
        raise BadInput(f"trajectory {trajectory.id!r} does not come from mini-swe-agent", field="source.format")
    messages = [raw_of(message) for message in trajectory.messages if RAW in message.source]
    for index, raw in trajectory.source.get("unplaced", ()):
        messages.insert(index, raw)
    if trajectory.source.get("listed"):
        return messages
    return {**trajectory.source["document"], "messages": messages}


# ----------------------------------------------------------------------------------------------------- documents


def _read_document(row: Row, path: Path, listed: bool = False) -> Trajectory:
    document: JsonObject = expect(row.value, dict, file=path, line=row.line, field=row.field)
    where = join(row.field, "messages")
    raws = expect(document.get("messages"), list, file=path, line=row.line, field=where)
    if not raws:
        raise BadInput("empty: a recording has at least one message", file=path, line=row.line, field=where)
    config = _config(document)
    reader = _Messages(_patterns(config), path, row.line, where)
    for index, raw in enumerate(raws):
        reader.add(index, raw, last=index == len(raws) - 1)
    messages = reader.messages
    name = document.get("instance_id") if isinstance(document.get("instance_id"), str) else None
    name = name or row_name(path, row.number)
    source: JsonObject = {"format": FORMAT}
    if listed:
        source["listed"] = True
    else:
        source["document"] = {key: value for key, value in document.items() if key != "messages"}
    if reader.unplaced:
        source["unplaced"] = reader.unplaced
    return Trajectory(
        id=name,
        task=_task(name, messages, config, reader.observations, _instance(document)),
        tools=tools_of(messages),
        messages=messages,
        outcome=_outcome(document, reader.exit),
        source=source,
    )


def _config(document: JsonObject) -> JsonObject:
    info = document.get("info")
    config = info.get("config") if isinstance(info, dict) else None
    return config if isinstance(config, dict) else {}


def _section(config: JsonObject, name: str) -> JsonObject:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _patterns(config: JsonObject) -> tuple[str, ...]:
    for name in ("model", "agent"):
        pattern = _section(config, name).get("action_regex")
        if isinstance(pattern, str):
            return (pattern,)
    return _ACTION_PATTERNS


def _instance(document: JsonObject) -> JsonObject:
    """The SWE-bench row of the run, or what the recording has of it; empty for a run on no repository."""
    info = document.get("info")
    instances = [one.get("instance") for one in (document, info) if isinstance(one, dict)]
    found = instance_row(*instances, {key: one for key, one in document.items() if key not in ("messages", "info")})
    return {key: one for key, one in found.items() if key != "trajectory_format"}


def _task(
    name: str, messages: Sequence[Message], config: JsonObject, observations: Sequence[str], instance: JsonObject
) -> Task:
    environment, model, agent = (_section(config, key) for key in ("environment", "model", "agent"))
    template = model.get("observation_template") or agent.get("action_observation_template")
    if isinstance(template, str):
        template = adapt_template(template, {**agent, **environment, **model})
    else:
        template = infer_template(observations)
    kind = str(config.get("environment_type", "")).rpartition(".")[2]
    interpreter = environment.get("interpreter")
    timeout = environment.get("timeout")
    env = environment.get("env")
    fields: JsonObject = {
        "image": _text(environment.get("image")),
        "workdir": _text(environment.get("cwd")),
        "env": {str(key): str(value) for key, value in env.items()} if isinstance(env, dict) else None,
        "shell": interpreter if isinstance(interpreter, list) and interpreter else _SHELLS.get(kind, ["/bin/sh", "-c"]),
        "timeout": float(timeout) if isinstance(timeout, int | float) and timeout > 0 else 30.0,
        "observation": "template" if template else "raw",
        "observation_template": template,
        "finish_marker": next((marker for marker in _OLD_MARKERS if _issued(messages, marker)), FINISH_MARKER),
    }
    if instance:
        return recorded_repo_task(name, messages, instance, {"interface": "bash", **fields})
    return recorded_task(name, messages, **fields)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _issued(messages: Sequence[Message], marker: str) -> bool:
    calls = [call.arguments for message in messages for call in message.tool_calls]
    commands = [arguments.get("command", "") for arguments in calls if isinstance(arguments, dict)]
    return any(marker in command for command in commands) and not any(FINISH_MARKER in one for one in commands)


def _outcome(document: JsonObject, exit_message: JsonObject | None) -> Outcome:
    info = document.get("info") if isinstance(document.get("info"), dict) else {}
    extra = (exit_message or {}).get("extra")
    found: JsonObject = {**(info or {}), **(extra if isinstance(extra, dict) else {})}
    details = {key: found[key] for key in ("submission",) if isinstance(found.get(key), str)}
    return Outcome(termination=_text(found.get("exit_status")), details=details)


# ------------------------------------------------------------------------------------------------------ messages


@dataclass
class _Messages:
    """Reads messages one after the other: which command an observation answers depends on those before it.

    Attributes:
        patterns: of commands in a text, the first with a match counts.
        pending: ids of the calls that no observation answered yet.
        refused: the last action was malformed; the next message says so.
        finishing: the last action may have handed in the result.
        unplaced: recorded messages that are none of a chat, with their index.
    """

    patterns: tuple[str, ...]
    path: Path
    line: int
    where: str
    messages: list[Message] = field(default_factory=list)
    observations: list[str] = field(default_factory=list)
    pending: list[str | None] = field(default_factory=list)
    refused: bool = False
    unplaced: list[tuple[int, JsonObject]] = field(default_factory=list)
    exit: JsonObject | None = None
    turns: int = 0
    finishing: bool = False

    def add(self, index: int, raw: Any, last: bool) -> None:
        field_ = join(self.where, index)
        expect(raw, dict, file=self.path, line=self.line, field=field_)
        if raw.get("object") == "response":
            self._assistant(raw, field_, *_response_parts(raw.get("output")))
        elif raw.get("type") == "function_call_output":
            self._observation(raw, raw.get("output"), raw.get("call_id"), field_)
        elif last and self.finishing and raw.get("role") == "user" and not looks_shown(raw.get("content")):
            # The first releases noted what was handed in as one more message; no model ever saw it.
            self.exit = {"extra": {"exit_status": "Submitted", "submission": raw.get("content")}}
            self.unplaced.append((index, raw))
        else:
            self._chat(index, raw, field_)

    def _chat(self, index: int, raw: JsonObject, field_: str) -> None:
        role = raw.get("role")
        if role not in _ROLES:
            raise BadInput(f"unknown role {role!r}", file=self.path, line=self.line, field=join(field_, "role"))
        extra = raw["extra"] if isinstance(raw.get("extra"), dict) else {}
        content = _plain(raw.get("content"))
        if role == "exit":
            self.exit = raw
            self.unplaced.append((index, raw))
        elif role == "assistant":
            self._assistant(raw, field_, content, raw.get("reasoning_content"), raw.get("tool_calls"))
        elif role == "tool":
            self._observation(raw, content, raw.get("tool_call_id"), field_)
        elif role == "user" and self.pending and "interrupt_type" not in extra:
            self._observation(raw, content, self.pending[0], field_)
        else:
            mark = {UNDELIVERED: "says what was malformed"} if self.refused and role == "user" else {}
            self._append(field_, raw, {"role": "user" if role == "human" else role, "content": content}, mark)
            self.refused = False

    def _assistant(self, raw: JsonObject, field_: str, content: Any, reasoning: Any, recorded_calls: Any) -> None:
        calls = _recorded_calls(recorded_calls, raw, self.turns)
        mark: JsonObject = {}
        self.refused = False
        if not calls:
            commands = self._commands(content, raw)
            if len(commands) == 1 or "actions" in _extra(raw):
                calls = [bash_call(one, f"call_{self.turns}_{n}", added=True) for n, one in enumerate(commands)]
            else:
                mark = {UNDELIVERED: f"expected one command, found {len(commands)}"}
                self.refused = True
        data: JsonObject = {"role": "assistant", "content": content, "tool_calls": calls}
        if isinstance(reasoning, str):
            data["reasoning_content"] = reasoning
        self._append(field_, raw, data, mark)
        self.pending = [call.id for call in calls]
        self.finishing = any(marker in str(call.arguments) for call in calls for marker in _MARKERS)
        self.turns += 1

    def _commands(self, content: Any, raw: JsonObject) -> list[str]:
        """The commands the agent took from this message; what it noted beside the text comes first."""
        actions = _extra(raw).get("actions")
        if isinstance(actions, list):
            noted = [one.get("command") for one in actions if isinstance(one, dict)]
            return [one for one in noted if isinstance(one, str)]
        text = Message(role="assistant", content=content).text if isinstance(content, str | list) else ""
        for pattern in self.patterns:
            found = [one.strip() for one in re.findall(pattern, text, re.DOTALL)]
            if found:
                return found
        return []

    def _observation(self, raw: JsonObject, content: Any, call_id: Any, field_: str) -> None:
        call_id = call_id if isinstance(call_id, str) else None
        if call_id in self.pending:
            self.pending.remove(call_id)
        self._append(field_, raw, {"role": "tool", "content": content, "tool_call_id": call_id}, {})
        self.observations.append(self.messages[-1].text)

    def _append(self, field_: str, raw: JsonObject, data: JsonObject, source: JsonObject) -> None:
        data["source"] = {**keep(raw, data.get("content")), **source}
        self.messages.append(validate(Message, data, file=self.path, line=self.line, field=field_))


def _extra(raw: JsonObject) -> JsonObject:
    extra = raw.get("extra")
    return extra if isinstance(extra, dict) else {}


def _plain(content: Any) -> Any:
    """Parts of the Responses API that are one text, as that text."""
    only = content[0] if isinstance(content, list) and len(content) == 1 else None
    if (
        isinstance(only, dict)
        and only.get("type") in ("input_text", "output_text")
        and isinstance(only.get("text"), str)
    ):
        return only["text"]
    return content


def _recorded_calls(value: Any, raw: JsonObject, turn: int) -> list[ToolCall]:
    """Tool calls as the model made them; those of ``bash`` only if they name a command."""
    calls = []
    for number, one in enumerate(value if isinstance(value, list) else ()):
        if not isinstance(one, dict):
            continue
        function = one["function"] if isinstance(one.get("function"), dict) else one
        if isinstance(function.get("name"), str) and isinstance(function.get("arguments"), str | dict | None):
            call_id = one.get("call_id") or one.get("id") or f"call_{turn}_{number}"
            calls.append(ToolCall(name=function["name"], arguments=function.get("arguments"), id=str(call_id)))
    return calls


def _response_parts(items: Any) -> tuple[str | None, str | None, list[JsonObject]]:
    """Text, reasoning and calls among the output items of a response."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: list[JsonObject] = []
    for item in items if isinstance(items, list) else ():
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "message":
            text += texts_of(item.get("content"))
        elif kind == "reasoning":
            reasoning += texts_of(item.get("content")) or texts_of(item.get("summary"))
        elif kind == "function_call":
            calls.append(item)
    return "".join(text) if text else None, "\n".join(reasoning) if reasoning else None, calls


def texts_of(parts: Any) -> list[str]:
    """The texts of a content that is a text, or a list of parts."""
    if isinstance(parts, str):
        return [parts]
    found = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [text for text in found if isinstance(text, str)]
