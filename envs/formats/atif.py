"""ATIF, Harbor's Agent Trajectory Interchange Format (``ATIF-v1.0`` to ``v1.8``), read and written.

A step of the agent is an assistant message, its observation's results are tool messages. Commands under another
tool's name become calls of ``bash``; keystrokes of one step become one call of ``keystrokes``, as one screen answers
them all. What was recorded stays under ``source``, so that :func:`export_document` gives an imported document back.
A trajectory from elsewhere is written with what the format has no field for under ``extra.pivotgym``.

The schema is that of Harbor's RFC 0001.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import write_rows
from pivotgym.envs.formats.openai_chat import chat_messages, is_array_name
from pivotgym.envs.formats.rows import OnError, PathLike, Row, expect, join, load_rows, require, validate
from pivotgym.envs.formats.terminal_common import (
    KEYSTROKES,
    infer_template,
    keystrokes_call,
    recorded_task,
    row_name,
    tools_of,
)
from pivotgym.envs.trajectory import UNDELIVERED, JsonObject, Message, Outcome, Task, ToolCall, Trajectory

FORMAT = "atif"
WRITTEN_VERSION = "ATIF-v1.7"
OWN = "pivotgym"
"""Key of an ``extra`` object: what this package noted there."""
_ROLES = {"system": "system", "user": "user", "agent": "assistant"}
# fmt: off
_SHELL_TOOLS = frozenset((
    "bash", "bash_command", "Bash", "exec", "exec_command", "execute", "execute_bash", "run_command",
    "run_shell_command", "shell", "terminal",
))
# fmt: on
_COMMAND_ARGUMENTS = ("command", "cmd")


def is_atif(row: Any) -> bool:
    """Whether a row is an ATIF document of any version."""
    return isinstance(row, dict) and str(row.get("schema_version", "")).startswith("ATIF")


def read_atif(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory per document; the id is its ``trajectory_id``, else its ``session_id``.

    Raises:
        BadInput: with file, line and field.
    """
    return load_rows(path, lambda row: read_document(row, Path(path)), on_error, errors)


def write_atif(path: PathLike, trajectories: Iterable[Trajectory]) -> int:
    """Write one document per trajectory: a single one as it is, several as JSONL, or an array in a ``.json`` file."""
    rows = map(export_document, trajectories)
    first = list(islice(rows, 2))
    return write_rows(path, chain(first, rows), array=len(first) > 1 and is_array_name(path))


# -------------------------------------------------------------------------------------------------------- import


def read_document(row: Row, path: Path) -> Trajectory:
    """The trajectory of one ATIF document. Raises BadInput."""
    document: JsonObject = expect(row.value, dict, file=path, line=row.line, field=row.field)
    steps = require(document, "steps", file=path, line=row.line, field=row.field)
    where = join(row.field, "steps")
    expect(steps, list, file=path, line=row.line, field=where)
    messages: list[Message] = []
    for number, step in enumerate(steps):
        messages += _read_step(step, number, path, row.line, join(where, number))
    if not messages:
        raise BadInput("empty: a trajectory has at least one step", file=path, line=row.line, field=where)
    given = document.get("trajectory_id") or document.get("session_id")
    name = str(given) if isinstance(given, str | int) else row_name(path, row.number)
    own = _own(document)
    tools = document["agent"].get("tool_definitions") if isinstance(document.get("agent"), dict) else None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        tools = []
    if not tools or any("recorded" in message.source for message in messages):
        used = {call.name for message in messages for call in message.tool_calls}
        tools = [tool for tool in tools_of(messages) if tool["function"]["name"] in used]
    task = own.get("task")
    return Trajectory(
        id=name,
        task=validate(Task, task, file=path, line=row.line, field="extra.pivotgym.task")
        if task
        else _task(name, messages),
        tools=tools,
        messages=messages,
        outcome=validate(Outcome, own.get("outcome", {}), file=path, line=row.line, field="extra.pivotgym.outcome"),
        source={"format": FORMAT, "document": {key: one for key, one in document.items() if key != "steps"}},
    )


def _own(value: JsonObject) -> JsonObject:
    extra = value.get("extra")
    own = extra.get(OWN) if isinstance(extra, dict) else None
    return own if isinstance(own, dict) else {}


