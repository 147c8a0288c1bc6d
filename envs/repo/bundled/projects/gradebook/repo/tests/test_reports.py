from pathlib import Path

from gradebook import CourseSummary, Figures, Place, Record, failing, ranking, read_records, select, summarise
from gradebook.__main__ import main

EXAMPLE = Path(__file__).parent.parent / "examples" / "marks.csv"


def test_summary():
    assert summarise(read_records(EXAMPLE)) == [
        CourseSummary("maths", Figures(4, 70.0, 41.0, 93.0), 3),
        CourseSummary("physics", Figures(3, 78.0, 60.0, 90.0), 3),
    ]


def test_ranking_with_shared_places():
    records = [Record("Ann", "art", "t", 80), Record("Ben", "art", "t", 90), Record("Cem", "art", "t", 80)]
    records.append(Record("Dora", "art", "t", 10))
    assert ranking(records) == [Place(1, "Ben", 90), Place(2, "Ann", 80), Place(2, "Cem", 80), Place(4, "Dora", 10)]


def test_failing():
    assert failing(select(read_records(EXAMPLE), term="2023W")) == ["Ben"]
    assert failing(read_records(EXAMPLE)) == []


def test_nothing():
    assert (summarise([]), ranking([]), failing([])) == ([], [], [])


def test_command_line(capsys):
    assert main(["ranking", str(EXAMPLE)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "  1. Ann           91.5",
        "  2. Dora          80.0",
        "  3. Cem           75.0",
        "  4. Ben           50.5",
    ]


def test_missing_file(capsys):
    assert main(["ranking", "no-such-file.csv"]) == 1
