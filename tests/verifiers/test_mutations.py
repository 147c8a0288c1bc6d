"""Texts that say something else with the same facts: by hand, and demonstrated texts spoilt mechanically."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest
from needs import require

from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.servicedesk import bundled_trajectories
from pivotgym.envs.trajectory import Message
from pivotgym.verifiers import make

# Demonstrated text, wrong texts, right texts.
BY_HAND = [
    (
        "The bike arrives on 11 March, the fan on 28 March.",
        [
            "Your bike and fan arrive on 28 March and 11 March respectively.",
            "Bike: 28 March / fan: 11 March",
            "The bike arrives on 28 March, the fan on 11 March.",
            "They arrive on 28 March (bike) and 11 March (fan).",
            "They arrive on 11 March and 28 March.",
            "11 March: fan. 28 March: bike.",
        ],
        [
            "The bike arrives on 11 March and the fan arrives on 28 March.",
            "Your fan arrives on 28 March and your bike on 11 March.",
            "Your bike and fan arrive on 11 March and 28 March respectively.",
        ],
    ),
    (
        "It arrives on 24 March.",
        [
            "It was lost on 24 March.",
            "It is cancelled on 24 March.",
            "It arrives a month before 24 March.",
            "It arrives after 24 March.",
            "It arrives on 24 March 2031.",
            "It arrived on 24 March.",
            "It leaves our depot on 24 March.",
            "24 March.",
        ],
        ["Expected arrival: March 24.", "It should be with you by 24 March.", "Your order arrives on 24 March."],
    ),
    (
        "I opened ticket T405, priority high.",
        [
            "I closed ticket T405, priority high.",
            "I deleted ticket T405, priority high.",
            "Ticket T405, priority high, is cancelled.",
            "The ticket T405 is reopened.",
            "I opened ticket T405, priority high, and closed it.",
        ],
        [
            "Your ticket is T405, priority high.",
            "I opened ticket T405 with high priority.",
            "Ticket T405 has been opened with priority high.",
            "I have created ticket T405 with priority high.",
        ],
    ),
    (
        "Done, I refunded 92 for O17.",
        [
            "I refunded 92 for O17 to another customer.",
            "Done, I refunded 92 for O17 and cancelled your account.",
            "I charged 92 for O17.",
            "Done. 92 O17",
            "I will refund 92 for O17.",
            "I may refund 92 for O17 later.",
        ],
        [
            "I have sent 92 back to you for O17.",
            "Your refund of 92 for O17 has been issued.",
            "92 was paid back for O17.",
        ],
    ),
    (
        "Sorry, no refund, O21 is 57 days old.",
        [
            "Sorry, no refund, O21 is only 57 days old; I will refund it tomorrow.",
            "Sorry, O21 is 57 days old, so I escalated the refund.",
            "O21 is 57 days old, I refunded it.",
        ],
        [
            "I'm afraid O21 can't be refunded: it is 57 days old.",
            "The refund is refused because O21 is 57 days old.",
        ],
    ),
    (
        "Order O65 is cancelled.",
        [
            "Order O65 was cancelled yesterday and reopened.",
            "Order O65 is cancelled, you still pay.",
            "I will cancel O65.",
        ],
        ["I cancelled order O65.", "Your order O65 has been cancelled."],
    ),
    (
        "We send a new one, order O821.",
        ["We keep your money, order O821.", "We repair it, order O821.", "O821", "We take back order O821."],
        ["We will send you a replacement, order O821.", "I have sent a new one, order O821."],
    ),
    ("We will repair it, number R329.", ["We sell it, number R329.", "R329"], ["It will be repaired, number R329."]),
    (
        "Your new code is E4P8.",
        ["Your old code was E4P8.", "E4P8 is expired.", "Never use E4P8."],
        ["The new code is E4P8.", "E4P8 is your new code."],
    ),
    (
        "Ticket T85 is planned.",
        ["Ticket T85 is closed, planned.", "Ticket T85 is planned to be closed.", "Ticket T85 is not planned."],
        ["T85 is planned.", "The status of ticket T85 is planned."],
    ),
    (
        "The visit is booked for 21 March.",
        ["The visit on 21 March is cancelled.", "The visit may be booked for 21 March."],
        ["The technician comes on 21 March.", "I booked the technician for 21 March."],
    ),
    (
        "Is 21 March fine?",
        ["Is 21 March fine? If not, I cancel your order.", "I cannot do 21 March, is it fine?", "Is 16 March fine?"],
        ["Sorry, 16 March is full. Would 21 March work?", "16 March is full. Is 21 March fine?"],
    ),
    (
        "Is 31 Bridge Road correct?",
        ["Was your old address 31 Bridge Road?", "I deleted your address 31 Bridge Road.", "What is your address?"],
        ["Is your new address 31 Bridge Road?", "Please confirm: 31 Bridge Road?"],
    ),
    (
        "That PIN is wrong, please check it.",
        ["That PIN is right, thank you.", "Please tell me your e-mail."],
        [
            "Sorry, the PIN is wrong. Please give me the right one.",
            "That PIN did not work. Please tell me your PIN again.",
        ],
    ),
]


@pytest.fixture(scope="module")
def turns():
    """The first turn of the held-out bundle for each text."""
    found = {}
    for row in bundled_trajectories("heldout"):
        for turn in range(len(row.turns)):
            if not row.action(turn).tool_calls:
                found.setdefault(row.action(turn).text, (row, turn))
    return found


def _say(text: str) -> Message:
    return Message(role="assistant", content=text)


@pytest.mark.parametrize(("shown", "wrong", "right"), BY_HAND, ids=[row[0][:30] for row in BY_HAND])
def test_the_same_facts_may_say_something_else(turns, shown, wrong, right):
    row, turn = turns[shown]
    env, verifier = ToolsEnv(), make("effects")
    env.reset(options={"trajectory": row, "turn": turn})
    given = {text: verifier.verify(env, _say(text)) for text in [shown, *wrong, *right]}
    assert [text for text in wrong if given[text].reward == 1] == []
    assert [(text, given[text].reason) for text in [shown, *right] if given[text].reward < 1] == []


def _exchange(pattern: str):
    def mutate(text: str) -> str | None:
        places = list(re.finditer(pattern, text))
        for one, other in itertools.pairwise(places):
            if one.group() != other.group():
                between = text[one.end() : other.start()]
                return text[: one.start()] + other.group() + between + one.group() + text[other.end() :]
        return None

    return mutate


def _sub(pattern: str, replacement: str):
    def mutate(text: str) -> str | None:
        mutated = re.sub(pattern, replacement, text, count=1)
        return mutated if mutated != text else None

    return mutate


def _negate(text: str) -> str | None:
    if re.search(r"not|n.t\b|unable|unfortun|sorry|wrong", text, re.IGNORECASE):
        return None
    return _sub(r"\b(is|are|has|have|will|can)\b", r"\1 not")(text)


def _others(text: str) -> str | None:
    verbs = {"refunded": "charged", "opened": "deleted", "arrives": "leaves us", "closed": "reopened", "send": "keep"}
    verbs |= {"booked": "cancelled", "repair": "sell", "cancelled": "sent", "escalated": "closed", "exchanged": "kept"}
    for verb, other in verbs.items():
        if re.search(rf"\b{verb}\b", text):
            return re.sub(rf"\b{verb}\b", other, text)
    return None


MUTATIONS = {
    "amounts exchanged": _exchange(r"\$\d[\d,.]*\d"),
    "ids exchanged": _exchange(r"\b(?:[A-Z]{3}\d{3}|[A-Z0-9]{6}|\d{10}|[A-Z]\d{2,3})\b(?<![A-Z]{6})"),
    "dates exchanged": _exchange(r"\b\d{1,2} (?:March|April)\b"),
    "another verb": _others,
    "put off": _sub(r"\b(?:has|have) been\b|\bis (?=closed|cancelled|escalated|booked)", "may later be "),
    "negated": _negate,
}
# Naming two closed tickets, or two parts of one case, the other way round says the same.
SAME_SET = re.compile(r"^(?:T\d+ and T\d+ are closed|I escalated T\d+, case)")


def _rates(pivots, verifier):
    """Of each kind of mutation: how many there are and how many still earn full reward; identities that do not."""
    made, passed, refused = Counter(), Counter(), []
    for env, row, turn in pivots:
        text = row.action(turn).text
        spoilt = [(kind, mutate(text)) for kind, mutate in MUTATIONS.items()]
        spoilt = [(kind, one) for kind, one in spoilt if one and not (kind == "ids exchanged" and SAME_SET.match(text))]
        env.reset(options={"trajectory": row, "turn": turn})
        own = verifier.verify(env, _say(text))
        if own.reward <= 0:
            refused.append((text, own.reason))
        for kind, one in spoilt:
            made[kind] += 1
            passed[kind] += verifier.verify(env, _say(one)).reward >= 1
    return made, passed, refused


def _show(title, made, passed, capsys):
    with capsys.disabled():
        print(f"\n{title}: " + ", ".join(f"{kind} {passed[kind]}/{made[kind]} accepted" for kind in sorted(made)))


def test_spoilt_texts_of_the_service_desk_are_wrong(turns, capsys):
    env = ToolsEnv()
    made, passed, refused = _rates([(env, *place) for place in turns.values()], make("effects"))
    _show("service desk", made, passed, capsys)
    assert refused == []
    assert made["dates exchanged"] >= 3
    assert made["another verb"] >= 40
    assert made["negated"] >= 20
    assert passed.total() == 0


def test_spoilt_texts_of_real_recordings_are_mostly_wrong(shared_data, capsys):
    require("tau2", "tau2")
    from pivotgym.envs.formats import load_trajectories

    pivots = []
    for domain in ("airline", "retail"):
        env = ToolsEnv(domain=f"tau2/{domain}")
        rows = [row for row in load_trajectories(shared_data / f"tau2/gpt-4.1_{domain}.json") if row.turns]
        for row in rows[:: max(1, len(rows) // 6)][:6]:
            talks = [turn for turn in range(len(row.turns)) if not row.action(turn).tool_calls]
            pivots += [(env, row, turn) for turn in talks[-4:]]
    made, passed, refused = _rates(pivots, make("effects"))
    _show("real recordings", made, passed, capsys)
    assert refused == []
    assert made.total() >= 30
    assert passed.total() <= 0.2 * made.total()
