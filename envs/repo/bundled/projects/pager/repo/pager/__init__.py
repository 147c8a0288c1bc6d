"""Pages of long lists."""

from .cursor import CursorPager, decode_cursor, encode_cursor
from .errors import BadCursor, NoSuchPage, PagerError
from .links import page_links
from .number import NumberPager
from .page import CursorPage, Page
from .source import RowSource, TableSource

__all__ = [
    "BadCursor",
    "CursorPage",
    "CursorPager",
    "NoSuchPage",
    "NumberPager",
    "Page",
    "PagerError",
    "RowSource",
    "TableSource",
    "decode_cursor",
    "encode_cursor",
    "page_links",
]
