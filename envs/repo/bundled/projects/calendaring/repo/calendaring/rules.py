"""The kinds of recurrence.

A rule is an anchor day, an interval, an optional end and a set of exceptions. What differs between
the kinds is only how they go on from one occurrence to the next.
"""

from datetime import timedelta
from itertools import islice, takewhile

from .months import add_months


class Recurrence:
    """What all rules share: limits and exceptions."""

    unit = ""

    def __init__(self, anchor, every=1, until=None, count=None, exceptions=()):
        if every < 1:
            raise ValueError("a rule repeats every 1 or more units")
        if until is not None and count is not None:
            raise ValueError("a rule ends at a day or after a count, not both")
        self.anchor = anchor
        self.every = every
        self.until = until
        self.count = count
        self.exceptions = frozenset(exceptions)

    def advance(self, day):
        """The occurrence that follows the occurrence `day`, limits and exceptions aside."""
        raise NotImplementedError

    def first(self):
        """The first occurrence, limits and exceptions aside."""
        return self.anchor

    def _unlimited(self):
        day = self.first()
        while True:
            yield day
            try:
                day = self.advance(day)
            except OverflowError:
                return

    def occurrences(self):
        """Yield the days of the rule in order; without an end, up to the last day of the calendar."""
        days = self._unlimited()
        if self.count is not None:
            days = islice(days, self.count)
        if self.until is not None:
            days = takewhile(lambda day: day <= self.until, days)
        return (day for day in days if day not in self.exceptions)

    def between(self, start, end):
        """The days of the rule from `start` to `end`, both included."""
        early = takewhile(lambda day: day <= end, self.occurrences())
        return [day for day in early if day >= start]

    def next_after(self, day):
        """The first occurrence later than `day`, or None."""
        return next((found for found in self.occurrences() if found > day), None)

    def __repr__(self):
        return f"{type(self).__name__}({self.anchor}, every={self.every})"


class DailyRule(Recurrence):
    """Every so many days."""

    unit = "days"

    def advance(self, day):
        return day + timedelta(days=self.every)


class WeeklyRule(Recurrence):
    """On some weekdays of every so many weeks (0 is Monday)."""

    unit = "weeks"

    def __init__(self, anchor, every=1, weekdays=(), **limits):
        super().__init__(anchor, every, **limits)
        self.weekdays = tuple(sorted(set(weekdays))) or (anchor.weekday(),)

    def first(self):
        if self.anchor.weekday() in self.weekdays:
            return self.anchor
        return self.advance(self.anchor)

    def advance(self, day):
        later = [weekday for weekday in self.weekdays if weekday > day.weekday()]
        if later:
            return day + timedelta(days=later[0] - day.weekday())
        monday = day - timedelta(days=day.weekday())
        return monday + timedelta(weeks=self.every, days=self.weekdays[0])


class MonthlyRule(Recurrence):
    """On the anchor's day of every so many months."""

    unit = "months"

    def advance(self, day):
        return add_months(day, self.every)


class YearlyRule(Recurrence):
    """On the anchor's day and month of every so many years."""

    unit = "years"

    def advance(self, day):
        return add_months(day, 12 * self.every)
