"""Figures about numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """How many numbers there are, their mean, the lowest and the highest."""

    count: int
    mean: float
    low: float
    high: float


def figures(numbers: Iterable[float]) -> Figures:
    """The figures of some numbers.

    Raises:
        ValueError: there are none.
    """
    values = sorted(numbers)
    if not values:
        raise ValueError("no numbers")
    return Figures(len(values), sum(values) / len(values), values[0], values[-1])


def share(part: int, whole: int) -> float:
    """`part` of `whole` as a fraction; 0.0 of nothing."""
    return part / whole if whole else 0.0
