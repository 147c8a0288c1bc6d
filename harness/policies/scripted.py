"""Policies that follow a script: the demonstration, and the demonstration with noise."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory, canonical_json, digest
from pivotgym.harness.policies.base import Completion, Conversation, Sampling, Usage

Act = Callable[[Conversation, random.Random], Message]


class ScriptedPolicy:
    """Takes ``act(conversation, rng)`` as its action.

    ``rng`` depends on the seed, the conversation and the sample's number only, so the result is the same however
    conversations are batched.
    """

    def __init__(self, act: Act, *, name: str = "scripted") -> None:
        self._act = act
        self.name = name
        self.usage = Usage()

    @property
    def fingerprint(self) -> str:
        """The name."""
        return self.name

    def sample(
        self, conversations: Sequence[Conversation], n: int = 1, sampling: Sampling | None = None
    ) -> list[list[Completion]]:
        """``n`` scripted actions for each conversation."""
        seed = None if sampling is None else sampling.seed
        results = []
        for conversation in conversations:
            key = conversation_key(conversation.messages)
            drawn = []
            for number in range(n):
                rng = random.Random(None if seed is None else f"{seed}/{key}/{number}")
                message = self._act(conversation, rng)
                drawn.append(Completion(message=message, text=action_text(message)))
            results.append(drawn)
        self.usage.calls += n * len(conversations)
        return results


class Demonstration(ScriptedPolicy):
    """Repeats what was recorded: at a state of a recorded trajectory, the recorded action."""

    def __init__(self, trajectories: Iterable[Trajectory], *, name: str = "demonstration") -> None:
        self.actions = recorded_actions(trajectories)
        super().__init__(lambda conversation, _: self.action(conversation), name=name)

    def action(self, conversation: Conversation) -> Message:
        """The recorded action. Raises BadInput where the conversation is the prefix of no recorded trajectory."""
        action = self.actions.get(conversation_key(conversation.messages))
        if action is None:
            raise BadInput(f"no recorded trajectory begins with these {len(conversation.messages)} messages")
        return action


class NoisyDemonstration(Demonstration):
    """The recorded action with probability ``1 - noise``, else a damaged one.

    Damage is of the kinds policies make: another tool's name, a missing argument, a changed value, no call at all.
    """

    def __init__(self, trajectories: Iterable[Trajectory], *, noise: float, name: str | None = None) -> None:
        if not 0 <= noise <= 1:
            raise BadInput(f"noise must be between 0 and 1, not {noise}")
        super().__init__(trajectories, name=name or f"demonstration+noise{noise:g}")
        self.noise = noise
        self._act = self._noisy

    def _noisy(self, conversation: Conversation, rng: random.Random) -> Message:
        action = self.action(conversation)
        if rng.random() >= self.noise:
            return action
        return damage(action, [tool_name(tool) for tool in conversation.tools], rng)


def damage(action: Message, tools: Sequence[str], rng: random.Random) -> Message:
    """A copy of ``action`` with one mistake in it."""
    if not action.tool_calls:
        return Message(role="assistant", content="I am not sure.")
    target = rng.randrange(len(action.tool_calls))
    call = action.tool_calls[target]
    arguments = dict(call.arguments) if isinstance(call.arguments, dict) else {}
    others = [name for name in tools if name != call.name]
    kinds = ["silence", *(["tool"] if others else []), *(["drop", "change"] if arguments else [])]
    kind = rng.choice(kinds)
    if kind == "silence":
        return Message(role="assistant", content="I am not sure.")
    name = rng.choice(others) if kind == "tool" else call.name
    if kind == "drop":
        del arguments[rng.choice(sorted(arguments))]
    elif kind == "change":
        field = rng.choice(sorted(arguments))
        arguments[field] = f"{arguments[field]}-wrong" if isinstance(arguments[field], str) else "wrong"
    calls = list(action.tool_calls)
    calls[target] = ToolCall(name=name, arguments=arguments, id=call.id)
    return action.model_copy(update={"tool_calls": calls})


def recorded_actions(trajectories: Iterable[Trajectory]) -> Mapping[str, Message]:
    """Every recorded action by its state's :func:`conversation_key`; of equal states the first recording's."""
    actions: dict[str, Message] = {}
    for trajectory in trajectories:
        for turn in range(len(trajectory.turns)):
            prefix = [message for message in trajectory.prefix(turn) if message.visible_to_agent]
            actions.setdefault(conversation_key(prefix), trajectory.action(turn))
    return actions


def conversation_key(messages: Sequence[Message]) -> str:
    """Equal for conversations that say the same; ids of calls, reasoning and the system message do not matter."""
    rows = [
        (message.role, message.text, [(call.name, call.arguments) for call in message.tool_calls])
        for message in messages
        if message.role not in ("system", "developer")
    ]
    return digest(canonical_json(rows))


def action_text(message: Message) -> str:
    """The action in the text form :func:`pivotgym.envs.actions.parse_action` reads."""
    parts = [f"<think>\n{message.reasoning_content}\n</think>"] if message.reasoning_content else []
    parts += [message.text] if message.text else []
    for call in message.tool_calls:
        body = canonical_json({"name": call.name, "arguments": call.arguments}, sort=False)
        parts.append(f"<tool_call>\n{body}\n</tool_call>")
    return "\n".join(parts)


def tool_name(tool: Mapping[str, object]) -> str:
    """The name in an OpenAI tool schema, nested or flat."""
    function = tool.get("function")
    return str((function if isinstance(function, dict) else tool).get("name", ""))
