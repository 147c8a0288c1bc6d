"""The set itself.

Starts and ends are kept in two sorted lists of the same length. As pieces neither overlap nor touch,
both lists ascend strictly, and a bisection finds the pieces that a new interval meets.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from .parsing import read_pieces, write_pieces


class Spans:
    """A set of whole numbers."""

    def __init__(self, pieces: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in pieces:
            self.add(start, end)

    @classmethod
    def parse(cls, text: str) -> Spans:
        """Read a text such as `9-12, 13-17`."""
        return cls(read_pieces(text))

    def __str__(self) -> str:
        return write_pieces(self.pieces())

    def __repr__(self) -> str:
        return f"Spans({self.pieces()})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spans):
            return NotImplemented
        return self.pieces() == other.pieces()

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        """The number of pieces."""
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.pieces())

    def pieces(self) -> list[tuple[int, int]]:
        """All pieces in order."""
        return list(zip(self._starts, self._ends))

    def size(self) -> int:
        """How many numbers the set holds."""
        return sum(self._ends) - sum(self._starts)

    def _met(self, start: int, end: int) -> tuple[int, int]:
        """The pieces `low:high` that an interval meets; to touch is to meet."""
        low = bisect_left(self._ends, start)
        high = bisect_right(self._starts, end)
        return low, high

    def add(self, start: int, end: int) -> None:
        """Put all numbers of an interval in."""
        if end <= start:
            return
        low, high = self._met(start, end)
        if low < high:
            start = min(start, self._starts[low])
            end = max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take all numbers of an interval out."""
        if end <= start:
            return
        low, high = self._met(start, end)
        rest = []
        for place in range(low, high):
            rest.append((self._starts[place], min(self._ends[place], start)))
            rest.append((max(self._starts[place], end), self._ends[place]))
        rest = [piece for piece in rest if piece[0] < piece[1]]
        self._starts[low:high] = [piece[0] for piece in rest]
        self._ends[low:high] = [piece[1] for piece in rest]

    def contains(self, number: int) -> bool:
        """Whether a number is in the set."""
        place = bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._ends[place]

    def covers(self, start: int, end: int) -> bool:
        """Whether all numbers of an interval are in the set."""
        if end <= start:
            return True
        place = bisect_right(self._starts, start) - 1
        return place >= 0 and end <= self._ends[place]

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any number of an interval is in the set."""
        if end <= start:
            return False
        return bisect_right(self._ends, start) < bisect_left(self._starts, end)

    def copy(self) -> Spans:
        twin = Spans()
        twin._starts, twin._ends = self._starts[:], self._ends[:]
        return twin

    def union(self, other: Spans) -> Spans:
        """The numbers in either set."""
        result = self.copy()
        for start, end in other:
            result.add(start, end)
        return result

    def difference(self, other: Spans) -> Spans:
        """The numbers in this set that are not in the other."""
        result = self.copy()
        for start, end in other:
            result.remove(start, end)
        return result

    def intersection(self, other: Spans) -> Spans:
        """The numbers in both sets."""
        return self.difference(self.difference(other))

    def gaps(self) -> Spans:
        """The numbers between the pieces."""
        return Spans(zip(self._ends, self._starts[1:]))
