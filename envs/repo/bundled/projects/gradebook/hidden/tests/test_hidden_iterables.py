from gradebook import CourseSummary, Figures, Place, Record, failing, figures, ranking, select, summarise
from gradebook.__main__ import main

RECORDS = [
    Record("Ann", "maths", "2023W", 90.0),
    Record("Ben", "maths", "2023W", 40.0),
    Record("Ann", "art", "2023W", 70.0),
    Record("Ben", "art", "2024S", 60.0),
    Record("Cem", "art", "2023W", 80.0),
    Record("Cem", "maths", "2024S", 30.0),
]
SUMMARY = [
    CourseSummary("art", Figures(3, 70.0, 60.0, 80.0), 3),
    CourseSummary("maths", Figures(3, 160 / 3, 30.0, 90.0), 1),
]
TEXT = "student,course,term,score\n" + "".join(f"{r.student},{r.course},{r.term},{r.score}\n" for r in RECORDS)


class Once:
    """Records that can be gone through once, and then never again."""

    def __init__(self, records):
        self.left = list(records)

    def __iter__(self):
        while self.left:
            yield self.left.pop(0)


def test_summary_of_an_iterator():
    assert summarise(iter(RECORDS)) == SUMMARY
    assert summarise(r for r in RECORDS) == SUMMARY


def test_summary_of_a_selection():
    assert summarise(select(RECORDS, term="2023W")) == [
        CourseSummary("art", Figures(2, 75.0, 70.0, 80.0), 2),
        CourseSummary("maths", Figures(2, 65.0, 40.0, 90.0), 1),
    ]


def test_summary_with_another_mark():
    assert [(s.course, s.passed) for s in summarise(iter(RECORDS), pass_mark=80)] == [("art", 1), ("maths", 1)]
    assert [(s.course, s.passed) for s in summarise(tuple(RECORDS), pass_mark=30)] == [("art", 3), ("maths", 3)]


def test_ranking_of_an_iterator():
    places = [Place(1, "Ann", 80.0), Place(2, "Cem", 55.0), Place(3, "Ben", 50.0)]
    assert ranking(iter(RECORDS)) == places
    assert ranking(select(RECORDS)) == places
    assert ranking(Once(RECORDS)) == places


def test_ranking_of_a_selection_shares_places():
    records = [*RECORDS, Record("Dora", "art", "2023W", 80.0)]
    assert ranking(select(records, term="2023W", course="art")) == [
        Place(1, "Cem", 80.0),
        Place(1, "Dora", 80.0),
        Place(3, "Ann", 70.0),
    ]


def test_summary_of_something_used_up():
    assert summarise(Once(RECORDS)) == SUMMARY


def test_failing_of_an_iterator():
    assert failing(Once(RECORDS)) == []
    assert failing(select(RECORDS, course="maths")) == ["Ben", "Cem"]


def test_lists_are_left_alone():
    records = list(RECORDS)
    assert summarise(records) == SUMMARY
    assert [place.student for place in ranking(records)] == ["Ann", "Cem", "Ben"]
    assert records == RECORDS


def test_select_gives_records_one_by_one():
    source = iter(RECORDS)
    chosen = select(source, course="maths")
    assert next(chosen) == RECORDS[0]
    assert next(source) == RECORDS[1]


def test_nothing_chosen():
    assert summarise(select(RECORDS, term="1999S")) == []
    assert ranking(select(RECORDS, term="1999S")) == []


def test_figures_of_an_iterator():
    assert figures(iter([3.0, 1.0, 2.0])) == Figures(3, 2.0, 1.0, 3.0)


def test_command_line(tmp_path, capsys):
    path = tmp_path / "marks.csv"
    path.write_text(TEXT, encoding="utf-8")
    assert main(["summary", str(path), "--term", "2024S"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "art         1   60.0   60.0   60.0       1",
        "maths       1   30.0   30.0   30.0       0",
    ]
    assert main(["ranking", str(path), "--course", "maths"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["1.", "Ann", "90.0"],
        ["2.", "Ben", "40.0"],
        ["3.", "Cem", "30.0"],
    ]
