"""ExactMatch, ToolCall, Effects, Goal, Continuation and compositions on a real domain with state."""

from __future__ import annotations

import pytest
from shop import after, at, call, calls, recording, say, user

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, InfrastructureError, ToolServerError
from pivotgym.envs.trajectory import Message
from pivotgym.envs.verdict import Verdict
from pivotgym.verifiers import Verifier, make, verify_completion
from pivotgym.verifiers.compose import all_of, any_of

READ = calls(call("get_order", order_id="W100"))
CANCEL = calls(call("cancel_order", order_id="W100"))


def reward(spec: str, env: AgentEnv, action: Message) -> float:
    return make(spec).verify(env, action).reward


def test_exact_wants_the_same_spelling():
    env = after(demonstration=calls(call("refund", order_id="W100", amount=5)))
    assert reward("exact", env, calls(call("refund", order_id="W100", amount=5))) == 1
    assert reward("exact", env, calls(call("refund", amount=5, order_id="W100"))) == 0
    assert reward("exact", env, calls(call("refund", order_id="W100", amount=5.0))) == 0
    assert reward("exact", after(demonstration=say("Hello.")), say("Hello.")) == 1
    assert reward("exact", after(demonstration=say("Hello.")), say("Hello!")) == 0


@pytest.mark.parametrize(
    ("demonstrated", "sampled", "right"),
    [
        (call("refund", order_id="W100", amount=5), call("refund", amount=5.0, order_id="W100"), True),
        (call("refund", order_id="W100", amount=5), call("refund", order_id="W100", amount="5"), False),
        (call("refund", order_id="W100", amount=1), call("refund", order_id="W100", amount=True), False),
        (call("cancel_order", order_id="W100"), call("cancel_order", order_id="W100", reason="other"), True),
        (call("cancel_order", order_id="W100"), call("cancel_order", order_id="W100", notify=None), True),
        (call("cancel_order", order_id="W100"), call("cancel_order", order_id="W100", notify=False), False),
        (call("cancel_order", order_id="W100"), call("cancel_order", order_id="W100", reason="late"), False),
        (call("tag_order", order_id="W1", tags=["a", "b"]), call("tag_order", order_id="W1", tags=["b", "a"]), True),
        (call("tag_order", order_id="W1", tags=["a", "b"]), call("tag_order", order_id="W1", tags=["a"]), False),
        (call("add", values=[1, 2]), call("add", values=[2, 1]), False),
        (call("get_order", order_id="W100"), call("get_order", order_id="W100", extra=1), False),
        (call("get_order", order_id="W100"), call("no_such_tool", order_id="W100"), False),
        (call("get_order", order_id="W100"), call("get_order"), False),
    ],
)
def test_tool_call_compares_by_meaning(demonstrated, sampled, right):
    env = after(demonstration=calls(demonstrated))
    assert reward("tool_call", env, calls(sampled)) == right


def test_tool_call_pairs_calls_as_multiset():
    one, two = call("get_order", order_id="W100"), call("get_order", order_id="W200")
    env = after(demonstration=calls(one, two))
    assert reward("tool_call", env, calls(two, one)) == 1
    assert reward("tool_call", env, calls(one)) == 0
    assert reward("tool_call", env, calls(one, one)) == 0
    assert reward("tool_call", env, calls(one, two, one)) == 0


@pytest.mark.parametrize("spec", ["exact", "tool_call", "effects", "continuation"])
def test_talking_is_not_calling(spec):
    assert reward(spec, after(demonstration=READ), say("Order W100 is pending.")) == 0
    assert reward(spec, after(demonstration=say("Order W100 is pending.")), READ) == 0


def test_arguments_that_are_no_object_are_wrong_and_not_executed():
    env = after(demonstration=CANCEL)
    action = calls(call("cancel_order").model_copy(update={"arguments": "W100"}))
    assert reward("tool_call", env, action) == 0
    assert "no JSON object" in make("effects").verify(env, action).reason


