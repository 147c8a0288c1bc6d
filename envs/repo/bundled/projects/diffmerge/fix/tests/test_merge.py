from diffmerge import REMOVED, Conflict, compare, three_way
from diffmerge.__main__ import main

BASE = {"ann": {"phone": "123", "town": "Ulm"}, "bob": {"phone": "456"}}


def edited(**records):
    return {**BASE, **records}


def test_compare():
    side = {"ann": {"phone": "124", "town": "Ulm", "age": "40"}, "cid": {}}
    assert compare(BASE, side) == {"ann": {"phone": "124", "age": "40"}, "bob": REMOVED, "cid": {}}


def test_nothing_changed():
    assert three_way(BASE, BASE, BASE).records == BASE


def test_each_side_changes_a_field():
    ours = edited(ann={"phone": "124", "town": "Ulm"})
    theirs = edited(ann={"phone": "123", "town": "Bonn"})
    result = three_way(BASE, ours, theirs)
    assert result.records["ann"] == {"phone": "124", "town": "Bonn"}
    assert result.conflicts == []


def test_conflict_of_values():
    result = three_way(BASE, edited(bob={"phone": "1"}), edited(bob={"phone": "2"}))
    assert result.records["bob"] == {"phone": "1"}
    assert result.conflicts == [Conflict("bob", "phone", "456", "1", "2")]


def test_record_removed_there():
    assert three_way(BASE, BASE, {"ann": BASE["ann"]}).records == {"ann": BASE["ann"]}


def test_record_removed_and_changed():
    result = three_way(BASE, {"ann": BASE["ann"]}, edited(bob={"phone": "7"}))
    assert result.records == {"ann": BASE["ann"], "bob": {"phone": "7"}}
    assert result.conflicts == [Conflict("bob", None)]


def test_records_added_on_both_sides():
    result = three_way(BASE, edited(cid={"phone": "1"}), edited(cid={"phone": "1", "town": "Kiel"}, dan={}))
    assert list(result.records) == ["ann", "bob", "cid", "dan"]
    assert result.records["cid"] == {"phone": "1", "town": "Kiel"}


def test_command_line(tmp_path, capsys):
    names = []
    for name, phone in (("base", "0"), ("ours", "1"), ("theirs", "2")):
        path = tmp_path / name
        path.write_text(f"[ann]\nphone: {phone}\n")
        names.append(str(path))
    assert main(names) == 1
    output = capsys.readouterr()
    assert output.out == "[ann]\nphone: 1\n"
    assert output.err == "conflict: [ann] phone: '1' | '2'\n"


def test_field_removed_on_one_side():
    without = edited(ann={"phone": "123"})
    changed = edited(ann={"phone": "124", "town": "Ulm"})
    assert compare(BASE, without) == {"ann": {"town": REMOVED}}
    assert three_way(BASE, changed, without).records["ann"] == {"phone": "124"}
    assert three_way(BASE, without, BASE).records["ann"] == {"phone": "123"}


def test_field_removed_and_changed():
    result = three_way(BASE, edited(ann={"phone": "123"}), edited(ann={"phone": "123", "town": "Kiel"}))
    assert result.records["ann"] == {"phone": "123", "town": "Kiel"}
    assert result.conflicts == [Conflict("ann", "town", "Ulm", None, "Kiel")]
