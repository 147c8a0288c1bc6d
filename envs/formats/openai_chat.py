"""OpenAI chat rows: ``{"messages": [...], "tools": [...], ...}``, also with the legacy functions.

One conversation a row, in JSONL (the fine-tuning format), a JSON array or a single object. Legacy ``functions``,
``function_call`` and role ``function`` are read as tools. What has no field of its own stays in the nearest
``source`` under its own name, so that exporting an imported row gives the same row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import write_rows
from pivotgym.envs.formats.rows import OnError, PathLike, Row, expect, join, load_rows, require, validate
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall, Trajectory, canonical_json, parse_arguments

FORMAT = "openai"
_REASONING_KEYS = ("reasoning_content", "reasoning")
#: Keys of ``source`` that are the importer's own notes, not fields of the recording.
_NOTES = {"absent", "reasoning_key", "verbatim", "arguments_text", "legacy"}


def read_openai(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory per row; no task (the rows name no environment).

    The id is the row's ``id`` or, without one, the file's stem and the row's number.

    Raises:
        BadInput: with file, line and field; see :func:`pivotgym.envs.formats.jsonl.read_jsonl`.
    """
    return load_rows(path, lambda row: _read_row(row, Path(path)), on_error, errors)


def write_openai(path: PathLike, trajectories: Iterable[Trajectory]) -> int:
    """Write rows as :func:`export_row` makes them: a JSON array where the name ends in ``.json``, else JSONL."""
    return write_rows(path, map(export_row, trajectories), array=is_array_name(path))


def is_array_name(path: PathLike) -> bool:
    """True for ``x.json`` and ``x.json.gz``."""
    return Path(path).name.removesuffix(".gz").endswith(".json")


def row_id(row: JsonObject, path: Path, number: int) -> str:
    """The row's own ``id`` (text or integer), else a name made of the file's stem and the row's number."""
    value = row.get("id")
    if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        return str(value)
    return f"{path.name.split('.')[0]}-{number}"


