import json
import zlib

import pytest

from kvstore import CorruptLog, KVStore
from kvstore.__main__ import main


def line(*entry):
    body = json.dumps(list(entry)).encode()
    return b"%08x " % zlib.crc32(body) + body + b"\n"


def entries(path):
    return [json.loads(row.split(b" ", 1)[1]) for row in path.read_bytes().splitlines()]


def reopened(path):
    with KVStore(path) as store:
        return dict(store.items())


def test_deleted_keys_stay_away(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"], store["b"], store["c"] = 1, None, "three"
        del store["a"]
        del store["c"]
    with KVStore(tmp_path / "log") as store:
        assert list(store.items()) == [("b", None)]
        assert "a" not in store and len(store) == 1
        with pytest.raises(KeyError):
            del store["a"]


def test_null_is_a_value(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"] = None
        store["b"] = 1
        store["b"] = None
    assert reopened(tmp_path / "log") == {"a": None, "b": None}


def test_set_again_after_deleting(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"], store["b"] = 1, 2
        del store["a"]
        store["a"] = 3
    with KVStore(tmp_path / "log") as store:
        assert list(store.items()) == [("b", 2), ("a", 3)]


def test_dead_records_after_opening(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"] = 1
        store["a"] = 2
        del store["a"]
        store["b"] = 3
        assert store.dead == 3
    with KVStore(tmp_path / "log") as store:
        assert store.dead == 3
        store["a"] = 4
        assert store.dead == 3


def test_the_file_is_as_the_readme_says(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"], store["b"] = 1, None
        del store["a"]
    assert entries(tmp_path / "log") == [["set", "a", 1], ["set", "b", None], ["del", "a"]]


def test_a_file_of_another_program(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(line("set", "a", 1) + line("set", "b", [2]) + line("del", "a") + line("set", "c", None))
    assert reopened(path) == {"b": [2], "c": None}


def test_a_deletion_of_a_key_that_was_never_set(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(line("del", "a") + line("set", "b", 2))
    with KVStore(path) as store:
        assert dict(store) == {"b": 2}
        assert store.dead == 1


def test_compacting_after_opening(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"], store["b"] = 1, None
        del store["a"]
    with KVStore(tmp_path / "log") as store:
        store.compact()
        assert store.dead == 0
    assert entries(tmp_path / "log") == [["set", "b", None]]
    assert reopened(tmp_path / "log") == {"b": None}


def test_an_incomplete_deletion_did_not_happen(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"], store["b"] = 1, 2
        del store["a"]
    data = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(data[:-1])
    assert reopened(tmp_path / "log") == {"a": 1, "b": 2}


def test_overwriting(tmp_path):
    with KVStore(tmp_path / "log") as store:
        store["a"], store["b"] = 1, 2
        store["a"] = "one"
    with KVStore(tmp_path / "log") as store:
        assert list(store.items()) == [("a", "one"), ("b", 2)]
        assert store.dead == 1


def test_what_is_no_record(tmp_path):
    for entry in (("set", "a"), ("del",), ("del", 1), ("drop", "a"), ("set", None, 1)):
        path = tmp_path / "log"
        path.write_bytes(line(*entry))
        with pytest.raises(CorruptLog):
            KVStore(path)


def test_command_line(tmp_path, capsys):
    file = str(tmp_path / "log")
    main([file, "set", "a", "1"])
    main([file, "set", "b", "null"])
    assert main([file, "del", "a"]) == 0
    assert main([file, "del", "a"]) == 1
    assert main([file, "list"]) == 0
    assert capsys.readouterr().out == "b = null\n"
