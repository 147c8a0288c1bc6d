"""Following formats: JSON by a schema, lists, and calls of tools."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from jsonschema import Draft202012Validator

from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.harness.forgetting.items import Answer, Item, Metric, user

_FENCE = re.compile(r"\A```(?:json|csv|text)?\s*\n(.*?)\n?```\Z", re.DOTALL)
_PEOPLE = ("Mara Lind", "Tom Okoro", "Ines Vidal", "Karl Brandt", "Yuki Sato", "Nora Haas", "Omar Reyes", "Lea Novak")
_TOWNS = ("Bergen", "Porto", "Gdansk", "Turin", "Ghent", "Tartu", "Lyon", "Graz")
_GOODS = ("apples", "bread", "candles", "eggs", "flour", "honey", "lemons", "nails", "paper", "rice", "soap", "tea")


def _object(properties: JsonObject) -> JsonObject:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _person(rng: random.Random) -> tuple[str, JsonObject, Any]:
    name, age, town = rng.choice(_PEOPLE), rng.randrange(20, 80), rng.choice(_TOWNS)
    schema = _object({"name": {"type": "string"}, "age": {"type": "integer"}, "town": {"type": "string"}})
    return f"{name}, who lives in {town}, is {age} years old.", schema, {"name": name, "age": age, "town": town}


def _order(rng: random.Random) -> tuple[str, JsonObject, Any]:
    goods = rng.sample(_GOODS, 2)
    counts = [rng.randrange(2, 13) for _ in goods]
    line = _object({"product": {"enum": list(_GOODS)}, "count": {"type": "integer", "minimum": 1}})
    schema = _object({"lines": {"type": "array", "items": line}})
    told = " and ".join(f"{count} {good}" for count, good in zip(counts, goods, strict=True))
    lines = [{"product": good, "count": count} for count, good in zip(counts, goods, strict=True)]
    return f"The customer orders {told}.", schema, {"lines": lines}


def _weather(rng: random.Random) -> tuple[str, JsonObject, Any]:
    town, degrees, rain = rng.choice(_TOWNS), rng.randrange(-9, 30), rng.random() < 0.5
    schema = _object({"town": {"type": "string"}, "celsius": {"type": "number"}, "rain": {"type": "boolean"}})
    told = f"In {town} it is {degrees} degrees Celsius and {'it rains' if rain else 'it does not rain'}."
    return told, schema, {"town": town, "celsius": degrees, "rain": rain}


_RECORDS: tuple[Callable[[random.Random], tuple[str, JsonObject, Any]], ...] = (_person, _order, _weather)


def _tool(name: str, says: str, properties: JsonObject) -> JsonObject:
    return {"type": "function", "function": {"name": name, "description": says, "parameters": _object(properties)}}


TOOLS: tuple[JsonObject, ...] = (
    _tool("get_weather", "Weather in a town.", {"town": {"type": "string"}, "day": {"enum": ["today", "tomorrow"]}}),
    _tool("set_timer", "Start a timer.", {"minutes": {"type": "integer", "minimum": 1}}),
    _tool(
        "add_to_list", "Add goods to the shopping list.", {"product": {"type": "string"}, "count": {"type": "integer"}}
    ),
    _tool("send_message", "Send a message to a person.", {"to": {"type": "string"}, "text": {"type": "string"}}),
)


def _call(rng: random.Random) -> tuple[str, str, JsonObject]:
    """What is asked, the tool, and the arguments it must be called with."""
    town, day, minutes = rng.choice(_TOWNS), rng.choice(("today", "tomorrow")), rng.randrange(2, 60)
    good, count, person = rng.choice(_GOODS), rng.randrange(2, 13), rng.choice(_PEOPLE).split()[0]
    return rng.choice(
        (
            (f"What is the weather in {town} {day}?", "get_weather", {"town": town, "day": day}),
            (f"Set a timer for {minutes} minutes.", "set_timer", {"minutes": minutes}),
            (f"Put {count} {good} on my shopping list.", "add_to_list", {"product": good, "count": count}),
            (
                f'Send {person} the message "See you at noon".',
                "send_message",
                {"to": person, "text": "See you at noon"},
            ),
        )
    )


def _list(rng: random.Random) -> tuple[str, JsonObject]:
    """A list to write, and its one right text."""
    words = rng.sample(_GOODS, rng.randrange(3, 6))
    told = ", ".join(rng.sample(words, len(words)))
    day = date(2024, 1, 1) + timedelta(days=rng.randrange(700))
    return rng.choice(
        (
            (
                f"Sort these words alphabetically and write them on one line, separated by a comma and a space, and "
                f"nothing else: {told}",
                {"lines": [", ".join(sorted(words))]},
            ),
            (
                f'Write these words in this order as a numbered list, one a line, like "1. word", and nothing else: '
                f"{told}",
                {"lines": [f"{place}. {word}" for place, word in enumerate(told.split(", "), 1)]},
            ),
            (
                f'Write these words in this order, one a line, each behind "- ", and nothing else: {told}',
                {"lines": [f"- {word}" for word in told.split(", ")]},
            ),
            (
                f"Write this date as YYYY-MM-DD and nothing else: {day.day} {day:%B} {day.year}",
                {"lines": [day.isoformat()]},
            ),
        )
    )


class Formats:
    """JSON objects from a sentence, lists, and calls of tools, in turn.

    A JSON object counts where the whole answer (a code fence around it is allowed) is valid by the schema and has the
    values of the sentence; a list where it is written as asked; a call where it is the only one, well-formed, valid by
    the tool's schema and with the values asked for.
    """

    name = "formats"
    metrics = (
        Metric("formats", "Formats"),
        Metric("formats_json", "Formats: JSON by a schema", over="json"),
        Metric("formats_list", "Formats: lists and dates", over="list"),
        Metric("formats_call", "Formats: calls of tools", over="call"),
    )

    def items(self, count: int, seed: int) -> list[Item]:
        """The three kinds in turn; the same for the same seed."""
        rng = random.Random(f"formats {seed}")
        found: list[Item] = []
        for number in range(count):
            kind = ("json", "list", "call")[number % 3]
            name = f"{self.name}-{number:03d}"
            if kind == "json":
                told, schema, value = _RECORDS[number // 3 % len(_RECORDS)](rng)
                asked = "Write this as one JSON object by this JSON Schema, and nothing else:"
                text = f"{told}\n{asked}\n{json.dumps(schema)}"
                found.append(Item(name, name, kind, user(text), data={"schema": schema, "value": value}))
            elif kind == "list":
                text, data = _list(rng)
                found.append(Item(name, name, kind, user(text), data=data))
            else:
                text, tool, arguments = _call(rng)
                said = Message(role="system", content="You are an assistant that calls tools.")
                data = {"tool": tool, "arguments": arguments}
                found.append(Item(name, name, kind, (said, *user(text)), TOOLS, data))
        return found

    def score(self, item: Item, answer: Answer) -> dict[str, float]:
        """``right``, and the same under the name of the kind."""
        right = {"json": _json_right, "list": _list_right, "call": _call_right}[item.kind](item, answer)
        return {"right": float(right), item.kind: float(right)}


def _unfenced(text: str) -> str:
    stripped = text.strip()
    found = _FENCE.match(stripped)
    return found[1].strip() if found else stripped


def _json_right(item: Item, answer: Answer) -> bool:
    try:
        value = json.loads(_unfenced(answer.text))
    except (ValueError, RecursionError):
        return False
    return bool(Draft202012Validator(item.data["schema"]).is_valid(value) and value == item.data["value"])


def _list_right(item: Item, answer: Answer) -> bool:
    return bool([line.strip() for line in _unfenced(answer.text).splitlines() if line.strip()] == item.data["lines"])


def _call_right(item: Item, answer: Answer) -> bool:
    if answer.message is None or len(answer.message.tool_calls) != 1:
        return False
    call = answer.message.tool_calls[0]
    if call.name != item.data["tool"] or not isinstance(call.arguments, dict):
        return False
    schema = next(tool["function"]["parameters"] for tool in item.tools if tool["function"]["name"] == call.name)
    return bool(Draft202012Validator(schema).is_valid(call.arguments)) and call.arguments == item.data["arguments"]
