"""The desk's simulated user: a pure function of the task's scenario and the messages so far."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pivotgym.envs.tools.functions import missing_facts
from pivotgym.envs.tools.servicedesk.hearing import tells
from pivotgym.envs.tools.servicedesk.scenario import Request, Scenario
from pivotgym.envs.trajectory import Message

PATIENCE = 3
"""The user leaves after so many turns that brought nothing."""

MOST_VALUES = 6
"""A text with more different ids and numbers than this tells the user nothing."""

_ASKING = re.compile(r"\?|\b(please|tell|need|give|provide|send|what|which|enter|confirm)\b", re.IGNORECASE)
_DETAILS = {
    "contact": re.compile(r"\b(e-?mail|phone|contact)\b", re.IGNORECASE),
    "pin": re.compile(r"\bpin\b", re.IGNORECASE),
    "order": re.compile(r"\b(which|what) (order|item|one)\b|\border (id|number)\b", re.IGNORECASE),
}


@dataclass
class Progress:
    """Where the conversation stands from the user's side.

    Attributes:
        served: how many requests are settled, as far as the user was told.
        useless: turns of the agent that brought nothing.
        reply: what the user says to the agent's last text; None when the user leaves.
    """

    served: int = 0
    useless: int = 0
    reply: str | None = None
    answered: set[str] = field(default_factory=set)


def follow(scenario: Scenario, messages: Sequence[Message]) -> Progress:
    """Goes through the agent's texts from the beginning, as the user heard them."""
    progress = Progress(reply=scenario.opening)
    for message in messages:
        if message.role == "assistant" and not message.tool_calls:
            if progress.reply is None:
                break
            _hear(scenario, progress, message)
    return progress


def _hear(scenario: Scenario, progress: Progress, message: Message) -> None:
    request = scenario.requests[progress.served]
    asked = _asked(request, message.text)
    if asked - {"confirm"}:
        _useful(progress, not asked <= progress.answered)
        progress.answered |= asked
        progress.reply = _leave_or(progress, _details(scenario, request, asked))
        return
    confirmed = _confirmation(request, message.text)
    if confirmed is not None:
        _useful(progress, f"confirm:{confirmed}" not in progress.answered)
        progress.answered.add(f"confirm:{confirmed}")
        progress.reply = _leave_or(progress, confirmed)
        return
    told = tells(request, message.text, scenario.requests[: progress.served])
    if told and not _lists_everything(request, message):
        progress.served += 1
        if progress.served == len(scenario.requests):
            progress.reply = None
        else:
            progress.reply = scenario.requests[progress.served].next_text
            progress.answered &= {"contact", "pin"}  # what was asked about one request is news for the next
        return
    _useful(progress, False)
    progress.reply = _leave_or(progress, request.text)


def _lists_everything(request: Request, message: Message) -> bool:
    """Whether the text holds the answer only because it holds every answer."""
    values = set(re.findall(r"\b[A-Za-z]?\d+\b", message.text))
    told = [word for word in request.rivals if not missing_facts([word], [message])]
    return len(values) > MOST_VALUES or bool(told)


def _useful(progress: Progress, useful: bool) -> None:
    progress.useless += not useful


def _leave_or(progress: Progress, text: str) -> str | None:
    return None if progress.useless >= PATIENCE else text


def _asked(request: Request, text: str) -> set[str]:
    """Which details the text asks for; it counts only in a sentence that asks."""
    found = set()
    for sentence in _sentences(text):
        if _ASKING.search(sentence):
            found |= {detail for detail, pattern in _DETAILS.items() if pattern.search(sentence)}
    if request.order is None:
        found.discard("order")
    return found


def _details(scenario: Scenario, request: Request, asked: set[str]) -> str:
    parts = []
    if "contact" in asked:
        parts.append(scenario.contact)
    if "pin" in asked:
        parts.append(f"PIN {scenario.customer.pin}" if parts else f"My PIN is {scenario.customer.pin}")
    if "order" in asked:
        parts.append(f"order {request.order}" if parts else f"It is order {request.order}")
    return ", ".join(parts) + "."


def _confirmation(request: Request, text: str) -> str | None:
    for sentence in _sentences(text):
        if "?" in sentence or re.search(r"\bconfirm", sentence, re.IGNORECASE):
            for value, answer in request.confirm.items():
                if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", sentence, re.IGNORECASE):
                    return answer
    return None


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+|\n", text) if part]
