"""The verifiers' errors on actions labelled by hand: measured, printed, bounded."""

from __future__ import annotations

import pytest
from heldout import HELD_OUT
from labelled import from_rows, labelled
from needs import require
from shop import after, call, calls, say, user

from pivotgym.verifiers import make
from pivotgym.verifiers.measure import Labelled, measure, table, wilson


@pytest.fixture(scope="module")
def actions(shared_data):
    require("tau2", "tau2")
    return labelled(shared_data)


@pytest.fixture(scope="module")
def held_out(shared_data):
    require("tau2", "tau2")
    return from_rows(HELD_OUT, shared_data)


def _measured(title, actions, capsys):
    results = [measure(make(spec), actions, name=spec) for spec in ("exact", "tool_call", "effects")]
    with capsys.disabled():
        print(f"\n{len(actions)} {title}\n{table(results)}")
        for item, verdict in results[-1].mistakes:
            words = item.action.text[:90] or [(made.name, made.arguments) for made in item.action.tool_calls]
            print(f"  effects errs: {item.kind}, right={item.right}: {verdict.rule}: {verdict.reason} | {words}")
    assert {one.failed for one in results} == {0}
    return results


def test_effects_errs_less_than_exact_match_and_tool_call(actions, capsys):
    assert len(actions) >= 60
    assert 20 <= sum(item.right for item in actions) <= len(actions) - 20
    exact, tool_call, effects = _measured("labelled actions, used to adjust the rules", actions, capsys)
    assert effects.errors < tool_call.errors < exact.errors
    assert effects.false_positive <= 0.03 * len(actions)
    assert effects.recall.value >= 0.9


def test_the_same_on_actions_labelled_afterwards(held_out, capsys):
    exact, tool_call, effects = _measured("actions labelled afterwards", held_out, capsys)
    assert effects.errors < tool_call.errors < exact.errors
    assert effects.false_positive <= 1
    assert effects.recall.value >= 0.6


def test_the_demonstration_itself_is_always_accepted(actions):
    pivots = {(id(item.trajectory), item.turn): item for item in actions}.values()
    own = [
        Labelled(trajectory=item.trajectory, turn=item.turn, action=item.trajectory.action(item.turn), right=True)
        for item in pivots
    ]
    assert len(own) >= 30
    assert measure(make("effects"), own).false_negative == 0
    assert measure(make("exact"), own).false_negative == 0


def test_counts_and_intervals():
    env = after(user("Hi"), demonstration=calls(call("get_order", order_id="W100")))
    recording = env.pivot.trajectory

    def row(action, right, malformed=None):
        return Labelled(trajectory=recording, turn=0, action=action, right=right, malformed=malformed)

    same, other = calls(call("get_order", order_id="W100")), calls(call("get_order", order_id="W200"))
    rows = [row(same, True), row(same, False), row(other, True), row(other, False), row(say("x"), False, "cut off")]
    result = measure(make("effects"), rows)
    counts = (result.true_positive, result.false_positive, result.false_negative, result.true_negative)
    assert counts == (1, 1, 1, 2)
    assert (result.errors, result.judged, result.failed) == (2, 5, 0)
    assert {item.action.tool_calls[0].arguments["order_id"] for item, _ in result.mistakes} == {"W100", "W200"}
    assert "50.0%" in table([result])
    assert result.row()["precision"]["value"] == 0.5
    # The server being down is neither a right nor a wrong action.
    rows = [row(calls(call("broken", order_id="W100")), False), row(same, True)]
    result = measure(make("goal"), rows)
    assert (result.failed, result.judged) == (1, 1)


def test_wilson_agrees_with_published_values():
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for successes, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = wilson(successes, trials)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
