"""The ``long`` split: which requests one customer joins in a conversation, and how much they say of themselves."""

from __future__ import annotations

VARIANTS = (
    # Two requests.
    "where+news",
    "password+fault",
    "visit+solved",
    "outage+where",
    "where_two+solved_two",
    "news+visit",
    "refund+password",
    "cancel+where",
    "address+where_two",
    "damaged+fault",
    "refund+cancel",
    "refund_late+damaged",
    "cancel_shipped+refund_big",
    "visit_full+news",
    "visit_full+refund",
    "repair+visit_full",
    # Three.
    "password+solved+where",
    "where+solved_two+refund",
    "address+password+fault",
    "cancel+refund+password",
    "news_old+where_late+solved",
    "address_typo+replace+outage",
    "visit_full+where_two+solved",
    "refund+damaged+cancel",
    "repair+replace+news_old",
    "where_late+refund_late+address",
    "visit_full+refund_big+news",
    "cancel+visit_full+address",
    "refund+repair+visit_full",
    "visit_full+damaged+where_late",
)
"""The kinds of task, in the order in which they take turns; each joins requests by ``+`` in the order they are made."""

LEADS = ("Thanks. Also, ", "Thank you. And ", "I see. One more thing: ", "All right. Also, ")
"""How the user goes over to the next request; none of them asks or names anything."""

MIN_TURNS, MAX_TURNS = 6, 12
"""The expert's turns in a trajectory of this split."""

_INTRODUCTIONS = {"both": 1, "contact": 2, "nothing": 2, "typo": 3}
"""What the user tells of themselves first -> the expert's turns until the customer is logged in."""

_SHORT = frozenset({"where", "where_two", "news", "visit", "password", "fault", "outage", "solved", "solved_two"})
"""Requests the expert serves in two turns, a call and the answer; ``visit_full`` takes four, all others three."""


def introductions(variant: str) -> tuple[str, ...]:
    """The introductions with which the expert needs :data:`MIN_TURNS` to :data:`MAX_TURNS` turns for the variant."""
    served = sum(2 if kind in _SHORT else 4 if kind == "visit_full" else 3 for kind in variant.split("+"))
    return tuple(told for told, turns in _INTRODUCTIONS.items() if MIN_TURNS <= turns + served <= MAX_TURNS)
