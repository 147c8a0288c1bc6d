"""A bounded memory for what is read off long texts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pivotgym.envs.trajectory import digest

T = TypeVar("T")


class Memo(Generic[T]):
    """Keeps what ``read`` found in a text, by the text's digest (the text itself is let go).

    Args:
        read: text to a sequence of findings.
        max_items: findings kept, over all texts; the least recently used texts are forgotten first.
    """

    def __init__(self, read: Callable[[str], Sequence[T]], max_items: int = 500_000) -> None:
        self._read = read
        self._max_items = max_items
        self._kept: OrderedDict[str, Sequence[T]] = OrderedDict()
        self._items = 0

    def __call__(self, text: str) -> Sequence[T]:
        """The findings in ``text``."""
        key = digest(text)
        found = self._kept.pop(key, None)
        if found is None:
            found = self._read(text)
            self._items += len(found) + 1
        self._kept[key] = found
        while self._items > self._max_items and len(self._kept) > 1:
            _, forgotten = self._kept.popitem(last=False)
            self._items -= len(forgotten) + 1
        return found

    def __len__(self) -> int:
        return self._items
