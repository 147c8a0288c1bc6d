"""Delimited text with explicit dialects."""

from .dialects import DIALECTS, EXCEL, TABS, UNIX, Dialect
from .reading import FormatError, read_rows
from .tables import Table
from .writing import write_rows

__all__ = ["DIALECTS", "EXCEL", "TABS", "UNIX", "Dialect", "FormatError", "Table", "read_rows", "write_rows"]
