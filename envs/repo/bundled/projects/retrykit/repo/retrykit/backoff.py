"""How long to pause between two calls."""

from abc import ABC, abstractmethod


class Backoff(ABC):
    """Says how long to pause. Failed calls count from 1."""

    @abstractmethod
    def seconds(self, failed: int) -> float:
        """Return the pause after the call number ``failed``."""

    def capped(self, most: float) -> "Backoff":
        """Return a backoff like this one that never says more than ``most``."""
        return _Capped(self, most)


class Constant(Backoff):
    """The same pause each time."""

    def __init__(self, pause: float) -> None:
        self.pause = pause

    def seconds(self, failed: int) -> float:
        """Return the pause."""
        return self.pause


class Exponential(Backoff):
    """``first`` after the first call, then each time ``factor`` times as long."""

    def __init__(self, first: float, factor: float = 2.0) -> None:
        self.first = first
        self.factor = factor

    def seconds(self, failed: int) -> float:
        """Return the pause after the call number ``failed``."""
        return self.first * self.factor ** (failed - 1)


class Schedule(Backoff):
    """Given pauses, one after the other; the last one again and again."""

    def __init__(self, *pauses: float) -> None:
        if not pauses:
            raise ValueError("a schedule needs a pause")
        self.pauses = pauses

    def seconds(self, failed: int) -> float:
        """Return the pause after the call number ``failed``."""
        return self.pauses[min(failed, len(self.pauses)) - 1]


class _Capped(Backoff):
    def __init__(self, inner: Backoff, most: float) -> None:
        self.inner = inner
        self.most = most

    def seconds(self, failed: int) -> float:
        return min(self.inner.seconds(failed), self.most)
