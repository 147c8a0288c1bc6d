from cachebox import CacheBox, dump, remember

FRESH = {"hits": 0, "misses": 0, "writes": 3, "evictions": 0}


def three():
    box = CacheBox(3)
    box["a"], box["b"], box["c"] = 1, 2, 3
    return box


def test_membership_leaves_order_and_counts():
    box = three()
    assert ["a" in box, "z" in box, "b" not in box] == [True, False, False]
    assert list(box) == ["a", "b", "c"]
    assert box.counts.as_dict() == FRESH


def test_membership_does_not_change_what_is_evicted():
    box = three()
    assert "a" in box
    box["d"] = 4
    assert list(box) == ["b", "c", "d"]


def test_membership_of_none_values():
    box = CacheBox(2)
    box["a"] = None
    assert ["a" in box, "b" in box] == [True, False]


def test_items_leave_order_and_counts():
    box = three()
    box["a"]
    assert list(box.items()) == [("b", 2), ("c", 3), ("a", 1)]
    assert list(box) == ["b", "c", "a"]
    assert box.counts.as_dict() == {**FRESH, "hits": 1}


def test_values_leave_order_and_counts():
    box = three()
    assert list(box.values()) == [1, 2, 3]
    assert 2 in box.values()
    assert box.counts.as_dict() == FRESH
    assert box.first_out() == "a"


def test_partial_iteration_leaves_the_order():
    box = three()
    assert next(iter(box.items())) == ("a", 1)
    assert next(iter(box.values())) == 1
    assert list(box) == ["a", "b", "c"]


def test_keys_leave_order_and_counts():
    box = three()
    assert "a" in box.keys()
    assert (list(box.keys()), len(box.keys())) == (["a", "b", "c"], 3)
    assert list(box) == ["a", "b", "c"]
    assert box.counts.as_dict() == FRESH


def test_comparison_is_a_look():
    box, other = three(), three()
    other["a"]
    assert box == other
    assert box == {"a": 1, "b": 2, "c": 3}
    assert box != {"a": 1}
    assert (list(box), box.counts.as_dict()) == (["a", "b", "c"], FRESH)
    assert list(other) == ["b", "c", "a"]


def test_pairs_among_the_items():
    box = three()
    assert [("a", 1) in box.items(), ("a", 2) in box.items(), len(box.items())] == [True, False, 3]
    assert list(box) == ["a", "b", "c"]


def test_reads_are_still_uses():
    box = three()
    assert [box["a"], box.get("b"), box.get("z"), box.get("z", 9)] == [1, 2, None, 9]
    assert list(box) == ["c", "a", "b"]
    assert box.counts.as_dict() == {**FRESH, "hits": 2, "misses": 2}


def test_writes_are_still_uses():
    box = three()
    box["a"] = 7
    box.update(b=8, d=9)
    assert list(box.items()) == [("a", 7), ("b", 8), ("d", 9)]
    assert (box.counts.writes, box.counts.evictions) == (6, 1)


def test_dump_is_a_look():
    box = three()
    text = "'a': 1\n'b': 2\n'c': 3\ncounts: hits=0, misses=0, writes=3, evictions=0"
    assert [dump(box), dump(box)] == [text, text]


def test_remembered_functions_count_reads_only():
    @remember(2)
    def double(number):
        return 2 * number

    double(1), double(2)
    assert ((1,), ()) in double.box
    double(3)
    assert list(double.box.values()) == [4, 6]
    assert double.box.counts.as_dict() == {"hits": 0, "misses": 3, "writes": 3, "evictions": 1}
