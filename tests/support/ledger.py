"""A small correct environment, and copies of it that are broken in one way each."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from pivotgym.envs.core import AgentEnv, Opening, Response
from pivotgym.envs.errors import InfrastructureError, ToolServerError
from pivotgym.envs.snapshots import State
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall, Trajectory, canonical_json
from pivotgym.envs.verdict import Verdict


def _tool(name: str, *fields: str) -> JsonObject:
    properties = {field: {"type": "string"} for field in fields}
    parameters = {"type": "object", "properties": properties, "required": list(fields)}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


TOOLS = [_tool("write", "key", "value"), _tool("read", "key"), _tool("erase", "key"), _tool("list_keys")]


class Ledger(AgentEnv):
    """Keys and values; done when the agent says ``done``; the goal is the key ``paid``."""

    def __init__(self, config: Any = None, **options: Any) -> None:
        super().__init__(config, **options)
        self.book: dict[str, str] = {}

    def tasks(self) -> Sequence[Task]:
        return [Task(env="tests/Ledger-v0", id=f"ledger-{n}", data={"rent": str(100 + n)}) for n in range(6)]

    def start(self, task: Task) -> Opening:
        self.book = {"rent": str(task.data["rent"])}
        said = Message(role="user", content=f"Pay the rent of {task.data['rent']} please.")
        return Opening([Message(role="system", content="You keep a ledger."), said], TOOLS)

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        answers = [
            Message(role="tool", content=self.execute(call), tool_call_id=call.id, name=call.name)
            for call in action.tool_calls
        ]
        if answers:
            return Response(answers)
        if recorded:
            return Response([message for message in recorded if message.role == "user"])
        if recorded is None and action.text.strip() == "done":
            return Response([], done=True, termination="done")
        return Response([Message(role="user", content="Go on.")])

    def execute(self, call: ToolCall) -> str:
        arguments = call.arguments if isinstance(call.arguments, dict) else {}
        key = str(arguments.get("key"))
        if call.name == "write":
            self.book[key] = str(arguments.get("value"))
            return f"{key} = {self.book[key]}"
        if call.name == "read":
            return self.book.get(key, f"Error: no {key}")
        if call.name == "erase":
            return f"erased {self.book.pop(key)}" if key in self.book else f"Error: no {key}"
        return ", ".join(sorted(self.book)) if call.name == "list_keys" else f"Error: unknown tool {call.name}"

    def save(self) -> State | None:
        return State(dict(self.book), len(canonical_json(self.book)))

    def load(self, state: State) -> None:
        self.book = dict(state.payload)

    def diff(self, before: State, after: State) -> list[JsonObject]:
        one, other = before.payload, after.payload
        keys = sorted(one.keys() | other.keys())
        return [{"key": k, "before": one.get(k), "after": other.get(k)} for k in keys if one.get(k) != other.get(k)]

    def score(self) -> Verdict:
        return Verdict(reward=float("paid" in self.book), rule="goal")

    def faults(self) -> Sequence[tuple[object, str]]:
        return [(self, "execute")]


def call(name: str, **arguments: str) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name=name, arguments=arguments, id=f"c-{name}")])


DEMONSTRATION = [
    call("list_keys"),
    call("read", key="rent"),
    call("write", key="receipt", value="transfer-0815-to-the-landlord"),
    call("erase", key="rent"),
    call("list_keys"),
    call("write", key="paid", value="yes, in full, on the 3rd of March"),
]


def demonstrate(env: AgentEnv, task: int = 0) -> Trajectory:
    env.reset(options={"task": env.tasks()[task]})
    for action in DEMONSTRATION:
        env.step(action)
    trajectory = Trajectory(id=f"paid-{task}", task=env.task, messages=list(env.messages))
    env.close()
    return trajectory


# Broken in one way each -------------------------------------------------------------------------------------------


class SharesState(Ledger):
    """Forks and kept snapshots are the very object the parent goes on changing."""

    def save(self) -> State | None:
        return State(self.book, 1)

    def load(self, state: State) -> None:
        self.book = state.payload


class SharesClassState(Ledger):
    """One book for all instances, outside of what is saved."""

    erased: list[str] = []  # noqa: RUF012

    def execute(self, call: ToolCall) -> str:
        text = super().execute(call)
        if call.name == "erase":
            self.erased.append(text)
        return f"{text} ({len(self.erased)} erased so far)"


class ForgetsOnLoad(Ledger):
    """Loading a state begins with an empty book."""

    def load(self, state: State) -> None:
        self.book = {}


class SavesHalf(Ledger):
    """The counter of calls is not part of the saved state."""

    calls = 0

    def start(self, task: Task) -> Opening:
        self.calls = 0
        return super().start(task)

    def execute(self, call: ToolCall) -> str:
        self.calls += 1
        return f"{super().execute(call)} (call {self.calls})"


class BlindDiff(Ledger):
    """Finds no difference, ever."""

    def diff(self, before: State, after: State) -> list[JsonObject]:
        return []


class TellsTheTime(Ledger):
    """Observations that no replay gives again."""

    def execute(self, call: ToolCall) -> str:
        return f"{super().execute(call)} at {time.perf_counter_ns()}"


class ExplainsEverythingAway(TellsTheTime):
    """Has an excuse for each of them."""

    def explain(self, action: Message, replayed: Message | None, recorded: Message | None) -> str | None:
        return "clock"


class Echoes(Ledger):
    """A replay hands back what the recording holds."""

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        response = super().respond(action, recorded)
        return Response(list(recorded), response.done, response.termination) if recorded else response


class EchoesCopies(Ledger):
    """The same, made to look like results of its own."""

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        response = super().respond(action, recorded)
        told = [message.model_copy() for message in recorded or ()]
        return Response(told, response.done, response.termination) if told else response


class EchoesText(Ledger):
    """Executes, and then says what the recording says."""

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        response = super().respond(action, recorded)
        for mine, theirs in zip(response.messages, recorded or (), strict=False):
            mine.content = theirs.content
        return response


class SharesMessages(Ledger):
    """A fork's conversation is its parent's."""

    def fork(self) -> SharesMessages:
        child = super().fork()
        child.episode.messages = list(self.episode.messages)
        return child


class HandsOutThePivot(Ledger):
    """``info`` holds the recording."""

    def reset(self, **options: Any) -> tuple[str, JsonObject]:
        observation, info = super().reset(**options)
        return observation, {**info, "where": [self.pivot]}


class HintsInObservation(Ledger):
    """The observation tells the demonstrated arguments."""

    def reset(self, **options: Any) -> tuple[str, JsonObject]:
        observation, info = super().reset(**options)
        if self.pivot is not None and self.pivot.demonstration.tool_calls:
            hint = canonical_json(self.pivot.demonstration.tool_calls[0].arguments)
            observation = observation.replace("You keep a ledger.", f"You keep a ledger. Hint: {hint[1:-1]}")
        return observation, info


class HintsInInfo(Ledger):
    """``info`` tells what the recording's end state is."""

    def reset(self, **options: Any) -> tuple[str, JsonObject]:
        observation, info = super().reset(**options)
        last = self.pivot.trajectory.messages[-1].text if self.pivot is not None else ""
        return observation, {**info, "expected": last}


