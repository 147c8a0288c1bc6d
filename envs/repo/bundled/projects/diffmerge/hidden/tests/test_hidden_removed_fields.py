from diffmerge import REMOVED, Conflict, compare, dump, load, three_way
from diffmerge.__main__ import main

BASE = {"ann": {"phone": "123", "fax": "999", "town": "Ulm"}, "bob": {"phone": "456"}}


def ann(**fields):
    return {"ann": fields, "bob": {"phone": "456"}}


def outcome(ours, theirs, base=BASE):
    result = three_way(base, ours, theirs)
    return result.records["ann"], result.conflicts


def test_removed_by_the_other_side():
    ours = ann(phone="124", fax="999", town="Ulm")
    assert outcome(ours, ann(phone="123", town="Ulm")) == ({"phone": "124", "town": "Ulm"}, [])


def test_removed_by_our_side():
    assert outcome(ann(phone="123", town="Ulm"), BASE) == ({"phone": "123", "town": "Ulm"}, [])


def test_removed_by_both():
    side = ann(phone="123", town="Ulm")
    assert outcome(side, side) == ({"phone": "123", "town": "Ulm"}, [])


def test_removed_here_changed_there():
    theirs = ann(phone="123", fax="998", town="Ulm")
    fields, conflicts = outcome(ann(phone="123", town="Ulm"), theirs)
    assert fields == {"phone": "123", "fax": "998", "town": "Ulm"}
    assert conflicts == [Conflict("ann", "fax", "999", None, "998")]


def test_changed_here_removed_there():
    ours = ann(phone="123", fax="998", town="Ulm")
    fields, conflicts = outcome(ours, ann(phone="123", town="Ulm"))
    assert fields == {"phone": "123", "fax": "998", "town": "Ulm"}
    assert conflicts == [Conflict("ann", "fax", "999", "998", None)]


def test_each_side_removes_another_field():
    assert outcome(ann(phone="123", town="Ulm"), ann(phone="123", fax="999")) == ({"phone": "123"}, [])


def test_all_fields_removed():
    assert outcome(ann(), BASE) == ({}, [])
    assert list(three_way(BASE, BASE, ann()).records) == ["ann", "bob"]


def test_record_removed_and_a_field_removed():
    result = three_way(BASE, {"bob": {"phone": "456"}}, ann(phone="123", town="Ulm"))
    assert result.records == {"bob": {"phone": "456"}, "ann": {"phone": "123", "town": "Ulm"}}
    assert result.conflicts == [Conflict("ann", None)]


def test_empty_is_not_removed():
    emptied = ann(phone="123", fax="", town="Ulm")
    assert outcome(emptied, BASE) == ({"phone": "123", "fax": "", "town": "Ulm"}, [])
    fields, conflicts = outcome(emptied, ann(phone="123", town="Ulm"))
    assert fields["fax"] == ""
    assert conflicts == [Conflict("ann", "fax", "999", "", None)]


def test_changes_name_removed_fields():
    assert compare(BASE, ann(phone="1", town="Ulm")) == {"ann": {"phone": "1", "fax": REMOVED}}


def test_added_on_both_sides():
    fields, conflicts = outcome({"ann": {"a": "1", "x": "5"}}, {"ann": {"b": "2", "x": "6"}}, base={})
    assert fields == {"a": "1", "x": "5", "b": "2"}
    assert conflicts == [Conflict("ann", "x", None, "5", "6")]


def test_record_removed_and_unchanged():
    assert three_way(BASE, BASE, {"ann": BASE["ann"]}).records == {"ann": BASE["ann"]}
    assert three_way(BASE, {"ann": BASE["ann"]}, BASE).records == {"ann": BASE["ann"]}


def test_same_value_on_both_sides():
    side = ann(phone="1", fax="999", town="Ulm")
    assert outcome(side, side) == ({"phone": "1", "fax": "999", "town": "Ulm"}, [])


def test_command_line_names_the_missing_value(tmp_path, capsys):
    texts = (dump(BASE), dump(ann(phone="123", town="Ulm")), dump(ann(phone="123", fax="0", town="Ulm")))
    names = []
    for name, text in zip(("base", "ours", "theirs"), texts, strict=True):
        (tmp_path / name).write_text(text)
        names.append(str(tmp_path / name))
    assert main(names) == 1
    output = capsys.readouterr()
    assert output.err == "conflict: [ann] fax: - | '0'\n"
    assert load(output.out)["ann"] == {"phone": "123", "town": "Ulm", "fax": "0"}
