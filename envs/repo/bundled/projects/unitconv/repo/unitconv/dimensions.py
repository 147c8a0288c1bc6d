"""Dimensions: whole powers of the base dimensions."""

from __future__ import annotations

from dataclasses import dataclass

BASES = ("length", "mass", "time", "temperature", "current")


@dataclass(frozen=True)
class Dimension:
    """One power for each of `BASES`."""

    powers: tuple[int, ...] = (0,) * len(BASES)

    @classmethod
    def of(cls, base: str) -> Dimension:
        """The dimension of a base quantity."""
        return cls(tuple(int(name == base) for name in BASES))

    def __mul__(self, other: Dimension) -> Dimension:
        return Dimension(tuple(a + b for a, b in zip(self.powers, other.powers)))

    def __pow__(self, power: int) -> Dimension:
        return Dimension(tuple(a * power for a in self.powers))

    def __str__(self) -> str:
        parts = [name if p == 1 else f"{name}^{p}" for name, p in zip(BASES, self.powers) if p]
        return " * ".join(parts) or "number"
