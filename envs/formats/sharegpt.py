"""ShareGPT rows: ``{"conversations": [{"from": "human", "value": "..."}, ...], "system": ..., "tools": ...}``.

Tool use is read in both customs: turns from ``function_call`` and ``observation`` with JSON in their value, and
Hermes text (``<tool_call>`` inside a ``gpt`` turn, ``<tool_response>`` inside a ``tool`` turn). Calls that stand in
consecutive turns are one action with several calls; several results in one turn are several messages. Turns whose
text the messages do not spell exactly stay in ``source["turns"]`` of the first message made of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from pivotgym.envs.actions import parse_action
from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import write_rows
from pivotgym.envs.formats.openai_chat import is_array_name, read_tools, row_id
from pivotgym.envs.formats.rows import OnError, PathLike, Row, expect, join, load_rows, require, validate
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall, Trajectory, canonical_json

FORMAT = "sharegpt"
_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
_CALLS = {"function_call", "tool_call"}
_NAMES = {"system": "system", "developer": "system", "user": "human", "assistant": "gpt", "tool": "tool"}
_TAGGED = re.compile(r"<tool_call>|</?think>")
_RESPONSE = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)
#: Keys of ``source`` that are the importer's own notes, not fields of the recording.
_NOTES = {"turns", "malformed", "added_by"}


def read_sharegpt(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory per row of a JSON array or JSONL; no task (the rows name no environment).

    A ``gpt`` turn whose tool calls do not parse keeps its text as content; ``source["malformed"]`` says why.

    Raises:
        BadInput: with file, line and field; see :func:`pivotgym.envs.formats.jsonl.read_jsonl`.
    """
    return load_rows(path, lambda row: _read_row(row, Path(path)), on_error, errors)


def write_sharegpt(path: PathLike, trajectories: Iterable[Trajectory]) -> int:
    """Write rows as :func:`export_row` makes them: a JSON array where the name ends in ``.json``, else JSONL."""
    return write_rows(path, map(export_row, trajectories), array=is_array_name(path))


# ----------------------------------------------------------------------------------------------------- import


def _read_row(row: Row, path: Path) -> Trajectory:
    value: JsonObject = expect(row.value, dict, file=path, line=row.line, field=row.field)
    key = "conversation" if "conversations" not in value and "conversation" in value else "conversations"
    field = join(row.field, key)
    turns = expect(
        require(value, key, file=path, line=row.line, field=row.field), list, file=path, line=row.line, field=field
    )
    if not turns:
        raise BadInput("empty: a conversation has at least one message", file=path, line=row.line, field=field)
    messages = _read_turns(turns, path, row.line, field)
    rest = {name: one for name, one in value.items() if name != key}
    if isinstance(value.get("system"), str) and value["system"]:
        messages.insert(0, Message(role="system", content=value["system"], source={"added_by": "row.system"}))
    source: JsonObject = {"format": FORMAT}
    if rest:
        source["row"] = rest
    if key != "conversations":
        source["key"] = key
    return Trajectory(
        id=row_id(value, path, row.number), tools=read_tools(value.get("tools")) or [], messages=messages, source=source
    )


def _read_turns(turns: list[Any], path: Path, line: int | None, field: str) -> list[Message]:
    messages: list[Message] = []
    for group in _groups(turns, path, line, field):
        made = _read_group(group, path, line, field)
        raw = [turn for _, turn in group]
        if len(made) != 1 or [_export_plain(made[0])] != raw:
            made[0].source["turns"] = raw
            for message in made[1:]:
                message.source["turns"] = []
        messages += made
    return messages


def _groups(turns: list[Any], path: Path, line: int | None, field: str) -> Iterator[list[tuple[int, JsonObject]]]:
    """Consecutive call turns together, every other turn alone; each with its index."""
    group: list[tuple[int, JsonObject]] = []
    for index, turn in enumerate(turns):
        here = join(field, index)
        expect(turn, dict, file=path, line=line, field=here)
        speaker, key = _speaker(turn, path, line, here)
        if speaker not in _ROLES:
            known = ", ".join(_ROLES)
            raise BadInput(f"{speaker!r} is none of {known}", file=path, line=line, field=join(here, key))
        if group and not (speaker in _CALLS and _speaker(group[-1][1], path, line, here)[0] in _CALLS):
            yield group
            group = []
        group.append((index, turn))
    if group:
        yield group


def _speaker(turn: JsonObject, path: Path, line: int | None, field: str) -> tuple[str, str]:
    key = "role" if "from" not in turn and "role" in turn else "from"
    speaker = require(turn, key, file=path, line=line, field=field)
    return expect(speaker, str, file=path, line=line, field=join(field, key)), key


def _read_group(group: list[tuple[int, JsonObject]], path: Path, line: int | None, field: str) -> list[Message]:
    index, turn = group[0]
    here = join(field, index)
    speaker, _ = _speaker(turn, path, line, here)
    role, value = _ROLES[speaker], _value(turn, path, line, here)
    source = {key: one for key, one in turn.items() if key not in ("from", "value", "role", "content")}
    if speaker != _NAMES[role]:
        source["from"] = speaker
    if speaker in _CALLS:
        calls: list[ToolCall] = []
        for number, one in group:
            calls += _read_calls(_value(one, path, line, join(field, number)), path, line, join(field, number))
        return [Message(role="assistant", tool_calls=calls, source=source)]
    if role == "assistant" and _TAGGED.search(value):
        message, reason = parse_action(value)
        message.source = source | ({"malformed": reason} if reason else {})
        return [message]
    if role == "tool":
        bodies = _RESPONSE.findall(value)
        # Text outside the tags means that the tags are not the frame of the results.
        if bodies and not _RESPONSE.sub("", value).strip():
            made = [_read_response(body) for body in bodies]
            made[0].source = source
            return made
    return [validate(Message, {"role": role, "content": value, "source": source}, file=path, line=line, field=here)]


