"""Scripted policies."""

from __future__ import annotations

import random

import pytest

from pivotgym.envs.actions import parse_action
from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.harness.policies import Conversation, Policy, Sampling
from pivotgym.harness.policies.scripted import Demonstration, NoisyDemonstration, ScriptedPolicy, damage

CALL = Message(role="assistant", tool_calls=[ToolCall(name="get", arguments={"id": "A", "n": 1}, id="c1")])
TRAJECTORY = Trajectory(
    id="t",
    messages=[
        Message(role="user", content="hello"),
        CALL,
        Message(role="tool", content="open", tool_call_id="c1"),
        Message(role="user", tool_calls=[ToolCall(name="reboot")]),
        Message(role="tool", content="rebooted", requestor="user"),
        Message(role="assistant", content="It is open."),
    ],
)
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("get", "put")]


def state(turn: int) -> Conversation:
    """What the agent sees: a system message in front, the user's own calls left out."""
    seen = [message for message in TRAJECTORY.prefix(turn) if message.visible_to_agent]
    return Conversation([Message(role="system", content="policy"), *seen], TOOLS)


def test_the_demonstration_repeats_the_recording() -> None:
    policy = Demonstration([TRAJECTORY])
    assert isinstance(policy, Policy)
    drawn = policy.sample([state(1), state(0)], 2)
    assert [[c.message for c in group] for group in drawn] == [[TRAJECTORY.action(1)] * 2, [CALL] * 2]
    assert policy.usage.calls == 4
    with pytest.raises(BadInput, match="no recorded trajectory"):
        policy.sample([Conversation([Message(role="user", content="other")])])


def test_the_text_of_an_action_parses_back() -> None:
    thought = CALL.model_copy(update={"reasoning_content": "hm", "content": "One moment."})
    policy = ScriptedPolicy(lambda conversation, rng: thought)
    parsed, reason = parse_action(policy.sample([state(0)])[0][0].text)
    assert reason is None
    assert (parsed.content, parsed.reasoning_content) == ("One moment.", "hm")
    assert [(call.name, call.arguments) for call in parsed.tool_calls] == [("get", {"id": "A", "n": 1})]


def test_noise_has_its_rate_and_its_seed() -> None:
    policy = NoisyDemonstration([TRAJECTORY], noise=0.3)
    (drawn,) = policy.sample([state(0)], 1000, Sampling(seed=1))
    wrong = [completion.message for completion in drawn if completion.message != CALL]
    assert 250 < len(wrong) < 350
    assert drawn == policy.sample([state(1), state(0)], 1000, Sampling(seed=1))[1]
    assert drawn != policy.sample([state(0)], 1000, Sampling(seed=2))[0]
    kinds = {
        (bool(message.tool_calls), *((call.name, len(call.arguments)) for call in message.tool_calls))
        for message in wrong
    }
    assert kinds == {(False,), (True, ("put", 2)), (True, ("get", 1)), (True, ("get", 2))}
    assert CALL.tool_calls[0].arguments == {"id": "A", "n": 1}


def test_damage_always_changes_the_action() -> None:
    rng = random.Random(0)
    for action in (CALL, TRAJECTORY.action(1), Message(role="assistant", tool_calls=[ToolCall(name="get")])):
        assert all(damage(action, ["get"], rng) != action for _ in range(50))
    with pytest.raises(BadInput):
        NoisyDemonstration([], noise=1.5)
