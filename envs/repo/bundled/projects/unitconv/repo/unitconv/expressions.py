"""Unit expressions such as `kg*m/s^2`."""

from __future__ import annotations

import re

from .catalogue import find_unit
from .errors import UnitError
from .units import ONE, Unit

FACTOR = re.compile(r"\s*(?P<name>1|[A-Za-z]+)\s*(?:\^\s*(?P<power>-?\d+))?\s*")


def parse_factor(text: str) -> tuple[str, int]:
    """Name and power of one factor.

    Raises:
        UnitError: it is no factor.
    """
    match = FACTOR.fullmatch(text)
    if match is None:
        raise UnitError(f"not a unit: {text.strip() or '(empty)'}")
    return match["name"], int(match["power"] or 1)


def parse_unit(text: str) -> Unit:
    """The unit that an expression stands for.

    Raises:
        UnitError: it cannot be read, or names an unknown unit.
    """
    pieces = re.split(r"([*/])", text)
    unit = ONE
    for sign, piece in zip(["*", *pieces[1::2]], pieces[::2]):
        name, power = parse_factor(piece)
        unit = unit * find_unit(name) ** (power if sign == "*" else -power)
    return unit
