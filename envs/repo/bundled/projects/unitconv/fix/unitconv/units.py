"""Units, and how they are multiplied."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .dimensions import Dimension


@dataclass(frozen=True)
class Unit:
    """A unit: a value v in it is v * factor + offset in base units (m, kg, s, K, A).

    Attributes:
        dimension: what it measures.
        factor: size of the unit in base units.
        offset: where its zero lies, in base units.
    """

    dimension: Dimension
    factor: float = 1.0
    offset: float = 0.0

    def to_base(self, value: float) -> float:
        """A value in this unit, in base units."""
        return value * self.factor + self.offset

    def from_base(self, value: float) -> float:
        """A value in base units, in this unit."""
        return (value - self.offset) / self.factor

    def without_offset(self) -> Unit:
        """The unit of differences between values in this unit."""
        return replace(self, offset=0.0)

    def __mul__(self, other: Unit) -> Unit:
        # A product has no zero of its own: offset units stand for differences in it.
        return Unit(self.dimension * other.dimension, self.factor * other.factor)

    def __pow__(self, power: int) -> Unit:
        return Unit(self.dimension**power, self.factor**power)


ONE = Unit(Dimension())
