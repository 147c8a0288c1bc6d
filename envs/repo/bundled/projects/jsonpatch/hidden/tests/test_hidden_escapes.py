import pytest

from docpatch import PatchError, Pointer, PointerError, apply_patch, get, make_patch


def test_slashes_are_written_as_the_standard_says():
    assert make_patch({"/users": 1}, {"/users": 2}) == [{"op": "replace", "path": "/~1users", "value": 2}]
    assert str(Pointer(("a/b", "c"))) == "/a~1b/c"


def test_tildes_are_written_as_the_standard_says():
    assert str(Pointer(("m~n",))) == "/m~0n"
    assert str(Pointer(("~1", "~0", "~"))) == "/~01/~00/~0"


def test_mixed_keys_are_written():
    assert str(Pointer(("/~", "~/", "~1/"))) == "/~1~0/~0~1/~01~1"


def test_key_of_tilde_and_digit_is_read():
    document = {"~1": "tilde one", "/": "slash", "~0": "tilde zero", "~": "tilde"}
    assert get(document, "/~01") == "tilde one"
    assert get(document, "/~1") == "slash"
    assert get(document, "/~00") == "tilde zero"
    assert get(document, "/~0") == "tilde"


def test_mixed_keys_are_read():
    assert Pointer.parse("/~01~1x/~1~01/~001").keys == ("~1/x", "/~1", "~01")


def test_examples_of_the_standard():
    document = {"foo": ["bar"], "": 0, "a/b": 1, "c%d": 2, " ": 7, "m~n": 8}
    assert get(document, "/a~1b") == 1
    assert get(document, "/m~0n") == 8
    assert get(document, "/c%d") == 2
    assert get(document, "/") == 0
    assert get(document, "/foo/0") == "bar"


def test_text_and_back_for_awkward_keys():
    for key in ("~", "/", "~0", "~1", "~01", "~/", "/~", "~~1", "//", "~1~0/", "", "-"):
        assert Pointer.parse(str(Pointer(("x", key)))).keys == ("x", key)


def test_patches_of_awkward_documents():
    old = {"/": [1, 2], "~1": {"~": 1}, "~01": 0}
    new = {"/": [1, 2, 3], "~1": {"~": 2}, "a~1/b": None}
    operations = make_patch(old, new)
    assert operations == [
        {"op": "add", "path": "/~1/-", "value": 3},
        {"op": "add", "path": "/a~01~1b", "value": None},
        {"op": "remove", "path": "/~001"},
        {"op": "replace", "path": "/~01/~0", "value": 2},
    ]
    assert apply_patch(old, operations) == new


def test_patch_from_elsewhere():
    operations = [{"op": "move", "from": "/~01", "path": "/~1"}, {"op": "test", "path": "/~1", "value": 5}]
    assert apply_patch({"~1": 5}, operations) == {"/": 5}


def test_stray_tildes_are_refused():
    for pointer in ("/~", "/~2", "/a~/b", "/~0~"):
        with pytest.raises(PointerError):
            Pointer.parse(pointer)


def test_places_in_lists():
    add = [{"op": "add", "path": "/2", "value": "c"}, {"op": "add", "path": "/-", "value": "d"}]
    assert apply_patch(["a", "b"], add) == ["a", "b", "c", "d"]
    for path in ("/3", "/01", "/-1", "/x"):
        with pytest.raises(PatchError):
            apply_patch(["a", "b"], [{"op": "add", "path": path, "value": 0}])
    for operation in ({"op": "remove", "path": "/-"}, {"op": "replace", "path": "/-", "value": 1}):
        with pytest.raises(PatchError):
            apply_patch(["a"], [operation])
