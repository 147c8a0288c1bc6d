"""Read tasks from text."""

from __future__ import annotations

import re

from .graph import TaskGraph

LINE = re.compile(r"(?P<name>[\w.-]+)\s*(?:\[\s*(?P<cost>\d+)\s*\])?\s*(?::(?P<needs>[\w\s.-]*))?")


class LoadError(ValueError):
    """A line is not of the form ``name [cost]: needs``."""


def load(text: str) -> TaskGraph:
    """Return the graph that ``text`` describes."""
    graph = TaskGraph()
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        match = LINE.fullmatch(content)
        if match is None:
            raise LoadError(f"line {number}: {content!r}")
        cost = int(match["cost"]) if match["cost"] else None
        graph.add(match["name"], (match["needs"] or "").split(), cost)
    return graph
