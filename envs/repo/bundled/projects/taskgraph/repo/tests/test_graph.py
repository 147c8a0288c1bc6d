import pytest
from taskgraph import CycleError, TaskGraph


def chain():
    graph = TaskGraph()
    graph.add("test", ["compile"])
    graph.add("compile", ["fetch"])
    graph.add("docs")
    return graph


def test_order():
    assert chain().order() == ["fetch", "compile", "test", "docs"]


def test_waves():
    assert chain().waves() == [["fetch", "docs"], ["compile"], ["test"]]


def test_needed_by():
    assert chain().needed_by("fetch") == ["test", "compile"]


def test_no_cycle():
    assert chain().find_cycle() is None


def test_cycle():
    graph = chain()
    graph.add("fetch", ["test"])
    assert graph.find_cycle() == ["test", "compile", "fetch", "test"]
    with pytest.raises(CycleError, match="test -> compile -> fetch -> test"):
        graph.order()


def test_task_that_needs_itself():
    graph = TaskGraph()
    graph.add("loop", ["loop"])
    assert graph.find_cycle() == ["loop", "loop"]


def test_cost():
    graph = TaskGraph()
    graph.add("big", cost=5)
    assert (graph.cost("big"), TaskGraph().order()) == (5, [])
    with pytest.raises(ValueError):
        graph.add("big", cost=0)
