import pytest

from configstack import ConfigStack, SourceError, from_assignments, from_environ, from_file, merge, standard_stack


def test_merge():
    assert merge({"a": {"b": 1, "c": 2}, "l": [1]}, {"a": {"b": 3}, "l": [2]}) == {"a": {"b": 3, "c": 2}, "l": [2]}
    assert merge({"a": 1}, {"a": {"b": 1}}) == {"a": {"b": 1}}


def test_merge_leaves_its_arguments_alone():
    lower, upper = {"a": {"b": 1}}, {"a": {"c": 2}}
    merge(lower, upper)
    assert (lower, upper) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_environ():
    environ = {"APP_SERVER__PORT": "80", "APP_LOG__LEVEL": "debug", "HOME": "/"}
    assert from_environ(environ) == {"server": {"port": 80}, "log": {"level": "debug"}}


def test_assignments():
    assert from_assignments(["a.b = [1, 2]", "c=x=y"]) == {"a": {"b": [1, 2]}, "c": "x=y"}
    with pytest.raises(SourceError):
        from_assignments(["a"])


def test_files(tmp_path):
    (tmp_path / "a.toml").write_text("[server]\nport = 1\n")
    (tmp_path / "b.json").write_text('{"server": {"host": "b"}}')
    (tmp_path / "c.json").write_text("[]")
    assert from_file(tmp_path / "a.toml") == {"server": {"port": 1}}
    assert from_file(tmp_path / "b.json") == {"server": {"host": "b"}}
    with pytest.raises(SourceError):
        from_file(tmp_path / "c.json")


def test_layers_and_origin():
    stack = standard_stack(environ={"APP_SERVER__PORT": "81"}, assignments=["server.port=82"])
    assert stack.get("server.port") == 82
    assert stack.origin("server.port") == "command line"
    assert stack.origin("server.host") == "defaults"


def test_missing():
    stack = ConfigStack([("base", {"a": 1})])
    assert stack.get("b", 7) == 7
    for path in ("b", "a.b"):
        with pytest.raises(KeyError):
            stack.get(path)
    with pytest.raises(ValueError):
        stack.get("a..b")


def test_set_and_reset():
    stack = ConfigStack([("base", {"colour": "red"})], overrides={})
    stack.set("colour", "blue")
    assert (stack.get("colour"), stack.origin("colour")) == ("blue", "overrides")
    stack.reset()
    assert stack.get("colour") == "red"


def test_append():
    stack = ConfigStack([("base", {"list": [1]})], overrides={})
    stack.append("list", 2)
    assert stack.get("list") == [1, 2]
    with pytest.raises(TypeError):
        ConfigStack([("base", {"list": 1})], overrides={}).append("list", 2)


def test_child():
    parent = ConfigStack([("base", {"size": 1, "shape": "round"})], overrides={"shape": "square"})
    child = parent.child("more", {"size": 2})
    assert (child.get("size"), child.get("shape"), parent.get("size")) == (2, "square", 1)
