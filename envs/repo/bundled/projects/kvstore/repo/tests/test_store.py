import pytest

from kvstore import CorruptLog, KVStore
from kvstore.__main__ import main


def test_values_stay(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"] = 1
        store["b"] = {"c": [None, "ü"]}
        store["a"] = 2
    with KVStore(tmp_path / "log") as store:
        assert list(store.items()) == [("a", 2), ("b", {"c": [None, "ü"]})]
        assert store.dead == 1


def test_deleting(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"] = 1
        del store["a"]
        assert "a" not in store and len(store) == 0 and store.dead == 2
        with pytest.raises(KeyError):
            del store["a"]


def test_keys_are_strings(tmp_path):
    with KVStore(tmp_path / "log") as store, pytest.raises(TypeError):
        store[1] = "one"


def test_compacting(tmp_path):
    with KVStore(tmp_path / "log") as store:
        for number in range(10):
            store["n"] = number
        store["m"] = "m"
        del store["m"]
        store.compact()
        assert store.dead == 0
        store["o"] = 0
    assert len((tmp_path / "log").read_bytes().splitlines()) == 2
    with KVStore(tmp_path / "log") as store:
        assert dict(store) == {"n": 9, "o": 0}


def test_an_incomplete_last_line_is_dropped(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"], store["b"] = 1, 2
    data = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(data[:-5])
    with KVStore(tmp_path / "log") as store:
        assert dict(store) == {"a": 1}
        store["c"] = 3
    with KVStore(tmp_path / "log") as store:
        assert dict(store) == {"a": 1, "c": 3}


def test_a_damaged_line(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"], store["b"] = 1, 2
    data = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(data.replace(b"1]", b"7]"))
    with pytest.raises(CorruptLog, match="log, line 1"):
        KVStore(tmp_path / "log")


def test_command_line(tmp_path, capsys):
    file = str(tmp_path / "log")
    assert main([file, "set", "a", "[1, 2]"]) == main([file, "get", "a"]) == main([file, "list"]) == 0
    assert capsys.readouterr().out == "[1, 2]\na = [1, 2]\n"
    assert main([file, "get", "b"]) == 1
