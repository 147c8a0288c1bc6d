import copy

from configstack import DEFAULTS, ConfigStack, from_assignments, merge, standard_stack

# Every test has keys of its own: what leaks out of one must not decide another.


def test_set_stays_in_its_stack():
    one, two = ConfigStack([("base", {"s1": 1})]), ConfigStack([("base", {"s1": 1})])
    one.set("s1", 2)
    assert (one.get("s1"), two.get("s1"), ConfigStack().get("s1", None)) == (2, 1, None)


def test_standard_stacks_are_independent():
    one = standard_stack()
    one.set("server.leak", True)
    one.append("log.targets", "file")
    two = standard_stack()
    assert (two.get("server.leak", None), two.get("log.targets")) == (None, ["stderr"])
    assert DEFAULTS["log"] == {"level": "info", "targets": ["stderr"]}


def test_append_leaves_the_layers_alone():
    table = {"a1": {"list": [1]}}
    stack = ConfigStack([("base", table)], {})
    stack.append("a1.list", 2)
    stack.append("a1.list", 3)
    assert (stack.get("a1.list"), table) == ([1, 2, 3], {"a1": {"list": [1]}})
    stack.reset()
    assert stack.get("a1.list") == [1]


def test_values_handed_out_are_copies():
    stack = ConfigStack([("base", {"h1": {"list": [1], "table": {"x": [2]}}})], {"h2": {"y": [3]}})
    before = copy.deepcopy(stack.merged())
    stack.get("h1.list").append(9)
    stack.get("h1")["table"]["x"].append(9)
    stack.get("h2.y").append(9)
    stack.merged()["h1"]["new"] = 9
    assert stack.merged() == before


def test_values_handed_in_are_copied():
    stack = ConfigStack([], {})
    value = {"list": [1]}
    stack.set("v1", value)
    value["list"].append(2)
    assert stack.get("v1") == {"list": [1]}
    stack.set("v1.list", [7])
    assert value == {"list": [1, 2]}


def test_layers_handed_in_are_copied():
    table, overrides = {"l1": {"x": 1}}, {"l2": [1]}
    stack = ConfigStack([("base", table)], overrides)
    table["l1"]["x"] = 2
    overrides["l2"].append(2)
    assert stack.merged() == {"l1": {"x": 1}, "l2": [1]}
    stack.set("l2", [])
    assert overrides == {"l2": [1, 2]}


def test_appended_items_are_copied():
    stack, item = ConfigStack([], {}), {"name": "i1"}
    stack.append("i1", item)
    item["name"] = "changed"
    assert stack.get("i1") == [{"name": "i1"}]


def test_children_and_parents_are_independent():
    parent = ConfigStack([("base", {"c1": [1]})], {"c2": {"x": 1}})
    child = parent.child("more", {"c3": 1})
    child.set("c2.x", 2)
    child.append("c1", 2)
    parent.set("c2.y", 3)
    assert (parent.get("c1"), parent.get("c2")) == ([1], {"x": 1, "y": 3})
    assert (child.get("c1"), child.get("c2"), child.get("c3")) == ([1, 2], {"x": 2}, 1)


def test_merge_shares_nothing():
    lower, upper = {"m1": {"x": [1]}, "m2": [2]}, {"m3": {"y": [3]}}
    result = merge(lower, upper)
    assert result == {"m1": {"x": [1]}, "m2": [2], "m3": {"y": [3]}}
    for found in (result["m1"]["x"], result["m2"], result["m3"]["y"]):
        found.append(9)
    assert (lower, upper) == ({"m1": {"x": [1]}, "m2": [2]}, {"m3": {"y": [3]}})


def test_merge_of_tables_and_others():
    assert merge({"x": {"y": 1}}, {"x": 2}) == {"x": 2}
    assert merge({"x": 2}, {"x": {"y": 1}}) == {"x": {"y": 1}}
    assert merge({"x": [1, 2]}, {"x": []}) == {"x": []}


def test_own_overrides_are_read():
    stack = ConfigStack([("base", {"o1": {"x": 1, "y": 1}})], {"o1": {"x": 2}})
    stack.set("o1.z", 3)
    assert (stack.get("o1"), stack.origin("o1.x"), stack.origin("o1.y")) == (
        {"x": 2, "y": 1, "z": 3},
        "overrides",
        "base",
    )
    stack.reset()
    assert stack.get("o1") == {"x": 1, "y": 1}


def test_order_of_sources():
    stack = standard_stack(environ={"APP_Q1__A": "1", "APP_Q1__B": "2"}, assignments=["q1.b=3"])
    assert (stack.get("q1"), stack.origin("q1.a")) == ({"a": 1, "b": 3}, "environment")
    assert from_assignments(["a.b=1", "a.c=2", "a=3"]) == {"a": 3}


def test_append_to_a_new_list():
    stack = ConfigStack([("base", {"n1": {}})], {})
    stack.append("n1.list", "x")
    assert stack.merged() == {"n1": {"list": ["x"]}}
