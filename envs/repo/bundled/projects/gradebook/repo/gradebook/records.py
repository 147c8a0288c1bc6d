"""Marks: reading and choosing them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ["student", "course", "term", "score"]


class BadRecord(ValueError):
    """A file or a line of it that cannot be read."""


@dataclass(frozen=True)
class Record:
    """One mark: who had how many points (0 to 100) in which course and term."""

    student: str
    course: str
    term: str
    score: float


def _record(row: dict[str, str], where: str) -> Record:
    try:
        score = float(row["score"])
    except (TypeError, ValueError):
        raise BadRecord(f"{where}: no number: {row['score']}") from None
    if not 0 <= score <= 100:
        raise BadRecord(f"{where}: not between 0 and 100: {row['score']}")
    return Record(row["student"], row["course"], row["term"], score)


def read_records(path: str | Path) -> list[Record]:
    """All marks of a CSV file.

    Raises:
        BadRecord: the columns are not those of the README, or a score is no number from 0 to 100.
    """
    with Path(path).open(encoding="utf-8", newline="") as source:
        reader = csv.DictReader(source)
        if reader.fieldnames != COLUMNS:
            raise BadRecord(f"{path}: columns must be {','.join(COLUMNS)}")
        return [_record(row, f"{path}:{reader.line_num}") for row in reader]


def select(records: Iterable[Record], *, course: str | None = None, term: str | None = None) -> Iterator[Record]:
    """Those of one course, of one term, or both; one by one."""
    for record in records:
        if course in (None, record.course) and term in (None, record.term):
            yield record
