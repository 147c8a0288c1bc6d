"""One limiter for each caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .decision import Decision


class Limiter(Protocol):
    """What `PerKey` needs of a limiter."""

    def admit(self, cost: int = 1) -> Decision: ...

    def idle(self) -> bool: ...


class PerKey:
    """Makes a limiter for a caller when the caller first shows up.

    `make` is called without arguments and returns a fresh limiter.
    """

    def __init__(self, make: Callable[[], Limiter]) -> None:
        self._make = make
        self._limiters: dict[str, Limiter] = {}

    def admit(self, key: str, cost: int = 1) -> Decision:
        """Ask the limiter of `key`."""
        if key not in self._limiters:
            self._limiters[key] = self._make()
        return self._limiters[key].admit(cost)

    def sweep(self) -> list[str]:
        """Forget the callers whose limiters are idle; returns their keys, sorted."""
        gone = sorted(key for key, limiter in self._limiters.items() if limiter.idle())
        for key in gone:
            del self._limiters[key]
        return gone

    def keys(self) -> list[str]:
        """The callers that are remembered, sorted."""
        return sorted(self._limiters)
