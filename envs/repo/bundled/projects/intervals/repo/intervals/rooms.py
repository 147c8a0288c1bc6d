"""Bookings of a room."""

from __future__ import annotations

from .spans import Spans


class Booked(Exception):
    """The time is taken, or outside the opening hours."""


class Room:
    """A room with opening hours and bookings, in minutes of one day."""

    def __init__(self, name: str, opening: Spans) -> None:
        self.name = name
        self.opening = opening
        self._free = opening.copy()

    def book(self, start: int, end: int) -> None:
        """Take a time.

        Raises:
            Booked: Not all of it is free.
        """
        if end <= start:
            raise ValueError("a booking ends after it starts")
        if not self._free.covers(start, end):
            raise Booked(f"{self.name} is not free from {start} to {end}")
        self._free.remove(start, end)

    def cancel(self, start: int, end: int) -> None:
        """Give a time back. What lies outside the opening hours is ignored."""
        given = Spans([(start, end)]).intersection(self.opening)
        self._free = self._free.union(given)

    def free(self, length: int = 1) -> list[tuple[int, int]]:
        """The free pieces of at least that length."""
        return [piece for piece in self._free if piece[1] - piece[0] >= length]

    def taken(self) -> Spans:
        """The booked time."""
        return self.opening.difference(self._free)
