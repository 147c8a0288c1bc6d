"""Raw model text to an action: tool calls in the Hermes/Qwen form, reasoning blocks, and why text is malformed."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from pivotgym.envs.trajectory import Message, ToolCall

_TAG = re.compile(r"</?think>|</?tool_call>")
_DECODER_ERRORS = (ValueError, RecursionError)
MAX_DEPTH = 64
"""Arguments nested deeper than this are malformed: no tool takes them, and many JSON readers break on them."""


class _Malformed(Exception):
    """Internal: the text is no well-formed action; the message says why."""


def parse_action(text: str, *, thinking: bool = False) -> tuple[Message, str | None]:
    """Parse the text of one assistant turn.

    The form is ``<think>…</think>`` blocks (optional; kept as ``reasoning_content``), text (kept as ``content``) and
    any number of ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``. A reasoning block whose opening tag was
    part of the prompt (``…</think> answer``) is understood too. Calls get no ``id``: whoever executes them numbers
    them. Nothing is repaired: a call that does not parse is the policy's failure, not ours to guess at.

    Args:
        text: the sampled text without the end-of-turn token.
        thinking: the prompt ended within a reasoning block: a text that does not close it is reasoning alone.

    Returns:
        ``(message, None)`` for a well-formed action, else ``(raw, reason)``: an assistant message that holds the
        text unchanged as content, and one line that says what is wrong with it.
    """
    try:
        if thinking and "</think>" not in text:
            raise _Malformed("unclosed <think>: the turn ended within its reasoning")
        return _parse(text), None
    except _Malformed as problem:
        return Message(role="assistant", content=text), str(problem)


def _parse(text: str) -> Message:
    reasoning: list[str] = []
    content: list[str] = []
    calls: list[ToolCall] = []
    position = 0
    while tag := _TAG.search(text, position):
        before = text[position : tag.start()]
        if tag.group() == "</think>":
            # The opening tag can only be missing where the prompt ended with it, so before everything else.
            if reasoning or calls or content:
                raise _Malformed("</think> without <think>")
            reasoning.append(before)
            position = tag.end()
            continue
        content.append(before)
        if tag.group() == "<think>":
            end = text.find("</think>", tag.end())
            if end < 0:
                raise _Malformed("unclosed <think>")
            reasoning.append(text[tag.end() : end])
            position = end + len("</think>")
        elif tag.group() == "<tool_call>":
            call, position = _parse_call(text, tag.end())
            calls.append(call)
        else:
            raise _Malformed("</tool_call> without <tool_call>")
    content.append(text[position:])

    said = "\n".join(part.strip() for part in content if part.strip())
    thought = "\n".join(part.strip() for part in reasoning if part.strip())
    if not said and not calls:
        raise _Malformed("empty output: nothing after the reasoning" if thought else "empty output")
    try:
        (said + thought + json.dumps([call.arguments for call in calls], ensure_ascii=False)).encode()
    except UnicodeEncodeError:
        raise _Malformed("text that is not valid Unicode (a lone surrogate)") from None
    return Message(role="assistant", content=said or None, tool_calls=calls, reasoning_content=thought or None)


def _parse_call(text: str, start: int) -> tuple[ToolCall, int]:
    """The call whose JSON begins at ``start`` (behind the opening tag), and the position behind its closing tag."""
    closing = text.find("</tool_call>", start)
    begin = start + len(text[start:]) - len(text[start:].lstrip())
    if closing >= 0 and begin == closing:
        raise _Malformed("empty <tool_call>")
    try:
        # Decoding from here, not up to the closing tag: a JSON string may hold the tag's text.
        value, end = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text, begin)
    except _DECODER_ERRORS as problem:
        if closing < 0:
            raise _Malformed("unclosed <tool_call>") from None
        reason = problem.msg if isinstance(problem, json.JSONDecodeError) else str(problem)
        raise _Malformed(f"bad JSON in <tool_call>: {reason}") from None
    rest = text[end:].lstrip()
    if not rest.startswith("</tool_call>"):
        if closing < 0 or "</tool_call>" not in rest:
            raise _Malformed("unclosed <tool_call>")
        raise _Malformed("bad JSON in <tool_call>: text after the JSON object")
    position = len(text) - len(rest) + len("</tool_call>")
    return _to_call(value), position


def _to_call(value: Any) -> ToolCall:
    if not isinstance(value, dict):
        raise _Malformed(f"a tool call must be a JSON object, not {_json_type(value)}")
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise _Malformed("a tool call without a name" if name in (None, "") else "a tool call's name must be a string")
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        raise _Malformed(f"arguments of {name} must be a JSON object, not {_json_type(arguments)}")
    if too_deep(arguments):
        raise _Malformed(f"arguments of {name} are nested deeper than {MAX_DEPTH} levels")
    return ToolCall(name=name, arguments=arguments)


def too_deep(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Whether objects and lists nest more than ``limit`` levels deep, found level by level, without recursion."""
    level = [value]
    for _ in range(limit):
        inner: list[Any] = []
        for part in level:
            if isinstance(part, dict | list):
                inner.extend(part.values() if isinstance(part, dict) else part)
        if not inner:
            return False
        level = inner
    return any(isinstance(part, dict | list) for part in level)


def _json_type(value: Any) -> str:
    names = {
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        dict: "an object",
    }
    return names.get(type(value), "null")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
