import pytest
from stocktake import (
    OutOfStock,
    UnknownOrder,
    create_order,
    journal,
    on_hand,
    open_book,
    open_orders,
    order_state,
    receive,
    ship,
)


def filled():
    book = open_book()
    receive(book, "shop", "bolt", 50)
    receive(book, "shop", "nut", 5)
    return book


def test_ship():
    book = filled()
    number = create_order(book, "Ann", {"bolt": 20, "nut": 5})
    ship(book, number, "shop")
    assert order_state(book, number) == ("sent", {"bolt": 20, "nut": 5})
    assert (on_hand(book, "shop", "bolt"), on_hand(book, "shop", "nut")) == (30, 0)
    assert journal(book)[-1] == ("shop", "nut", -5, f"order {number}")


def test_open_orders():
    book = filled()
    first = create_order(book, "Ann", {"bolt": 1})
    second = create_order(book, "Bob", {"bolt": 2})
    ship(book, first, "shop")
    assert open_orders(book) == [(second, "Bob")]


def test_not_sent_twice():
    book = filled()
    number = create_order(book, "Ann", {"bolt": 1})
    ship(book, number, "shop")
    with pytest.raises(UnknownOrder):
        ship(book, number, "shop")


def test_unknown_order():
    with pytest.raises(UnknownOrder):
        ship(filled(), 99, "shop")


def test_order_without_lines():
    with pytest.raises(ValueError):
        create_order(filled(), "Ann", {})


def test_failed_shipment_leaves_the_book():
    book = filled()
    number = create_order(book, "Ann", {"bolt": 20, "nut": 6})
    before = journal(book)
    with pytest.raises(OutOfStock):
        ship(book, number, "shop")
    assert (on_hand(book, "shop", "bolt"), journal(book)) == (50, before)
    assert order_state(book, number) == ("open", {"bolt": 0, "nut": 0})
