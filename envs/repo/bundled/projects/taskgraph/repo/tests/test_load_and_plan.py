import pytest
from taskgraph import LoadError, load, make_plan

TEXT = """
# a small build
compile [4]: fetch
test [2]: compile
docs [3]
"""


def test_load():
    graph = load(TEXT)
    assert graph.names == ["compile", "fetch", "test", "docs"]
    assert graph.needs("test") == ["compile"]
    assert (graph.cost("compile"), graph.cost("fetch")) == (4, 1)


def test_bad_line():
    with pytest.raises(LoadError, match="line 2"):
        load("a: b\nc = d")


def test_one_worker():
    assert make_plan(load(TEXT)).length == 10


def test_two_workers():
    plan = make_plan(load(TEXT), workers=2)
    assert plan.lane(0) == ["fetch", "compile", "test"]
    assert plan.lane(1) == ["docs"]
    assert plan.length == 7


def test_no_workers():
    with pytest.raises(ValueError):
        make_plan(load(TEXT), workers=0)
