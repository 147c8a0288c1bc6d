"""A small tool domain with real state (a dict of orders), and a recording made by running it."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from pivotgym.envs.core import AgentEnv, Opening
from pivotgym.envs.errors import ToolServerError
from pivotgym.envs.snapshots import SnapshotStore, State
from pivotgym.envs.tools.domain import ToolDomain, register_domain
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall, Trajectory
from pivotgym.envs.verdict import Verdict

ORDERS: JsonObject = {
    "W100": {
        "order_id": "W100",
        "email": "ada@shop.org",
        "total": 60.0,
        "status": "pending",
        "items": ["lamp", "desk"],
    },
    "W200": {"order_id": "W200", "email": "ada@shop.org", "total": 88.0, "status": "delivered", "items": ["chair"]},
    "W300": {"order_id": "W300", "email": "bob@shop.org", "total": 60.0, "status": "pending", "items": ["rug"]},
}
_TEXT = {"type": "string"}
_CLOCK = itertools.count(1)


def _tool(name: str, required: Sequence[str], **properties: JsonObject) -> JsonObject:
    parameters = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


TOOLS = [
    _tool("get_order", ["order_id"], order_id=_TEXT),
    _tool("find_orders", ["email"], email=_TEXT),
    _tool("carrier_status", ["order_id"], order_id=_TEXT),
    _tool("add", ["values"], values={"type": "array", "items": {"type": "number"}}),
    _tool(
        "cancel_order",
        ["order_id"],
        order_id=_TEXT,
        reason={"type": "string", "default": "other"},
        notify={"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    ),
    _tool("refund", ["order_id", "amount"], order_id=_TEXT, amount={"type": "number"}),
    _tool(
        "tag_order",
        ["order_id", "tags"],
        order_id=_TEXT,
        tags={"type": "array", "items": _TEXT, "uniqueItems": True},
    ),
    _tool("add_note", ["order_id", "text"], order_id=_TEXT, text=_TEXT),
    _tool("hand_over", ["summary"], summary=_TEXT),
    _tool("set_status", ["order_id", "status"], order_id=_TEXT, status={"enum": ["pending", "cancelled"]}),
]


class Shop(ToolDomain):
    """Orders that can be read, cancelled, refunded, tagged and annotated."""

    name = "shop"

    def tasks(self) -> list[Task]:
        return [TASK]

    def opening(self, task: Task) -> Opening:
        return Opening([Message(role="system", content="Refunds take 5 days.")], TOOLS)

    def open(self, task: Task) -> JsonObject:
        return copy.deepcopy(ORDERS)

    def call(self, session: JsonObject, call: ToolCall, requestor: str = "assistant") -> str:
        arguments = call.arguments
        if isinstance(arguments, str):
            return "Error: arguments are no JSON object"
        if call.name == "broken":
            raise ToolServerError("the tool server is down")
        order = session.get(str(arguments.get("order_id", "W100")))
        if order is None:
            return f"Error: no order {arguments['order_id']}"
        return self._run(session, call.name, order, arguments)

    def _run(self, session: JsonObject, name: str, order: JsonObject, arguments: JsonObject) -> str:
        if name == "get_order":
            return json.dumps({**order, "as_of": next(_CLOCK)})
        if name == "find_orders":
            found = [entry for entry in session.values() if entry["email"] == arguments["email"]]
            return json.dumps({"orders": [{**entry, "as_of": next(_CLOCK)} for entry in found]})
        if name == "carrier_status":
            return "landed"
        if name == "add":
            return json.dumps(sum(arguments["values"]))
        if name == "hand_over":
            return "Transfer successful"
        if name == "cancel_order":
            if order["status"] != "pending":
                return f"Error: order {order['order_id']} is {order['status']}"
            order.update(status="cancelled", reason=arguments.get("reason", "other"))
        elif name == "set_status":
            order["status"] = arguments["status"]
            if arguments["status"] == "cancelled":
                order["reason"] = "other"
        elif name == "refund":
            order["refunded"] = arguments["amount"]
        elif name == "tag_order":
            order["tags"] = sorted(arguments["tags"])
        elif name == "add_note":
            order["note"] = arguments["text"]
        else:
            return f"Error: unknown tool {name}"
        return json.dumps(order)

    def save(self, session: JsonObject) -> State:
        return State(copy.deepcopy(session), 1000)

    def load(self, task: Task, state: State) -> JsonObject:
        loaded: JsonObject = copy.deepcopy(state.payload)
        return loaded

    def diff(self, before: State, after: State) -> list[JsonObject]:
        changed = [key for key in sorted(after.payload) if before.payload[key] != after.payload[key]]
        return [{"order": key, "now": after.payload[key]} for key in changed]

    def goal(self, task: Task, session: Any, messages: Sequence[Message]) -> Verdict:
        reached = session["W100"]["status"] == "cancelled" and session["W200"]["status"] == "delivered"
        return Verdict(reward=float(reached), rule="shop", reason="W100 cancelled" if reached else "W100 not cancelled")

    def normalise(self, text: str) -> str:
        return re.sub(r'"as_of": \d+', '"as_of": 0', text)


TASK = Task(env="pivotgym/Tools-v0", id="cancel", data={"domain": "shop"})
register_domain("shop", Shop)


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def calls(*made: ToolCall) -> Message:
    return Message(role="assistant", tool_calls=list(made))


def say(text: str) -> Message:
    return Message(role="assistant", content=text)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def recording(*script: Message, name: str = "r") -> Trajectory:
    """Runs the assistant messages of ``script`` in the domain and takes the users' from it."""
    shop = Shop()
    session = shop.open(TASK)
    messages = list(shop.opening(TASK).messages)
    for message in script:
        messages.append(message)
        for made in message.tool_calls:
            messages.append(
                Message(role="tool", content=shop.call(session, made), tool_call_id=made.id, name=made.name)
            )
    return Trajectory(id=name, task=TASK, tools=TOOLS, messages=messages)


def at(trajectory: Trajectory, turn: int = -1) -> AgentEnv:
    """An environment of its own before turn ``turn`` (the last one by default)."""
    env = gym.make("pivotgym/Tools-v0", snapshots=SnapshotStore(), disable_env_checker=True).unwrapped
    assert isinstance(env, AgentEnv)
    env.reset(options={"trajectory": trajectory, "turn": turn % len(trajectory.turns)})
    return env


def after(*history: Message, demonstration: Message) -> AgentEnv:
    """An environment that stands before ``demonstration``, with ``history`` run before it."""
    return at(recording(*(history or (user("Hello"),)), demonstration))
