"""What a pager hands out."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Page:
    """A page with a number. ``first`` and ``final`` are the places of its items in the list, from 1."""

    items: list[Any]
    number: int
    last: int
    first: int
    final: int

    @property
    def next(self) -> int | None:
        """Number of the page after this one."""
        return self.number + 1 if self.number < self.last else None

    @property
    def previous(self) -> int | None:
        """Number of the page before this one."""
        return self.number - 1 if self.number > 1 else None


@dataclass(frozen=True)
class CursorPage:
    """A page with a cursor for what follows it."""

    items: list[Any]
    next_cursor: str | None

    @property
    def more(self) -> bool:
        """Whether anything follows."""
        return self.next_cursor is not None
