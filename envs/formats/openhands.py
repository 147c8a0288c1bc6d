"""OpenHands' recordings: streams of events (``history`` of an ``output.jsonl``, a ``trajectory.json``), and chats.

An agent's action becomes a call of the tool it came from (``execute_bash``, ``str_replace_editor``, ``think``,
``finish``), an observation that call's answer with the text the agent read. Events that were no part of the
conversation are kept beside. Chats (logged completions, training rows) hold the calls themselves, as tool calls or as
text. The task is one of ``pivotgym/Repo-v0``. :func:`export_row` gives the recorded row back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.openai_chat import read_tools
from pivotgym.envs.formats.openhands_text import RESULT, command_text, template_of, text_call
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
from pivotgym.envs.formats.terminal_common import keep, raw_of, row_name, tools_of
from pivotgym.envs.trajectory import JsonObject, Message, Outcome, Task, ToolCall, Trajectory

FORMAT = "openhands"
COMMAND, EDITOR = "execute_bash", "str_replace_editor"
EVENTS = "events"
"""Key of ``Message.source``: the recorded events a message was made of, each with its position."""
_TIMEOUT = 120.0
_OWN_TOOLS = {COMMAND, EDITOR, "execute_ipython_cell", "task_tracker"}
_WORKSPACE = re.compile(r"(/(?:workspace|testbed)(?:/[\w.+-]+)?)")
_ERROR_END = "\n[Error occurred in processing last action]"


def is_openhands(row: Any) -> bool:
    """Whether a row is a run with its events, an event of a file that is only these, or a chat with its tools."""
    if not isinstance(row, dict):
        return False
    if _is_event(row):
        return True
    history = row.get("history")
    if isinstance(history, list) and history:
        first = history[0]
        first = first[0] if isinstance(first, list) and first else first
        return _is_event(first)
    return isinstance(row.get("messages"), list) and _has_own_tools(row)


def _is_event(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool({"source", "message", "timestamp"} & set(value))
        and (("action" in value and "args" in value) or ("observation" in value and "extras" in value))
    )


def _has_own_tools(row: JsonObject) -> bool:
    offered = read_tools(row.get("tools") or _at(row, "kwargs", "tools")) or []
    names = {tool.get("function", tool).get("name") for tool in offered if isinstance(tool.get("function", tool), dict)}
    for message in row["messages"]:
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        for call in calls if isinstance(calls, list) else ():
            names.add(_at(call, "function", "name"))
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str) and f"<function={COMMAND}>" in content:
            names.add(COMMAND)
    return bool(_OWN_TOOLS & {name for name in names if isinstance(name, str)})


def read_openhands(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory per row; a file that is a list of events is one.

    Raises:
        BadInput: with file, line and field.
    """
    if shape_of(path) == "array":
        document = load_document(path)
        if isinstance(document, list) and document and _is_event(document[0]):
            yield _read_events({"history": document}, Row({}, 1, 1), Path(path), listed=True)
            return
    yield from load_rows(path, lambda row: _read_row(row, Path(path)), on_error, errors)


def export_row(trajectory: Trajectory) -> Any:
    """The recorded row (an object, or the list of events it was); texts of chats edited since as edited.

    Raises:
        BadInput: the trajectory does not come from :func:`read_openhands`.
    """
    source = trajectory.source
    if source.get("format") != FORMAT:
        raise BadInput(f"trajectory {trajectory.id!r} does not come from OpenHands", field="source.format")
    if "chat" in source:
        messages = [_chat_raw(message) for message in trajectory.messages if not message.source.get("response")]
        return {**source["row"], "messages": messages}
    placed = [*source["unplaced"], *(one for message in trajectory.messages for one in message.source[EVENTS])]
    events = [event for _, event in sorted(placed, key=lambda one: one[0])]
    if source.get("listed"):
        return events
    if source.get("paired"):
        events = [events[start : start + 2] for start in range(0, len(events), 2)]
    return {**source["row"], "history": events}


def _chat_raw(message: Message) -> JsonObject:
    raw = raw_of(message)
    begin = message.source.get("begin")
    return {**raw, "content": f"{begin}{message.text}"} if begin else raw


