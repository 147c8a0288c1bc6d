"""Facts, speech acts and the rules for texts to the user."""

from __future__ import annotations

import time

import pytest
from shop import after, call, calls, say, user

from pivotgym.verifiers import make
from pivotgym.verifiers.facts import Vocabulary, attributions, facts_of, stated, vocabulary_of
from pivotgym.verifiers.speech import analyse
from pivotgym.verifiers.talk import TALK_ONLY_REWARD


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("$1,200.00", {"amount 1200"}),
        ("1200 dollars", {"amount 1200"}),
        ("€ 12.50", {"amount 12.5"}),
        ("May 5, 2024", {"date 2024-05-05"}),
        ("5 May 2024", {"date 2024-05-05"}),
        ("05/05/2024", {"date 2024-05-05"}),
        ("2024-05-05T10:20:30", {"date 2024-05-05", "time 10:20"}),
        ("May 27-28, 2024", {"date 2024-05-27", "date 2024-05-28"}),
        ("May 5th", {"date ????-05-05"}),
        ("you may 5", {"amount 5"}),
        ("2:30 PM", {"time 14:30"}),
        ("at 14:30:00", {"time 14:30"}),
        ("12 am", {"time 00:00"}),
        ("#W123 and W123", {"id w123"}),
        ("ORD-55, C12, gift_card_17", {"id ord-55", "id c12", "id gift_card_17"}),
        ("a.b+c@x-y.org.", {"email a.b+c@x-y.org"}),
        ("555-123-2002", {"phone 5551232002"}),
        ("+1 (555) 123-2002", {"phone 5551232002"}),
        ("tracking 907614527588", {"amount 907614527588"}),
        ("9" * 40, {"amount " + "9" * 40}),
        ("007.50", {"amount 7.5"}),
        ("5-7 days", {"amount 5", "amount 7"}),
        ("5–7 days", {"amount 5", "amount 7"}),
        ("27%", {"amount 27"}),
        ("8.7GB", {"amount 8.7"}),
        ("24-hour, 1st", {"amount 24"}),
        ("123 Elm St", {"address 123 elm street"}),
        ("1. first\n2. second", set()),
        ("one-stop in no time", set()),
        ("###STOP###", {"marker ###STOP###"}),
        ("", set()),
    ],
)
def test_facts_have_one_form(text, facts):
    assert {str(fact) for fact in stated(text)} == facts


def test_dates_without_year_agree_with_any_year_but_not_two_years():
    may, full, other = stated("May 5"), stated("May 5, 2024"), stated("2023-05-05")
    assert not may.missing_from(full)
    assert not full.missing_from(may)
    assert full.missing_from(other)


def test_number_words_answer_for_numbers():
    assert not stated("2 orders").missing_from(facts_of("two orders"))


def test_the_vocabulary_comes_from_tool_traffic():
    env = after(user("UHDAHF please"), calls(call("get_order", order_id="W100")), demonstration=say("x"))
    vocabulary = vocabulary_of(env.conversation)
    assert {"pending", "lamp", "desk"} <= set(vocabulary.terms)
    assert "total" not in vocabulary.terms
    assert [str(fact) for fact in stated("UHDAHF", Vocabulary(frozenset({"UHDAHF"})))] == ["id uhdahf"]
    assert not list(stated("UHDAHF HELLO"))


def test_attributions_follow_clauses():
    words = Vocabulary(frozenset(), {"oven": frozenset(), "printer": frozenset()})
    said = attributions("The oven arrives on 14 March, the printer on 21 March.", words)
    turned = attributions("On 14 March the oven arrives and on 21 March the printer.", words)
    assert said == turned
    assert {str(value): str(subject) for value, subject in said.items()} == {
        "date ????-03-14": "term oven",
        "date ????-03-21": "term printer",
    }


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Could you please provide your email address?", {"email"}),
        ("Please tell me your email or phone, and your PIN.", {"email", "phone", "pin"}),
        ("To proceed, I'll need your user ID.", {"user id"}),
        ("Would you like to proceed? Please confirm (yes/no).", {"confirmation"}),
        ("I need your name and zip code. Could you please provide these details?", {"name", "zip"}),
        ("Please provide:\n1. Your user ID\n2. Your reservation ID (if you have it)", {"user id"}),
        ("Is there anything else I can help you with?", set()),
        ("If you need more help, please let me know!", set()),
        ("Your order is pending.", set()),
    ],
)
def test_what_a_text_asks_for(text, asked):
    assert set(analyse(text).asked) == asked


@pytest.mark.parametrize(
    ("text", "act"),
    [
        ("Unfortunately this cannot be cancelled.", "denies"),
        ("Your order has been cancelled.", "reports"),
        ("I can cancel it.", "informs"),
        ("You're welcome! Have a great day!", "closes"),
        ("Shall I cancel it?", "asks"),
    ],
)
def test_speech_acts(text, act):
    assert analyse(text).act == act


