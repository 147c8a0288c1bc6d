"""Random but valid actions, and recordings made with them: what the conformance suite drives environments with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import InfrastructureError
from pivotgym.envs.trajectory import JsonObject, Message, ToolCall, Trajectory

_WORD = re.compile(r"[\w#@+][\w#@+.:-]*")
_TYPES = ("string", "integer", "number", "boolean")


def random_action(rng: np.random.Generator, tools: Sequence[JsonObject], messages: Sequence[Message]) -> Message:
    """One action: mostly a tool call with arguments that fit its schema, now and then a short text.

    Text arguments are words of the conversation, so that ids found by one call are used by the next.
    """
    words = _words(messages)
    if not tools or rng.random() < 0.1:
        return Message(role="assistant", content=" ".join(_pick(rng, words) for _ in range(4)))
    return call_of(rng, tools[int(rng.integers(len(tools)))], words)


def call_of(rng: np.random.Generator, tool: JsonObject, words: Sequence[str]) -> Message:
    """An action that calls ``tool`` with random valid arguments."""
    function = tool.get("function", tool)
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    arguments = sample_value(rng, schema, words, schema)
    call = ToolCall(
        name=function["name"],
        arguments=arguments if isinstance(arguments, dict) else {},
        id=f"call_{int(rng.integers(1 << 30)):08x}",
    )
    return Message(role="assistant", tool_calls=[call])


def sample_value(
    rng: np.random.Generator, schema: JsonObject, words: Sequence[str], root: JsonObject, depth: int = 0
) -> Any:
    """A value that fits a JSON schema (the usual subset: types, enum, const, anyOf, $ref, bounds, required)."""
    if "$ref" in schema:
        target: Any = root
        for part in str(schema["$ref"]).lstrip("#/").split("/"):
            target = target.get(part, {}) if isinstance(target, dict) else {}
        return sample_value(rng, target, words, root, depth + 1) if depth < 8 else None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][int(rng.integers(len(schema["enum"])))]
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            options = schema[union]
            return sample_value(rng, options[int(rng.integers(len(options)))], words, root, depth + 1)
    if schema.get("allOf"):
        return sample_value(rng, schema["allOf"][0], words, root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[int(rng.integers(len(kind)))]
    if kind == "object":
        needed = set(schema.get("required", ()))
        chosen = {
            name: part
            for name, part in schema.get("properties", {}).items()
            if name in needed or (depth < 3 and rng.random() < 0.3)
        }
        return {name: sample_value(rng, part, words, root, depth + 1) for name, part in chosen.items()}
    if kind == "array":
        count = max(int(schema.get("minItems", 1)), 1)
        return [sample_value(rng, schema.get("items", {}), words, root, depth + 1) for _ in range(count)]
    return _sample_scalar(rng, kind, schema, words)


def _sample_scalar(rng: np.random.Generator, kind: str, schema: JsonObject, words: Sequence[str]) -> Any:
    if kind == "null":
        return None
    if kind == "boolean":
        return bool(rng.integers(2))
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        high = max(schema.get("maximum", schema.get("exclusiveMaximum", low + 10) - 1), low)
        known = [int(word) for word in words if word.isdecimal() and len(word) < 10 and low <= int(word) <= high]
        if known and rng.random() < 0.5:
            return known[int(rng.integers(len(known)))]
        return int(rng.integers(int(low), int(high) + 1))
    if "date" in str(schema.get("format", "")):
        return "2024-05-15"
    text = _pick(rng, words)
    return text.ljust(int(schema.get("minLength", 0)), "x")[: int(schema.get("maxLength", 200))]


def _words(messages: Sequence[Message]) -> list[str]:
    texts = [message.text[-20_000:] for message in messages if message.role in ("user", "tool")]
    words = [word.rstrip(".:-") for text in texts for word in _WORD.findall(text)]
    return [word for word in words if word][-2000:] or ["hello"]


def _pick(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def record(env: AgentEnv, seed: int, turns: int = 8) -> Trajectory:
    """A trajectory made by random valid actions on the task that ``seed`` draws.

    An action that makes the infrastructure fail is left out and the episode begins again without it.
    """
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    actions: list[Message] = []
    failures = 0
    while len(actions) < turns and not env.episode.done:
        # The last actions only call tools: a text may end the episode when the user leaves.
        action = random_action(rng, env.tools, env.messages)
        try:
            env.step(action)
            actions.append(action)
        except InfrastructureError:
            failures += 1
            if failures > 10:
                raise
            env.reset(seed=seed)
            for done in actions:
                env.step(done)
    return Trajectory(id=f"random-{seed}", task=env.task, tools=env.tools, messages=list(env.transcript))
