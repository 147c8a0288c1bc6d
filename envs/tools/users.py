"""Simulated users: recorded ones, scripted ones, and an LLM behind an OpenAI-compatible endpoint.

All are stateless, as :class:`pivotgym.envs.tools.domain.User` asks: what a user says next depends on the task and
the messages so far only. That is what lets a fork go on talking to the same user as its parent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pivotgym.envs.errors import BadInput, EndpointError
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall, Trajectory, canonical_json

if TYPE_CHECKING:
    from openai import OpenAI

    from pivotgym.envs.tools.domain import ToolDomain

STOP_TOKENS = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
"""What a user says to end the conversation: satisfied, handed to a person, or beyond the scenario."""

UserRule = Callable[[Task, Sequence[Message]], "Message | str | None"]

_GUIDELINES = """\
You play a customer who contacts a service. An agent of that service answers you.
- Stay in the role that the scenario below gives you. Never mention the scenario or that you play a role.
- Write one short message at a time, as a person types in a chat.
- Tell only what the agent needs now, not everything at once. Invent nothing that the scenario does not say; where it
  is silent, say that you do not know.
- When everything you wanted is settled, answer with ###STOP### and nothing else.
- When the agent hands you over to a person, answer with ###TRANSFER### and nothing else.
- When the scenario does not tell you enough to go on, answer with ###OUT-OF-SCOPE### and nothing else.
"""


def is_stop(message: Message) -> bool:
    """Whether a user's message ends the conversation (it holds one of :data:`STOP_TOKENS`)."""
    return any(token in message.text for token in STOP_TOKENS)


class RecordedUser:
    """Says what the recorded user said: the n-th user message of the episode is the recording's n-th.

    Pairing is by counting alone, whatever the agent said in between. The user leaves when the recording has no
    further user message, or where the recorded one is a stop token.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self._said = [message for message in trajectory.messages if message.role == "user"]

    def reply(self, task: Task, messages: Sequence[Message]) -> Message | None:
        """The recorded user message that comes after as many as ``messages`` holds."""
        position = sum(message.role == "user" for message in messages)
        if position >= len(self._said) or is_stop(self._said[position]):
            return None
        return self._said[position]


class ScriptedUser:
    """A user played by a rule: a function of the task and the messages so far.

    Args:
        rule: returns the next message (or just its text), or None to leave. It must be a pure function, else forks
            are not independent.
    """

    def __init__(self, rule: UserRule) -> None:
        self.rule = rule

    def reply(self, task: Task, messages: Sequence[Message]) -> Message | None:
        """What the rule says."""
        said = self.rule(task, messages)
        if said is None:
            return None
        message = Message(role="user", content=said) if isinstance(said, str) else said
        return None if is_stop(message) else message


class LLMUser:
    """An LLM plays the user, with the instructions (and the user-side tools) of the task.

    The roles are flipped: the model sees the agent's words as ``user`` and its own as ``assistant``; the agent's tool
    calls and their results are hidden from it.

    Args:
        base_url: an OpenAI-compatible endpoint, for example ``http://localhost:8000/v1``.
        model: the model's name there.
        api_key: default: the environment variable ``OPENAI_API_KEY``, or none.
        domain: where instructions and user tools come from (``user_instructions(task)``, ``user_tools(task)``); by
            default the domain that the task names.
        temperature: of the sampling.
        max_tokens: longest reply.
        timeout: seconds for one request.
        attempts: how often a request is tried in all; only failures that may pass are tried again.
        wait: seconds before the first retry, doubled each time up to 20.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        domain: ToolDomain | None = None,
        temperature: float = 0.0,
        max_tokens: int = 512,
        timeout: float = 60.0,
        attempts: int = 4,
        wait: float = 0.5,
    ) -> None:
        self.base_url, self.model, self.domain = base_url, model, domain
        self.temperature, self.max_tokens, self.timeout = temperature, max_tokens, timeout
        self.attempts, self.wait = attempts, wait
        self._api_key = api_key

    def reply(self, task: Task, messages: Sequence[Message]) -> Message | None:
        """Asks the endpoint for the next user message; None when it answers with a stop token.

        Raises:
            EndpointError: no usable answer after all attempts.
            BadInput: the task's domain has no instructions for a user.
        """
        instructions, tools = self._scenario(task)
        answer = self._ask(flipped(messages, f"{_GUIDELINES}\n# Scenario\n{instructions}"), tools)
        return None if is_stop(answer) else answer

    def _scenario(self, task: Task) -> tuple[str, list[JsonObject]]:
        domain: Any = self.domain
        if domain is None:
            from pivotgym.envs.tools.domain import get_domain  # here: domain modules import this one

            domain = get_domain(str(task.data.get("domain")))
        instruct = getattr(domain, "user_instructions", None)
        instructions = instruct(task) if instruct is not None else None
        if not instructions:
            raise BadInput(f"task {task.id!r} of {domain.name!r} has no instructions for a user", field="user")
        offer = getattr(domain, "user_tools", None)
        return str(instructions), list(offer(task) or []) if offer is not None else []

    def _ask(self, chat: list[JsonObject], tools: list[JsonObject]) -> Message:
        import openai
        import tenacity

        passing = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, _EmptyAnswer)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(passing),
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=tenacity.wait_exponential(multiplier=self.wait, max=20),
            reraise=True,
        )
        try:
            return retrying(self._request, chat, tools)
        except (openai.OpenAIError, _EmptyAnswer) as error:
            raise EndpointError(f"simulated user {self.model} at {self.base_url}: {error}") from error

    def _request(self, chat: list[JsonObject], tools: list[JsonObject]) -> Message:
        key = self._api_key or os.environ.get("OPENAI_API_KEY") or "none"
        create: Any = _client(self.base_url, key, self.timeout).chat.completions.create
        options: JsonObject = {"tools": tools} if tools else {}
        answer = create(
            model=self.model,
            messages=chat,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            **options,
        )
        choices = getattr(answer, "choices", None)
        if not choices:
            raise _EmptyAnswer("an answer without choices")
        said = choices[0].message
        calls = [
            ToolCall.model_validate({"name": call.function.name, "arguments": call.function.arguments, "id": call.id})
            for call in said.tool_calls or ()
        ]
        text = (said.content or "").strip()
        if not text and not calls:
            raise _EmptyAnswer("an empty answer")
        return Message(role="user", content=text or None, tool_calls=calls, requestor="user" if calls else "assistant")


