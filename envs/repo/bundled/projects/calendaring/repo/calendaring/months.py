"""Month arithmetic that the standard library leaves out."""

import calendar
from datetime import date


def month_length(year, month):
    """The number of days of a month."""
    return calendar.monthrange(year, month)[1]


def add_months(day, months):
    """The same day of the month, `months` later; the last day of that month where it is too short.

    Raises:
        OverflowError: The result lies after the year 9999.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year > date.max.year:
        raise OverflowError(f"{months} months after {day} is beyond the calendar")
    return date(year, month + 1, min(day.day, month_length(year, month + 1)))
