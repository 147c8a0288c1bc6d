"""What one task is about: who writes, what they want and know, what has to be done, what they must be told.

A scenario is a pure function of the task's ``split``, ``seed`` and ``index``; nothing but these travels with a task.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

from pivotgym.envs.tools.functions import Fact
from pivotgym.envs.tools.servicedesk import long
from pivotgym.envs.tools.servicedesk.tools import TODAY, say_date
from pivotgym.envs.tools.servicedesk.world import (
    STATUSES,
    TOPICS,
    Customer,
    Draw,
    Order,
    World,
    draw_address,
    draw_world,
)
from pivotgym.envs.trajectory import JsonObject, ToolCall

GENERATOR = 1
"""Version of everything a task's content depends on; a task of another version cannot be rebuilt."""

REFUSAL = ("no", "not", "cannot", "can't", "sorry", "unable", "refused", "denied")


@dataclass
class Request:
    """One thing the user wants.

    Attributes:
        kind: which of the kinds of request.
        text: how the user says it.
        calls: what has to be done for it after the login; looking up does not count.
        facts: what the user waits to be told; told all of it in one message, the user is content.
        order: the order meant, where the agent may ask which one.
        confirm: what the user answers when asked about a value: value -> answer.
        rivals: wrong answers; a text that tells one of them beside the right one is no answer.
        lead: how the user goes over to it from the request before.
    """

    kind: str
    text: str
    calls: list[ToolCall]
    facts: list[Fact]
    order: str | None = None
    confirm: dict[str, str] = field(default_factory=dict)
    rivals: tuple[str, ...] = ()
    lead: str = ""

    @property
    def next_text(self) -> str:
        """How the user says it once the request before is settled."""
        joined = self.lead and not self.text.startswith("I ")
        return self.lead + (self.text[0].lower() + self.text[1:] if joined else self.text)


@dataclass
class Scenario:
    """A task in full.

    Attributes:
        opening: the user's first message.
        contact: the user's answer when asked who they are.
    """

    world: World
    requests: list[Request]
    opening: str
    contact: str

    @property
    def customer(self) -> Customer:
        """Who writes."""
        return self.world.customers[0]

    @property
    def reference(self) -> list[ToolCall]:
        """Calls that lead to the state asked for."""
        login = call("login", contact=self.customer.email, pin=self.customer.pin)
        return [login, *(done for request in self.requests for done in request.calls)]


def call(name: str, /, **arguments: str | float) -> ToolCall:
    """A tool call."""
    values: JsonObject = dict(arguments)
    return ToolCall(name=name, arguments=values)


def build(split: str, seed: int, index: int) -> Scenario:
    """The scenario of task ``index``; kinds take turns, everything else is drawn."""
    draw = Draw("servicedesk", GENERATOR, split, seed, index)
    variant = kind_of(index, split)
    if split == "long":
        world = draw_world(draw, split, orders=draw.number(4, 5), tickets=3)
        requests = _Desk(draw, world, split).requests(variant)
        for request in requests[1:]:
            request.lead = draw.pick(long.LEADS)
        return _with_introduction(draw, world, requests, draw.pick(long.introductions(variant)))
    world = draw_world(draw, split)
    if "+" in variant or variant not in ("fault", "where", "outage", "news", "address", "cancel_shipped"):
        del world.customers[0].orders[2:]  # to keep the prompt short
    requests = _Desk(draw, world, split).requests(variant)
    return _with_introduction(draw, world, requests, _introduction(draw, index))


def kind_of(index: int, split: str = "train") -> str:
    """The variant of task ``index``."""
    variants = long.VARIANTS if split == "long" else VARIANTS
    return variants[index % len(variants)]


