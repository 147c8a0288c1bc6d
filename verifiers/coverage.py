"""Whether what one action showed tells at least as much as what another showed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.trajectory import Message, ToolCall, canonical_json
from pivotgym.verifiers.arguments import canonical_call
from pivotgym.verifiers.facts import leaves, parse_json

Leaf = tuple[str, str]


def result_leaves(env: AgentEnv, text: str) -> set[Leaf]:
    """The leaf facts of one tool result: (nearest key, value), wherever they stand in the JSON.

    The domain's normaliser is applied first, so volatile values compare equal; numbers compare by value. A result
    that is no JSON is one leaf without a key.
    """
    value = parse_json(env.normalise(text).strip())
    return {(key, _canonical(leaf)) for key, leaf in leaves(value)}


def is_error(message: Message) -> bool:
    """Whether a tool message reports a failure, in the ways common among tool frameworks."""
    if message.source.get("error") is True or message.source.get("is_error") is True:
        return True
    text = message.text.strip()
    if re.match(r"(?:error|exception|traceback|invalid arguments?|unknown tool)\b", text, re.I):
        return True
    value = parse_json(text)
    return isinstance(value, dict) and bool(value.get("error")) and len(value) <= 2


def is_specific(found: set[Leaf], call: ToolCall, sampled: Sequence[ToolCall]) -> bool:
    """Whether a result says by itself what it is about.

    ``[]``, ``landed`` or ``true`` can be the answer to many questions: equal answers then do not mean the same was
    learnt. A result with an identifier in it does say so; a number of three significant digits does if the same tool
    gave it (two spellings of one calculation).
    """
    if any(_identifies(value) for _, value in found):
        return True
    same_tool = any(other.name == call.name for other in sampled)
    return same_tool and any(_significant(value) >= 3 for _, value in found)


def uncovered(
    env: AgentEnv,
    demonstrated: Sequence[ToolCall],
    shown: Sequence[Message],
    sampled: Sequence[ToolCall],
    got: Sequence[Message],
    changed: bool = False,
) -> list[str]:
    """What the demonstrated results told that the sampled ones do not, as texts for a person; empty if nothing.

    Args:
        env: stands at the pivot (for its normaliser and tools).
        demonstrated: the demonstrated calls.
        shown: their results, one message a call.
        sampled: the sampled calls.
        got: their results, one message a call.
        changed: both actions made the same change to the state, so a bare ``ok`` is about the same thing.
    """
    told: set[Leaf] = set()
    for message in got:
        told |= result_leaves(env, message.text)
    made = {_loosely(env, call) for call in sampled}
    gaps = []
    for call, message in zip(demonstrated, shown, strict=False):
        found = result_leaves(env, message.text)
        asked = changed or _loosely(env, call) in made
        if not asked and not is_specific(found, call, sampled):
            gaps.append(f"what {call.name}({canonical_json(call.arguments)}) answers")
            continue
        gaps += [f"{key}: {value}" if key else value for key, value in sorted(found - told)]
    return gaps


def _loosely(env: AgentEnv, call: ToolCall) -> str:
    """Equal for calls whose arguments differ only in case and punctuation: the tool understood both alike."""
    return re.sub(r"[\W_]+", " ", canonical_call(env.tools, call).casefold())


def _canonical(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return canonical_json(value)


def _identifies(value: str) -> bool:
    """An id, e-mail address or the like: letters and digits, or upper-case letters only; no date, no sentence."""
    if not (value.startswith('"') and len(value) >= 4) or " " in value:
        return False
    bare = value.strip('"')
    if re.fullmatch(r"[A-Z]{5,}", bare) or re.fullmatch(r"\S+@\S+\.\S+", bare):
        return True
    if re.match(r"\d{4}-\d{2}-\d{2}", bare):
        return False
    digits = sum(character.isdigit() for character in bare)
    return (digits > 0 and any(character.isalpha() for character in bare)) or digits >= 7


def _significant(value: str) -> int:
    if not re.fullmatch(r'"?-?\d+(?:\.\d+)?"?', value):
        return 0
    return len(re.sub(r"\D", "", value).strip("0"))
