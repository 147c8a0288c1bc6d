from copy import deepcopy

import pytest

from orderflow import Entry, Machine, Move, Order, Refused, shop


def delivered(day=5):
    order = Order("B-1", total=50, opened=1)
    shop.fire(order, "pay", day=1, amount=50)
    shop.fire(order, "ship", day=2)
    shop.fire(order, "deliver", day=day)
    return order


def test_late_return_is_refused_and_leaves_no_trace():
    order = delivered()
    before = deepcopy(order)
    with pytest.raises(Refused):
        shop.fire(order, "return", day=95)
    assert order == before


def test_return_or_exchange_by_the_day():
    for day, state, paid in ((5, "returned", 0), (19, "returned", 0), (20, "exchanged", 50), (35, "exchanged", 50)):
        order = delivered()
        assert shop.fire(order, "return", day=day) == state
        assert (order.state, order.since, order.paid) == (state, day, paid)
        assert order.history[-1] == Entry(day, "return", state)
        assert len(order.history) == 5
    with pytest.raises(Refused):
        shop.fire(delivered(), "return", day=36)


def test_reminders():
    order = Order("B-2", total=10, opened=1)
    with pytest.raises(Refused):
        shop.fire(order, "remind", day=3)
    assert shop.fire(order, "remind", day=4) == "open"
    with pytest.raises(Refused):
        shop.fire(order, "remind", day=6)
    assert shop.fire(order, "remind", day=7) == "open"
    assert order.history == [Entry(1, "new", "open"), Entry(4, "remind", "open"), Entry(7, "remind", "open")]
    assert shop.fire(order, "expire", day=8) == "cancelled"


def test_one_reminder_is_not_enough():
    order = Order("B-3", total=10, opened=1)
    shop.fire(order, "remind", day=9)
    with pytest.raises(Refused):
        shop.fire(order, "expire", day=10)
    assert (order.state, order.since) == ("open", 9)


def test_failed_payment_does_not_touch_the_order():
    order = Order("B-4", total=50, opened=1)
    before = deepcopy(order)
    with pytest.raises(Refused):
        shop.fire(order, "pay", day=8, amount=10)
    assert order == before
    assert shop.fire(order, "remind", day=8) == "open"
    assert shop.fire(order, "pay", day=8, amount=50) == "paid"


def test_guard_sees_the_order_before_the_move():
    seen = []

    def guard(order, day, details):
        seen.append((order.state, order.since, [entry.target for entry in order.history], day))
        return True

    machine = Machine(Move("open", "go", "gone", guard=guard))
    machine.fire(Order("1", 0, opened=2), "go", day=6)
    assert seen == [("open", 2, ["open"], 6)]


def test_guards_of_several_moves_see_the_same_order():
    seen = []

    def guard(order, day, details):
        seen.append(deepcopy(order))
        return False

    machine = Machine(
        Move("open", "go", "a", guard=guard),
        Move("open", "go", "b", guard=guard),
        Move("open", "go", "c"),
    )
    order = Order("1", 0, opened=2)
    before = deepcopy(order)
    assert machine.fire(order, "go", day=6) == "c"
    assert seen == [before, before]
    assert order.history == [Entry(2, "new", "open"), Entry(6, "go", "c")]


def test_guard_may_count_the_event_itself():
    once = Machine(Move("open", "try", "open", guard=lambda order, day, details: order.times("try") < 1))
    order = Order("1", 0, opened=0)
    assert once.fire(order, "try", day=1) == "open"
    with pytest.raises(Refused):
        once.fire(order, "try", day=2)
    assert order.times("try") == 1


def test_error_in_a_guard_leaves_the_order_alone():
    machine = Machine(Move("open", "go", "gone", guard=lambda order, day, details: details["missing"]))
    order = Order("1", 0, opened=2)
    before = deepcopy(order)
    with pytest.raises(KeyError):
        machine.fire(order, "go", day=4)
    assert order == before


def test_effect_runs_after_the_move():
    seen = []
    effect = lambda order, details: seen.append((order.state, order.since, order.history[-1], details))  # noqa: E731
    Machine(Move("open", "go", "gone", effect=effect)).fire(Order("1", 0, 0), "go", day=3, by="ann")
    assert seen == [("gone", 3, Entry(3, "go", "gone"), {"by": "ann"})]


def test_no_move_at_all():
    order = delivered()
    before = deepcopy(order)
    with pytest.raises(Refused):
        shop.fire(order, "ship", day=9)
    assert order == before


def test_days_do_not_go_back():
    with pytest.raises(ValueError):
        shop.fire(delivered(day=7), "return", day=6)
