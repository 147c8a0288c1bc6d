from orderflow import Machine, Move, Order, shop


def test_events_of_a_state():
    assert shop.events("open") == ["cancel", "expire", "pay", "remind"]
    assert shop.events("returned") == []


def test_first_move_whose_guard_agrees():
    machine = Machine(
        Move("open", "go", "left", guard=lambda order, day, details: details["way"] == "l"),
        Move("open", "go", "right"),
    )
    first, second = Order("1", 0, 0), Order("2", 0, 0)
    assert machine.fire(first, "go", day=0, way="l") == "left"
    assert machine.fire(second, "go", day=0, way="r") == "right"


def test_effect_sees_the_new_state():
    seen = []
    machine = Machine(Move("open", "go", "gone", effect=lambda order, details: seen.append(order.state)))
    machine.fire(Order("1", 0, 0), "go", day=3)
    assert seen == ["gone"]


def test_possible():
    assert shop.possible(Order("1", 0, 0), "pay") is True
    assert shop.possible(Order("1", 0, 0), "ship") is False
