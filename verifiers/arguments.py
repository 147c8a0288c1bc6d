"""Tool-call arguments by their meaning: schema checks, defaults filled in, one form for equal values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jsonschema

from pivotgym.envs.actions import MAX_DEPTH, too_deep
from pivotgym.envs.trajectory import JsonObject, ToolCall, canonical_json

_PROSE_WORDS = 6
_PROSE_WORDS_SAMPLED = 3


def tool_schema(tools: Sequence[JsonObject], name: str) -> JsonObject | None:
    """The JSON schema of a tool's parameters; ``{}`` where it declares none, None where there is no such tool."""
    for tool in tools:
        function = tool.get("function", tool)
        if isinstance(function, dict) and function.get("name") == name:
            parameters = function.get("parameters") or function.get("input_schema") or {}
            return parameters if isinstance(parameters, dict) else {}
    return None


def schema_problem(tools: Sequence[JsonObject], call: ToolCall) -> str | None:
    """Why a call does not fit the tools on offer, or None. Without any tools on offer there is nothing to check."""
    if too_deep(call.arguments):
        return f"arguments of {call.name} are nested deeper than {MAX_DEPTH} levels"
    if not tools:
        return None
    schema = tool_schema(tools, call.name)
    if schema is None:
        return f"unknown tool {call.name!r}"
    if isinstance(call.arguments, str):
        return f"arguments of {call.name} are no JSON object"
    try:
        error = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(call.arguments)), None)
    except (
        jsonschema.SchemaError,
        RecursionError,
        TypeError,
        ArithmeticError,
    ):  # a broken schema is not the policy's failure
        return None
    if error is None:
        return None
    where = ".".join(str(part) for part in error.absolute_path)
    return f"{call.name}{'.' + where if where else ''}: {error.message[:200]}"


def inadmissible(
    tools: Sequence[JsonObject], demonstrated: Sequence[ToolCall], sampled: Sequence[ToolCall], max_extra_calls: int
) -> str | None:
    """Why sampled calls are wrong before they are run: too many, or some that do not fit their schema; else None."""
    limit = len(demonstrated) + max_extra_calls
    if len(sampled) > limit:
        return f"{len(sampled)} calls where at most {limit} are allowed"
    wanted = {canonical_call(tools, call) for call in demonstrated}
    for call in sampled:
        problem = schema_problem(tools, call)
        # A recording may hold calls that do not fit the schema; repeating one is no mistake.
        if problem is not None and canonical_call(tools, call) not in wanted:
            return problem
    return None


def canonical_arguments(schema: JsonObject | None, arguments: JsonObject | str) -> Any:
    """One form for equal arguments.

    Defaults are filled in, optional nulls dropped, numbers compared by value (``1`` and ``1.0``, never ``"1"`` nor
    ``true``), and lists declared unordered (``uniqueItems`` or ``x-unordered``) sorted. Nested objects and lists
    likewise, through local ``$ref`` and ``anyOf``/``oneOf``/``allOf``.
    """
    if isinstance(arguments, str):
        return arguments
    return _canonical(schema or {}, arguments, schema or {})


def canonical_call(tools: Sequence[JsonObject], call: ToolCall) -> str:
    """A text equal for calls that mean the same."""
    return canonical_json([call.name, canonical_arguments(tool_schema(tools, call.name), call.arguments)])


def prose_arguments(schema: JsonObject | None, demonstrated: JsonObject | str) -> set[str]:
    """Names of arguments that hold free text: strings of at least six words, not restricted by the schema.

    ``x-prose: true`` or ``false`` in a parameter's schema overrides the guess.
    """
    if isinstance(demonstrated, str):
        return set()
    root = schema or {}
    properties = root.get("properties", {})
    names = set()
    for name, value in demonstrated.items():
        part = _resolve(properties.get(name, {}), value, root)
        restricted = any(key in part for key in ("enum", "const", "pattern", "format"))
        guess = isinstance(value, str) and len(value.split()) >= _PROSE_WORDS and not restricted
        if part.get("x-prose", guess) and isinstance(value, str):
            names.add(name)
    return names


def is_prose_answer(value: Any) -> bool:
    """Whether a sampled value is free text too."""
    return isinstance(value, str) and len(value.split()) >= _PROSE_WORDS_SAMPLED


def _canonical(schema: JsonObject, value: Any, root: JsonObject) -> Any:
    schema = _resolve(schema, value, root)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) else value
    if isinstance(value, list):
        items = schema.get("items")
        found = [_canonical(items if isinstance(items, dict) else {}, item, root) for item in value]
        if schema.get("uniqueItems") is True or schema.get("x-unordered") is True:
            return sorted(found, key=canonical_json)
        return found
    if isinstance(value, dict):
        return _canonical_object(schema, value, root)
    return value


def _canonical_object(schema: JsonObject, value: JsonObject, root: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required") or ()
    result: JsonObject = {}
    for key, item in value.items():
        part = properties.get(key, {})
        optional_null = item is None and key not in required and part.get("default") is None
        if not optional_null:
            result[key] = _canonical(part, item, root)
    for key, part in properties.items():
        if key not in value and isinstance(part, dict) and part.get("default") is not None:
            result[key] = _canonical(part, part["default"], root)
    return result


def _resolve(schema: Any, value: Any, root: JsonObject) -> JsonObject:
    """Follows local references, and takes the first alternative that accepts ``value``."""
    for _ in range(16):
        if not isinstance(schema, dict):
            return {}
        if isinstance(schema.get("$ref"), str):
            schema = _lookup(schema["$ref"], root)
            continue
        alternatives = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(alternatives, list):
            chosen: Any = next((part for part in alternatives if _accepts(part, value, root)), {})
            rest = {key: part for key, part in schema.items() if key not in ("anyOf", "oneOf")}
            schema = {**rest, **chosen} if isinstance(chosen, dict) else rest
            continue
        if isinstance(schema.get("allOf"), list):
            merged: JsonObject = {key: part for key, part in schema.items() if key != "allOf"}
            for part in schema["allOf"]:
                merged.update(part if isinstance(part, dict) else {})
            schema = merged
            continue
        return schema
    return {}


def _lookup(reference: str, root: JsonObject) -> Any:
    if not reference.startswith("#"):
        return {}
    found: Any = root
    for part in reference[1:].split("/"):
        if part:
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
    return found


def _accepts(schema: Any, value: Any, root: JsonObject) -> bool:
    if not isinstance(schema, dict):
        return False
    with_definitions = {**{key: root[key] for key in ("$defs", "definitions") if key in root}, **schema}
    try:
        return jsonschema.Draft202012Validator(with_definitions).is_valid(value)
    except Exception:  # a broken schema accepts nothing; the caller then compares plainly
        return False
