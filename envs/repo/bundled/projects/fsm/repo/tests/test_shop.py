import pytest

from orderflow import Entry, Order, Refused, shop


def delivered():
    order = Order("A-1", total=50, opened=1)
    shop.fire(order, "pay", day=1, amount=50)
    shop.fire(order, "ship", day=2)
    shop.fire(order, "deliver", day=5)
    return order


def test_the_usual_way():
    order = delivered()
    assert (order.state, order.since, order.paid) == ("delivered", 5, 50)
    assert order.history == [
        Entry(1, "new", "open"),
        Entry(1, "pay", "paid"),
        Entry(2, "ship", "shipped"),
        Entry(5, "deliver", "delivered"),
    ]


def test_too_little_money():
    order = Order("A-2", total=50, opened=1)
    with pytest.raises(Refused) as caught:
        shop.fire(order, "pay", day=1, amount=49)
    assert str(caught.value) == "order A-2 is open: cannot pay"
    assert (order.state, order.paid, len(order.history)) == ("open", 0, 1)


def test_cancelling_gives_the_money_back():
    order = Order("A-3", total=50, opened=1)
    shop.fire(order, "pay", day=1, amount=60)
    assert shop.fire(order, "cancel", day=4) == "cancelled"
    assert (order.paid, order.notes) == (0, ["refunded 60"])


def test_return():
    order = delivered()
    assert shop.fire(order, "return", day=10) == "returned"
    assert order.paid == 0


def test_unknown_event():
    order = delivered()
    with pytest.raises(Refused):
        shop.fire(order, "pay", day=6, amount=1)


def test_days_do_not_go_back():
    order = delivered()
    with pytest.raises(ValueError):
        shop.fire(order, "return", day=4)


def test_expiry_needs_reminders():
    order = Order("A-4", total=50, opened=1)
    with pytest.raises(Refused):
        shop.fire(order, "expire", day=20)
