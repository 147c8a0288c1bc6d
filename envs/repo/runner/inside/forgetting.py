# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""Takes what the tests expect out of reach where only the collection needed it. Runs inside the sandbox."""

import ast
import os
import sys
import types

_CONTAINERS = (list, tuple, dict, set, frozenset)


def only_for_parameters(tree):
    """Names of a module that its functions never use: tables for ``parametrize``, done with after the collection."""
    made, used, texts = set(), set(), []
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            made.update(target.id for target in targets if isinstance(target, ast.Name))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for part in node.body:
                used.update(name.id for name in ast.walk(part) if isinstance(name, ast.Name))
        elif isinstance(node, ast.Lambda):
            used.update(name.id for name in ast.walk(node.body) if isinstance(name, ast.Name))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        elif isinstance(node, ast.Delete):
            used.update(name.id for name in ast.walk(node) if isinstance(name, ast.Name))
    spoken = "\n".join(texts)
    return sorted(name for name in made - used if not name.startswith("__") and name not in spoken)


def only_in_classes(trees):
    """Names that classes of the tests give to tables, and that no function of any of the tests' files uses."""
    made, used, texts = set(), {"pytestmark"}, []
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, (ast.Assign, ast.AnnAssign)):
                        targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                        made.update(target.id for target in targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                parts = node.body if isinstance(node.body, list) else [node.body]
                used.update(name.id for part in parts for name in ast.walk(part) if isinstance(name, ast.Name))
    spoken = "\n".join(texts)
    return sorted(name for name in made - used if not name.startswith("__") and name not in spoken)


def forgetting(spare, inner):
    """A function that takes what the tests expect out of their modules, where only the collection needed it.

    The cases of a parametrized test are with its items then, which nothing leads to, and no longer in tables that the
    code under test finds by ``sys.modules``.

    Args:
        spare: names by real path of a test file.
        inner: names in classes.
    """
    real, modules, inner = os.path.realpath, sys.modules, tuple(inner)

    def in_module(space):
        for name in spare.get(real(space.get("__file__") or ""), ()):
            if isinstance(space.get(name), _CONTAINERS):
                del space[name]
        for value in list(space.values()):
            if isinstance(value, type) and value.__module__ == space.get("__name__"):
                in_class(value)
            without_parameters(value)

    def in_class(kind):
        for each in list(vars(kind).values()):
            without_parameters(each)
            if isinstance(each, type) and each.__module__ == kind.__module__ and each is not kind:
                in_class(each)
        # A base in another file may use them.
        if all(base.__module__ in (kind.__module__, "builtins", "unittest.case") for base in kind.__mro__):
            for name in inner:
                if isinstance(vars(kind).get(name), _CONTAINERS):
                    type.__delattr__(kind, name)

    def without_parameters(value):
        """Of a fixture, whose definition the session has."""
        marker = getattr_static(value, "_fixture_function_marker") or getattr_static(value, "_pytestfixturefunction")
        if getattr(marker, "params", None) is not None:
            object.__setattr__(marker, "params", None)

    def getattr_static(value, name):
        try:
            return object.__getattribute__(value, "__dict__").get(name)
        except (AttributeError, TypeError):
            return None

    def without_marks(thing):
        while thing is not None:
            marks = vars(thing).get("pytestmark") if hasattr(thing, "__dict__") else None
            if isinstance(marks, list):
                thing.pytestmark = [mark for mark in marks if mark.name != "parametrize"]
            thing = vars(thing).get("__wrapped__") if hasattr(thing, "__dict__") else None

    def forget(items):
        for module in list(modules.values()):
            space = getattr(module, "__dict__", None)
            file = space.get("__file__") if type(space) is dict and isinstance(module, types.ModuleType) else None
            if isinstance(file, str) and real(file) in spare:
                in_module(space)
        for item in items:
            function = getattr(item, "function", None)
            without_marks(getattr(function, "__func__", function))
            without_marks(getattr(item, "cls", None))

    return forget
