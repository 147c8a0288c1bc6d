from itertools import combinations, product

from intervals import Room, Spans

ALL = [(start, end) for start in range(7) for end in range(start + 1, 8)]


def numbers(spans):
    return [number for number in range(-2, 20) if spans.contains(number)]


def shortest(held):
    pieces = []
    for number in sorted(held):
        if pieces and pieces[-1][1] == number:
            pieces[-1] = (pieces[-1][0], number + 1)
        else:
            pieces.append((number, number + 1))
    return pieces


def test_touching_on_the_right():
    spans = Spans([(1, 3), (3, 5)])
    assert (spans.pieces(), len(spans), str(spans)) == ([(1, 5)], 1, "1-5")


def test_touching_on_the_left():
    assert Spans([(3, 5), (1, 3)]).pieces() == [(1, 5)]


def test_filling_a_gap_exactly():
    spans = Spans([(0, 2), (4, 6)])
    spans.add(2, 4)
    assert spans.pieces() == [(0, 6)]
    assert spans.gaps().pieces() == []


def test_pieces_with_a_hole_stay_apart():
    assert Spans([(1, 3), (4, 5)]).pieces() == [(1, 3), (4, 5)]
    assert Spans([(4, 5), (1, 3)]).pieces() == [(1, 3), (4, 5)]


def test_equal_when_the_numbers_are_equal():
    assert Spans.parse("9-10, 10-12") == Spans.parse("9-12")
    assert Spans.parse("9-10, 11-12") != Spans.parse("9-12")


def test_covers_over_a_former_border():
    spans = Spans([(9, 10), (10, 11), (11, 12)])
    assert [spans.covers(9, 12), spans.covers(10, 12), spans.covers(9, 13)] == [True, True, False]


def test_adding_any_three_intervals():
    for pieces in product(ALL[::2], ALL, ALL[::3]):
        held = {number for start, end in pieces for number in range(start, end)}
        assert Spans(pieces).pieces() == shortest(held)


def test_removing_any_interval():
    for one, two in combinations(ALL, 2):
        held = set(range(*one)) - set(range(*two))
        spans = Spans([one])
        spans.remove(*two)
        assert spans.pieces() == shortest(held)


def test_removing_next_to_a_piece_changes_nothing():
    spans = Spans([(2, 4), (6, 8)])
    spans.remove(4, 6)
    spans.remove(0, 2)
    spans.remove(8, 9)
    assert spans.pieces() == [(2, 4), (6, 8)]


def test_union_of_complements():
    for one, two in combinations(ALL[::2], 2):
        spans, other = Spans([(0, 8)]), Spans([one, two])
        assert spans.difference(other).union(other) == Spans([(0, 8)])


def test_numbers_and_size():
    spans = Spans([(0, 1), (5, 6), (1, 2), (6, 9)])
    assert (numbers(spans), spans.size()) == ([0, 1, 5, 6, 7, 8], 6)
    assert [spans.overlaps(2, 5), spans.overlaps(2, 6), spans.overlaps(5, 5)] == [False, True, False]


def test_cancelled_booking_is_free_again():
    room = Room("blue", Spans.parse("540-720"))
    room.book(600, 660)
    room.cancel(600, 660)
    assert room.free(180) == [(540, 720)]
    room.book(540, 720)
    assert (room.free(), room.taken().pieces()) == ([], [(540, 720)])


def test_bookings_back_to_back():
    room = Room("red", Spans.parse("540-600, 600-660"))
    for start in (540, 570, 600, 630):
        room.book(start, start + 30)
    room.cancel(570, 600)
    room.cancel(600, 630)
    assert room.free(60) == [(570, 630)]
    assert room.taken().pieces() == [(540, 570), (630, 660)]
