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


def watch(changed):
    """A function that returns a line for everything that changed files have replaced since now.

    Tests and libraries replace things too (``monkeypatch``, ``mock``, ``gettext.install``); only a replacement whose
    code lies in a changed file counts. Others show in the twins.
    """
    # That a function's code is exchanged is seen by the audit hook.
    kinds, getter = types.FunctionType, types.FunctionType.__code__.__get__
    wrappers = (classmethod, staticmethod)
    real = os.path.realpath
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
        (where, space, key, value)
        for where, space in places
        for key, value in list(space.items())
        if isinstance(value, (kinds, type, types.BuiltinFunctionType, *wrappers))
    ]
    absent, get, is_a = object(), dict.get, isinstance
    view = type(vars(int)).get

    def foreign(value):
        if is_a(value, wrappers):
            value = value.__func__
        if is_a(value, kinds):
            path = real(getter(value).co_filename)
        elif is_a(value, type):
            module = sys.modules.get(value.__module__)
            path = real(getattr(module, "__file__", None) or "")
        else:
            return False
        return path in changed

    def check():
        lines = []
        for where, space, key, value in kept:
            now = get(space, key, absent) if is_a(space, dict) else view(space, key, absent)
            if now is not value and foreign(now):
                lines.append("%s.%s was replaced by code of a changed file" % (where, key))
        return lines

    return check
