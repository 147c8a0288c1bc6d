"""Import of τ²-bench result files (one JSON object: ``info``, ``tasks``, ``simulations``).

Nothing is lost: a field without a place of its own goes to the nearest ``source``. :func:`export_simulation` and
:func:`export_task` give the recorded objects back; the importer uses the same functions to notice what they would
not give back (arguments recorded as text, absent keys), and keeps exactly that.

Where things go:

- simulation: ``Trajectory.source["simulation"]``, without ``messages`` and with ``reward_info`` only where it is no
  object (otherwise it is ``outcome.details``);
- file: ``Trajectory.source["file"]``, without the policy text, which is the first message, marked as added;
- message and tool call: their ``source``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import OnError, PathLike, Problems, UniqueIds, expect, load_document, require, validate
from pivotgym.envs.trajectory import JsonObject, Message, Outcome, Task, ToolCall, Trajectory

ENV_ID = "pivotgym/Tools-v0"
#: ``source["added_by"]`` of a message that the importer made and the recording does not have.
ADDED = "importer"

_MESSAGE_KEYS = {"role", "content", "tool_calls", "name"}
_CALL_KEYS = {"id", "name", "arguments"}


def read_tau2(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """One trajectory per simulation, in the file's order.

    The task travels with its trajectory: ``Task(env="pivotgym/Tools-v0", id=<task_id>, data={"domain":
    "tau2/airline", "definition": <task object, verbatim>})``, and ``"mode": "solo"`` for runs without a user.
    ``definition`` is absent where the file's own list lacks the task; ``source["notes"]`` then says so.

    Raises:
        BadInput: naming the field, as ``simulations.3.messages.7.tool_calls.0.name``.
    """
    document = expect(load_document(path), dict, file=path)
    info = expect(require(document, "info", file=path), dict, file=path, field="info")
    simulations = expect(require(document, "simulations", file=path), list, file=path, field="simulations")
    tasks = expect([] if document.get("tasks") is None else document["tasks"], list, file=path, field="tasks")
    reader = _FileReader(Path(path), info, tasks, {k: v for k, v in document.items() if k not in _DOCUMENT_KEYS})
    problems, ids = Problems(on_error, errors), UniqueIds(path)
    first = True
    for index, simulation in enumerate(simulations):
        field = f"simulations.{index}"
        try:
            expect(simulation, dict, file=path, field=field)
            trajectory = reader.trajectory(simulation, index, field)
            ids.check(trajectory.id, None)
        except BadInput as problem:
            problems.report(problem)
            continue
        if first:
            # Kept once: tasks that no simulation ran belong to no trajectory.
            unused = reader.unused_tasks(simulations)
            if unused:
                trajectory.source["file"]["unused_tasks"] = unused
            first = False
        yield trajectory


_DOCUMENT_KEYS = {"info", "tasks", "simulations"}


class _FileReader:
    """What all simulations of one file share."""

    def __init__(self, path: Path, info: JsonObject, tasks: list[Any], rest: JsonObject) -> None:
        self.path, self.info, self.tasks = path, info, tasks
        environment = expect(info.get("environment_info") or {}, dict, file=path, field="info.environment_info")
        name = require(environment, "domain_name", file=path, field="info.environment_info")
        self.domain = f"tau2/{expect(name, str, file=path, field='info.environment_info.domain_name')}"
        policy = environment.get("policy")
        self.policy = policy if isinstance(policy, str) else None
        self.solo = _is_solo(info)
        tool_defs = environment.get("tool_defs")
        self.tools = tool_defs if _are_openai_tools(tool_defs) else []
        if self.policy is not None:
            info = {**info, "environment_info": {k: v for k, v in environment.items() if k != "policy"}}
        self.shared: JsonObject = {"name": path.name, "info": info, **({"rest": rest} if rest else {})}
        self.by_id: dict[str, JsonObject] = {}
        for index, task in enumerate(tasks):
            expect(task, dict, file=path, field=f"tasks.{index}")
            # The first of two with one id; ids are compared as text, since files mix 13 and "13".
            self.by_id.setdefault(str(task.get("id")), task)

    def unused_tasks(self, simulations: list[Any]) -> list[JsonObject]:
        """Tasks of the file that travel with no trajectory."""
        run = {str(simulation.get("task_id")) for simulation in simulations if isinstance(simulation, dict)}
        used = {id(self.by_id[task_id]) for task_id in run if task_id in self.by_id}
        return [task for task in self.tasks if id(task) not in used]

    def trajectory(self, simulation: JsonObject, index: int, field: str) -> Trajectory:
        task_id = require(simulation, "task_id", file=self.path, field=field)
        expect(task_id, (str, int), file=self.path, field=f"{field}.task_id")
        notes: list[str] = []
        data: JsonObject = {"domain": self.domain}
        definition = self.by_id.get(str(task_id))
        if definition is None:
            notes.append(f"the file's tasks have no {str(task_id)!r}")
        else:
            data["definition"] = definition
        if self.solo:
            data["mode"] = "solo"

        raw_messages = simulation.get("messages")
        recorded = _read_messages([] if raw_messages is None else raw_messages, self.path, f"{field}.messages")
        messages = ([self._system(definition)] if self.policy is not None and recorded else []) + recorded
        if not recorded:
            notes.append("no messages")

        reward_info = simulation.get("reward_info")
        kept = {key: value for key, value in simulation.items() if key != "messages" or value is None}
        outcome = Outcome(termination=_text_or_none(simulation.get("termination_reason")))
        if isinstance(reward_info, dict) and reward_info:
            del kept["reward_info"]
            outcome.details = reward_info
            outcome.reward = _number_or_none(reward_info.get("reward"))
        source: JsonObject = {"format": "tau2", "index": index, "simulation": kept, "file": dict(self.shared)}
        if "messages" not in simulation:
            source["absent"] = ["messages"]
        if not messages:  # no system message holds the policy text then
            source["file"]["info"] = self.info
        if notes:
            source["notes"] = notes
        identifier = simulation.get("id")
        return Trajectory(
            id=str(identifier) if identifier not in (None, "") else f"{self.path.stem}-{index}",
            task=Task(env=ENV_ID, id=str(task_id), data=data),
            tools=self.tools,
            messages=messages,
            outcome=outcome,
            source=source,
        )

    def _system(self, definition: JsonObject | None) -> Message:
        """The policy, and in solo runs the ticket: without a user it is all the agent knows of the problem."""
        text = self.policy or ""
        source: JsonObject = {"added_by": ADDED, "from": ["info.environment_info.policy"], "policy_chars": len(text)}
        ticket = (definition or {}).get("ticket")
        if self.solo and isinstance(ticket, str):
            text += f"\n\n<ticket>\n{ticket}\n</ticket>"
            source["from"].append("tasks.ticket")
        return Message(role="system", content=text, source=source)


def _is_solo(info: JsonObject) -> bool:
    """True for runs in which the agent holds the user's tools and nobody answers."""
    user, agent = info.get("user_info"), info.get("agent_info")
    names = [part.get("implementation") for part in (user, agent) if isinstance(part, dict)]
    return any(isinstance(name, str) and (name == "dummy_user" or name.endswith("_solo")) for name in names)


