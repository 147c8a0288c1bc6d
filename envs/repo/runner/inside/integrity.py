# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""What the runner relies on, remembered before the code under test is loaded, and compared after every test.

Runs inside the sandbox (Python 3.8 or later).
"""

import builtins
import doctest  # noqa: F401 - one of the watched
import os
import sys
import sysconfig
import types
import unittest
import unittest.case
import unittest.mock


def watch(theirs, hidden):
    """A function that returns a line for everything that the agent's code has replaced since now.

    Tests and libraries replace things too (``monkeypatch``, ``mock``, ``gettext.install``). What may stand in another's
    place is a function or a class of a test file, a file that was there before, or an installed library; an object of
    such a class; in ``builtins`` a mock. Everything else is the agent's: objects of its own, ``functools.partial``,
    functions that were moved from elsewhere, code of no file.

    Args:
        theirs: says of the name of a code's file whether it is the agent's.
        hidden: real paths of the tests' files.
    """
    # That a function's code is exchanged is seen by the audit hook.
    function, getter = types.FunctionType, types.FunctionType.__code__.__get__
    wrappers, real, starts, modules = (classmethod, staticmethod), os.path.realpath, str.startswith, sys.modules
    mocks = unittest.mock.NonCallableMock
    paths = sysconfig.get_paths()
    stdlib = tuple(real(paths[name]) + os.sep for name in ("stdlib", "platstdlib"))
    relied = ("pluggy", "unittest.case", "pytest", "doctest")
    places = []
    for name, module in list(modules.items()):
        if name in relied or name.startswith(("_pytest", "pluggy.")):
            places.append((name, vars(module)))
            for key, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__ == name:
                    places.append((name + "." + key, vars(value)))
    for kind in (AssertionError, unittest.TestCase):
        places.append((kind.__name__, vars(kind)))
    kinds = (function, type, property, types.BuiltinFunctionType, *wrappers)
    absent, get, is_a, exact = object(), dict.get, isinstance, type
    view, space_of = type(vars(int)).get, type.__dict__["__dict__"].__get__
    mro_of, named = type.__dict__["__mro__"].__get__, vars(builtins)
    known = [(where, space, frozenset(space)) for where, space in places]
    places.append(("builtins", named))
    kept = [
        (where, space, key, value)
        for where, space in places
        for key, value in list(space.items())
        if isinstance(value, kinds)
    ]

    def installed(path):
        """Whether a file is the tests', or was there before and is not the standard library's."""
        return path in hidden or not (theirs(path) or (starts(path, stdlib) and "-packages" not in path))

    def trusted(value):
        if is_a(value, wrappers):
            value = value.__func__
        if exact(value) is function:
            return installed(real(getter(value).co_filename))
        kind = value if is_a(value, type) else exact(value)
        module = modules.get(space_of(kind).get("__module__"))
        space = getattr(module, "__dict__", {})
        if not is_a(get(space, "__file__"), str) or module.__name__.split(".")[0] in ("_pytest", "pytest"):
            return False
        return installed(real(space["__file__"])) and get(space, kind.__name__) is kind and not own(kind)

    def own(value):
        """Whether a value is plainly the agent's."""
        if is_a(value, wrappers):
            value = value.__func__
        if exact(value) is function:
            path = getter(value).co_filename
            return real(path) not in hidden and theirs(path)
        if exact(value) is property:
            return any(own(part) for part in (value.fget, value.fset) if part is not None)
        if exact(value) is types.MethodType:
            return own(value.__func__)
        kind = value if is_a(value, type) else exact(value)
        return any(
            exact(part) is function and own(part)
            for each in mro_of(kind)
            if get(modules, space_of(each).get("__module__")) is not builtins
            for part in space_of(each).values()
        )

    def check():
        lines = []
        for where, space, key, value in kept:
            now = get(space, key, absent) if is_a(space, dict) else view(space, key, absent)
            if now is value or now is absent or trusted(now):
                continue
            if where != "builtins" or own(now) or not is_a(now, mocks):
                lines.append("%s.%s was replaced by code of a changed file" % (where, key))
        for where, space, names in known:
            for key in space.keys() - names if len(space) != len(names) else ():
                now = get(space, key, absent) if is_a(space, dict) else view(space, key, absent)
                # Names of builtins are looked up in a module first, and a class's own descriptors before anything.
                if own(now) or (key in named and not trusted(now)):
                    lines.append("%s.%s was added by code of a changed file" % (where, key))
        return lines

    return check
