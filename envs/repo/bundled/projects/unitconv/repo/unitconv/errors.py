"""Errors of this package."""


class UnitError(ValueError):
    """An unknown unit, an expression that cannot be read, or units that do not go together."""
