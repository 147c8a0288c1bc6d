"""Actions no tool expects earn 0 and raise nothing; what is long costs little; texts are judged where users talk."""

from __future__ import annotations

import json
import time

import pytest
from shop import after, call, calls, say, user

from pivotgym.envs.actions import parse_action
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.servicedesk import bundled_trajectories
from pivotgym.envs.trajectory import Message, ToolCall
from pivotgym.verifiers import make, verify_completion
from pivotgym.verifiers.facts import known_facts, vocabulary_of
from pivotgym.verifiers.memo import Memo
from pivotgym.verifiers.talk import prose_problem

SPECS = ["exact", "tool_call", "effects", "goal", "continuation"]
VALUES = {
    "400 digits": "1" * 400,
    "6000 digits": "1" * 6000,
    "deep lists": "[" * 900 + "]" * 900,
    "depth 70": "[" * 70 + "]" * 70,
    "deep objects": '{"a":' * 900 + "1" + "}" * 900,
    "very deep": "[" * 50_000 + "]" * 50_000,
    "NaN": "NaN",
    "Infinity": "Infinity",
    "overflow": "1e400",
    "surrogate": '"\\ud800"',
    "100 kB": json.dumps("O17 92 " * 15_000),
    "null": "null",
}


@pytest.fixture(scope="module")
def refund():
    return next(row for row in bundled_trajectories("heldout") if row.task.id.startswith("refund-"))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", VALUES)
def test_odd_arguments_are_wrong_and_raise_nothing(refund, spec, name):
    for key in ("amount", "order", "nowhere"):
        arguments = {"order": '"O17"', "amount": "92", key: VALUES[name]}
        inside = ",".join(f'"{part}":{value}' for part, value in arguments.items())
        text = f'<tool_call>{{"name":"refund","arguments":{{{inside}}}}}</tool_call>'
        action, malformed = parse_action(text)
        env = ToolsEnv()
        env.reset(options={"trajectory": refund, "turn": 2})
        verdict = verify_completion(make(spec), env, action, malformed)
        assert verdict.reward == 0, (key, verdict.reason)
    assert action.role == "assistant"


def test_the_demonstrated_arguments_are_right_by_the_same_path(refund):
    env = ToolsEnv()
    env.reset(options={"trajectory": refund, "turn": 2})
    text = '<tool_call>{"name":"refund","arguments":{"order":"O17","amount":92}}</tool_call>'
    assert [verify_completion(make(spec), env, *parse_action(text)).reward for spec in SPECS if spec != "goal"] == [
        1
    ] * 4


def test_deep_arguments_built_in_python_are_wrong_too(refund):
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    env = ToolsEnv()
    env.reset(options={"trajectory": refund, "turn": 2})
    action = Message(role="assistant", tool_calls=[ToolCall.model_construct(name="refund", arguments={"amount": deep})])
    for spec in SPECS:
        assert verify_completion(make(spec), env, action).reward == 0


def test_continuation_judges_texts(refund):
    row = next(row for row in bundled_trajectories("heldout") if row.task.id.startswith("address-"))
    env, verifier = ToolsEnv(), make("continuation")
    talks = [turn for turn in range(len(row.turns)) if not row.action(turn).tool_calls]
    assert len(talks) >= 3
    for turn in talks:
        env.reset(options={"trajectory": row, "turn": turn})
        assert verifier.verify(env, say("banana")).reward == 0
        assert verifier.verify(env, row.action(turn)).reward == 1


@pytest.mark.parametrize(
    ("shown", "sampled", "right"),
    [
        ("The customer wants a refund for order W100", "The customer wants no refund for order W100", False),
        ("The customer wants no refund for order W100", "The customer wants a refund for order W100", False),
        ("The customer wants no refund for order W100", "For W100 the customer does not want a refund", True),
        ("The customer wants a refund for order W100", "Customer asks for a refund of order W100", True),
    ],
)
def test_a_note_must_not_deny_what_the_demonstration_says(shown, sampled, right):
    env = after(user("Order W100."), demonstration=calls(call("add_note", order_id="W100", text=shown)))
    assert (prose_problem(env, shown, sampled) is None) is right


LONG = {
    "JSON": json.dumps(
        [{"id": f"W{i}", "price": i * 1.5, "day": "2024-05-05", "name": "desk lamp"} for i in range(72000)]
    ),
    "numbers": "12 " * 1_600_000,
    "one word": "x" * 5_000_000,
    "mail": "A.a@" * 1_250_000,
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_result_in_the_history_costs_little(name):
    history = (user("And W100?"), calls(call("get_order", order_id="W100")))
    env = after(*history, demonstration=say("Order W100 is pending, its total is $60.00."))
    long = Message(role="tool", content=LONG[name])
    env.episode.messages.insert(1, long)
    began = time.process_time()
    verdict = make("effects").verify(env, say("W100 is pending, its total is 60 dollars."))
    assert time.process_time() - began < 6
    assert verdict.reward == 1, verdict.reason


def test_a_long_result_still_tells_its_first_leaves():
    message = Message(role="tool", content=LONG["JSON"])
    known = {str(fact) for fact in known_facts([message], vocabulary_of([message]))}
    assert {"id w0", "id w3000", "id w71999", "date 2024-05-05", "term desk lamp"} <= known


def test_the_memory_is_bounded_and_forgets_the_oldest():
    read = []
    memo = Memo(lambda text: read.append(text) or text.split(), max_items=10)
    for text in ("a b c", "d e f", "a b c", "g h i", "a b c"):
        assert list(memo(text)) == text.split()
    assert read == ["a b c", "d e f", "g h i"]
    memo("d e f")
    assert read[-1] == "d e f"
    assert len(memo) <= 10
