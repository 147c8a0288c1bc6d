import sqlite3

from pager import CursorPager, NumberPager, RowSource, TableSource, decode_cursor


def rows(*numbers):
    return [{"id": n} for n in numbers]


def ids(page):
    return [row["id"] for row in page.items]


def test_two_full_pages():
    pages = list(CursorPager(RowSource(rows(*range(40))), size=20))
    assert [len(page.items) for page in pages] == [20, 20]
    assert [page.more for page in pages] == [True, False]


def test_one_full_page():
    page = CursorPager(RowSource(rows(1, 2, 3)), size=3).page()
    assert (ids(page), page.next_cursor, page.more) == ([1, 2, 3], None, False)


def test_pages_of_one_item():
    pages = list(CursorPager(RowSource(rows(5, 6, 7)), size=1))
    assert [ids(page) for page in pages] == [[5], [6], [7]]
    assert pages[-1].next_cursor is None


def test_lengths_of_all_pages():
    found = [[len(page.items) for page in CursorPager(RowSource(rows(*range(n))), size=4)] for n in range(10)]
    assert found == [[0], [1], [2], [3], [4], [4, 1], [4, 2], [4, 3], [4, 4], [4, 4, 1]]


def test_full_last_page_of_a_table():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE words (id TEXT PRIMARY KEY)")
    connection.executemany("INSERT INTO words VALUES (?)", [(word,) for word in ("d", "b", "a", "c")])
    pages = list(CursorPager(TableSource(connection, "words"), size=2))
    assert [page.items for page in pages] == [[("a",), ("b",)], [("c",), ("d",)]]
    assert [page.more for page in pages] == [True, False]


def test_cursor_leads_to_what_follows():
    pager = CursorPager(RowSource(rows(10, 20, 30, 40, 50)), size=2)
    first = pager.page()
    assert decode_cursor(first.next_cursor) == 20
    assert ids(pager.page(first.next_cursor)) == [30, 40]


def test_no_row_is_lost_or_doubled():
    for size in (1, 2, 3, 6, 7):
        assert list(CursorPager(RowSource(rows(*range(6))), size=size).rows()) == rows(*range(6))


def test_rows_added_between_two_calls():
    source = RowSource(rows(1, 2, 3))
    pager = CursorPager(source, size=2)
    first = pager.page()
    source.add({"id": 2.5})
    source.add({"id": 0})
    second = pager.page(first.next_cursor)
    assert (ids(second), second.next_cursor) == ([2.5, 3], None)


def test_a_page_is_never_larger_than_size():
    source = RowSource(rows(*range(5)))
    assert [len(CursorPager(source, size=n).page().items) for n in (1, 2, 4, 5, 6)] == [1, 2, 4, 5, 5]


def test_number_pages_stay():
    assert [page.items for page in NumberPager("abcdef", size=3)] == [list("abc"), list("def")]
    assert NumberPager("abcdef", size=3).page(2).next is None