HISTORY = (user("What is order W100? I am ada@shop.org."), calls(call("find_orders", email="ada@shop.org")))
TOLD = "Order W100 is pending, its total is $60.00."


@pytest.mark.parametrize(
    ("text", "value", "why"),
    [
        ("W100 has a total of 60 dollars and is still pending.", 1, ""),
        ("The order, W100, comes to $60 (pending).", 1, ""),
        ("Order W100 is pending, its total is $88.00.", 0, "misses amount 60"),
        ("Order W100 is pending, its total is $61.00.", 0, "invents amount 61"),
        ("Order W100 is pending, its total is $60.00 or $88.00.", 0, "leaves open"),
        ("Order W100 is delivered, its total is $60.00.", 0, "delivered where the demonstration says term pending"),
        ("Order W200 is pending, its total is $60.00.", 0, "W200|w200"),
        ("Order W100 is not pending, its total is not $60.00.", 0, "denies"),
        ("Order W100 is pending, total $60. Shall I cancel it?", 0, "asks for"),
        ("Order W100 was pending at $60 and has been cancelled.", 0, "reports something as done"),
        ("I can help with that.", 0, "misses"),
        ("", 0, "says nothing"),
        (TOLD + " W200 is delivered, $88, W300, bob@shop.org, 5 days, 2024", 0, "invents|beyond"),
        ((TOLD + " ") * 8, 0, "words|repeats"),
        (TOLD + " ###STOP###", 0, "STOP"),
    ],
)
def test_the_facts_must_be_conveyed(text, value, why):
    verdict = make("effects").verify(after(*HISTORY, demonstration=say(TOLD)), say(text))
    assert (verdict.reward, verdict.rule) == (value, "facts"), verdict.reason
    if why:
        assert any(part in verdict.reason for part in why.split("|")), verdict.reason


def test_what_the_user_said_need_not_be_echoed():
    shown = say("Thank you, ada@shop.org. Your total is $88.")
    env = after(*HISTORY, demonstration=shown)
    assert make("effects").verify(env, say("Your total is 88 dollars.")).reward == 1
    echo = after(user("Cancel W100."), demonstration=say("You want to cancel W100, is that correct?"))
    assert make("effects").verify(echo, say("Shall I cancel W100 for you?")).reward == 1
    assert make("effects").verify(echo, say("Shall I cancel it for you?")).reward == 0


def test_a_status_may_be_left_out_beside_other_news_but_not_be_another():
    env = after(*HISTORY, demonstration=say("Order W100 is pending, its total is $60.00."))
    assert make("effects").verify(env, say("The total of W100 is $60.")).reward == 1
    # ``cancelled`` stands nowhere in the conversation; a tool's schema enumerates it beside ``pending``.
    verdict = make("effects").verify(env, say("The total of W100 is $60, status cancelled."))
    assert (verdict.reward, "instead" in verdict.reason or "says term" in verdict.reason) == (0, True)


def test_listing_everything_known_fails():
    everything = "W100 W200 60 88 ada@shop.org 5 lamp desk chair pending delivered. " + TOLD
    verdict = make("effects").verify(after(*HISTORY, demonstration=say(TOLD)), say(everything))
    assert verdict.reward == 0


def test_nothing_to_check_is_never_full_reward():
    env = after(demonstration=say("You're welcome! Have a great day!"))
    same, other = say("Glad I could help, goodbye!"), say("What is your email?")
    assert make("effects").verify(env, same).model_dump(include={"reward", "rule"}) == {
        "reward": TALK_ONLY_REWARD,
        "rule": "talk_only",
    }
    assert make("effects").verify(env, other).reward == 0
    assert make("effects", talk_only_reward=0.25).verify(env, same).reward == 0.25


def test_a_marker_that_ends_the_episode_is_a_fact():
    env = after(demonstration=say("###STOP###"))
    assert make("effects").verify(env, say("###STOP###")).reward == 1
    assert make("effects").verify(env, say("Done.")).reward == 0


def test_odd_texts_do_not_break_the_rules():
    env = after(*HISTORY, demonstration=say(TOLD))
    for text in (
        "\x00" * 50,
        "((((",
        "9" * 5000,
        "99/99/9999 25:99 Feb 31",
        "é" * 100,
        "[$" * 2000,
        "1,,2 $ , #",
        "\ud83d",
    ):
        assert make("effects").verify(env, say(text)).reward == 0


@pytest.mark.parametrize("piece", ["x", "1,", "a-", "9", "a.", "word ", '"k": "Some Term", ', "12:30 ", "1 2 3-"])
def test_finding_facts_takes_linear_time(piece):
    def seconds(length: int, attempt: int) -> float:
        text = f"{attempt} " + piece * (length // len(piece))
        began = time.process_time()
        stated(text)
        return time.process_time() - began

    def fastest(length: int) -> float:
        return min(seconds(length, attempt) for attempt in range(3))

    # A factor of 32 in length: linear time gives about that, quadratic time 1,024. Nothing in between is a near miss.
    assert fastest(160_000) < 300 * max(fastest(5_000), 0.002)
