import pytest

from waypath import Pattern


def test_literals():
    assert Pattern("/a/b").match(("a", "b")) == {}
    assert Pattern("/a/b").match(("a",)) is None


def test_kinds():
    assert Pattern("/u/{id:int}").match(("u", "007")) == {"id": 7}
    assert Pattern("/u/{id:int}").match(("u", "x")) is None
    assert Pattern("/w/{rest:path}").match(("w", "a", "b")) == {"rest": "a/b"}
    assert Pattern("/w/{rest:path}").match(("w",)) is None


def test_build():
    assert Pattern("/u/{id:int}/edit").build({"id": 3}) == "/u/3/edit"
    assert Pattern("/f/{name}").build({"name": "two words"}) == "/f/two%20words"


def test_build_wants_the_right_values():
    with pytest.raises(ValueError):
        Pattern("/f/{name}").build({})
    with pytest.raises(ValueError):
        Pattern("/f/{name}").build({"name": ""})
    with pytest.raises(ValueError):
        Pattern("/u/{id:int}").build({"id": "x"})


def test_wrong_patterns():
    for text in ("x", "/{a}/{a}", "/{a:path}/b", "/{a:date}", "/{a"):
        with pytest.raises(ValueError):
            Pattern(text)