class _EmptyAnswer(Exception):
    """Internal: the endpoint answered, but with nothing to say."""


def flipped(messages: Sequence[Message], system: str) -> list[JsonObject]:
    """The conversation as the user's model sees it: OpenAI chat dicts, roles exchanged.

    Tool-call ids are numbered anew: recordings use one id twice in a conversation, which endpoints refuse.
    """
    chat: list[JsonObject] = [{"role": "system", "content": system}]
    waiting: list[str] = []
    count = 0
    for message in messages:
        if message.role == "assistant" and not message.tool_calls:
            chat.append({"role": "user", "content": message.text})
        elif message.role == "user":
            row: JsonObject = {"role": "assistant", "content": message.text or None}
            waiting = []
            for call in message.tool_calls:
                waiting.append(f"call_{count}")
                count += 1
                arguments = call.arguments if isinstance(call.arguments, str) else canonical_json(call.arguments)
                function = {"name": call.name, "arguments": arguments}
                row.setdefault("tool_calls", []).append({"id": waiting[-1], "type": "function", "function": function})
            chat.append(row)
        elif message.role == "tool" and message.requestor == "user" and waiting:
            chat.append({"role": "tool", "tool_call_id": waiting.pop(0), "content": message.text})
    if len(chat) == 1:  # the user speaks first, yet chat models answer only to something
        chat.append({"role": "user", "content": "(The agent is connected and waits for you.)"})
    return chat


@lru_cache(maxsize=16)
def _client(base_url: str, api_key: str, timeout: float) -> OpenAI:
    # One client an endpoint: users are made anew for every turn, connections should not be.
    from openai import OpenAI

    return OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=0)
