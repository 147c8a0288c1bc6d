"""A record of what was admitted when."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class HitLog:
    """Admitted units in the order of time. Several units may share one time."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def __len__(self) -> int:
        return len(self._times)

    def add(self, at: float, units: int = 1) -> None:
        """Note `units` at time `at`, which must not lie before the latest time noted.

        Raises:
            ValueError: `at` lies before the latest time.
        """
        if self._times and at < self._times[-1]:
            raise ValueError("times must not decrease")
        self._times.extend([at] * units)

    def count_after(self, cutoff: float) -> int:
        """How many units were noted later than `cutoff`."""
        return len(self._times) - bisect_left(self._times, cutoff)

    def nth_after(self, cutoff: float, n: int) -> float:
        """The time of the n-th unit (from 1) among those that `count_after` counts."""
        return self._times[len(self._times) - self.count_after(cutoff) + n - 1]

    def forget_until(self, cutoff: float) -> int:
        """Drop the units at or before `cutoff`; returns how many went."""
        old = bisect_right(self._times, cutoff)
        del self._times[:old]
        return old
