"""The reports. `records` is any iterable of records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .records import Record, select
from .statistics import Figures, figures, share

PASS = 50.0


@dataclass(frozen=True)
class CourseSummary:
    """The figures of a course, and how many marks of it are good enough."""

    course: str
    figures: Figures
    passed: int


@dataclass(frozen=True)
class Place:
    """A student's place in a ranking; students with equal means share one."""

    place: int
    student: str
    mean: float


def summarise(records: Iterable[Record], *, pass_mark: float = PASS) -> list[CourseSummary]:
    """One summary for each course, by name."""
    out = []
    for course in sorted({record.course for record in records}):
        scores = [record.score for record in select(records, course=course)]
        if scores:
            out.append(CourseSummary(course, figures(scores), sum(score >= pass_mark for score in scores)))
    return out


def ranking(records: Iterable[Record]) -> list[Place]:
    """Students by their mean over all their marks, the best first; equal ones by name."""
    students = {record.student for record in records}
    means = []
    for student in students:
        scores = [record.score for record in records if record.student == student]
        if scores:
            means.append((-figures(scores).mean, student))
    out: list[Place] = []
    for position, (mean, student) in enumerate(sorted(means), start=1):
        shared = bool(out) and out[-1].mean == -mean
        out.append(Place(out[-1].place if shared else position, student, -mean))
    return out


def failing(records: Iterable[Record], *, pass_mark: float = PASS) -> list[str]:
    """The students with more than half of their marks below the pass mark, by name."""
    marks: dict[str, int] = {}
    bad: dict[str, int] = {}
    for record in records:
        marks[record.student] = marks.get(record.student, 0) + 1
        if record.score < pass_mark:
            bad[record.student] = bad.get(record.student, 0) + 1
    return sorted(student for student, number in bad.items() if share(number, marks[student]) > 0.5)
