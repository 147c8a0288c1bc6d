"""The law that nothing of what is still to come can be seen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from pydantic import BaseModel

from pivotgym.envs.core import AgentEnv, Episode, Pivot
from pivotgym.envs.subject import Checked, LawBroken, Subject, where_of
from pivotgym.envs.trajectory import Task, Trajectory, canonical_json


def blindness(subject: Subject) -> Checked:
    """The demonstrated action and what comes after it are nowhere in what the policy can read."""
    checked = 0
    for trajectory, turn in subject.turns:
        with closing(subject.make(None)) as env:
            observation, info = env.reset(options={"trajectory": trajectory, "turn": turn})
            where = where_of(trajectory, turn)
            for path, value in _walk(info, "info"):
                if isinstance(value, Trajectory | Pivot | Episode | AgentEnv):
                    raise LawBroken(f"{where}: {path} holds the recording ({type(value).__name__})", checked)
            shown = {
                "the observation": observation,
                "the conversation": canonical_json([message.chat() for message in env.conversation]),
                "info": _text(info),
                "the tools": canonical_json(env.tools),
            }
            known = canonical_json([message.chat() for message in trajectory.prefix(turn)])
            with closing(subject.make(None)) as plain:
                plain.reset(options={"task": trajectory.task})
                known += canonical_json(trajectory.tools or plain.tools) + plain.task.id
            for mark in _marks(trajectory, turn):
                checked += 1
                if mark in known:
                    continue
                for place, text in shown.items():
                    if mark in text:
                        raise LawBroken(f"{where}: {place} shows what is still to come: {mark[:200]}", checked)
    for name, text in _task_secrets(subject):
        checked += 1
        if name:
            raise LawBroken(f"after a plain reset info shows the task's {name}: {text[:200]}", checked)
    return checked, f"{checked} pieces of what is to come are not shown"


def _marks(trajectory: Trajectory, turn: int) -> list[str]:
    """Recognisable pieces of the demonstrated action and all that follows, spelt as in JSON."""
    pieces: list[Any] = []
    for message in trajectory.messages[trajectory.turns[turn] :]:
        pieces.append(message.text)
        for call in message.tool_calls:
            pieces.append(call.arguments)
            pieces += [value for _, value in _walk(call.arguments, "") if isinstance(value, str)]
    texts = {json.dumps(piece, ensure_ascii=False)[1:-1] for piece in pieces if piece}
    return sorted(text for text in texts if len(text) >= 8)


def _task_secrets(subject: Subject) -> Iterator[tuple[str, str]]:
    """For each secret text of the task in use: ``(its name, the text)`` where ``info`` shows it, else ``("", "")``."""
    secret = ("goal", "expected", "reference", "evaluation_criteria", "solution", "tests", "reference_actions")
    with closing(subject.make(None)) as env:
        for trajectory in {trajectory.id: trajectory for trajectory, _ in subject.turns}.values():
            _, info = env.reset(options={"task": trajectory.task})
            shown = _text(info)
            for path, value in _walk(env.task.data, ""):
                hidden = next((name for name in secret if name in path.split(".")), None)
                if hidden and isinstance(value, str) and len(value) >= 8 and value not in env.task.id:
                    yield (hidden, value) if json.dumps(value, ensure_ascii=False)[1:-1] in shown else ("", "")


def _text(value: Any) -> str:
    def plain(item: Any) -> Any:
        return item.model_dump() if isinstance(item, BaseModel) else repr(item)

    return json.dumps(value, ensure_ascii=False, default=plain)


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value inside ``value`` with its dotted path; recordings and environments are not entered."""
    yield path, value
    if isinstance(value, Trajectory | Task | Pivot | Episode | AgentEnv):
        return
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple | set):
        items = list(enumerate(value))
    elif isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        items = list(vars(value).items())
    for key, item in items:
        yield from _walk(item, f"{path}.{key}" if path else str(key))
