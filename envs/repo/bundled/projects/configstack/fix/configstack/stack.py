"""The stack of layers."""

import copy

from .defaults import DEFAULTS
from .merging import MISSING, lookup, merge, store
from .sources import from_assignments, from_environ, from_file


class ConfigStack:
    """Named layers, the lowest first, and the overrides of the program on top.

    Args:
        layers: Pairs of name and table.
        overrides: What the program has set already.
    """

    def __init__(self, layers=(), overrides=None):
        self._layers = [(name, copy.deepcopy(table)) for name, table in layers]
        self._overrides = copy.deepcopy(overrides or {})

    def _all_layers(self):
        return [*self._layers, ("overrides", self._overrides)]

    def merged(self):
        """All settings as one table."""
        result = {}
        for _, table in self._all_layers():
            result = merge(result, table)
        return result

    def get(self, path, default=MISSING):
        """The setting at a path.

        Raises:
            KeyError: No layer has it, and no default is given.
        """
        value = lookup(self.merged(), path)
        if value is not MISSING:
            return value
        if default is MISSING:
            raise KeyError(path)
        return default

    def set(self, path, value):
        """Override a setting in this stack."""
        store(self._overrides, path, copy.deepcopy(value))

    def append(self, path, item):
        """Override a list with itself and one item more; a list that is not there is empty."""
        items = self.get(path, [])
        if not isinstance(items, list):
            raise TypeError(f"the setting {path!r} is no list")
        items.append(item)
        self.set(path, items)

    def reset(self):
        """Forget all overrides."""
        self._overrides = {}

    def origin(self, path):
        """The name of the topmost layer that has a setting.

        Raises:
            KeyError: No layer has it.
        """
        for name, table in reversed(self._all_layers()):
            if lookup(table, path) is not MISSING:
                return name
        raise KeyError(path)

    def child(self, name, table):
        """A stack with one layer more, on top of all layers of this one and its overrides."""
        return ConfigStack([*self._all_layers(), (name, table)])


def standard_stack(files=(), environ=None, assignments=()):
    """Defaults, files, environment and command line, in that order."""
    layers = [("defaults", DEFAULTS)]
    layers += [(f"file {path}", from_file(path)) for path in files]
    layers.append(("environment", from_environ(environ or {})))
    layers.append(("command line", from_assignments(assignments)))
    return ConfigStack(layers)
