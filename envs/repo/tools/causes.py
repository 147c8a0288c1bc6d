"""Why a replayed observation differs from the recorded one, as far as a repository has to do with it."""

from __future__ import annotations

import re

_INSTALLS = re.compile(
    r"\b(?:pip3?|uv pip|conda|mamba|poetry|pdm|npm|yarn|apt|apt-get)\s+(?:-\S+\s+)*"
    r"(?:install|add|update|upgrade|sync)\b"
    r"|\bsetup\.py\s+(?:install|develop)\b"
)
_LISTS = re.compile(r"(?:^|[;&|(\n]|\bthen\b|\bdo\b)\s*(?:ls|tree|find|git\s+ls-files|git\s+status)\b")
_PYTHON = (
    (re.compile(r"\S*/(?:site|dist)-packages\b"), "PACKAGES"),
    (re.compile(r"\S*/lib/python3(?:\.\d+)?(?=/)"), "LIBRARY"),
    (re.compile(r"\S*/bin/python3?(?:\.\d+)?\b|\bPython 3\.\d+(?:\.\d+)?"), "PYTHON"),
)


def cause_in_repository(command: str, replayed: str, recorded: str) -> str | None:
    """The kind of a divergence between two normalised observations of ``command``, or None where nothing tells.

    Returns:
        ``installation`` (what an installer says of its index and of what is there), ``columns`` (the same names, set
        otherwise), ``missing_files`` and ``more_files`` (a listing of a repository that was brought without some
        files, or with others), ``python_environment`` (where Python and its packages are).
    """
    if _INSTALLS.search(command):
        return "installation"
    if _LISTS.search(command):
        here, there = replayed.split(), recorded.split()
        if sorted(here) == sorted(there):
            return "columns"
        if set(here) != set(there) and (set(here) <= set(there) or set(there) <= set(here)):
            return "missing_files" if set(here) < set(there) else "more_files"
    for pattern, name in _PYTHON:
        replayed, recorded = pattern.sub(name, replayed), pattern.sub(name, recorded)
    return "python_environment" if replayed == recorded else None