def _with_introduction(draw: Draw, world: World, requests: list[Request], told: str) -> Scenario:
    """Puts the user's introduction in front."""
    customer, wish = world.customers[0], requests[0].text
    # An e-mail is shorter than a phone number, and the conversations with these introductions are the longest.
    contact = customer.email if told in ("both", "typo") else draw.pick((customer.email, customer.phone))
    pin = customer.pin
    if told == "typo":
        pin = pin[:3] + str((int(pin[3]) + draw.number(1, 9)) % 10)
    if told == "nothing":
        opening = f"{draw.pick(('Hello.', 'Hi.', 'Good morning.'))} {wish}"
    elif told == "contact":
        opening = draw.pick((f"Hi, {contact} here. {wish}", f"{wish} I am {contact}.", f"{contact}. {wish}"))
    else:
        opening = draw.pick((f"{contact}, PIN {pin}. {wish}", f"{wish} {contact}, PIN {pin}."))
    return Scenario(world, requests, opening, contact)


def _introduction(draw: Draw, index: int) -> str:
    """What the user says of themselves: ``both`` contact and PIN, ``contact``, ``nothing``, or a ``typo`` in the PIN.

    Short requests have room for questions, and need them to be conversations; long ones must fit the prompt.
    """
    variant = kind_of(index)
    if variant in TYPO and index // len(VARIANTS) % 3 == 0:
        return "typo"
    if variant in LONGEST:
        return "both"
    return draw.pick(("both", "both", "contact") if variant in LONG else ("contact", "nothing", "contact"))