def _read_step(step: Any, number: int, path: Path, line: int, field: str) -> Iterator[Message]:
    expect(step, dict, file=path, line=line, field=field)
    role = _ROLES.get(str(step.get("source")))
    if role is None:
        raise BadInput(f"unknown source {step.get('source')!r}", file=path, line=line, field=join(field, "source"))
    own = _own(step)
    content = own["content"] if "content" in own else step.get("message")
    rest = {key: one for key, one in step.items() if key != "message" or one != content}
    source: JsonObject = {"step": rest}
    data: JsonObject = {"role": own.get("role", role), "content": content, "source": source}
    data |= {key: own[key] for key in ("name", "tool_call_id", "requestor") if key in own}
    if isinstance(step.get("reasoning_content"), str):
        data["reasoning_content"] = rest.pop("reasoning_content")
    if step.get("is_copied_context"):
        source[UNDELIVERED] = "copied from an earlier trajectory"
    calls: list[ToolCall] = []
    if step.get("tool_calls"):
        recorded = expect(rest.pop("tool_calls"), list, file=path, line=line, field=join(field, "tool_calls"))
        calls = [_read_call(one, path, line, join(field, "tool_calls", n)) for n, one in enumerate(recorded)]
        translated = _translate(calls)
        if [_export_call(call) for call in translated] != recorded:
            source["recorded"] = recorded
        data["tool_calls"] = calls = translated
    results = _results(step, path, line, field)
    placed = [n for n, one in enumerate(results) if role == "assistant" and one.get("content") is not None]
    if placed:
        kept = [{k: v for k, v in one.items() if k != "content" or n not in placed} for n, one in enumerate(results)]
        rest["observation"] = {**step["observation"], "results": kept}
        source["placed"] = placed
    yield validate(Message, data, file=path, line=line, field=field)
    for position, index in enumerate(placed):
        call_id = results[index].get("source_call_id")
        if call_id is None and position < len(calls):
            call_id = calls[position].id
        # Without a call there is nothing a tool message could answer.
        answer: JsonObject = {"role": "tool" if calls else "user", "content": results[index]["content"]}
        if calls:
            answer["tool_call_id"] = _merged_id(calls, call_id)
            answer["name"] = _own(results[index]).get("name")
        answer["source"] = {"result": index, **({UNDELIVERED: "copied"} if UNDELIVERED in source else {})}
        where = join(field, "observation.results", index)
        yield validate(Message, answer, file=path, line=line, field=where)


def _results(step: JsonObject, path: Path, line: int, field: str) -> list[JsonObject]:
    observation = step.get("observation")
    if observation is None:
        return []
    where = join(field, "observation")
    expect(observation, dict, file=path, line=line, field=where)
    results: list[JsonObject] = expect(
        observation.get("results", []), list, file=path, line=line, field=join(where, "results")
    )
    for number, one in enumerate(results):
        expect(one, dict, file=path, line=line, field=join(where, "results", number))
    return results


def _read_call(raw: Any, path: Path, line: int, field: str) -> ToolCall:
    expect(raw, dict, file=path, line=line, field=field)
    name = require(raw, "function_name", file=path, line=line, field=field)
    arguments = _own(raw).get("arguments", raw.get("arguments", {}))
    source = {key: one for key, one in raw.items() if key not in ("tool_call_id", "function_name", "arguments")}
    call = {"name": name, "arguments": arguments, "id": raw.get("tool_call_id"), "source": source}
    return validate(ToolCall, call, file=path, line=line, field=field)


def _translate(calls: Sequence[ToolCall]) -> list[ToolCall]:
    """Calls as the terminal environment knows them: commands of ``bash``, all keystrokes of a step in one call."""
    pressed = [call for call in calls if isinstance(call.arguments, dict) and "keystrokes" in call.arguments]
    translated: list[ToolCall] = []
    for call in calls:
        if call in pressed:
            if call is pressed[0]:
                batch = [(str(one.arguments["keystrokes"]), one.arguments.get("duration")) for one in pressed]  # type: ignore[index,union-attr]
                translated.append(keystrokes_call(batch, call.id))
        elif call.name in _SHELL_TOOLS - {"bash"} and (command := _command(call)) is not None:
            translated.append(ToolCall(name="bash", arguments={"command": command}, id=call.id, source=call.source))
        else:
            translated.append(call)
    return translated


def _command(call: ToolCall) -> str | None:
    arguments = call.arguments if isinstance(call.arguments, dict) else {}
    return next((arguments[key] for key in _COMMAND_ARGUMENTS if isinstance(arguments.get(key), str)), None)


def _merged_id(calls: Sequence[ToolCall], call_id: Any) -> str | None:
    """The id of the call a result answers: for one of several merged calls that of the merged one."""
    ids = [call.id for call in calls]
    return call_id if call_id in ids or not isinstance(call_id, str) else ids[0]


