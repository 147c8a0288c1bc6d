"""At most so many units in any window of time."""

from __future__ import annotations

from .clock import Clock
from .decision import Decision, check_cost
from .hitlog import HitLog


class RollingLimiter:
    """Allows `limit` units within any `window` seconds.

    The log is trimmed only now and then (see `trim`), so reading from it always names a cutoff.
    """

    TRIM_AT = 4  # trim when the log holds this many times the limit

    def __init__(self, limit: int, window: float, clock: Clock) -> None:
        if limit < 1 or window <= 0:
            raise ValueError("limit and window must be positive")
        self.limit = limit
        self.window = window
        self._clock = clock
        self._log = HitLog()

    def admit(self, cost: int = 1) -> Decision:
        """Ask for `cost` units now, and take them if they are there.

        Raises:
            ValueError: `cost` is below 1 or above the limit.
        """
        check_cost(cost, self.limit)
        now = self._clock()
        used = self._used(now)
        if used + cost > self.limit:
            return Decision(False, self.limit - used, self._wait(now, used, cost))
        self._log.add(now, cost)
        if len(self._log) > self.TRIM_AT * self.limit:
            self.trim()
        return Decision(True, self.limit - used - cost)

    def remaining(self) -> int:
        """Units that could be admitted now."""
        return self.limit - self._used(self._clock())

    def idle(self) -> bool:
        """True if nothing counts against the limit any more."""
        return self._used(self._clock()) == 0

    def trim(self) -> int:
        """Drop what has left the window from memory; returns how many units that were."""
        return self._log.forget_until(self._clock() - self.window)

    def _used(self, now: float) -> int:
        return self._log.count_after(now - self.window)

    def _wait(self, now: float, used: int, cost: int) -> float:
        # That many of the oldest units have to leave the window first.
        leaving = used + cost - self.limit
        return self._log.nth_after(now - self.window, leaving) + self.window - now
