"""What the desk's user takes for an answer, and that no argument breaks a tool."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.functions import ArgumentError, validate_arguments
from pivotgym.envs.tools.schema import ToolError, tool_schema
from pivotgym.envs.tools.servicedesk import ServiceDesk, bundled_trajectories, scenario_of
from pivotgym.envs.tools.servicedesk.hearing import tells
from pivotgym.envs.tools.servicedesk.tools import FUNCTIONS, parse_date
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory

ROWS: dict[str, Trajectory] = {}
for _row in bundled_trajectories("heldout"):
    assert _row.task is not None
    ROWS.setdefault(_row.task.id.split("-")[0], _row)

FALSE = [
    ("refund_late", "I did not find nothing, refund is on its way"),
    ("refund_late", "not bad"),
    ("refund_late", "No problem, I refunded it."),
    ("refund_late", "Sorry, no, but I will refund it tomorrow."),
    ("refund_late", "Sorry, it is 57 days old, so I escalated the refund."),
    ("refund_late", "Sorry."),
    ("solved", "not closed"),
    ("solved", "I could not do it: the ticket isn\u2019t closed."),
    ("solved", "It is closed, then I reopened it."),
    ("cancel", "I have not cancelled it"),
    ("cancel", "It was never cancelled."),
    ("cancel", "It is cancelled and reopened."),
    ("cancel_shipped", "No problem, it is cancelled, although shipped."),
    ("where", "It was lost on {fact}."),
    ("where", "It does not arrive on {fact}."),
    ("where", "It was cancelled on {fact}."),
    ("where", "{fact}."),
    ("refund", "{fact}"),
    ("refund", "Ok, {fact}."),
    ("refund", "I did not refund {fact}."),
    ("refund", "I charged {fact} for it."),
    ("refund", "I refunded {fact} and cancelled your account."),
    ("replace", "{fact}"),
    ("fault", "I opened ticket {fact}, and closed it."),
    ("password", "{fact}"),
    ("password", "Never use {fact}."),
    ("news", "It is {fact}, in fact closed."),
]
TRUE = [
    ("refund_late", "I'm afraid it can't be refunded: it is 57 days old."),
    ("refund_late", "It is 57 days old, so a refund is not possible."),
    ("refund_late", "Refunds are only possible within 30 days, so I can't refund it."),
    ("refund_late", "We must decline the refund, the order is too old."),
    ("refund_late", "Sorry, no. I have noted it and did not refund anything."),
    ("solved", "The ticket is closed."),
    ("solved", "No problem, I closed it."),
    ("cancel", "I have cancelled the order that you no longer need."),
    ("cancel", "No worries, your order is canceled."),
    ("cancel_shipped", "It was shipped, so no cancellation."),
    ("cancel_shipped", "Sorry, it is shipped already."),
    ("where", "It is not here yet but should arrive on {fact}."),
    ("where", "It's {fact}."),
    ("refund", "Your refund of ${fact}.00 has been issued."),
    ("refund", "{fact} was paid back."),
    ("replace", "A new one is on its way under order {fact}."),
    ("fault", "I can't fix it myself, so I opened ticket {fact}."),
    ("password", "The code is {fact}."),
    ("news", "It is {fact}."),
]


@pytest.mark.parametrize(("variant", "text", "told"), [(*one, False) for one in FALSE] + [(*one, True) for one in TRUE])
def test_what_is_denied_bare_or_contradicted_is_not_told(variant: str, text: str, told: bool) -> None:
    row = ROWS[variant]
    assert row.task is not None
    (request,) = scenario_of(row.task).requests
    fact = request.facts[0] if isinstance(request.facts[0], str) else request.facts[0][0]
    said = text.format(fact=fact)
    assert tells(request, said) is told
    env = ToolsEnv(snapshots=SnapshotStore())
    last = len(row.turns) - 1
    env.reset(options={"trajectory": row, "turn": last})
    _, reward, terminated, _, _ = env.step(said)
    assert (terminated and reward == 1.0) is told, (reward, env.messages[-1].text)
    env.close()


def test_what_was_done_before_may_be_said_again() -> None:
    rows = [row for row in bundled_trajectories("long") if row.task and row.task.id.startswith("cancel+where-")]
    assert rows and rows[0].task is not None
    first, second = scenario_of(rows[0].task).requests
    text = "Your order is cancelled, the other arrives on " + second.facts[0][0] + "."
    assert tells(second, text, [first]) and not tells(second, text)


def test_every_recorded_answer_is_heard() -> None:
    for row in bundled_trajectories():
        assert row.task is not None
        requests = scenario_of(row.task).requests
        assert tells(requests[-1], row.action(len(row.turns) - 1).text, requests[:-1]), row.id


# Odd arguments ----------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


ODD: list[Any] = [
    *(0, -1, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 10**5000, 1e308, -1e-320, math.nan, math.inf, True, None),
    *("", " ", "\x00", "a\x00b", "\ud800", "\u202e\u0665 March", "\u00b2 March", "🙂" * 50, "x" * 100_000),
    *("9" * 100_000, "'; DROP TABLE orders; --", "O17' OR '1'='1", "111111111111 March", "9" * 5000 + " March"),
    *("99999-99999-99999", "0.0.0.", "31.2.", "March 0", "2026-13-45", "1 March 99999", "-" * 1000, "#" * 1000),
    *([], {}, ["O17"], {"order": "O17"}, nested(10), nested(63), nested(70), nested(5000)),
]


def test_no_argument_breaks_a_tool() -> None:
    """Every tool with every odd value at every place: always a text, and the state can still be compared."""
    row = ROWS["visit_full"]
    assert row.task is not None
    desk, env = ServiceDesk(), ToolsEnv(snapshots=SnapshotStore())
    env.reset(options={"trajectory": row, "turn": 1})
    order = scenario_of(row.task).customer.orders[0].id
    ticket = scenario_of(row.task).customer.tickets[0].id
    usual = {"order": order, "id": ticket, "amount": 1.0, "day": "14 March", "priority": "high"}
    before = env.save()
    assert before is not None
    calls = 0
    for function in FUNCTIONS:
        names = list(tool_schema(function)["function"]["parameters"]["properties"])
        for name, value in itertools.product([*names, "unknown"], ODD):
            arguments = {other: usual.get(other, "x") for other in names} | {name: value}
            text = desk.call(env.session, ToolCall(name=function.__name__, arguments=arguments))
            assert isinstance(text, str) and len(text) < 1000
            calls += 1
    after = env.save()
    assert after is not None and calls > 800
    assert env.diff(before, after), "some odd calls are fine and changed something"
    env.close()


def test_random_arguments_through_the_environment() -> None:
    chance = random.Random(3)
    row = ROWS["refund"]
    env = ToolsEnv(snapshots=SnapshotStore(), max_turns=1000, max_errors=1000)
    env.reset(options={"trajectory": row, "turn": 2})
    for _ in range(150):
        function = chance.choice(FUNCTIONS)
        names = list(tool_schema(function)["function"]["parameters"]["properties"])
        arguments = {name: chance.choice(ODD[:-1]) for name in names}
        call = ToolCall(name=function.__name__, arguments=arguments)
        env.step(Message(role="assistant", tool_calls=[call]))
        assert env.messages[-1].role == "tool"
    env.close()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (10**400, "too many digits"),
        (2**63, "too many digits"),
        (nested(64), "levels deep"),
        (math.nan, "not finite"),
        ("\ud800", "Unicode"),
        ({1, 2}, "not JSON"),
    ],
)
def test_arguments_out_of_bounds_are_named(value: Any, problem: str) -> None:
    schema = {"function": {"parameters": {"type": "object"}}}
    for tool in (FUNCTIONS[2], schema):
        with pytest.raises(ArgumentError, match=problem):
            validate_arguments(tool, {"order": "O1", "amount": value})
    assert validate_arguments(schema, {"amount": 2**63 - 1, "deep": nested(62)})


@pytest.mark.parametrize("text", ["111111111111 March", "1" * 5000 + " March", "1 March 0", "0 March", "99.99.9999"])
def test_dates_that_are_none(text: str) -> None:
    with pytest.raises(ToolError, match="no date"):
        parse_date(text)