def _read_row(row: Row, path: Path) -> Trajectory:
    value: JsonObject = expect(row.value, dict, file=path, line=row.line, field=row.field)
    if "history" in value:
        return _read_events(value, row, path)
    return _read_chat(value, row, path)


def _name(value: JsonObject, path: Path, number: int) -> str:
    name = value.get("instance_id") or value.get("id")
    return name if isinstance(name, str) and name else row_name(path, number)


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


# -------------------------------------------------------------------------------------------------------- events


def _read_events(value: JsonObject, row: Row, path: Path, listed: bool = False) -> Trajectory:
    where = join(row.field, "history")
    history = expect(value["history"], list, file=path, line=row.line, field=where)
    paired = bool(history) and all(isinstance(one, list) and len(one) == 2 for one in history)
    flat = [event for pair in history for event in pair] if paired else history
    reader = _Events(path, row.line, where)
    for index, event in enumerate(flat):
        reader.add(index, expect(event, dict, file=path, line=row.line, field=join(where, index)))
    if not reader.messages:
        raise BadInput("empty: a recording has at least one message", file=path, line=row.line, field=where)
    messages = reader.messages
    name = _name(value, path, row.number)
    source: JsonObject = {"format": FORMAT, "unplaced": reader.unplaced}
    if listed:
        source["listed"] = True
    else:
        source["row"] = {key: one for key, one in value.items() if key != "history"}
        source |= {"paired": True} if paired else {}
    return Trajectory(
        id=name,
        task=_task(name, messages, value, reader.shown),
        tools=reader.tools or tools_of(messages),
        messages=messages,
        outcome=_outcome(value, messages),
        source=source,
    )


@dataclass
class _Events:
    """Reads events one after the other.

    Attributes:
        calls: ids of calls by the number of the event that made them, for answers that only name their cause.
        responses: the message made of a model's response, by that response's id: one may hold several calls.
        shown: texts of commands' results.
        unplaced: events that are none of the conversation, with their position.
    """

    path: Path
    line: int
    where: str
    messages: list[Message] = field(default_factory=list)
    tools: list[JsonObject] = field(default_factory=list)
    calls: dict[Any, str] = field(default_factory=dict)
    responses: dict[str, Message] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    unplaced: list[list[Any]] = field(default_factory=list)

    def add(self, index: int, event: JsonObject) -> None:
        if isinstance(event.get("observation"), str):
            self._observation(index, event)
        elif isinstance(event.get("action"), str):
            self._action(index, event)
        else:
            raise BadInput(
                "neither an action nor an observation", file=self.path, line=self.line, field=join(self.where, index)
            )

    def _append(self, index: int, event: JsonObject, data: JsonObject) -> Message:
        data = {**data, "source": {EVENTS: [[index, event]], **data.get("source", {})}}
        message: Message = validate(Message, data, file=self.path, line=self.line, field=join(self.where, index))
        self.messages.append(message)
        return message

    def _action(self, index: int, event: JsonObject) -> None:
        kind, found = event["action"], event.get("args")
        args: JsonObject = found if isinstance(found, dict) else {}
        text = args.get("content") if isinstance(args.get("content"), str) else None
        if kind == "system":
            self.tools = read_tools(args.get("tools")) or []
            self._append(index, event, {"role": "system", "content": text})
        elif kind == "message" and event.get("source") == "user":
            self._append(index, event, {"role": "user", "content": text})
        elif event.get("source") != "agent" or kind in ("null", "recall", "change_agent_state", "condensation"):
            self.unplaced.append([index, event])
        elif isinstance(event.get("tool_call_metadata"), dict):
            self._called(index, event, event["tool_call_metadata"])
        elif kind == "message":
            self._append(index, event, {"role": "assistant", "content": text})
        else:
            name, arguments = _call_of(kind, args)
            call_id = f"call_{index}"
            self.calls[event.get("id", index)] = call_id
            thought = args.get("thought") if kind != "think" and isinstance(args.get("thought"), str) else None
            call = ToolCall(name=name, arguments=arguments, id=call_id)
            self._append(index, event, {"role": "assistant", "content": thought, "tool_calls": [call]})

    def _called(self, index: int, event: JsonObject, metadata: JsonObject) -> None:
        """An action that the model asked for by a tool call: its response holds the whole message."""
        call_id = str(metadata.get("tool_call_id"))
        self.calls[event.get("id", index)] = call_id
        response = metadata.get("model_response")
        key = str(_at(response, "id") or f"event {index}")
        if key in self.responses and any(call.id == call_id for call in self.responses[key].tool_calls):
            self.responses[key].source[EVENTS].append([index, event])
            return
        choices = _at(response, "choices")
        said = _at(choices[0], "message") if isinstance(choices, list) and choices else None
        data: JsonObject = {"role": "assistant"}
        if isinstance(said, dict) and isinstance(said.get("tool_calls"), list):
            data["content"], data["tool_calls"] = said.get("content"), [_plain_call(one) for one in said["tool_calls"]]
            if isinstance(said.get("reasoning_content"), str):
                data["reasoning_content"] = said["reasoning_content"]
        else:
            name, arguments = _call_of(event["action"], event.get("args") or {})
            data["content"] = _at(event, "args", "thought") or None
            data["tool_calls"] = [{"name": name, "arguments": arguments, "id": call_id}]
        self.responses[key] = self._append(index, event, data)

    def _observation(self, index: int, event: JsonObject) -> None:
        kind, content = event["observation"], event.get("content")
        text = content if isinstance(content, str) else ""
        found = event.get("extras")
        extras: JsonObject = found if isinstance(found, dict) else {}
        call_id = _at(event, "tool_call_metadata", "tool_call_id") or self.calls.get(event.get("cause"))
        if call_id is None and not (kind == "run" and self._is_last_call()):
            self.unplaced.append([index, event])
            return
        if kind == "run":
            text = command_text(text, extras)
            self.shown.append(text)
        elif kind == "error":
            text += _ERROR_END
        last = self.messages[-1].tool_calls if self.messages and call_id is None else []
        call_id = call_id or (last[-1].id if last else None)
        self._append(index, event, {"role": "tool", "content": text, "tool_call_id": call_id})

    def _is_last_call(self) -> bool:
        return bool(self.messages) and bool(self.messages[-1].tool_calls)


