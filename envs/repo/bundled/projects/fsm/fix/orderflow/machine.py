"""A machine that moves orders from state to state."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .order import Order

Guard = Callable[[Order, int, dict[str, Any]], bool]
Effect = Callable[[Order, dict[str, Any]], None]


class Refused(Exception):
    """No move was possible."""


@dataclass(frozen=True)
class Move:
    """A way from one state to another.

    Attributes:
        source: the state it starts from.
        event: what sets it off.
        target: the state it leads to.
        guard: called with order, day and details; the move is only taken if it returns True.
        effect: called with order and details after the move.
    """

    source: str
    event: str
    target: str
    guard: Guard | None = None
    effect: Effect | None = None


class Machine:
    """Moves, tried in the order in which they are given."""

    def __init__(self, *moves: Move) -> None:
        self._moves = moves

    def events(self, state: str) -> list[str]:
        """The events that mean something in a state, sorted."""
        return sorted({move.event for move in self._moves if move.source == state})

    def fire(self, order: Order, event: str, *, day: int, **details: Any) -> str:
        """Let an event happen to an order; returns the state it is in afterwards.

        Raises:
            Refused: no move of this state and event is possible.
            ValueError: `day` lies before the day the order entered its state.
        """
        if day < order.since:
            raise ValueError(f"order {order.number} is in {order.state} since day {order.since}, not {day}")
        for move in self._moves:
            if (move.source, move.event) != (order.state, event):
                continue
            if move.guard is not None and not move.guard(order, day, details):
                continue
            order.enter(move.target, event, day)
            if move.effect is not None:
                move.effect(order, details)
            return order.state
        raise Refused(f"order {order.number} is {order.state}: cannot {event}")

    def possible(self, order: Order, event: str) -> bool:
        """True if the state knows the event; guards are not asked."""
        return event in self.events(order.state)