class _Desk:
    """Draws requests of every kind into one world: ``want_<kind>`` changes the world to fit and returns the request."""

    def __init__(self, draw: Draw, world: World, split: str) -> None:
        self.draw, self.world, self.split = draw, world, split
        self.customer = world.customers[0]
        self._made = dict.fromkeys("OTRE", 0)
        self._orders = draw.some(self.customer.orders, len(self.customer.orders))
        self._tickets = draw.some(self.customer.tickets, len(self.customer.tickets))

    def requests(self, variant: str) -> list[Request]:
        """One request of every kind that the variant joins."""
        return [getattr(self, f"want_{kind}")() for kind in variant.split("+")]

    def _new(self, letter: str) -> str:
        self._made[letter] += 1
        return f"{letter}{self.world.counters[letter] + self._made[letter] - 1}"

    def _order(self, status: str, low: int, high: int) -> Order:
        """The next order, made to fit: delivered so many days ago, or arriving in so many days."""
        order = self._orders.pop()
        days = self.draw.number(low, high)
        order.status = status
        order.days, order.eta = (days, None) if status == "delivered" else (None, TODAY + timedelta(days))
        return order

    def _say(self, *texts: str) -> str:
        return self.draw.pick(texts)

    # Money back -----------------------------------------------------------------------------------------------

    def _want_refund(self, order: Order, done: ToolCall, facts: list[Fact]) -> Request:
        item = order.item
        text = self._say(
            f"I want my money back for the {item}.",
            f"I do not like the {item}, please refund it.",
            f"Can I return the {item} for a refund?",
        )
        return Request("refund", text, [done], facts, order.id)

    def want_refund(self) -> Request:
        """In time and under the limit."""
        order = self._order("delivered", 1, 30)
        return self._want_refund(order, call("refund", order=order.id, amount=order.price), [str(order.price)])

    def want_refund_late(self) -> Request:
        """Too late: noted and refused."""
        order = self._order("delivered", 31, 90)
        return self._want_refund(order, call("note", topic="refund"), [REFUSAL])

    def want_refund_big(self) -> Request:
        """In time but over the limit: escalated."""
        order = self._order("delivered", 1, 30)
        order.price = 4 * self.draw.number(26, 60)
        return self._want_refund(order, call("escalate", id=order.id), [self._new("E")])

    def want_damaged(self) -> Request:
        """Damaged and kept: half the price."""
        order = self._order("delivered", 1, 30)
        half, item = order.price // 2, order.item
        text = self._say(
            f"The {item} came scratched. I keep it, but want some money back.",
            f"My {item} arrived damaged. I will keep it for a part of the price.",
        )
        return Request("damaged", text, [call("refund", order=order.id, amount=half)], [str(half)], order.id)

    # Broken things --------------------------------------------------------------------------------------------

    def _want_fix(self, order: Order, action: str, new: str) -> Request:
        item = order.item
        text = self._say(f"My {item} is broken.", f"The {item} stopped working.", f"My {item} does not turn on.")
        return Request("broken", text, [call(action, order=order.id)], [new], order.id)

    def want_replace(self) -> Request:
        """Within warranty."""
        return self._want_fix(self._order("delivered", 20, 365), "replace", self._new("O"))

    def want_repair(self) -> Request:
        """Out of warranty."""
        return self._want_fix(self._order("delivered", 366, 800), "repair", self._new("R"))

    # Orders on the way ----------------------------------------------------------------------------------------

    def _want_cancel(self, order: Order, done: ToolCall, facts: list[Fact]) -> Request:
        item = order.item
        text = self._say(
            f"Please cancel my {item}.",
            f"I no longer need the {item} I ordered.",
            f"Can you stop my order of the {item}?",
        )
        return Request("cancel", text, [done], facts, order.id)

    def want_cancel(self) -> Request:
        """Still open."""
        order = self._order("open", 2, 20)
        return self._want_cancel(order, call("cancel", order=order.id), [("cancelled", "canceled")])

    def want_cancel_shipped(self) -> Request:
        """Shipped already: noted and refused."""
        order = self._order("shipped", 1, 9)
        return self._want_cancel(order, call("note", topic="cancel"), [REFUSAL])

    def _want_where(self, order: Order, done: list[ToolCall], facts: list[Fact]) -> Request:
        item = order.item
        text = self._say(f"Where is my {item}?", f"When will the {item} arrive?", f"I still wait for the {item}.")
        return Request("where", text, done, facts, order.id)

    def want_where(self) -> Request:
        """On its way: told the day."""
        order = self._order("shipped", 1, 20)
        assert order.eta is not None
        return self._want_where(order, [], [spellings(order.eta)])

    def want_where_late(self) -> Request:
        """Overdue: escalated."""
        order = self._order("shipped", -20, -1)
        return self._want_where(order, [call("escalate", id=order.id)], [self._new("E")])

    def want_where_two(self) -> Request:
        """Two orders, looked up in one action."""
        one, two = self._order("shipped", 1, 9), self._order("shipped", 10, 20)
        assert one.eta is not None and two.eta is not None
        text = self._say(
            f"When do my {one.item} and my {two.item} arrive?", f"Where are the {one.item} and the {two.item}?"
        )
        return Request("where", text, [], [spellings(one.eta), spellings(two.eta)])

    def _visit_text(self, order: Order, day: date) -> str:
        written = self.draw.pick(spellings(day)[:4])
        return self._say(
            f"Please send a technician for the {order.item} on {written}.",
            f"My {order.item} needs a technician on {written}.",
        )

    def want_visit(self) -> Request:
        """A technician on a free day."""
        order = self._order("delivered", 1, 20)
        day = TODAY + timedelta(self.draw.number(2, 40))
        done = call("book", order=order.id, day=say_date(day))
        return Request("visit", self._visit_text(order, day), [done], [spellings(day)], order.id)

    def want_visit_full(self) -> Request:
        """A technician on a day that is full: another is offered."""
        order = self._order("delivered", 1, 20)
        day = TODAY + timedelta(self.draw.number(2, 30))
        free = day + timedelta(self.draw.number(1, 6))
        self.world.full_days[day] = free
        text = self._visit_text(order, day)
        confirm = dict.fromkeys(spellings(free), self._say("Yes.", "Yes, please.", "Fine."))
        done = call("book", order=order.id, day=say_date(free))
        return Request("visit", text, [done], [spellings(free)], order.id, confirm)

    # Account --------------------------------------------------------------------------------------------------

    def _want_address(self, said: str, right: str) -> Request:
        text = self._say(f"I moved to {said}.", f"My new address is {said}.", f"Please change my address to {said}.")
        confirm = {right: "Yes."} if said == right else {right: "Yes.", said: f"No, it is {right}."}
        return Request("address", text, [call("set_address", address=right)], [right], confirm=confirm)

    def want_address(self) -> Request:
        """Moved; confirms."""
        address = draw_address(self.draw, self.split)
        return self._want_address(address, address)

    def want_address_typo(self) -> Request:
        """Moved; corrects the number when asked to confirm."""
        right = draw_address(self.draw, self.split)
        number, street = right.split(" ", 1)
        wrong = int(number) + self.draw.number(1, 30)
        return self._want_address(f"{wrong} {street}", right)

    def want_password(self) -> Request:
        """A new code."""
        text = self._say("I forgot my password.", "My password does not work any more.", "I need a new password.")
        return Request("password", text, [call("reset_password")], [self.customer.code])

    # Tickets --------------------------------------------------------------------------------------------------

    def want_outage(self) -> Request:
        """A fault; urgent whoever it is."""
        topic = self.draw.pick(TOPICS)
        text = self._say(f"Total outage of my {topic}.", f"My {topic} has an outage.", f"There is a {topic} outage.")
        return self._want_ticket(topic, text, "urgent")

    def want_fault(self) -> Request:
        """A fault; the customer's tier decides."""
        topic = self.draw.pick(TOPICS)
        text = self._say(f"My {topic} is slow.", f"My {topic} acts strange.", f"I have trouble with my {topic}.")
        return self._want_ticket(topic, text, "high" if self.customer.tier == "gold" else "normal")

    def _want_ticket(self, topic: str, text: str, priority: str) -> Request:
        return Request("fault", text, [call("open_ticket", topic=topic, priority=priority)], [self._new("T")])

    def want_solved(self) -> Request:
        """A ticket to close."""
        ticket = self._tickets.pop()
        text = self._say(f"Ticket {ticket.id} is solved.", f"You can close {ticket.id} now.")
        return Request("solved", text, [call("close_ticket", id=ticket.id)], [("closed", "close")])

    def want_solved_two(self) -> Request:
        """Two tickets to close in one action."""
        one, two = self._tickets.pop(), self._tickets.pop()
        text = self._say(f"Tickets {one.id} and {two.id} are solved.", f"Please close {one.id} and {two.id}.")
        done = [call("close_ticket", id=one.id), call("close_ticket", id=two.id)]
        return Request("solved", text, done, [("closed", "close")])

    def want_news(self) -> Request:
        """A young ticket: told its status."""
        return self._want_news(self.draw.number(1, 5))

    def want_news_old(self) -> Request:
        """An old ticket: escalated."""
        return self._want_news(self.draw.number(6, 30))

    def _want_news(self, days: int) -> Request:
        ticket = self._tickets.pop()
        ticket.days = days
        text = self._say(f"Any news on ticket {ticket.id}?", f"What about {ticket.id}?", f"How is {ticket.id} going?")
        if days <= 5:
            rivals = tuple(status for status in STATUSES if status != ticket.status)
            return Request("news", text, [], [ticket.status], rivals=rivals)
        return Request("news", text, [call("escalate", id=ticket.id)], [self._new("E")])