def _value(turn: JsonObject, path: Path, line: int | None, field: str) -> str:
    key = "content" if "value" not in turn and "content" in turn else "value"
    text = require(turn, key, file=path, line=line, field=field)
    checked: str = expect(text, str, file=path, line=line, field=join(field, key))
    return checked


def _read_calls(value: str, path: Path, line: int | None, field: str) -> list[ToolCall]:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"a call must be JSON: {error}", file=path, line=line, field=f"{field}.value") from error
    calls = parsed if isinstance(parsed, list) else [parsed]
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise BadInput("a call must be an object with a name", file=path, line=line, field=f"{field}.value")
    made: list[ToolCall] = []
    for call in calls:
        left = dict(call)
        arguments = left.pop("arguments", left.pop("parameters", None))
        data = {"name": left.pop("name"), "arguments": arguments, "id": left.pop("id", None), "source": left}
        made.append(validate(ToolCall, data, file=path, line=line, field=f"{field}.value"))
    return made


def _read_response(body: str) -> Message:
    """The inside of a ``<tool_response>``: the result itself, or an object that names the tool beside it."""
    text = body.strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or "content" not in value or not set(value) <= {"content", "name", "tool_call_id"}:
        return Message(role="tool", content=text)
    content, name, call_id = value["content"], value.get("name"), value.get("tool_call_id")
    return Message(
        role="tool",
        content=content if isinstance(content, str) else canonical_json(content, sort=False),
        name=name if isinstance(name, str) else None,
        tool_call_id=call_id if isinstance(call_id, str) else None,
    )


# ----------------------------------------------------------------------------------------------------- export


def export_row(trajectory: Trajectory) -> JsonObject:
    """The ShareGPT row of a trajectory, tool use as Hermes text.

    A row imported from this format comes back equal. Of any other trajectory the row holds what the agent saw and
    did, its tools (JSON text, as the format has it) and its id; task, outcome and ``source`` have no place here.
    """
    if trajectory.source.get("format") == FORMAT:
        kept = [message for message in trajectory.messages if message.source.get("added_by") != "row.system"]
        key = trajectory.source.get("key", "conversations")
        rest: JsonObject = dict(trajectory.source.get("row", {}))
        if len(kept) < len(trajectory.messages):
            rest["system"] = trajectory.messages[0].text
        return rest | {key: _export_turns(kept)}
    row: JsonObject = {
        "id": trajectory.id,
        "conversations": [
            {"from": _NAMES[message.role], "value": message_text(message)}
            for message in trajectory.messages
            if message.visible_to_agent
        ],
    }
    if trajectory.tools:
        row["tools"] = canonical_json(trajectory.tools, sort=False)
    return row


def message_text(message: Message) -> str:
    """A message as Hermes text: reasoning and calls of an assistant, the framed result of a tool."""
    if message.role == "tool":
        named = {"tool_call_id": message.tool_call_id, "name": message.name}
        body: JsonObject = {key: value for key, value in named.items() if value is not None}
        inner = canonical_json(body | {"content": message.text}, sort=False) if body else message.text
        return f"<tool_response>\n{inner}\n</tool_response>"
    parts = [f"<think>\n{message.reasoning_content}\n</think>"] if message.reasoning_content else []
    if message.text:
        parts.append(message.text)
    for call in message.tool_calls:
        body = {"name": call.name, "arguments": call.arguments}
        parts.append(f"<tool_call>\n{canonical_json(body, sort=False)}\n</tool_call>")
    return "\n".join(parts)


def _export_turns(messages: list[Message]) -> list[JsonObject]:
    starts = [index for index, message in enumerate(messages) if message.source.get("turns") != []]
    turns: list[JsonObject] = []
    for start, end in pairwise([*starts, len(messages)]):
        group = messages[start:end]
        raw = group[0].source.get("turns")
        # What was edited since the import is written as edited.
        if isinstance(raw, list) and _read_turns(raw, Path(), None, "") == group:
            turns += raw
        else:
            turns += [_export_plain(message) for message in group]
    return turns


def _export_plain(message: Message) -> JsonObject:
    fields = {key: value for key, value in message.source.items() if key not in _NOTES}
    speaker = fields.pop("from", _NAMES[message.role])
    if speaker in _CALLS:
        body = [{"name": call.name, "arguments": call.arguments} | call.source for call in message.tool_calls]
        text = canonical_json(body[0] if len(body) == 1 else body, sort=False)
    elif message.role == "tool" and message.name is None and message.tool_call_id is None and "from" in message.source:
        text = message.text
    elif message.role == "tool" or message.tool_calls or message.reasoning_content:
        text = message_text(message)
    else:
        text = message.text
    return {"from": speaker, "value": text} | fields
