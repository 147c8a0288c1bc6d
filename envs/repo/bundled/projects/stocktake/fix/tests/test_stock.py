import pytest
from stocktake import OutOfStock, UnknownPlace, changes, issue_item, journal, move, on_hand, open_book, receive, totals


def filled():
    book = open_book()
    receive(book, "main", "bolt", 100)
    receive(book, "shop", "nut", 5)
    return book


def test_receive_adds_up():
    book = filled()
    receive(book, "main", "bolt", 20)
    assert on_hand(book, "main", "bolt") == 120


def test_move():
    book = filled()
    move(book, "main", "shop", "bolt", 30)
    assert (on_hand(book, "main", "bolt"), on_hand(book, "shop", "bolt")) == (70, 30)
    assert journal(book)[2:] == [("main", "bolt", -30, "to shop"), ("shop", "bolt", 30, "from main")]


def test_out_of_stock():
    book = filled()
    with pytest.raises(OutOfStock) as caught:
        issue_item(book, "shop", "nut", 6)
    assert (caught.value.wanted, caught.value.there) == (6, 5)
    assert on_hand(book, "shop", "nut") == 5


def test_unknown_place():
    with pytest.raises(UnknownPlace):
        issue_item(filled(), "moon", "nut", 1)


def test_amounts():
    for amount in (0, -1, 1.5):
        with pytest.raises(ValueError):
            receive(filled(), "main", "bolt", amount)


def test_totals():
    book = filled()
    issue_item(book, "shop", "nut", 5)
    assert totals(book) == {"bolt": 100}


def test_changes_as_one():
    book = filled()
    with changes(book):
        receive(book, "main", "cog", 1)
        receive(book, "shop", "cog", 2)
    assert totals(book)["cog"] == 3


def test_file_is_kept(tmp_path):
    path = str(tmp_path / "stock.db")
    first = open_book(path)
    receive(first, "main", "bolt", 7)
    first.close()
    assert totals(open_book(path)) == {"bolt": 7}


def test_failed_move_leaves_the_book():
    book = filled()
    before = journal(book)
    with pytest.raises(UnknownPlace):
        move(book, "main", "moon", "bolt", 30)
    assert (on_hand(book, "main", "bolt"), journal(book)) == (100, before)