VARIANTS = (
    "refund",
    "refund_late",
    "cancel",
    "fault",
    "where",
    "replace",
    "visit_full",
    "address",
    "password",
    "damaged",
    "outage",
    "news_old",
    "where_late",
    "repair",
    "address_typo",
    "refund_big",
    "solved",
    "visit",
    "cancel_shipped",
    "news",
    "where_two",
    "password+solved",
    "solved_two",
    "fault+password",
    "solved+outage",
)
"""The kinds of task, in the order in which they take turns; ``+`` joins two requests of one conversation."""

LONGEST = frozenset({"visit_full", "password+solved", "fault+password", "solved+outage"})
"""Variants without room for questions: here the user tells contact and PIN at once."""

LONG = frozenset({"refund", "damaged", "news_old", "where_late", "cancel", "refund_big", "replace"})
"""Variants that are conversations without questions; here the user mostly tells contact and PIN at once."""

TYPO = frozenset({"password", "solved"})
"""Variants short enough for the user to mistype the PIN (in every third task)."""


def spellings(day: date) -> tuple[str, ...]:
    """Ways to write a date, as the expert writes it first."""
    number, month = say_date(day).split()
    short = month[:3]
    return (
        f"{number} {month}",
        f"{month} {number}",
        f"{number} {short}",
        f"{short} {number}",
        day.isoformat(),
        f"{number}.{day.month}.",
    )
