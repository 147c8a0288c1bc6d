"""Measured figures of sandboxes: medians of wall-clock time with quartiles, and the targets they are held to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel

from pivotgym.envs.sandbox import Sandbox, SandboxError

Unit = Literal["ms", "MB", "x", "Top/s", "%"]


class Figure(BaseModel):
    """One figure of one backend.

    Attributes:
        backend: whose.
        name: what was measured.
        unit: ``ms``, ``MB`` or ``x``.
        median: over the repetitions.
        low: first quartile.
        high: third quartile.
        repeats: how many.
        target: the bound it is held to, or None.
        at_least: the bound is to be reached; else it is not to be passed.
    """

    backend: str
    name: str
    unit: Unit
    median: float
    low: float
    high: float
    repeats: int
    target: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target


class Figures:
    """Values of one backend by the name of the figure.

    Args:
        backend: its name.
        targets: bounds by backend and name.
        at_least: names whose bound is to be reached.
    """

    def __init__(self, backend: str, targets: Mapping[tuple[str, str], float], at_least: Collection[str] = ()) -> None:
        self.name, self._targets, self._at_least = backend, targets, at_least
        self._values: dict[str, tuple[Unit, list[float]]] = {}

    def add(self, name: str, value: float, unit: Unit = "ms") -> None:
        """Adds a value."""
        self._values.setdefault(name, (unit, []))[1].append(value)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the milliseconds that the block took."""
        began = time.perf_counter()
        yield
        self.add(name, (time.perf_counter() - began) * 1000)

    def rows(self) -> list[Figure]:
        """As rows, in the order in which they were first measured."""
        found = []
        for name, (unit, values) in self._values.items():
            low, median, high = _quartiles(values)
            found.append(
                Figure(
                    backend=self.name,
                    name=name,
                    unit=unit,
                    median=median,
                    low=low,
                    high=high,
                    repeats=len(values),
                    target=self._targets.get((self.name, name)),
                    at_least=name in self._at_least,
                )
            )
        return found


def expect(box: Sandbox, command: str, output: str) -> None:
    """Runs a command; a figure of something that does not work would be worth nothing."""
    result = box.run(command)
    if result.output != output:
        raise SandboxError(f"{command!r} gave {result.output[:300]!r} instead of {output!r}")


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high
