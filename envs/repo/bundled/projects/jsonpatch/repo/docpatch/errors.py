"""Errors."""


class PointerError(ValueError):
    """A pointer that cannot be read, or that leads nowhere."""


class PatchError(ValueError):
    """An operation that is malformed or cannot be carried out."""
