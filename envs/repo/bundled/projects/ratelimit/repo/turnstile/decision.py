"""The answer of a limiter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """Whether a request may go ahead.

    Attributes:
        allowed: True if it may.
        remaining: whole units that could still be admitted right now.
        wait: seconds until the same request would be allowed; 0.0 if it is allowed.
    """

    allowed: bool
    remaining: int
    wait: float = 0.0


def check_cost(cost: int, most: int) -> None:
    """Refuse costs that no amount of waiting could make admissible.

    Raises:
        ValueError: `cost` is not between 1 and `most`.
    """
    if not 1 <= cost <= most:
        raise ValueError(f"cost must be between 1 and {most}, not {cost}")
