"""A bucket of tokens that refills steadily."""

from __future__ import annotations

from .clock import Clock
from .decision import Decision, check_cost


class TokenBucket:
    """Holds at most `capacity` tokens, starts full, gains `rate` tokens a second."""

    def __init__(self, capacity: int, rate: float, clock: Clock) -> None:
        if capacity < 1 or rate <= 0:
            raise ValueError("capacity and rate must be positive")
        self.capacity = capacity
        self.rate = rate
        self._clock = clock
        self._tokens = float(capacity)
        self._filled_at = clock()

    def admit(self, cost: int = 1) -> Decision:
        """Take `cost` tokens if they are there.

        Raises:
            ValueError: `cost` is below 1 or above the capacity.
        """
        check_cost(cost, self.capacity)
        self._refill()
        if self._tokens < cost:
            return Decision(False, int(self._tokens), (cost - self._tokens) / self.rate)
        self._tokens -= cost
        return Decision(True, int(self._tokens))

    def idle(self) -> bool:
        """True if the bucket is full."""
        self._refill()
        return self._tokens == self.capacity

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self.capacity, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