class TestEffects:
    def test_another_way_to_the_same_change(self):
        env = after(demonstration=CANCEL)
        assert reward("effects", env, calls(call("set_status", order_id="W100", status="cancelled"))) == 1
        assert reward("tool_call", env, calls(call("set_status", order_id="W100", status="cancelled"))) == 0

    def test_another_change(self):
        env = after(demonstration=CANCEL)
        verdict = make("effects").verify(env, calls(call("cancel_order", order_id="W300")))
        assert verdict.reward == 0
        assert verdict.evidence["changes"][0]["order"] == "W300"
        assert verdict.evidence["demonstrated_changes"][0]["order"] == "W100"

    def test_one_change_more(self):
        more = calls(*CANCEL.tool_calls, call("refund", order_id="W200", amount=1))
        assert reward("effects", after(demonstration=CANCEL), more) == 0

    def test_a_change_where_the_demonstration_reads(self):
        also = calls(*READ.tool_calls, *CANCEL.tool_calls)
        assert reward("effects", after(demonstration=READ), also) == 0

    def test_a_read_that_tells_more_is_right_and_one_that_tells_less_is_wrong(self):
        wide = calls(call("find_orders", email="ada@shop.org"))
        assert reward("effects", after(demonstration=READ), wide) == 1
        assert reward("effects", after(demonstration=wide), READ) == 0
        assert reward("effects", after(demonstration=READ), calls(call("find_orders", email="bob@shop.org"))) == 0

    def test_volatile_values_do_not_count(self):
        # ``as_of`` differs at every call; the domain's normaliser removes it.
        assert reward("effects", after(demonstration=READ), READ) == 1

    def test_calling_everything_is_no_hack(self):
        reads = [call("get_order", order_id=order) for order in ("W100", "W200", "W300")]
        env = after(demonstration=READ)
        assert reward("effects", env, calls(*reads[:2])) == 1
        assert reward("effects", env, calls(*reads)) == 0
        assert make("effects", max_extra_calls=2).verify(env, calls(*reads)).reward == 1
        assert make("effects", max_extra_calls=0).verify(env, calls(*reads[:2])).reward == 0

    def test_equal_answers_to_different_questions(self):
        env = after(demonstration=calls(call("carrier_status", order_id="W100")))
        assert reward("effects", env, calls(call("carrier_status", order_id="W100"))) == 1
        assert reward("effects", env, calls(call("carrier_status", order_id="W200"))) == 0

    def test_one_calculation_in_two_spellings(self):
        env = after(demonstration=calls(call("add", values=[60.5, 88])))
        assert reward("effects", env, calls(call("add", values=[88, 60.5]))) == 1
        assert reward("effects", env, calls(call("add", values=[88, 60.6]))) == 0

    def test_a_failing_call_is_wrong(self):
        env = after(demonstration=READ)
        both = calls(*READ.tool_calls, call("get_order", order_id="W999"))
        assert "fails" in make("effects").verify(env, both).reason

    def test_a_demonstrated_failure_is_matched_by_the_same_call_only(self):
        env = after(demonstration=calls(call("cancel_order", order_id="W200")))
        assert reward("effects", env, calls(call("cancel_order", order_id="W200"))) == 1
        assert reward("effects", env, calls(call("get_order", order_id="W200"))) == 0
        assert reward("effects", env, calls(call("get_order", order_id="W999"))) == 0

    def test_free_text_arguments_need_the_facts_not_the_spelling(self):
        note = "Customer asks for a refund of $60.00 because the lamp arrived broken."
        env = after(demonstration=calls(call("add_note", order_id="W100", text=note)))

        def noted(text: str) -> float:
            return reward("effects", env, calls(call("add_note", order_id="W100", text=text)))

        assert noted("The lamp arrived broken; the customer asks for a refund of 60 dollars.") == 1
        assert noted("The lamp arrived broken; the customer asks for a refund of 90 dollars.") == 0
        assert noted("The lamp arrived broken, the customer asks for a refund.") == 0
        assert noted("Something about 60 that is quite unrelated to it all") == 0
        other = calls(call("add_note", order_id="W200", text="The lamp arrived broken, refund of $60 asked for."))
        assert reward("effects", env, other) == 0

    def test_short_texts_are_values_not_prose(self):
        env = after(demonstration=calls(call("cancel_order", order_id="W100", reason="ordered by mistake")))
        assert reward("effects", env, calls(call("cancel_order", order_id="W100", reason="no longer needed"))) == 0

    def test_a_hand_over_that_changes_nothing(self):
        summary = "The user wants the chair of order W200 refunded although it was delivered long ago."
        env = after(user("Refund W200!"), demonstration=calls(call("hand_over", summary=summary)))
        alike = "User asks for a refund of the chair in W200, which was delivered long ago."
        assert reward("effects", env, calls(call("hand_over", summary=alike))) == 1
        assert reward("effects", env, calls(call("hand_over", summary=alike.replace("W200", "W300")))) == 0
        assert reward("effects", env, READ) == 0

    def test_nothing_happens_to_the_environment_itself(self):
        env = after(demonstration=CANCEL)
        before = env.save()
        make("effects").verify(env, CANCEL)
        make("continuation").verify(env, CANCEL)
        make("goal").verify(env, CANCEL)
        assert env.diff(before, env.save()) == []
        assert env.pivot is not None

    def test_the_demonstration_is_executed_once(self, monkeypatch):
        env = after(demonstration=CANCEL)
        seen = []
        execute = AgentEnv.effect
        monkeypatch.setattr(AgentEnv, "effect", lambda self, action: seen.append(action) or execute(self, action))
        for _ in range(3):
            make("effects").verify(env, CANCEL)
        assert len(seen) == 4  # three samples and the demonstration once

    def test_a_tool_server_that_is_down_is_no_reward(self):
        env = after(demonstration=READ)
        env.episode.tools = []  # the schema check would stop the unknown tool before it runs
        with pytest.raises(ToolServerError):
            make("effects").verify(env, calls(call("broken")))

    def test_domains_override_what_counts_as_told(self):
        from pivotgym.verifiers.effects import Effects

        class StatusOnly(Effects):
            def missing(self, env, demonstration, wanted, action, given):
                shown = {message.text.split('"status": ')[1].split(",")[0] for message in wanted.observation}
                return sorted(text for text in shown if not any(text in message.text for message in given.observation))

        env = after(demonstration=READ)
        assert StatusOnly().verify(env, calls(call("get_order", order_id="W300"))).reward == 1
        assert StatusOnly().verify(env, calls(call("get_order", order_id="W200"))).reward == 0


