import pytest

from cachebox import CacheBox, TooHeavy, dump, remember


def filled(capacity=3, keys="abc", **options):
    box = CacheBox(capacity, **options)
    for key in keys:
        box[key] = key.upper()
    return box


def test_the_oldest_goes_first():
    box = filled(keys="abcd")
    assert list(box) == ["b", "c", "d"]
    assert box.counts.evictions == 1


def test_reading_refreshes():
    box = filled()
    assert box["a"] == "A"
    assert box.get("b") == "B"
    assert list(box) == ["c", "a", "b"]


def test_writing_refreshes():
    box = filled()
    box["a"] = "AA"
    assert list(box) == ["b", "c", "a"]
    assert box.weight == 3


def test_peek_does_not_refresh():
    box = filled()
    assert (box.peek("a"), box.peek("z", 0)) == ("A", 0)
    assert box.first_out() == "a"
    assert box.counts.as_dict() == {"hits": 0, "misses": 0, "writes": 3, "evictions": 0}


def test_membership():
    box = filled()
    assert "a" in box
    assert "z" not in box


def test_hit_rate():
    box = filled()
    assert box.counts.hit_rate == 0.0
    box["a"], box.get("z")
    assert box.counts.hit_rate == 0.5


def test_weights():
    gone = []
    box = CacheBox(5, weigh=len, on_evict=lambda key, value: gone.append((key, value)))
    box["x"] = "12"
    box["y"] = "123"
    box["z"] = "1"
    assert (list(box), box.weight, gone) == (["y", "z"], 4, [("x", "12")])
    with pytest.raises(TooHeavy):
        box["w"] = "123456"


def test_resize_and_delete():
    box = filled()
    del box["b"]
    box.resize(1)
    assert (list(box), box.weight) == (["c"], 1)


def test_dump():
    assert dump(filled(keys="a")) == "'a': 'A'\ncounts: hits=0, misses=0, writes=1, evictions=0"


def test_remember():
    calls = []

    @remember(2)
    def square(number):
        calls.append(number)
        return number * number

    assert [square(2), square(2), square(3), square(4), square(2)] == [4, 4, 9, 16, 4]
    assert calls == [2, 3, 4, 2]
    assert square.box.counts.hits == 1
