"""Three-way merge of records."""

from diffmerge.changes import REMOVED, compare
from diffmerge.merge import Conflict, MergeResult, three_way
from diffmerge.records import FormatError, dump, load

__all__ = ["REMOVED", "Conflict", "FormatError", "MergeResult", "compare", "dump", "load", "three_way"]
