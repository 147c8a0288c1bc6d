"""Layers from files, from the environment and from the command line."""

import json
import tomllib
from pathlib import Path

from .merging import store


class SourceError(ValueError):
    """A source cannot be read."""


def from_file(path):
    """A layer from a TOML or JSON file, told apart by the ending of the name."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as problem:
        raise SourceError(f"{path.name}: {problem}") from problem
    if not isinstance(table, dict):
        raise SourceError(f"{path.name}: not a table")
    return table


def read_value(text):
    """JSON if it is JSON, otherwise the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def from_environ(environ, prefix="APP_"):
    """A layer from environment variables; two underscores separate the keys."""
    table = {}
    for name in sorted(environ):
        if name.startswith(prefix) and len(name) > len(prefix):
            path = name[len(prefix) :].lower().replace("__", ".")
            store(table, path, read_value(environ[name]))
    return table


def from_assignments(assignments):
    """A layer from texts such as `server.port=8080`."""
    table = {}
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        if not sign:
            raise SourceError(f"not an assignment: {assignment!r}")
        store(table, path.strip(), read_value(text.strip()))
    return table
