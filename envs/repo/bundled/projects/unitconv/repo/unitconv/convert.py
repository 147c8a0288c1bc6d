"""Conversion of numbers."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import UnitError
from .expressions import parse_unit
from .units import Unit


def _both(source: str | Unit, target: str | Unit) -> tuple[Unit, Unit]:
    old = parse_unit(source) if isinstance(source, str) else source
    new = parse_unit(target) if isinstance(target, str) else target
    if old.dimension != new.dimension:
        names = [text if isinstance(text, str) else "the unit" for text in (source, target)]
        raise UnitError(f"{names[0]} is a {old.dimension}, {names[1]} is a {new.dimension}")
    return old, new


def convert(value: float, source: str | Unit, target: str | Unit) -> float:
    """A value in `source` as a value in `target`; both are expressions or units.

    Raises:
        UnitError: an expression is wrong, or the two measure different things.
    """
    old, new = _both(source, target)
    return new.from_base(old.to_base(value))


def convert_all(values: Iterable[float], source: str | Unit, target: str | Unit) -> list[float]:
    """Several values at once; see `convert`."""
    old, new = _both(source, target)
    return [new.from_base(old.to_base(value)) for value in values]


def difference(unit: str | Unit) -> Unit:
    """The unit of differences between values in `unit`: the same size, without offset."""
    return (parse_unit(unit) if isinstance(unit, str) else unit).without_offset()
