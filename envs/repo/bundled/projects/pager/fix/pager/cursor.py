"""Pages by cursor, over a source that can start after a key."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from .errors import BadCursor
from .page import CursorPage
from .source import Source

MARK = "after:"


def encode_cursor(key: Any) -> str:
    """Return the cursor for what follows the row of this key."""
    return base64.urlsafe_b64encode((MARK + json.dumps(key)).encode()).decode()


def decode_cursor(cursor: str) -> Any:
    """Return the key that is in a cursor."""
    try:
        text = base64.urlsafe_b64decode(cursor.encode()).decode()
        if not text.startswith(MARK):
            raise ValueError(text)
        return json.loads(text[len(MARK) :])
    except ValueError as error:
        raise BadCursor(f"no cursor: {cursor!r}") from error


class CursorPager:
    """Hands out a source page by page.

    Args:
        source: where the rows come from.
        size: items of a page.
    """

    def __init__(self, source: Source, size: int = 20) -> None:
        if size < 1:
            raise ValueError(f"size must be 1 or more, not {size}")
        self.source = source
        self.size = size

    def page(self, cursor: str | None = None) -> CursorPage:
        """Return the first page, or the one that ``cursor`` leads to."""
        after = None if cursor is None else decode_cursor(cursor)
        # One row more than is shown tells whether anything follows.
        rows = self.source.fetch(after, self.size + 1)
        if len(rows) <= self.size:
            return CursorPage(rows, None)
        shown = rows[: self.size]
        return CursorPage(shown, encode_cursor(self.source.key_of(shown[-1])))

    def __iter__(self) -> Iterator[CursorPage]:
        page = self.page()
        yield page
        while page.next_cursor is not None:
            page = self.page(page.next_cursor)
            yield page

    def rows(self) -> Iterator[Any]:
        """Yield all rows, page by page."""
        for page in self:
            yield from page.items
