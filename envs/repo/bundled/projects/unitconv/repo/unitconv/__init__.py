"""Conversion of units with a check of dimensions."""

from .convert import convert, convert_all, difference
from .errors import UnitError
from .expressions import parse_unit
from .units import Unit

__all__ = ["Unit", "UnitError", "convert", "convert_all", "difference", "parse_unit"]
