"""NeMo Gym's rollouts of agents that run shell commands (mini-swe-agent): Responses API rows with their reward.

A row has what the model was asked (``responses_create_params.input``), every item of the conversation that followed
(``response.output``) and the verifier's ``reward``. :func:`export_row` gives the row back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.mini_swe_agent import FINISH_MARKER, texts_of
from pivotgym.envs.formats.repo_common import instance_row, recorded_repo_task
from pivotgym.envs.formats.rows import OnError, PathLike, Row, expect, join, load_rows, require, validate
from pivotgym.envs.formats.terminal_common import BASH, infer_template, recorded_task, row_name, tools_of
from pivotgym.envs.trajectory import JsonObject, Message, Outcome, Task, ToolCall, Trajectory

FORMAT = "nemo-gym"


def is_nemo_gym(row: Any) -> bool:
    """Whether a row is a rollout: parameters of a request and the response to it."""
    return isinstance(row, dict) and "responses_create_params" in row and isinstance(row.get("response"), dict)


def read_nemo_gym(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory per rollout; its id is the instance's, with the rollout's number.

    Raises:
        BadInput: with file, line and field.
    """
    return load_rows(path, lambda row: _read_row(row, Path(path)), on_error, errors)


def export_row(trajectory: Trajectory) -> JsonObject:
    """The recorded row.

    Raises:
        BadInput: the trajectory does not come from :func:`read_nemo_gym`.
    """
    if trajectory.source.get("format") != FORMAT:
        raise BadInput(f"trajectory {trajectory.id!r} does not come from NeMo Gym", field="source.format")
    row: JsonObject = dict(trajectory.source["row"])
    asked: list[JsonObject] = []
    answered: list[JsonObject] = []
    for message in trajectory.messages:
        items = message.source["items"]
        (asked if message.source.get("asked") else answered).extend(items)
    row["responses_create_params"] = {**row["responses_create_params"], "input": asked}
    row["response"] = {**row["response"], "output": answered}
    return row


def _read_row(row: Row, path: Path) -> Trajectory:
    value: JsonObject = expect(row.value, dict, file=path, line=row.line, field=row.field)

    def part(name: str, key: str) -> tuple[JsonObject, list[Any], str]:
        outer = require(value, name, file=path, line=row.line, field=row.field)
        expect(outer, dict, file=path, line=row.line, field=join(row.field, name))
        where = join(row.field, name, key)
        return outer, expect(outer.get(key), list, file=path, line=row.line, field=where), where

    params, asked, asked_at = part("responses_create_params", "input")
    response, answered, answered_at = part("response", "output")
    messages = [
        *_messages(asked, path, row.line, asked_at, {"asked": True}),
        *_messages(answered, path, row.line, answered_at, {}),
    ]
    if not messages:
        raise BadInput("empty: a rollout has at least one item", file=path, line=row.line, field=answered_at)
    reward = value.get("reward")
    name = _name(value, path, row.number)
    return Trajectory(
        id=name,
        task=_task(name, value, messages),
        tools=tools_of(messages),
        messages=messages,
        outcome=Outcome(reward=float(reward) if isinstance(reward, int | float) else None),
        source={
            "format": FORMAT,
            "row": {
                **value,
                "responses_create_params": {key: one for key, one in params.items() if key != "input"},
                "response": {key: one for key, one in response.items() if key != "output"},
            },
        },
    )


def _name(row: JsonObject, path: Path, number: int) -> str:
    instance, rollout = row.get("instance_id"), row.get("_ng_rollout_index")
    if not isinstance(instance, str) or not instance:
        return row_name(path, number)
    return f"{instance}-{rollout}" if isinstance(rollout, int) else instance


def _task(name: str, row: JsonObject, messages: list[Message]) -> Task | None:
    """The sandbox of a SWE-bench instance, as mini-swe-agent runs it; None for an agent with other tools."""
    if any(call.name != BASH for message in messages for call in message.tool_calls):
        return None
    template = infer_template([message.text for message in messages if message.role == "tool"], runner=True)
    fields: JsonObject = {
        "shell": ["bash", "-c"],
        "observation": "template" if template else "raw",
        "observation_template": template,
        "finish_marker": FINISH_MARKER,
    }
    parts = {key: one for key, one in row.items() if key not in ("response", "responses_create_params")}
    asked = row.get("responses_create_params")
    wrapped = asked.get("metadata") if isinstance(asked, dict) else None
    instance = instance_row(row.get("instance"), row.get("instance_dict"), wrapped, parts)
    if instance:
        # Whatever else the row says of the instance (a report of its tests) is needed as well.
        return recorded_repo_task(name, messages, {**parts, **instance}, {"interface": "bash", **fields})
    return recorded_task(name, messages, **fields)


def _messages(items: list[Any], path: Path, line: int, where: str, mark: JsonObject) -> Iterator[Message]:
    """Items as messages: text, reasoning and calls up to the next result are one assistant message."""
    turn: list[JsonObject] = []

    def flush(index: int) -> Iterator[Message]:
        if turn:
            yield _assistant(turn, path, line, join(where, index), mark)
            turn.clear()

    for index, item in enumerate(items):
        field = join(where, index)
        expect(item, dict, file=path, line=line, field=field)
        kind = item.get("type", "message")
        if kind == "function_call_output":
            yield from flush(index - 1)
            content, call_id = item.get("output"), item.get("call_id")
            data: JsonObject = {"role": "tool", "content": content, "tool_call_id": call_id}
            yield _message(data, [item], path, line, field, mark)
        elif kind in ("function_call", "reasoning") or item.get("role") == "assistant":
            if kind == "message" and any(one.get("type", "message") != "reasoning" for one in turn):
                yield from flush(index - 1)
            turn.append(item)
        elif kind == "message":
            yield from flush(index - 1)
            content = item.get("content")
            parts = texts_of(content)
            text = parts[0] if isinstance(content, list) and len(parts) == len(content) == 1 else content
            yield _message({"role": item.get("role"), "content": text}, [item], path, line, field, mark)
        else:
            raise BadInput(f"unknown item type {kind!r}", file=path, line=line, field=join(field, "type"))
    yield from flush(len(items) - 1)


def _assistant(items: list[JsonObject], path: Path, line: int, field: str, mark: JsonObject) -> Message:
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            texts += texts_of(item.get("content"))
        elif kind == "reasoning":
            reasoning += texts_of(item.get("content")) or texts_of(item.get("summary"))
        else:
            call = {"name": item.get("name"), "arguments": item.get("arguments"), "id": item.get("call_id")}
            calls.append(validate(ToolCall, call, file=path, line=line, field=field))
    data = {"role": "assistant", "content": "".join(texts) if texts else None, "tool_calls": calls}
    if reasoning:
        data["reasoning_content"] = "\n".join(reasoning)
    return _message(data, list(items), path, line, field, mark)


def _message(data: JsonObject, items: list[JsonObject], path: Path, line: int, field: str, mark: JsonObject) -> Message:
    return validate(Message, {**data, "source": {"items": items, **mark}}, file=path, line=line, field=field)
