"""Typed Python functions as tools: their OpenAI schema, and validation of what an agent passes to them.

Validation is strict about JSON types, as τ²-bench's tools are: ``"1"`` is no integer and ``1`` is no string. Two
spellings of a number are the same number: an integer is accepted where a float is expected, and ``1.0`` where an
integer is (JSON Schema defines both so). Unknown and missing arguments are errors. So are arguments that no tool can
be expected to survive (see :func:`out_of_bounds`). Every error is a text for the agent, never an exception that ends
the episode.
"""

from __future__ import annotations

import inspect
import json
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from docstring_parser import DocstringStyle, parse
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject

MAX_DEPTH = 64
"""Objects and lists inside one another."""
_INTEGERS = range(-(2**63), 2**63)

ToolFunction = Callable[..., Any]
"""``function(state, **arguments) -> result``; the first parameter is the domain's state and is hidden."""


class ToolError(Exception):
    """What a tool reports to the agent as its own error; the agent reads ``Error: <text>``."""


class ArgumentError(ToolError):
    """Arguments that do not fit the tool's schema."""


@dataclass(frozen=True)
class Signature:
    """A tool function with everything derived from it once.

    Attributes:
        function: the function itself.
        model: a pydantic model of its arguments.
        schema: its OpenAI tool schema.
    """

    function: ToolFunction
    model: type[BaseModel]
    schema: JsonObject

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.function.__name__


@lru_cache(maxsize=4096)
def signature_of(function: ToolFunction) -> Signature:
    """Reads a tool function's signature and docstring. Raises BadInput for one no schema can be made of."""
    name = function.__name__
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise BadInput(f"tool {name}: {error} (type hints must be importable)", field="tools") from error
    documented = parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE)
    texts = {param.arg_name: param.description for param in documented.params}
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise BadInput(f"tool {name} has no state parameter", field="tools")
    fields: dict[str, Any] = {}
    for position, parameter in enumerate(parameters[1:]):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise BadInput(f"tool {name}: parameter {parameter.name} cannot be passed by name", field="tools")
        if parameter.name not in hints:
            raise BadInput(f"tool {name}: parameter {parameter.name} has no type hint", field="tools")
        default = ... if parameter.default is parameter.empty else parameter.default
        # Positional field names, because a parameter may be called like a method of BaseModel.
        fields[f"argument_{position}"] = (
            hints[parameter.name],
            Field(default, alias=parameter.name, description=texts.get(parameter.name)),
        )
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=False)
    model: type[BaseModel] = create_model(name, __config__=config, **fields)
    rendered = _without_titles(model.model_json_schema(by_alias=True))
    rendered.setdefault("properties", {})
    rendered.pop("description", None)
    summary = "\n".join(text for text in (documented.short_description, documented.long_description) if text)
    schema = {"type": "function", "function": {"name": name, "description": summary, "parameters": rendered}}
    return Signature(function, model, schema)


def tool_schema(function: ToolFunction) -> JsonObject:
    """The OpenAI tool schema of a typed function, from its signature and Google-style docstring.

    Args:
        function: its first parameter is the state and does not appear.

    Returns:
        ``{"type": "function", "function": {"name", "description", "parameters"}}``.

    Raises:
        BadInput: a parameter without type hint, or one that cannot be passed by name.
    """
    return signature_of(function).schema


def validate_arguments(tool: ToolFunction | Mapping[str, Any], arguments: JsonObject | str) -> JsonObject:
    """Arguments as the tool takes them.

    Args:
        tool: a typed function, or an OpenAI tool schema (then checked by ``jsonschema``).
        arguments: what the agent wrote; a string means that it was no JSON object.

    Returns:
        Keyword arguments: for a function typed as its hints say with defaults filled in, for a schema as given.

    Raises:
        ArgumentError: they do not fit; the text tells the agent why, in one line.
    """
    if not isinstance(arguments, dict):
        raise ArgumentError("arguments must be a JSON object")
    problem = out_of_bounds(arguments)
    if problem is not None:
        raise ArgumentError(problem)
    if isinstance(tool, Mapping):
        return _validate_schema(tool, arguments)
    signature = signature_of(tool)
    try:
        text = json.dumps(_whole_numbers(arguments))
        parsed = signature.model.model_validate_json(text)
    except ValidationError as error:
        raise ArgumentError(_explain(error)) from error
    except ValueError as error:
        raise ArgumentError(f"arguments are not JSON: {error}") from error
    return {str(info.alias): getattr(parsed, field) for field, info in signature.model.model_fields.items()}


def out_of_bounds(arguments: JsonObject) -> str | None:
    """Why arguments are refused whatever the tool, or None.

    Refused are more than :data:`MAX_DEPTH` levels, integers beyond 64 bits, numbers that are not finite, text that is
    no Unicode (lone surrogates), and values that JSON does not know.
    """
    waiting: list[tuple[Any, int]] = [(arguments, 1)]
    while waiting:  # not recursive: depth is what is looked for
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                return f"arguments are nested more than {MAX_DEPTH} levels deep"
            items = value if isinstance(value, list) else [*value, *value.values()]
            waiting += [(item, depth + 1) for item in items]
        elif isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                return "a text is no valid Unicode"
        elif isinstance(value, float):
            if not math.isfinite(value):
                return "a number is not finite"
        elif isinstance(value, int):
            if value not in _INTEGERS:
                return "a number has too many digits"
        elif value is not None:
            return f"arguments are not JSON: {type(value).__name__}"
    return None


def _validate_schema(tool: Mapping[str, Any], arguments: JsonObject) -> JsonObject:
    function = tool.get("function", tool)
    error = best_match(Draft202012Validator(function.get("parameters") or {}).iter_errors(arguments))
    if error is not None:
        where = ".".join(str(part) for part in error.absolute_path)
        raise ArgumentError(f"{where}: {error.message}" if where else error.message)
    return arguments


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"missing argument {where}"
    if first["type"] == "extra_forbidden":
        return f"unknown argument {where[:200]}"
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def _whole_numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and int(value) in _INTEGERS:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return value


def _without_titles(schema: Any, *, names: bool = False) -> Any:
    """Drops pydantic's generated titles; inside ``properties`` the keys are names, so ``title`` stays there."""
    if isinstance(schema, dict):
        return {
            key: _without_titles(value, names=key in ("properties", "$defs") and not names)
            for key, value in schema.items()
            if names or key != "title"
        }
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    return schema
