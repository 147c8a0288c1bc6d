import pytest
from taskgraph import CycleError, TaskGraph, find_cycle, load, make_plan

DIAMOND = "package: server client\nserver: common\nclient: common\n"


def turned(cycle):
    """The cycle from its first name in the alphabet on: where it is entered is not promised."""
    assert cycle[0] == cycle[-1]
    start = cycle.index(min(cycle))
    return cycle[start:-1] + cycle[:start]


def test_order_of_a_diamond():
    assert load(DIAMOND).order() == ["common", "server", "client", "package"]


def test_waves_of_a_diamond():
    assert load(DIAMOND).waves() == [["common"], ["server", "client"], ["package"]]


def test_plan_of_a_diamond():
    plan = make_plan(load(DIAMOND + "server [5]\nclient [2]\n"), workers=2)
    assert plan.length == 7
    assert plan.lane(1) == ["client"]


def test_shortcut_past_a_task():
    assert load("a: b c\nb: c\n").find_cycle() is None
    assert load("a: c b\nb: c\n").order() == ["c", "b", "a"]


def test_layers_of_diamonds():
    text = "".join(f"a{n}: b{n} c{n}\nb{n}: a{n + 1}\nc{n}: a{n + 1}\n" for n in range(6))
    graph = load(text)
    assert graph.find_cycle() is None
    assert graph.order()[:4] == ["a6", "b5", "c5", "a5"]


def test_only_the_cycle_is_listed():
    assert turned(load("a: x b\nb: a\n").find_cycle()) == ["a", "b"]


def test_side_branches_are_not_listed():
    graph = load("a: x b\nx: y z\nb: y c\nc: x b\n")
    assert turned(graph.find_cycle()) == ["b", "c"]


def test_cycle_behind_a_diamond():
    graph = load(DIAMOND + "common: base\nbase: client\n")
    with pytest.raises(CycleError) as caught:
        graph.order()
    assert turned(caught.value.cycle) == ["base", "client", "common"]


def test_needed_by_in_a_diamond():
    assert load(DIAMOND).needed_by("common") == ["package", "server", "client"]


def test_separate_tasks_with_a_common_need():
    graph = load("a: z\nb: z\nc: b z\n")
    assert graph.order() == ["z", "a", "b", "c"]


def test_plain_cycles_are_still_found():
    assert turned(load("a: b\nb: c\nc: a\n").find_cycle()) == ["a", "b", "c"]
    assert load("a\nb: b\n").find_cycle() == ["b", "b"]


def test_function_on_other_data():
    needs = {"p": ["q"], "q": [], "r": ["s"], "s": ["r"]}
    assert find_cycle(["p"], needs.__getitem__) is None
    assert turned(find_cycle(["p", "r"], needs.__getitem__)) == ["r", "s"]


def test_chain_and_costs():
    graph = TaskGraph()
    graph.add("last", ["middle"], cost=3)
    graph.add("middle", ["first"])
    assert make_plan(graph, workers=3).length == 5
