"""The scripted expert: decides from the conversation alone, by the policy text's rules.

It sees what an agent sees and nothing of the task behind it, so wherever it succeeds the right action can be told
from the prompt. It understands how this desk's users write, not English.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotgym.envs.tools.servicedesk.tools import TODAY, parse_date, say_date
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall

Action = str | list[tuple[str, JsonObject]]
"""What to do next: a text, or calls as (name, arguments)."""

_WISHES = {
    "damaged": r"scratched|damaged",
    "refund": r"money back|refund",
    "broken": r"broken|stopped working|not turn on",
    "cancel": r"cancel|no longer need|stop my order",
    "visit": r"technician",
    "where": r"\bwhere\b|arrive|still wait",
    "address": r"moved to|address",
    "password": r"password",
    "solved": r"\bclose|solved",
    "news": r"news on|what about|how is",
    "outage": r"outage",
    "fault": r"slow|strange|trouble",
}
_EMAIL, _PHONE, _PIN = r"[\w.]+@[\w.]+\w", r"\b\d{2}-\d{4}\b", r"PIN(?: is)? (\d{4})\b"
_TOPIC = r"outage of my (\w+)|[Mm]y (\w+) (?:has an outage|is slow|acts strange)|trouble with my (\w+)|a (\w+) outage"
_ADDRESS = r"(\d+ [A-Z]\w+ [A-Z]\w+)"
_DAY = r"on ([A-Z][a-z]+ \d+|\d+ [A-Z][a-z]+)"


@dataclass
class _Talk:
    """What the conversation has told so far."""

    said: list[str] = field(default_factory=list)
    contact: str | None = None
    pin: str | None = None
    tried: str | None = None
    login: JsonObject | None = None
    kind: str = ""
    wish: str = ""
    asked: bool = False
    done: list[tuple[str, JsonObject, str]] = field(default_factory=list)


def act(messages: Sequence[Message]) -> Message:
    """The next assistant message for a conversation that ends with a user or tool message.

    Raises:
        ValueError: the expert does not understand the user.
    """
    talk = _read(messages)
    action = _introduce(talk) if talk.login is None else _serve(talk)
    if isinstance(action, str):
        return Message(role="assistant", content=action)
    turn = sum(message.role == "assistant" for message in messages)
    calls = [
        ToolCall(name=name, arguments=arguments, id=f"call_{turn}_{position}")
        for position, (name, arguments) in enumerate(action)
    ]
    return Message(role="assistant", tool_calls=calls)


def _read(messages: Sequence[Message]) -> _Talk:
    talk = _Talk()
    waiting: list[ToolCall] = []
    for message in messages:
        if message.role == "user":
            _hear(talk, message.text)
        elif message.role == "assistant":
            waiting = list(message.tool_calls)
            talk.asked = talk.asked or (not waiting and message.text.endswith("?"))
        elif message.role == "tool" and waiting:
            call = waiting.pop(0)
            arguments = call.arguments if isinstance(call.arguments, dict) else {}
            if call.name == "login":
                talk.tried = str(arguments.get("pin"))
                talk.login = None if message.text.startswith("Error") else json.loads(message.text)
            else:
                talk.done.append((call.name, arguments, message.text))
    return talk


def _hear(talk: _Talk, text: str) -> None:
    talk.said.append(text)
    if found := re.search(f"{_EMAIL}|{_PHONE}", text):
        talk.contact = found.group()
    if found := re.search(_PIN, text):
        talk.pin = found.group(1)
    for kind, pattern in _WISHES.items():
        if re.search(pattern, re.sub(_EMAIL, "", text), re.IGNORECASE):
            talk.kind, talk.wish, talk.done, talk.asked = kind, text, [], False
            break


def _introduce(talk: _Talk) -> Action:
    if talk.contact is None:
        return "Please tell me your email or phone, and your PIN."
    if talk.pin is None:
        return "Please tell me your PIN."
    if talk.tried == talk.pin:
        return "That PIN is wrong, please check it."
    return [("login", {"contact": talk.contact, "pin": talk.pin})]


def _serve(talk: _Talk) -> Action:
    if not talk.kind:
        raise ValueError(f"cannot tell what the user wants: {talk.said}")
    rule = _RULES[talk.kind]
    action: Action = rule(talk)
    return action


def _result(talk: _Talk, *names: str) -> str | None:
    """The latest result of one of these tools for the current wish."""
    found = [result for name, _, result in talk.done if name in names]
    return found[-1] if found else None


def _orders(talk: _Talk) -> list[str]:
    """The ids of the orders whose items the user named, in the order they were named."""
    assert talk.login is not None
    items: dict[str, str] = {item: id for id, item in talk.login["orders"].items()}
    found = [items[word] for word in re.findall(r"[a-z]+", talk.wish) if word in items]
    if not found:
        raise ValueError(f"none of {sorted(items)} in {talk.wish!r}")
    return list(dict.fromkeys(found))


def _looked_up(talk: _Talk) -> tuple[str, JsonObject | None]:
    (order,) = _orders(talk)
    shown = _result(talk, "get_order")
    return order, None if shown is None else json.loads(shown)


def _then(talk: _Talk, name: str, arguments: JsonObject, told: str) -> Action:
    """Makes the call, or tells its result when it is made; ``{}`` in ``told`` is the id the call brought."""
    result = _result(talk, name)
    if result is None:
        return [(name, arguments)]
    new = next(iter(json.loads(result).values())) if result.startswith("{") else ""
    return told.replace("{}", str(new))


def _refund(talk: _Talk) -> Action:
    order, shown = _looked_up(talk)
    if shown is None:
        return [("get_order", {"order": order})]
    amount = shown["price"] if talk.kind == "refund" else shown["price"] // 2
    if shown["days"] > 30:
        return _then(talk, "note", {"topic": "refund"}, f"Sorry, no refund, {order} is {shown['days']} days old.")
    if amount > 100:
        return _then(talk, "escalate", {"id": order}, "Your refund is escalated, case {}.")
    return _then(talk, "refund", {"order": order, "amount": amount}, f"Done, I refunded {amount} for {order}.")


def _broken(talk: _Talk) -> Action:
    order, shown = _looked_up(talk)
    if shown is None:
        return [("get_order", {"order": order})]
    if shown["days"] > 365:
        return _then(talk, "repair", {"order": order}, "We will repair it, number {}.")
    return _then(talk, "replace", {"order": order}, "We send a new one, order {}.")


def _cancel(talk: _Talk) -> Action:
    order, shown = _looked_up(talk)
    if shown is None:
        return [("get_order", {"order": order})]
    if shown["status"] != "open":
        return _then(talk, "note", {"topic": "cancel"}, f"Sorry, no, {order} is {shown['status']} already.")
    return _then(talk, "cancel", {"order": order}, f"Order {order} is cancelled.")


def _where(talk: _Talk) -> Action:
    orders = _orders(talk)
    shown = [json.loads(result) for name, _, result in talk.done if name == "get_order"]
    if not shown:
        return [("get_order", {"order": order}) for order in orders]
    if len(orders) == 2:
        assert talk.login is not None
        one, two = (talk.login["orders"][order] for order in orders)
        return f"The {one} arrives on {shown[0]['eta']}, the {two} on {shown[1]['eta']}."
    if parse_date(shown[0]["eta"]) < TODAY:
        return _then(talk, "escalate", {"id": orders[0]}, "Your order is late, I escalated it, case {}.")
    return f"It arrives on {shown[0]['eta']}."


def _visit(talk: _Talk) -> Action:
    (order,) = _orders(talk)
    found = re.search(_DAY, talk.wish)
    day = say_date(parse_date(found.group(1) if found else ""))
    booked = [(arguments, result) for name, arguments, result in talk.done if name == "book"]
    if booked and booked[-1][1].startswith("Error: full, next "):
        day = booked[-1][1].removeprefix("Error: full, next ")
        if not talk.asked:
            return f"Is {day} fine?"
    elif booked:
        return f"The visit is booked for {booked[-1][0]['day']}."
    return [("book", {"order": order, "day": day})]


def _address(talk: _Talk) -> Action:
    said = [found for text in talk.said for found in re.findall(_ADDRESS, text)]
    if not said:
        raise ValueError(f"no address in {talk.said}")
    if not talk.asked:
        return f"Is {said[-1]} correct?"
    return _then(talk, "set_address", {"address": said[-1]}, f"Your address is now {said[-1]}.")


def _password(talk: _Talk) -> Action:
    return _then(talk, "reset_password", {}, "Your new code is {}.")


def _solved(talk: _Talk) -> Action:
    tickets = re.findall(r"\bT\d+\b", talk.wish)
    if not _result(talk, "close_ticket"):
        return [("close_ticket", {"id": ticket}) for ticket in tickets]
    return f"Ticket {tickets[0]} is closed." if len(tickets) == 1 else f"{' and '.join(tickets)} are closed."


def _news(talk: _Talk) -> Action:
    (ticket,) = re.findall(r"\bT\d+\b", talk.wish)
    result = _result(talk, "get_ticket")
    if result is None:
        return [("get_ticket", {"id": ticket})]
    shown = json.loads(result)
    if shown["days"] > 5:
        return _then(talk, "escalate", {"id": ticket}, f"I escalated {ticket}, case {{}}.")
    return f"Ticket {ticket} is {shown['status']}."


def _fault(talk: _Talk) -> Action:
    assert talk.login is not None
    found = re.search(_TOPIC, talk.wish)
    if found is None:
        raise ValueError(f"no topic in {talk.wish!r}")
    topic = next(group for group in found.groups() if group)
    priority = "urgent" if talk.kind == "outage" else "high" if talk.login["tier"] == "gold" else "normal"
    arguments = {"topic": topic, "priority": priority}
    return _then(talk, "open_ticket", arguments, f"I opened ticket {{}}, priority {priority}.")


_RULES: dict[str, Any] = {
    "refund": _refund,
    "damaged": _refund,
    "broken": _broken,
    "cancel": _cancel,
    "where": _where,
    "visit": _visit,
    "address": _address,
    "password": _password,
    "solved": _solved,
    "news": _news,
    "outage": _fault,
    "fault": _fault,
}
