import pytest
from diffmerge import FormatError, dump, load

TEXT = "[ann]\nphone: 123\nnote:\n\n[bob]\nurl: http://b.example\n"


def test_load():
    assert load(TEXT) == {"ann": {"phone": "123", "note": ""}, "bob": {"url": "http://b.example"}}


def test_dump():
    assert dump(load(TEXT)) == TEXT


def test_comments():
    assert load("# friends\n[ann]\n") == {"ann": {}}


def test_errors():
    for text in ("phone: 1\n", "[a]\nphone\n", "[a]\n[a]\n", "[a]\nx: 1\nx: 2\n"):
        with pytest.raises(FormatError):
            load(text)