def _plain_call(call: Any) -> JsonObject:
    function = _at(call, "function")
    arguments = _at(function, "arguments")
    return {
        "name": _at(function, "name") or "",
        "arguments": arguments if isinstance(arguments, str | dict) else {},
        "id": _at(call, "id"),
    }


def _call_of(kind: str, args: JsonObject) -> tuple[str, JsonObject]:
    """The tool an action came from, and the arguments that give that action."""

    def given(*names: str) -> JsonObject:
        return {name: args[name] for name in names if args.get(name) is not None}

    if kind == "run":
        return COMMAND, {
            "command": str(args.get("command", "")),
            **({"is_input": "true"} if args.get("is_input") else {}),
        }
    if kind == "read":
        return EDITOR, {"command": "view", **given("path", "view_range")}
    if kind == "edit":
        names = ("path", "file_text", "old_str", "new_str", "insert_line")
        return EDITOR, {"command": str(args.get("command") or "edit"), **given(*names)}
    if kind == "finish":
        return "finish", {"message": str(args.get("final_thought") or args.get("thought") or "")}
    if kind == "think":
        return "think", given("thought")
    if kind == "run_ipython":
        return "execute_ipython_cell", given("code")
    return kind, {key: value for key, value in args.items() if key != "thought"}


# --------------------------------------------------------------------------------------------------------- chats


