"""What can go wrong."""


class PagerError(Exception):
    """Base of the errors of this package."""


class NoSuchPage(PagerError):
    """There is no page of that number."""


class BadCursor(PagerError):
    """The text is no cursor that this package made."""