def _are_openai_tools(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and one.get("type") == "function" for one in value)


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number_or_none(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# --------------------------------------------------------------------------------------------------- messages


def _read_messages(raw_messages: Any, path: Path, field: str) -> list[Message]:
    messages: list[Message] = []
    caller = "assistant"
    for index, raw in enumerate(expect(raw_messages, list, file=path, field=field)):
        here = f"{field}.{index}"
        expect(raw, dict, file=path, field=here)
        if raw.get("tool_calls"):
            caller = "user" if raw.get("role") == "user" else "assistant"
        nested = raw.get("tool_messages")
        if isinstance(nested, list) and raw.get("role") == "tool" and nested:
            rest = {key: value for key, value in raw.items() if key != "tool_messages"}
            for part, inner in enumerate(nested):
                inner_field = f"{here}.tool_messages.{part}"
                message = _read_message(expect(inner, dict, file=path, field=inner_field), caller, path, inner_field)
                message.source["multi"] = {"part": part, "of": len(nested), **({"rest": rest} if part == 0 else {})}
                messages.append(message)
        else:
            messages.append(_read_message(raw, caller, path, here))
    return messages


def _read_message(raw: JsonObject, caller: str, path: Path, field: str) -> Message:
    role = require(raw, "role", file=path, field=field)
    known = set(_MESSAGE_KEYS)
    data: JsonObject = {"role": role, "content": raw.get("content"), "name": raw.get("name")}
    if raw.get("name") is None:
        known.discard("name")
    if role == "tool":
        known |= {"id", "requestor"}
        data["tool_call_id"] = raw.get("id")
        # Where it is not recorded: a result answers whoever called last.
        data["requestor"] = raw.get("requestor", caller)
    for key in ("reasoning", "reasoning_content"):
        if isinstance(raw.get(key), str) and "reasoning_content" not in data:
            data["reasoning_content"] = raw[key]
            known.add(key)
    calls = expect(raw.get("tool_calls") or [], list, file=path, field=f"{field}.tool_calls")
    data["tool_calls"] = [_read_call(call, role, path, f"{field}.tool_calls.{n}") for n, call in enumerate(calls)]
    data["source"] = {key: value for key, value in raw.items() if key not in known}
    if "reasoning" in known:
        data["source"]["reasoning_key"] = "reasoning"
    message = validate(Message, data, file=path, line=None, field=field)
    if _export_plain(message) != raw:
        message.source["verbatim"] = raw
    return message


def _read_call(raw: Any, role: str, path: Path, field: str) -> JsonObject:
    expect(raw, dict, file=path, field=field)
    name = expect(require(raw, "name", file=path, field=field), str, file=path, field=f"{field}.name")
    source = {key: value for key, value in raw.items() if key not in _CALL_KEYS}
    if source.get("requestor") == role:
        del source["requestor"]
    call = {"id": raw.get("id"), "name": name, "arguments": raw.get("arguments"), "source": source}
    if _export_call(validate(ToolCall, call, file=path, line=None, field=field), role) != raw:
        source["verbatim"] = raw
    return call


# ----------------------------------------------------------------------------------------------------- export


def export_simulation(trajectory: Trajectory) -> JsonObject:
    """The simulation object a trajectory was imported from.

    Messages that the importer added are left out. The trajectory must come from :func:`read_tau2` (directly or
    through JSONL); a message edited since then is written as edited.

    Raises:
        BadInput: the trajectory is not a τ²-bench import.
    """
    simulation = trajectory.source.get("simulation")
    if trajectory.source.get("format") != "tau2" or not isinstance(simulation, dict):
        raise BadInput(f"trajectory {trajectory.id!r} does not come from a τ²-bench file", field="source.simulation")
    row = dict(simulation)
    if "reward_info" not in row and trajectory.outcome.details:
        row["reward_info"] = trajectory.outcome.details
    if "messages" not in row and "messages" not in trajectory.source.get("absent", ()):
        row["messages"] = _export_messages(trajectory.messages)
    return row


def export_info(trajectory: Trajectory) -> JsonObject:
    """The ``info`` object of the file a trajectory was imported from, policy text included."""
    info: JsonObject = trajectory.source["file"]["info"]
    first = trajectory.messages[0] if trajectory.messages else None
    if first is None or first.source.get("added_by") != ADDED:
        return info
    policy = first.text[: first.source["policy_chars"]]
    return {**info, "environment_info": {**info.get("environment_info", {}), "policy": policy}}


def _export_messages(messages: list[Message]) -> list[JsonObject]:
    rows: list[JsonObject] = []
    for message in messages:
        if message.source.get("added_by") == ADDED:
            continue
        row, multi = _export_message(message), message.source.get("multi")
        if multi is None:
            rows.append(row)
        elif multi["part"] == 0:
            rows.append({**multi["rest"], "tool_messages": [row]})
        else:
            rows[-1]["tool_messages"].append(row)
    return rows


def _export_message(message: Message) -> JsonObject:
    verbatim = message.source.get("verbatim")
    if isinstance(verbatim, dict):
        source = {key: value for key, value in message.source.items() if key != "multi"}
        # What was edited since the import is written as edited.
        if _read_message(verbatim, message.requestor, Path(), "") == message.model_copy(update={"source": source}):
            return verbatim
    return _export_plain(message)


def _export_plain(message: Message) -> JsonObject:
    source = dict(message.source)
    for key in ("verbatim", "multi"):
        source.pop(key, None)
    row: JsonObject = {"role": message.role, "content": message.content}
    reasoning_key = source.pop("reasoning_key", "reasoning_content")
    if message.reasoning_content is not None:
        row[reasoning_key] = message.reasoning_content
    if message.name is not None:
        row["name"] = message.name
    if message.role == "tool":
        row |= {"id": message.tool_call_id, "requestor": message.requestor}
    else:
        row["tool_calls"] = [_export_call(call, message.role) for call in message.tool_calls] or None
    return row | source


def _export_call(call: ToolCall, role: str) -> JsonObject:
    source = dict(call.source)
    verbatim = source.pop("verbatim", None)
    if isinstance(verbatim, dict):
        recorded = ToolCall(name=call.name, arguments=verbatim.get("arguments"))
        if (verbatim.get("name"), verbatim.get("id"), recorded.arguments) == (call.name, call.id, call.arguments):
            return verbatim
    return {"id": call.id, "name": call.name, "arguments": call.arguments, "requestor": role} | source
