# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""What the runner relies on, remembered before the code under test is loaded, and compared after every test.

Runs inside the sandbox (Python 3.8 or later).
"""

import builtins
import os
import sys
import types
import unittest
import unittest.case


def watch(changed, root):
    """A function that returns a line for everything that changed files have replaced since now.

    Tests and libraries replace things too (``monkeypatch``, ``mock``, ``gettext.install``); only a replacement whose
    code lies in a changed file counts. Others show in the twins.
    """
    # Reading a function's code is an audit event: done here with the getter itself, before the hook is there.
    kinds, getter = types.FunctionType, types.FunctionType.__code__.__get__
    real, inside = os.path.realpath, os.path.realpath(root) + os.sep
    places = []
    for name, module in list(sys.modules.items()):
        if name in ("pluggy", "unittest.case", "pytest") or name.startswith(("_pytest", "pluggy.")):
            places.append((name, vars(module)))
            for key, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__ == name:
                    places.append((name + "." + key, vars(value)))
    places.append(("builtins", vars(builtins)))
    for kind in (AssertionError, unittest.TestCase):
        places.append((kind.__name__, vars(kind)))
    kept = [
        (where, space, key, value, getter(value) if isinstance(value, kinds) else None)
        for where, space in places
        for key, value in list(space.items())
        if isinstance(value, (kinds, type, types.BuiltinFunctionType))
    ]
    absent, get, is_a, named = object(), dict.get, isinstance, str.startswith
    view = type(vars(int)).get

    def foreign(value):
        if is_a(value, kinds):
            path = real(getter(value).co_filename)
        elif is_a(value, type):
            module = sys.modules.get(value.__module__)
            path = real(getattr(module, "__file__", None) or "")
        else:
            return False
        return path in changed or named(path, "<") or (named(path, inside) and path in changed)

    def check():
        lines = []
        for where, space, key, value, code in kept:
            now = get(space, key, absent) if is_a(space, dict) else view(space, key, absent)
            if now is not value:
                if foreign(now):
                    lines.append("%s.%s was replaced by code of a changed file" % (where, key))
            elif code is not None and getter(value) is not code:
                lines.append("the code of %s.%s was replaced" % (where, key))
        return lines

    return check
