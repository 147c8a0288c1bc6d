"""What a held-out suite is made of: items, parts, metrics, and the answer a model gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.harness.policies.base import Completion, Conversation

THINK, ENDED = "<think>", "</think>"
UNFINISHED = "reasoning"
"""Policies say so of completions that end within reasoning which the prompt began."""


@dataclass(frozen=True)
class Item:
    """One thing asked of a policy.

    Attributes:
        id: unique in its part.
        group: what counts as independent: items of one group resemble each other.
        kind: what kind of item; a part may have a figure for each kind.
        messages: the conversation so far, or the text to read.
        tools: tools on offer, OpenAI schemas.
        data: what a right answer is; the policy never sees it.
    """

    id: str
    group: str
    kind: str
    messages: tuple[Message, ...]
    tools: tuple[JsonObject, ...] = ()
    data: JsonObject = field(default_factory=dict)

    @property
    def conversation(self) -> Conversation:
        """What the policy sees."""
        return Conversation(self.messages, self.tools)

    def key(self) -> JsonObject:
        """Everything about it as JSON, for digests."""
        return {
            "id": self.id,
            "group": self.group,
            "messages": [message.chat() for message in self.messages],
            "tools": list(self.tools),
            "data": self.data,
        }


@dataclass(frozen=True)
class Metric:
    """One figure of a part.

    Attributes:
        name: key in results.
        label: as people read it.
        kind: ``share``: the mean of ``over`` in [0, 1]; ``ratio``: the sum of ``over`` divided by that of ``under``,
            such as nats a byte.
        over: which of a row's scores.
        under: of a ratio.
        higher_is_better: which direction is forgetting.
    """

    name: str
    label: str
    kind: Literal["share", "ratio"] = "share"
    over: str = "right"
    under: str = ""
    higher_is_better: bool = True


class AnsweredPart(Protocol):
    """A part of the suite that is answered in words and checked by a program."""

    @property
    def name(self) -> str:
        """Of the part, in results."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is made of the scores."""
        ...

    def items(self, count: int, seed: int) -> list[Item]:
        """The same ``count`` items for the same seed."""
        ...

    def score(self, item: Item, answer: Answer) -> dict[str, float]:
        """The scores of an answer, each in [0, 1]."""
        ...


@dataclass(frozen=True)
class Answer:
    """What a policy answered.

    Attributes:
        text: what a reader sees: without reasoning, and without calls where they are well-formed.
        message: the parsed action; None where it was malformed or cut off.
    """

    text: str
    message: Message | None

    @classmethod
    def of(cls, completion: Completion) -> Answer:
        """The answer in a completion.

        A text that was cut off at the length limit is still an answer; reasoning that did not end is none.
        """
        if completion.malformed is None:
            return cls(completion.message.text, completion.message)
        text = completion.text
        if ENDED in text:
            text = text.rpartition(ENDED)[2]
        elif THINK in text or UNFINISHED in completion.malformed:
            text = ""
        return cls(text.strip(), None)


def user(text: str) -> tuple[Message, ...]:
    """A conversation of one message."""
    return (Message(role="user", content=text),)


def numbered(part: str, items: Sequence[tuple[str, str, str, JsonObject]]) -> list[Item]:
    """Items of ``(group, kind, text, data)``, with ids from the part's name and their place."""
    return [
        Item(
            id=f"{part}-{number:03d}", group=group or f"{part}-{number:03d}", kind=kind, messages=user(text), data=data
        )
        for number, (group, kind, text, data) in enumerate(items)
    ]
