import sqlite3

import pytest
from pager import BadCursor, CursorPager, RowSource, TableSource, decode_cursor, encode_cursor


def rows(count):
    return [{"id": n, "text": f"row {n}"} for n in range(1, count + 1)]


def ids(page):
    return [row["id"] for row in page.items]


def test_pages():
    assert [ids(page) for page in CursorPager(RowSource(rows(7)), size=3)] == [[1, 2, 3], [4, 5, 6], [7]]


def test_first_page_has_more():
    page = CursorPager(RowSource(rows(4)), size=3).page()
    assert page.more
    assert decode_cursor(page.next_cursor) == 3


def test_short_page_is_the_last():
    page = CursorPager(RowSource(rows(2)), size=3).page()
    assert (ids(page), page.next_cursor, page.more) == ([1, 2], None, False)


def test_full_last_page():
    pages = list(CursorPager(RowSource(rows(6)), size=3))
    assert [ids(page) for page in pages] == [[1, 2, 3], [4, 5, 6]]
    assert pages[-1].next_cursor is None


def test_empty():
    assert [page.items for page in CursorPager(RowSource([]))] == [[]]


def test_all_rows():
    assert list(CursorPager(RowSource(rows(9)), size=2).rows()) == rows(9)


def test_bad_cursor():
    pager = CursorPager(RowSource(rows(3)))
    for text in ("x", "bm8=", encode_cursor(1)[:-8]):
        with pytest.raises(BadCursor):
            pager.page(text)


def test_table():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE towns (id INTEGER PRIMARY KEY, name TEXT)")
    connection.executemany("INSERT INTO towns VALUES (?, ?)", [(3, "Ulm"), (1, "Bonn"), (2, "Kiel")])
    pages = [page.items for page in CursorPager(TableSource(connection, "towns"), size=2)]
    assert pages == [[(1, "Bonn"), (2, "Kiel")], [(3, "Ulm")]]
