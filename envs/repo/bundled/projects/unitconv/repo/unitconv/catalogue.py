"""The units that have a name."""

from __future__ import annotations

from .dimensions import Dimension
from .errors import UnitError
from .units import ONE, Unit

LENGTH, MASS, TIME = Dimension.of("length"), Dimension.of("mass"), Dimension.of("time")
TEMPERATURE, CURRENT = Dimension.of("temperature"), Dimension.of("current")
FORCE = MASS * LENGTH * TIME**-2
ENERGY = FORCE * LENGTH

UNITS: dict[str, Unit] = {
    "1": ONE,
    "m": Unit(LENGTH),
    "cm": Unit(LENGTH, 0.01),
    "km": Unit(LENGTH, 1000.0),
    "inch": Unit(LENGTH, 0.0254),
    "mile": Unit(LENGTH, 1609.344),
    "kg": Unit(MASS),
    "g": Unit(MASS, 0.001),
    "lb": Unit(MASS, 0.45359237),
    "s": Unit(TIME),
    "min": Unit(TIME, 60.0),
    "h": Unit(TIME, 3600.0),
    "A": Unit(CURRENT),
    "N": Unit(FORCE),
    "J": Unit(ENERGY),
    "kWh": Unit(ENERGY, 3.6e6),
    "W": Unit(ENERGY * TIME**-1),
    "K": Unit(TEMPERATURE),
    "degC": Unit(TEMPERATURE, 1.0, 273.15),
    "degF": Unit(TEMPERATURE, 5 / 9, 459.67 * 5 / 9),
}


def find_unit(name: str) -> Unit:
    """The unit of that name.

    Raises:
        UnitError: there is none.
    """
    if name not in UNITS:
        raise UnitError(f"unknown unit: {name or '(empty)'}")
    return UNITS[name]
