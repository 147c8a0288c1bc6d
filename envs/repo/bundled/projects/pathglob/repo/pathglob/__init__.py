"""Glob patterns for paths, and rules for leaving files out."""

from .ignoring import SkipRules
from .patterns import GlobError, compile_glob, glob_match
from .rules import Rule, read_rules
from .walking import RULE_FILE, kept_files, rules_for

__all__ = [
    "RULE_FILE",
    "GlobError",
    "Rule",
    "SkipRules",
    "compile_glob",
    "glob_match",
    "kept_files",
    "read_rules",
    "rules_for",
]
