import pytest
from pager import NoSuchPage, NumberPager, page_links


def test_pages():
    pager = NumberPager(range(1, 8), size=3)
    assert [page.items for page in pager] == [[1, 2, 3], [4, 5, 6], [7]]


def test_places_and_neighbours():
    page = NumberPager(range(1, 8), size=3).page(2)
    assert (page.first, page.final, page.previous, page.next) == (4, 6, 1, 3)


def test_full_last_page():
    assert NumberPager("abcdef", size=3).last == 2


def test_empty():
    page = NumberPager([], size=3).page()
    assert (page.items, page.first, page.final, page.next) == ([], 0, 0, None)


def test_beyond():
    with pytest.raises(NoSuchPage, match="page 4 of 3"):
        NumberPager(range(7), size=3).page(4)


def test_orphans():
    pager = NumberPager(range(7), size=3, orphans=1)
    assert [page.items for page in pager] == [[0, 1, 2], [3, 4, 5, 6]]
    assert pager.page_of(6) == 2


def test_links():
    assert page_links(5, 10) == [1, None, 4, 5, 6, None, 10]
    assert page_links(3, 5) == [1, 2, 3, 4, 5]
    assert page_links(1, 1) == [1]