def _task(name: str, messages: Sequence[Message]) -> Task | None:
    """A terminal task where the agent used a terminal, else None."""
    used = {call.name for message in messages if message.delivered for call in message.tool_calls}
    if not used & {"bash", KEYSTROKES}:
        return None
    shown = [message.text for message in messages if message.role == "tool"]
    template = None if KEYSTROKES in used else infer_template(shown)
    return recorded_task(name, messages, observation="template" if template else "raw", observation_template=template)


# -------------------------------------------------------------------------------------------------------- export


def export_document(trajectory: Trajectory) -> JsonObject:
    """The ATIF document of a trajectory; an imported one as it was, with the edits made since."""
    if trajectory.source.get("format") == FORMAT:
        return {**trajectory.source["document"], "steps": list(_recorded_steps(trajectory.messages))}
    own: JsonObject = {"outcome": trajectory.outcome.model_dump(mode="json")}
    if trajectory.task is not None:
        own["task"] = trajectory.task.model_dump(mode="json")
    agent: JsonObject = {"name": str(trajectory.source.get("format", "unknown")), "version": "unknown"}
    if trajectory.tools:
        agent["tool_definitions"] = trajectory.tools
    return {
        "schema_version": WRITTEN_VERSION,
        "session_id": trajectory.id,
        "agent": agent,
        "steps": _new_steps(trajectory.messages),
        "extra": {OWN: own},
    }


def _recorded_steps(messages: Sequence[Message]) -> Iterator[JsonObject]:
    for index, message in enumerate(messages):
        if "step" not in message.source:
            continue
        step: JsonObject = dict(message.source["step"])
        if "message" not in step:
            step["message"] = message.content
        if message.reasoning_content is not None:
            step["reasoning_content"] = message.reasoning_content
        if "recorded" in message.source:
            step["tool_calls"] = message.source["recorded"]
        elif message.tool_calls:
            step["tool_calls"] = [_export_call(call) for call in message.tool_calls]
        placed = message.source.get("placed", [])
        if placed:
            results = [dict(one) for one in step["observation"]["results"]]
            for position, answer in zip(placed, messages[index + 1 :], strict=False):
                results[position]["content"] = answer.content
            step["observation"] = {**step["observation"], "results": results}
        yield step


def _export_call(call: ToolCall) -> JsonObject:
    arguments = {} if isinstance(call.arguments, str) else call.arguments  # a text stands in `extra`
    row: JsonObject = {"function_name": call.name, "arguments": arguments, **call.source}
    return row if call.id is None else {"tool_call_id": call.id, **row}


def _new_steps(messages: Sequence[Message]) -> list[JsonObject]:
    steps: list[JsonObject] = []
    for row in chat_messages(messages):
        role, content = row["role"], row.get("content")
        text, own = _text(content)
        last = steps[-1] if steps else {}
        if role == "tool" and last.get("source") == "agent":
            ids = [call["tool_call_id"] for call in last.get("tool_calls", ())]
            result: JsonObject = {"content": text}
            call_id = row.get("tool_call_id")
            if call_id in ids:
                result = {"source_call_id": call_id, **result}
                note = {"name": row["name"]} if "name" in row else {}
                if note:
                    result["extra"] = {OWN: note}
                if not own:
                    last.setdefault("observation", {"results": []})["results"].append(result)
                    continue
        step: JsonObject = {"step_id": len(steps) + 1, "source": "user", "message": text}
        if role == "assistant":
            step["source"] = "agent"
            if "reasoning_content" in row:
                step["reasoning_content"] = row["reasoning_content"]
            if row.get("tool_calls"):
                step["tool_calls"] = [_new_call(call) for call in row["tool_calls"]]
        elif role == "system":
            step["source"] = "system"
        elif role != "user":
            own["role"] = role
        own |= {key: row[key] for key in ("name", "tool_call_id") if key in row and step["source"] != "agent"}
        if own:
            step["extra"] = {OWN: own}
        steps.append(step)
    return steps


def _text(content: Any) -> tuple[str | list[JsonObject], JsonObject]:
    """What ATIF takes as a message, and what is lost by that."""
    if isinstance(content, str):
        return content, {}
    if isinstance(content, list):
        if content and all(set(part) == {"type", "text"} and part["type"] == "text" for part in content):
            return content, {}
        return "".join(str(part.get("text", "")) for part in content), {"content": content}
    return "", {"content": None}


def _new_call(call: JsonObject) -> JsonObject:
    function = call["function"]
    parsed = ToolCall(name=function["name"], arguments=function["arguments"])
    row: JsonObject = {"tool_call_id": call["id"], "function_name": parsed.name, "arguments": parsed.arguments}
    if isinstance(parsed.arguments, str):  # ATIF takes objects only
        row |= {"arguments": {}, "extra": {OWN: {"arguments": parsed.arguments}}}
    return row
