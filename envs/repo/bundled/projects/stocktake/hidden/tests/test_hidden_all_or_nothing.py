import pytest
from stocktake import (
    OutOfStock,
    UnknownPlace,
    changes,
    create_order,
    issue_item,
    journal,
    move,
    on_hand,
    open_book,
    open_orders,
    order_state,
    receive,
    ship,
    totals,
)


def filled(path=":memory:"):
    book = open_book(path)
    receive(book, "shop", "bolt", 50)
    receive(book, "main", "nut", 9)
    return book


def state(book):
    return totals(book), journal(book), open_orders(book)


def test_failed_shipment_leaves_the_book():
    book = filled()
    number = create_order(book, "Ann", {"bolt": 20, "nut": 5})
    before = state(book)
    with pytest.raises(OutOfStock):
        ship(book, number, "shop")
    assert state(book) == before
    assert order_state(book, number) == ("open", {"bolt": 0, "nut": 0})


def test_shipped_once_after_all():
    book = filled()
    number = create_order(book, "Ann", {"bolt": 20, "nut": 5})
    with pytest.raises(OutOfStock):
        ship(book, number, "shop")
    move(book, "main", "shop", "nut", 6)
    ship(book, number, "shop")
    assert (on_hand(book, "shop", "bolt"), on_hand(book, "shop", "nut")) == (30, 1)
    assert order_state(book, number) == ("sent", {"bolt": 20, "nut": 5})


def test_failed_move_leaves_the_book():
    book = filled()
    before = state(book)
    with pytest.raises(UnknownPlace):
        move(book, "shop", "moon", "bolt", 10)
    assert state(book) == before
    assert on_hand(book, "shop", "bolt") == 50


def test_failed_order_is_not_entered():
    book = filled()
    with pytest.raises(ValueError):
        create_order(book, "Ann", {"bolt": 20, "nut": 0})
    assert open_orders(book) == []
    assert create_order(book, "Bob", {"bolt": 1}) == 1


def test_block_that_fails():
    book = filled()
    before = state(book)
    with pytest.raises(RuntimeError, match="stop"), changes(book):
        receive(book, "shop", "cog", 3)
        issue_item(book, "shop", "bolt", 50)
        raise RuntimeError("stop")
    assert state(book) == before


def test_shipments_within_a_block_are_one():
    book = filled()
    first = create_order(book, "Ann", {"bolt": 20})
    second = create_order(book, "Bob", {"bolt": 40})
    before = state(book)
    with pytest.raises(OutOfStock), changes(book):
        ship(book, first, "shop")
        ship(book, second, "shop")
    assert state(book) == before
    assert order_state(book, first) == ("open", {"bolt": 0})


def test_nothing_of_it_is_in_the_file(tmp_path):
    path = str(tmp_path / "stock.db")
    book = filled(path)
    number = create_order(book, "Ann", {"bolt": 20, "nut": 5})
    with pytest.raises(OutOfStock):
        ship(book, number, "shop")
    book.close()
    assert totals(open_book(path)) == {"bolt": 50, "nut": 9}


def test_work_goes_on_after_a_failure():
    book = filled()
    with pytest.raises(UnknownPlace):
        move(book, "shop", "moon", "bolt", 10)
    receive(book, "shop", "bolt", 1)
    with changes(book):
        receive(book, "moon", "bolt", 2)
    assert not book.in_transaction
    assert (on_hand(book, "shop", "bolt"), on_hand(book, "moon", "bolt")) == (51, 2)


def test_success_is_kept(tmp_path):
    path = str(tmp_path / "stock.db")
    book = filled(path)
    number = create_order(book, "Ann", {"bolt": 20})
    ship(book, number, "shop")
    book.close()
    assert order_state(open_book(path), number) == ("sent", {"bolt": 20})


def test_single_failure_changes_nothing():
    book = filled()
    before = state(book)
    with pytest.raises(OutOfStock):
        issue_item(book, "shop", "bolt", 51)
    assert state(book) == before
    assert not book.in_transaction


def test_nested_blocks_end_with_the_outer_one():
    book = filled()
    with changes(book):
        with changes(book):
            receive(book, "shop", "cog", 1)
        assert book.in_transaction
        move(book, "shop", "main", "cog", 1)
    assert not book.in_transaction
    assert journal(book)[-2:] == [("shop", "cog", -1, "to main"), ("main", "cog", 1, "from shop")]