class TellsTheGoal(Ledger):
    """``info`` of a plain reset holds what the task's check looks for."""

    def tasks(self) -> Sequence[Task]:
        goal = {"goal": {"paid": "by transfer, in full"}}
        return [task.model_copy(update={"data": {**task.data, **goal}}) for task in super().tasks()]

    def reset(self, **options: Any) -> tuple[str, JsonObject]:
        observation, info = super().reset(**options)
        return observation, {**info, "data": self.task.data}


class RewardsFailure(Ledger):
    """A tool server that is down ends the episode with a reward."""

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        try:
            return super().respond(action, recorded)
        except InfrastructureError:
            return Response([], done=True, termination="error")


class TellsFailure(Ledger):
    """A tool server that is down is a tool message, as if the agent had erred."""

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        try:
            return super().respond(action, recorded)
        except ToolServerError as error:
            return Response([Message(role="tool", content=f"Error: {error}")])


class LeavesFilesOpen(Ledger):
    """Each start opens a file that nobody closes."""

    opened: list[Any] = []  # noqa: RUF012

    def start(self, task: Task) -> Opening:
        self.opened.append(tempfile.TemporaryFile())  # noqa: SIM115
        return super().start(task)


class IgnoresTheSeed(Ledger):
    """Tasks in an order of its own."""

    def tasks(self) -> Sequence[Task]:
        tasks = list(super().tasks())
        shift = time.perf_counter_ns() % len(tasks)
        return tasks[shift:] + tasks[:shift]


class KnowsItsProcess(Ledger):
    """In another process it says something else."""

    home = os.getpid()

    def start(self, task: Task) -> Opening:
        opening = super().start(task)
        if os.getpid() != self.home:
            opening.messages.append(Message(role="user", content="I am a worker."))
        return opening


class WrongObservation(Ledger):
    """Observations are no text."""

    def reset(self, **options: Any) -> tuple[Any, JsonObject]:
        observation, info = super().reset(**options)
        return [observation], info


BROKEN: dict[type[Ledger], set[str]] = {
    SharesState: {"isolation"},
    SharesClassState: {"isolation"},
    ForgetsOnLoad: {"isolation", "equivalence"},
    SavesHalf: {"equivalence"},
    BlindDiff: {"equivalence"},
    TellsTheTime: {"fidelity", "determinism"},
    ExplainsEverythingAway: {"fidelity"},
    Echoes: {"fidelity"},
    EchoesCopies: {"fidelity"},
    EchoesText: {"fidelity"},
    SharesMessages: {"isolation"},
    HandsOutThePivot: {"blindness"},
    HintsInObservation: {"blindness"},
    HintsInInfo: {"blindness"},
    TellsTheGoal: {"blindness"},
    RewardsFailure: {"honest reward"},
    TellsFailure: {"honest reward"},
    LeavesFilesOpen: {"nothing left"},
    IgnoresTheSeed: {"determinism"},
    KnowsItsProcess: {"vectors"},
    WrongObservation: {"gymnasium"},
}
"""Each broken environment and laws that must be found broken."""
