"""Pages by number, over a sequence."""

from collections.abc import Iterator, Sequence
from typing import Any

from .errors import NoSuchPage
from .page import Page


class NumberPager:
    """Cuts a sequence into pages.

    Args:
        items: anything with a length and slices.
        size: items of a page.
        orphans: that many items at most do not get a last page of their own.
    """

    def __init__(self, items: Sequence[Any], size: int = 20, orphans: int = 0) -> None:
        if size < 1:
            raise ValueError(f"size must be 1 or more, not {size}")
        if not 0 <= orphans < size:
            raise ValueError(f"orphans must be less than size, not {orphans}")
        self.items = items
        self.size = size
        self.orphans = orphans

    @property
    def last(self) -> int:
        """Number of the last page."""
        countable = len(self.items) - self.orphans
        return max(1, -(-countable // self.size))

    def page(self, number: int = 1) -> Page:
        """Return the page of that number."""
        last = self.last
        if not 1 <= number <= last:
            raise NoSuchPage(f"page {number} of {last}")
        start = (number - 1) * self.size
        stop = len(self.items) if number == last else start + self.size
        items = list(self.items[start:stop])
        return Page(items, number, last, start + 1 if items else 0, stop)

    def page_of(self, index: int) -> int:
        """Return the number of the page on which the item ``index`` (from 0) stands."""
        if not 0 <= index < len(self.items):
            raise IndexError(index)
        return min(index // self.size + 1, self.last)

    def __iter__(self) -> Iterator[Page]:
        for number in range(1, self.last + 1):
            yield self.page(number)