def read_tools(value: Any) -> list[JsonObject] | None:
    """Tool definitions in OpenAI's form from a list or its JSON text, bare functions wrapped; None for others."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        return None
    if all("function" in tool or "type" in tool for tool in value):
        return value
    if all(isinstance(tool.get("name"), str) for tool in value):
        return [{"type": "function", "function": tool} for tool in value]
    return None


# ----------------------------------------------------------------------------------------------------- import


def _read_row(row: Row, path: Path) -> Trajectory:
    value: JsonObject = expect(row.value, dict, file=path, line=row.line, field=row.field)
    field = join(row.field, "messages")
    raw_messages = require(value, "messages", file=path, line=row.line, field=row.field)
    expect(raw_messages, list, file=path, line=row.line, field=field)
    if not raw_messages:
        raise BadInput("empty: a conversation has at least one message", file=path, line=row.line, field=field)
    rest = {key: one for key, one in value.items() if key not in ("messages", "tools")}
    tools: list[JsonObject] = []
    if "tools" in value:
        tools = read_tools(value["tools"]) or []
        if not tools or tools != value["tools"]:
            rest["tools"] = value["tools"]
    elif isinstance(value.get("functions"), list):
        tools = read_tools(value["functions"]) or []
    messages = [
        _read_message(raw, path, row.line, join(field, index))
        for index, raw in enumerate(raw_messages)
    ]  # fmt: skip
    return Trajectory(
        id=row_id(value, path, row.number),
        tools=tools,
        messages=messages,
        source={"format": FORMAT, **({"row": rest} if rest else {})},
    )


def _read_message(raw: Any, path: Path, line: int | None, field: str) -> Message:
    expect(raw, dict, file=path, line=line, field=field)
    role = require(raw, "role", file=path, line=line, field=field)
    left = dict(raw)
    del left["role"]
    data: JsonObject = {"role": role, "content": left.pop("content", None)}
    source: JsonObject = {} if "content" in raw else {"absent": ["content"]}
    if role == "function":
        data["role"], source["legacy"] = "tool", True
    for key in ("name", "tool_call_id"):
        if left.get(key) is not None:
            data[key] = left.pop(key)
    for key in _REASONING_KEYS:
        if isinstance(left.get(key), str) and "reasoning_content" not in data:
            data["reasoning_content"] = left.pop(key)
            if key != _REASONING_KEYS[0]:
                source["reasoning_key"] = key
    calls: list[JsonObject] = []
    if left.get("tool_calls"):
        raw_calls = expect(left.pop("tool_calls"), list, file=path, line=line, field=f"{field}.tool_calls")
        calls = [_read_call(call, path, line, f"{field}.tool_calls.{n}") for n, call in enumerate(raw_calls)]
    elif left.get("function_call"):
        calls = [_read_function(left.pop("function_call"), path, line, f"{field}.function_call")]
        source["legacy"] = True
    data |= {"tool_calls": calls, "source": source | left}
    message = validate(Message, data, file=path, line=line, field=field)
    if _export_plain(message) != raw:
        message.source["verbatim"] = raw
    return message


def _read_call(raw: Any, path: Path, line: int | None, field: str) -> JsonObject:
    """A call in OpenAI's form, a bare ``{name, arguments}``, or a custom tool's ``{custom: {name, input}}``."""
    expect(raw, dict, file=path, line=line, field=field)
    key = next((key for key in ("function", "custom") if key in raw), "")
    call = _read_function(raw[key] if key else raw, path, line, join(field, key), "input" if key == "custom" else None)
    call["id"] = raw.get("id")
    if key == "function":
        call["source"] |= {name: value for name, value in raw.items() if name not in ("id", "type", "function")}
    if _export_call(validate(ToolCall, call, file=path, line=line, field=field)) != raw:
        call["source"]["verbatim"] = raw
    return call


def _read_function(raw: Any, path: Path, line: int | None, field: str, key: str | None = None) -> JsonObject:
    expect(raw, dict, file=path, line=line, field=field)
    key = key or "arguments"
    name = expect(
        require(raw, "name", file=path, line=line, field=field), str, file=path, line=line, field=f"{field}.name"
    )
    arguments = expect(raw.get(key), (dict, str, type(None)), file=path, line=line, field=f"{field}.{key}")
    source: JsonObject = {}
    if isinstance(arguments, str):
        parsed = parse_arguments(arguments)
        # Kept as written: spacing differs between models, and exact text is what they are trained on.
        if not isinstance(parsed, str) and canonical_json(parsed, sort=False) != arguments:
            source["arguments_text"] = arguments
    return {"name": name, "arguments": arguments, "source": source}


# ----------------------------------------------------------------------------------------------------- export


def export_row(trajectory: Trajectory) -> JsonObject:
    """The chat row of a trajectory.

    A row imported from this format comes back equal. Of any other trajectory the row holds what the agent saw and
    did (the simulated user's own tool calls are left out), its tools and its id; task, outcome and ``source`` have
    no place in this format. Calls without an id get one, and results are paired with them by position.
    """
    if trajectory.source.get("format") == FORMAT:
        row: JsonObject = {"messages": [_export_message(message) for message in trajectory.messages]}
        rest: JsonObject = trajectory.source.get("row", {})
        if trajectory.tools and "functions" not in rest:
            row["tools"] = trajectory.tools
        return row | rest
    row = {"id": trajectory.id, "messages": chat_messages(trajectory.messages)}
    if trajectory.tools:
        row["tools"] = trajectory.tools
    return row


def chat_messages(messages: Iterable[Message]) -> list[JsonObject]:
    """What the agent sees, as plain chat dicts in which every call and every result has an id."""
    rows: list[JsonObject] = []
    open_ids: list[str] = []
    count = 0
    for message in messages:
        if not message.visible_to_agent:
            continue
        row = message.chat()
        for call in row.get("tool_calls", ()):
            call.setdefault("id", f"call_{count}")
            count += 1
            open_ids.append(call["id"])
        if message.role == "tool":
            known = row.get("tool_call_id")
            if known is None and open_ids:
                row["tool_call_id"] = open_ids.pop(0)
            elif known in open_ids:
                open_ids.remove(known)
        rows.append(row)
    return rows


def _export_message(message: Message) -> JsonObject:
    verbatim = message.source.get("verbatim")
    # What was edited since the import is written as edited.
    if isinstance(verbatim, dict) and _read_message(verbatim, Path(), None, "") == message:
        return verbatim
    return _export_plain(message)


def _export_plain(message: Message) -> JsonObject:
    legacy = message.source.get("legacy") is True
    row: JsonObject = {"role": "function" if legacy and message.role == "tool" else message.role}
    if message.content is not None or "absent" not in message.source:
        row["content"] = message.content
    for key in ("name", "tool_call_id"):
        if getattr(message, key) is not None:
            row[key] = getattr(message, key)
    if message.reasoning_content is not None:
        row[message.source.get("reasoning_key", _REASONING_KEYS[0])] = message.reasoning_content
    if message.tool_calls:
        if legacy and len(message.tool_calls) == 1:
            row["function_call"] = _function(message.tool_calls[0])
        else:
            row["tool_calls"] = [_export_call(call) for call in message.tool_calls]
    return row | _fields(message.source)


def _export_call(call: ToolCall) -> JsonObject:
    verbatim = call.source.get("verbatim")
    if isinstance(verbatim, dict) and ToolCall(**_read_call(verbatim, Path(), None, "")) == call:
        return verbatim
    row: JsonObject = {"type": "function", "function": _function(call)}
    if call.id is not None:
        row["id"] = call.id
    return row | _fields(call.source)


def _function(call: ToolCall) -> JsonObject:
    if isinstance(call.arguments, str):
        return {"name": call.name, "arguments": call.arguments}
    text = call.source.get("arguments_text")
    if not isinstance(text, str) or parse_arguments(text) != call.arguments:
        text = canonical_json(call.arguments, sort=False)
    return {"name": call.name, "arguments": text}


def _fields(source: JsonObject) -> JsonObject:
    return {key: value for key, value in source.items() if key not in _NOTES}
