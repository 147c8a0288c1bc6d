"""What every policy offers: ``sample(conversations, n) -> completions``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Message

StopReason = Literal["stop", "length", "error"]


@dataclass(frozen=True)
class Conversation:
    """What the policy sees: chat messages (agent's view) and the tools on offer (OpenAI tool schemas)."""

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Sampling:
    """How to sample. ``seed`` fixes the result for a given batch; ``None`` draws a fresh one."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int | None = None


@dataclass(frozen=True)
class Completion:
    """One sampled action.

    Attributes:
        message: the parsed action. Where ``malformed`` is set it holds the raw text as content.
        text: the raw text as sampled, without the end-of-turn token.
        prompt_ids: token ids of the prompt, shared by the completions of one conversation. Empty for endpoints
            that do not give ids.
        token_ids: token ids exactly as sampled, the end-of-turn token included when it was sampled.
        logprobs: one log-probability (natural logarithm) per entry of ``token_ids``, under the sampling
            distribution at temperature 1 before top-p truncation.
        stop_reason: ``stop`` (the policy ended its turn), ``length`` (cut at ``max_tokens``).
        malformed: why the action is not well-formed (bad JSON in a tool call, unclosed tag, cut off …), or None.
        all_reasoning: the prompt opened a reasoning block and the text does not close it. The text alone does not
            show that: whoever reads it without the prompt takes it for an answer.
    """

    message: Message
    text: str
    prompt_ids: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop_reason: StopReason = "stop"
    malformed: str | None = None
    all_reasoning: bool = False

    @property
    def refused(self) -> str | None:
        """Why an environment must not read the text as an action, where the text itself does not say so; or None.

        Other text that is no well-formed action is for the environment to judge, whose syntax may be another one.
        """
        return self.malformed if self.stop_reason == "length" or self.all_reasoning else None


@dataclass
class Usage:
    """Running cost of a policy.

    Attributes:
        calls: completions asked for and got: ``n`` for ``n`` completions of one conversation, whether the backend
            answers them together or one by one. Repeated requests after a failure are not counted.
        prompt_tokens: tokens of the prompts the backend read.
        sampled_tokens: tokens sampled.
        seconds: wall-clock time in ``sample``.
    """

    calls: int = 0
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    seconds: float = 0.0


@runtime_checkable
class Policy(Protocol):
    """A policy. ``sample`` raises :class:`pivotgym.envs.errors.EndpointError` when its backend fails.

    A policy whose answers can change under one name (weights in a folder) also has ``fingerprint: str``, which
    changes with them; results are kept apart by it. Without it the name stands for the policy.
    """

    name: str
    usage: Usage

    def sample(
        self, conversations: Sequence[Conversation], n: int = 1, sampling: Sampling | None = None
    ) -> list[list[Completion]]:
        """``n`` completions for each conversation, in the order given."""
        ...


class PromptTooLong(BadInput):
    """A conversation leaves no room to answer in the model's context.

    Attributes:
        index: which conversation of the batch.
        length: tokens of its prompt.
        context: tokens the model can see.
    """

    def __init__(self, index: int, length: int, context: int) -> None:
        super().__init__(f"conversation {index}: a prompt of {length} tokens in a context of {context}")
        self.index, self.length, self.context = index, length, context

    def __reduce__(self) -> tuple[object, ...]:
        return (PromptTooLong, (self.index, self.length, self.context))
