import pytest

from gradebook import BadRecord, Record, read_records, select

HEAD = "student,course,term,score\n"


def test_reading(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text(HEAD + "Ann,maths,2023W,93\nBen,art,2024S,41.5\n", encoding="utf-8")
    assert read_records(path) == [Record("Ann", "maths", "2023W", 93.0), Record("Ben", "art", "2024S", 41.5)]


def test_bad_files(tmp_path):
    for text in ("a,b\n", HEAD + "Ann,maths,2023W,x\n", HEAD + "Ann,maths,2023W,101\n"):
        path = tmp_path / "marks.csv"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadRecord):
            read_records(path)


def test_select():
    records = [Record("Ann", "maths", "2023W", 1), Record("Ann", "art", "2023W", 2), Record("Ben", "art", "2024S", 3)]
    assert [r.score for r in select(records, course="art")] == [2, 3]
    assert [r.score for r in select(records, course="art", term="2024S")] == [3]
    assert list(select(records)) == records
