import pytest

from waypath import Found, NotFound, Pattern, Redirect, Router


def make():
    router = Router()
    router.add("home", "/")
    router.add("file", "/files/{name}")
    router.add("dir", "/dirs/{name}/")
    router.add("version", "/files/{name}/v/{number:int}")
    router.add("page", "/wiki/{title:path}/")
    router.add("fixed", "/a b/{name}")
    return router


def test_encoded_slash_separates_nothing():
    router = make()
    assert router.find("/files/in%2Fout.txt") == Found("file", {"name": "in/out.txt"})
    assert router.find("/files/in%2fout.txt/v/3") == Found("version", {"name": "in/out.txt", "number": 3})


def test_url_for_encodes_slashes():
    assert make().url_for("file", name="in/out.txt") == "/files/in%2Fout.txt"
    assert make().url_for("version", name="/", number=3) == "/files/%2F/v/3"
    assert Pattern("/f/{name}").build({"name": "a/b"}) == "/f/a%2Fb"


def test_encoded_question_mark_begins_no_query():
    assert make().find("/files/why%3F.txt") == Found("file", {"name": "why?.txt"})
    assert make().find("/files/why%3F.txt?v=2") == Found("file", {"name": "why?.txt"}, "v=2")


def test_query_is_handed_through():
    assert make().find("/files/x?a=1%262&b=%2F?c") == Found("file", {"name": "x"}, "a=1%262&b=%2F?c")


def test_there_and_back_with_any_text():
    router = make()
    texts = ["in/out.txt", "/", "//", "a/", "/a", "why?", "#1", "100%", "%2F", "%252F", "a+b", "\u00fc \u6771", "a;b=c"]
    for text in texts:
        assert router.find(router.url_for("file", name=text)) == Found("file", {"name": text})
        assert router.find(router.url_for("dir", name=text)) == Found("dir", {"name": text})


def test_decoded_only_once():
    assert make().find("/files/%252F") == Found("file", {"name": "%2F"})
    assert make().find("/files/100%2525") == Found("file", {"name": "100%25"})


def test_encoded_slash_at_the_end_is_no_trailing_slash():
    router = make()
    assert router.find("/files/a%2F") == Found("file", {"name": "a/"})
    assert router.find("/dirs/a%2F") == Redirect("/dirs/a%2F/")
    assert router.find("/dirs/a%2F/") == Found("dir", {"name": "a/"})


def test_redirect_keeps_encoding_and_query():
    router = make()
    assert router.find("/files/in%2Fout.txt/?x=%26") == Redirect("/files/in%2Fout.txt?x=%26")
    assert router.find("/wiki/a/b%20c") == Redirect("/wiki/a/b%20c/")


def test_paths_keep_their_slashes():
    router = make()
    assert router.url_for("page", title="a/b c") == "/wiki/a/b%20c/"
    assert router.find("/wiki/a/b%20c/") == Found("page", {"title": "a/b c"})
    assert router.find(router.url_for("page", title="why?/100%")) == Found("page", {"title": "why?/100%"})


def test_plain_targets():
    router = make()
    assert router.find("/") == Found("home", {})
    assert router.find("//files//x") == Found("file", {"name": "x"})
    assert router.find("/files/x/") == Redirect("/files/x")
    assert router.find("/a%20b/x") == Found("fixed", {"name": "x"})
    assert router.url_for("fixed", name="x") == "/a%20b/x"


def test_real_slashes_still_separate():
    with pytest.raises(NotFound):
        make().find("/files/in/out.txt")
    with pytest.raises(ValueError):
        make().find("files/x")


def test_empty_values_are_refused():
    wrong = {"file": {"name": ""}, "page": {"title": "a//b"}, "version": {"name": "a", "number": "x"}}
    for name, values in wrong.items():
        with pytest.raises(ValueError):
            make().url_for(name, **values)