CONVERSATION = recording(
    user("Cancel order W100 please."),
    READ,
    say("Order W100 costs $60. Shall I cancel it?"),
    user("Yes."),
    CANCEL,
    calls(call("refund", order_id="W100", amount=60)),
    say("Order W100 has been cancelled."),
)


def test_goal_checks_after_this_action_alone():
    assert reward("goal", at(CONVERSATION, 2), CANCEL) == 1
    assert reward("goal", at(CONVERSATION, 2), READ) == 0
    assert make("goal").verify(at(CONVERSATION, 2), CANCEL).rule == "goal"


def test_continuation_replays_the_rest():
    assert reward("continuation", at(CONVERSATION, 0), calls(call("find_orders", email="ada@shop.org"))) == 1
    assert reward("continuation", at(CONVERSATION, 2), CANCEL) == 1
    assert reward("continuation", at(CONVERSATION, 2), READ) == 0
    spoils = calls(call("cancel_order", order_id="W100"))
    verdict = make("continuation").verify(at(CONVERSATION, 0), spoils)
    assert verdict.reward == 0
    assert verdict.evidence["turn"] == 2  # the demonstrated cancellation fails from there


def test_continuation_of_a_demonstration_that_fails_vouches_for_nothing():
    env = at(recording(user("Cancel W100"), READ, say("It is pending.")), 0)
    assert "does not reach the goal" in make("continuation").verify(env, READ).reason


