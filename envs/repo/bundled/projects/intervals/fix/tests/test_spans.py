import pytest

from intervals import Booked, Room, SpanError, Spans


def test_parse_and_write():
    assert str(Spans.parse("13-17, 9-12")) == "9-12, 13-17"
    assert Spans.parse("").pieces() == []


def test_bad_text():
    for bad in ("9", "9-", "9-12-13", "12-9"):
        with pytest.raises(SpanError):
            Spans.parse(bad)


def test_overlapping_pieces_are_joined():
    assert Spans([(1, 4), (3, 6), (8, 9)]).pieces() == [(1, 6), (8, 9)]
    assert Spans([(1, 2), (4, 5), (0, 9)]).pieces() == [(0, 9)]


def test_piece_in_front():
    assert Spans([(5, 7), (3, 5)]).pieces() == [(3, 7)]


def test_piece_behind():
    assert Spans([(3, 5), (5, 7)]).pieces() == [(3, 7)]


def test_cancelled_time_is_whole_again():
    room = Room("blue", Spans.parse("540-720"))
    room.book(600, 660)
    room.cancel(600, 660)
    assert room.free(180) == [(540, 720)]


def test_empty_intervals_change_nothing():
    spans = Spans([(1, 4)])
    spans.add(9, 9)
    spans.remove(3, 2)
    assert spans.pieces() == [(1, 4)]


def test_remove():
    spans = Spans([(9, 12), (13, 17)])
    spans.remove(11, 14)
    assert spans.pieces() == [(9, 11), (14, 17)]
    spans.remove(9, 10)
    assert spans.pieces() == [(10, 11), (14, 17)]


def test_contains():
    spans = Spans([(9, 12)])
    assert [spans.contains(number) for number in (8, 9, 11, 12)] == [False, True, True, False]


def test_covers_and_overlaps():
    spans = Spans([(9, 12), (13, 17)])
    assert spans.covers(9, 12) and not spans.covers(11, 14)
    assert spans.overlaps(11, 13) and not spans.overlaps(12, 13)


def test_set_operations():
    one, two = Spans([(0, 5), (8, 10)]), Spans([(3, 9)])
    assert one.union(two).pieces() == [(0, 10)]
    assert one.difference(two).pieces() == [(0, 3), (9, 10)]
    assert one.intersection(two).pieces() == [(3, 5), (8, 9)]
    assert one.gaps().pieces() == [(5, 8)]
    assert one.size() == 7


def test_room():
    room = Room("blue", Spans.parse("540-720, 780-1020"))
    room.book(600, 660)
    with pytest.raises(Booked):
        room.book(650, 700)
    room.book(660, 700)
    assert room.free(60) == [(540, 600), (780, 1020)]
    assert str(room.taken()) == "600-700"


def test_cancel():
    room = Room("blue", Spans.parse("540-720"))
    room.book(540, 600)
    room.cancel(500, 600)
    assert room.free() == [(540, 720)]
