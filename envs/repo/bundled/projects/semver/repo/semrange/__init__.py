"""Semantic versions and ranges of them."""

from .ranges import Range, parse_range
from .select import matching, newest, sort_versions
from .version import InvalidVersion, Version

__all__ = ["InvalidVersion", "Range", "Version", "matching", "newest", "parse_range", "sort_versions"]