def test_malformed_text_is_never_executed():
    env = after(demonstration=CANCEL)
    verdict = verify_completion(make("effects"), env, CANCEL, "unclosed <tool_call>")
    assert (verdict.reward, verdict.rule, verdict.reason) == (0.0, "malformed", "unclosed <tool_call>")
    assert "effect" not in env.pivot.cache
    assert verify_completion(make("effects"), env, CANCEL, None).reward == 1


def test_a_verifier_needs_a_pivot():
    env = after(demonstration=CANCEL)
    env.advance(READ)
    with pytest.raises(BadInput, match="does not stand"):
        make("effects").verify(env, READ)


def test_the_environment_judges_a_single_turn_itself():
    import gymnasium as gym

    env = gym.make("pivotgym/Tools-v0", verifier="default", disable_env_checker=True)
    env.reset(options={"trajectory": CONVERSATION, "turn": 2})
    text = '<tool_call>{"name": "cancel_order", "arguments": {"order_id": "W100"}}</tool_call>'
    _, value, terminated, _, info = env.step(text)
    assert (value, terminated, info["verdict"]["rule"]) == (1.0, True, "effects")


class Fixed(Verifier):
    def __init__(self, value: float | Exception, cost: float) -> None:
        self.value, self.cost, self.asked = value, cost, 0

    def verify(self, env, action):
        self.asked += 1
        if isinstance(self.value, Exception):
            raise self.value
        return Verdict(reward=self.value, rule=f"fixed{self.cost}")


class TestCompositions:
    env = None

    def test_any_of_asks_cheap_ones_first_and_stops_at_the_first_full_reward(self):
        dear, cheap, middle = Fixed(1.0, 9), Fixed(0.0, 1), Fixed(1.0, 5)
        verdict = any_of(dear, cheap, middle).verify(self.env, READ)
        assert (verdict.reward, verdict.rule) == (1.0, "fixed5")
        assert (cheap.asked, middle.asked, dear.asked) == (1, 1, 0)
        assert [part["reward"] for part in verdict.evidence["parts"]] == [0.0, 1.0]

    def test_all_of_takes_the_lowest_and_stops_at_the_first_failure(self):
        half, zero, never = Fixed(0.5, 1), Fixed(0.0, 2), Fixed(1.0, 3)
        verdict = all_of(never, zero, half).verify(self.env, READ)
        assert (verdict.reward, never.asked) == (0.0, 0)
        assert all_of(Fixed(1.0, 1), half).verify(self.env, READ).reward == 0.5

    def test_infrastructure_errors(self):
        down = Fixed(InfrastructureError("down"), 5)
        assert any_of(down, Fixed(1.0, 1)).verify(self.env, READ).reward == 1.0
        with pytest.raises(InfrastructureError):
            any_of(down, Fixed(0.5, 1)).verify(self.env, READ)
        with pytest.raises(InfrastructureError):
            all_of(down, Fixed(1.0, 1)).verify(self.env, READ)
        assert all_of(down, Fixed(0.0, 1)).verify(self.env, READ).reward == 0.0

    def test_specs(self):
        env = at(CONVERSATION, 2)
        assert reward("any_of(tool_call, effects)", env, CANCEL) == 1
        assert reward("all_of(effects,any_of(goal,exact))", env, CANCEL) == 1
        assert reward("all_of(exact,goal)", env, READ) == 0
        assert make("effects") is make("effects")
        assert make("effects") is not make("effects", max_extra_calls=3)

    @pytest.mark.parametrize(
        "spec",
        ["", "nonsense", "any_of", "any_of()", "any_of(effects", "effects)", "all_of(effects,,goal)", "effects goal"],
    )
    def test_bad_specs_say_what_is_wrong(self, spec):
        with pytest.raises(BadInput, match="verifier"):
            make(spec)

    def test_bad_options(self, monkeypatch):
        with pytest.raises(BadInput, match="max_extra_calls"):
            make("effects", max_extra_calls=-1)
        with pytest.raises(BadInput, match="speed"):
            make("effects", speed=1)
        monkeypatch.delenv("PIVOTGYM_JUDGE_URL", raising=False)
        with pytest.raises(BadInput, match="PIVOTGYM_JUDGE_URL"):
            make("judge")
