"""Figures about the marks of students."""

from .records import BadRecord, Record, read_records, select
from .reports import CourseSummary, Place, failing, ranking, summarise
from .statistics import Figures, figures

__all__ = [
    "BadRecord",
    "CourseSummary",
    "Figures",
    "Place",
    "Record",
    "failing",
    "figures",
    "ranking",
    "read_records",
    "select",
    "summarise",
]