def _read_chat(value: JsonObject, row: Row, path: Path) -> Trajectory:
    where = join(row.field, "messages")
    raws = expect(value.get("messages"), list, file=path, line=row.line, field=where)
    messages: list[Message] = []
    pending: str | None = None
    for index, raw in enumerate(raws):
        at = join(where, index)
        expect(raw, dict, file=path, line=row.line, field=at)
        message, pending = _chat_message(raw, index, pending, path, row.line, at)
        messages.append(message)
    answer = _at(value, "response", "choices")
    said = _at(answer[0], "message") if isinstance(answer, list) and answer else None
    if isinstance(said, dict) and said.get("role", "assistant") == "assistant":
        at = join(row.field, "response")
        last, _ = _chat_message({"role": "assistant", **said}, len(raws), None, path, row.line, at)
        last.source["response"] = True
        messages.append(last)
    if not messages:
        raise BadInput("empty: a conversation has at least one message", file=path, line=row.line, field=where)
    name = _name(value, path, row.number)
    _mark_results(messages)
    shown = [message.text for message in messages if message.role == "tool" and message.name in (COMMAND, None)]
    shown = [text for text in shown if "[Command finished with exit code" in text or "[The command completed" in text]
    tools = read_tools(value.get("tools") or _at(value, "kwargs", "tools")) or tools_of(messages)
    return Trajectory(
        id=name,
        task=_task(name, messages, value, shown),
        tools=tools,
        messages=messages,
        outcome=_outcome(value, messages),
        source={"format": FORMAT, "chat": True, "row": {key: one for key, one in value.items() if key != "messages"}},
    )


def _mark_results(messages: Sequence[Message]) -> None:
    """Names the tool on every answer that does not."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    for message in messages:
        if message.role == "tool" and message.name is None:
            message.name = names.get(message.tool_call_id)


def _chat_message(
    raw: JsonObject, index: int, pending: str | None, path: Path, line: int, at: str
) -> tuple[Message, str | None]:
    """One message, and the id of the call in its text that the next one may answer."""
    content = raw.get("content")
    text = (
        content
        if isinstance(content, str)
        else "".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))
    )
    data: JsonObject = {"role": raw.get("role"), "content": content, "source": keep(raw, content)}
    calls = raw.get("tool_calls")
    written = text_call(text) if raw.get("role") == "assistant" and not calls else None
    found = RESULT.match(text) if raw.get("role") == "user" and pending else None
    waits: str | None = None
    if isinstance(calls, list) and calls:
        data["tool_calls"] = [_plain_call(call) for call in calls]
    elif written is not None:
        waits = f"call_{index}"
        data["tool_calls"] = [{"name": written[0], "arguments": written[1], "id": waits}]
    elif found is not None:
        data |= {"role": "tool", "content": text[found.end() :], "tool_call_id": pending, "name": found[1]}
        if isinstance(content, str):
            data["source"] = {**keep(raw, None), "begin": found[0]}
        else:  # parts: given back as they were
            data["source"] = keep(raw, None)
    for key in ("tool_call_id", "name", "reasoning_content"):
        if isinstance(raw.get(key), str):
            data[key] = raw[key]
    message: Message = validate(Message, data, file=path, line=line, field=at)
    return message, waits


# ---------------------------------------------------------------------------------------------------------- task


def _task(name: str, messages: Sequence[Message], value: JsonObject, shown: Sequence[str]) -> Task:
    metadata = value.get("metadata")
    row = instance_row(value.get("instance"), _at(metadata, "instance"), value)
    row = {key: one for key, one in row.items() if key not in ("history", "messages", "response", "kwargs")}
    template = template_of(shown)
    return recorded_repo_task(
        name,
        messages,
        row,
        {
            "interface": "openhands",
            "workdir": _workdir(messages, shown),
            "timeout": _TIMEOUT,
            "observation": "template" if template else "raw",
            "observation_template": template,
        },
    )


def _workdir(messages: Sequence[Message], shown: Sequence[str]) -> str | None:
    """Where the repository stands: what the user's text says, else where the first command ended."""
    for message in messages:
        found = _WORKSPACE.search(message.text) if message.role == "user" else None
        if found:
            return found[1]
    found = re.search(r"\[Current working directory: (/[^\]\n]*)\]", shown[0]) if shown else None
    return found[1] if found else None


def _outcome(value: JsonObject, messages: Sequence[Message]) -> Outcome:
    solved = value.get("resolved")
    if not isinstance(solved, bool):
        solved = _at(value, "test_result", "report", "resolved")
    patch = _at(value, "test_result", "git_patch") or value.get("git_patch")
    error = value.get("error")
    ended = any(call.name == "finish" for message in messages if message.delivered for call in message.tool_calls)
    termination = "error" if isinstance(error, str) and error else "finish" if ended else None
    return Outcome(
        reward=float(solved) if isinstance(solved, bool) else None,
        termination=termination,
        details={"submission": patch} if isinstance(patch, str) else {},
    )
