import pytest

from waypath import Found, NotFound, Redirect, Router


def make():
    router = Router()
    router.add("home", "/")
    router.add("user", "/users/{id:int}")
    router.add("file", "/files/{name}")
    router.add("page", "/wiki/{title:path}/")
    return router


def test_find():
    assert make().find("/") == Found("home", {})
    assert make().find("/users/7") == Found("user", {"id": 7})
    assert make().find("/wiki/a/b/") == Found("page", {"title": "a/b"})


def test_segments_are_decoded():
    assert make().find("/files/two%20words.txt") == Found("file", {"name": "two words.txt"})
    assert make().find("/files/caf%C3%A9") == Found("file", {"name": "caf\u00e9"})


def test_query():
    assert make().find("/users/7?tab=posts") == Found("user", {"id": 7}, "tab=posts")


def test_redirect():
    assert make().find("/users/7/") == Redirect("/users/7")
    assert make().find("/wiki/a?x=1") == Redirect("/wiki/a/?x=1")


def test_not_found():
    with pytest.raises(NotFound):
        make().find("/nothing/here")


def test_there_and_back():
    router = make()
    assert router.find(router.url_for("page", title="a/b c")) == Found("page", {"title": "a/b c"})
    assert router.find(router.url_for("file", name="100%")) == Found("file", {"name": "100%"})


def test_names_are_unique():
    router = make()
    with pytest.raises(ValueError):
        router.add("user", "/people/{id:int}")
