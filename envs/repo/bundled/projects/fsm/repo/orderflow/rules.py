"""Guards and effects of the shop."""

from typing import Any

from .machine import Guard
from .order import Order


def covers_total(order: Order, day: int, details: dict[str, Any]) -> bool:
    """The amount that comes in is enough."""
    return order.paid + details.get("amount", 0) >= order.total


def within(days: int) -> Guard:
    """A guard: at most so many days since the order entered its state."""

    def guard(order: Order, day: int, details: dict[str, Any]) -> bool:
        return day - order.since <= days

    return guard


def waited(days: int) -> Guard:
    """A guard: so many days or more since the order entered its state."""

    def guard(order: Order, day: int, details: dict[str, Any]) -> bool:
        return day - order.since >= days

    return guard


def happened(event: str, times: int) -> Guard:
    """A guard: the event has happened so often or more."""

    def guard(order: Order, day: int, details: dict[str, Any]) -> bool:
        return order.times(event) >= times

    return guard


def take_payment(order: Order, details: dict[str, Any]) -> None:
    """Put the amount down as paid."""
    order.paid += details["amount"]


def refund(order: Order, details: dict[str, Any]) -> None:
    """Give everything back that was paid."""
    if order.paid:
        order.notes.append(f"refunded {order.paid}")
    order.paid = 0
