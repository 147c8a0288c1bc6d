"""Merging nested tables, and paths into them."""

import copy

MISSING = object()


def merge(lower, upper):
    """A new table, which shares nothing with the two: `lower` with `upper` on top of it."""
    result = copy.deepcopy(lower)
    for key, value in upper.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def split_path(path):
    """The keys of a dotted path."""
    keys = path.split(".")
    if not all(keys):
        raise ValueError(f"not a path of keys: {path!r}")
    return keys


def lookup(table, path):
    """What a table holds at a path, or MISSING."""
    for key in split_path(path):
        if not isinstance(table, dict) or key not in table:
            return MISSING
        table = table[key]
    return table


def store(table, path, value):
    """Put a value at a path, making tables on the way (and replacing what is no table)."""
    *early, last = split_path(path)
    for key in early:
        if not isinstance(table.get(key), dict):
            table[key] = {}
        table = table[key]
    table[last] = value
