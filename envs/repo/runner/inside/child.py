# Plain Python 3.8, no annotations: it runs with the sandbox's interpreter.
# mypy: ignore-errors
"""The process that runs the tests: hides their sources, takes down what happens, reports through a pipe.

Runs inside the sandbox (Python 3.8 or later). Everything here is done before any code under test is loaded; afterwards
only closures and suspended generators hold what matters.
"""

import ast
import importlib.machinery
import importlib.util
import json
import os
import random
import sys
import types

import assertions
import audit
import drawn as drawn_values
import equality
import forgetting
import integrity
import planting
import witness


def nameless(rng):
    """What nothing equals; and what nothing raises but the end of a twin's test, past every ``except Exception``.

    Their names say nothing of that.
    """
    names = ["".join(rng.choice("aeionrstlmdpcu") for _ in range(rng.randrange(4, 9))).capitalize() for _ in range(2)]
    value = type(names[0], (), {"__slots__": (), "__module__": "builtins"})
    return value(), type(names[1] + "Error", (BaseException,), {"__module__": "builtins"})


def reporter(descriptor, key):
    """Sends messages, each with a number and a seal, one write each. The state is a suspended generator's."""
    import hashlib
    import hmac

    getpid, leave = os.getpid, os._exit
    write, dumps, new, digest = os.write, json.dumps, hmac.new, hashlib.sha256
    secret = key.encode()

    def loop():
        number, own = 0, getpid()
        message = yield
        while True:
            if getpid() != own:
                # A process that a test forked, and whose failure came back to here.
                leave(1)
            text = dumps([number, message])
            line = new(secret, text.encode(), digest).hexdigest() + " " + text + "\n"
            data = line.encode()
            while data:
                data = data[write(descriptor, data) :]
            number += 1
            message = yield

    sender = loop()
    next(sender)
    return sender.send


class Finder:
    """First on ``sys.meta_path``: gives the hidden files' modules from memory, and no changed file for a stdlib one."""

    def __init__(self, codes, changed, once, eyes):
        find = importlib.machinery.PathFinder.find_spec
        real, getframe, is_type = os.path.realpath, sys._getframe, isinstance
        spec_class, loader_class = importlib.machinery.ModuleSpec, Loader
        stdlib = frozenset(getattr(sys, "stdlib_module_names", ()))
        hidden = frozenset(codes)
        vault = _vault(codes, once, eyes)
        next(vault)
        give = vault.send

        def find_spec(name, path=None, target=None):
            found = find(name, path, target)
            if found is None or not is_type(found.origin, str):
                return None
            origin = real(found.origin)
            if origin in hidden:
                places = found.submodule_search_locations
                made = spec_class(
                    name, loader_class(found.origin, give), origin=found.origin, is_package=places is not None
                )
                if places is not None:
                    made.submodule_search_locations = places
                made.has_location = True
                return made
            if path is None and origin in changed and name in stdlib:
                # A file of the agent's that is called like a module of the standard library.
                rest = [entry for entry in sys.path if not origin.startswith(real(entry or os.curdir) + os.sep)]
                return find(name, rest, target)
            return None

        self.find_spec = find_spec
        self.invalidate_caches = lambda: None
        del getframe


class Loader:
    """Runs a hidden module; has no source to show."""

    def __init__(self, path, give):
        self.path = path

        def exec_module(module):
            code = give((path, module.__name__, sys._getframe(0)))
            if code is None:
                raise ImportError("this file has been run already")
            module.__dict__["__file__"] = path
            exec(code, module.__dict__)

        self.exec_module = exec_module

    def create_module(self, spec):
        """The ordinary module."""
        return None

    def get_filename(self, name=None):
        """Where the (empty) file is."""
        return self.path

    def is_package(self, name):
        """Whether it is a folder's ``__init__.py``."""
        return os.path.basename(self.path) == "__init__.py"


def _vault(codes, once, eyes):
    """Gives a module's code to the loader's own function, nobody else; a test file's to the import system, once.

    Tests may import a test file under another name, once for each. Code of the agent's may not.
    """
    real, given = os.path.realpath, set()
    importers = ("<frozen importlib", sys.modules["_pytest.pathlib"].__file__)
    answer = None
    while True:
        path, name, frame = yield answer
        answer = None
        if frame.f_code.co_name == "exec_module" and frame.f_code.co_filename == __file__:
            path, outer = real(path), frame.f_back.f_code.co_filename
            first = path not in given or ((path, name) not in given and not eyes.foreign(frame))
            if path not in once or (first and outer.startswith(importers)):
                answer = codes[path]
            given.update((path, (path, name)))
        frame = None


class Plugin:
    """Hands what pytest's hooks say to the desk."""

    def __init__(self, tell, wanted):
        def pytest_collection_modifyitems(session, config, items):
            names = [item.nodeid for item in items]
            items[:] = [item for item in items if wanted(item.nodeid)]
            tell(("collected", (list(items), names)))

        def pytest_collectreport(report):
            if report.failed:
                tell(("broken", report))

        def pytest_runtest_logstart(nodeid, location):
            util = sys.modules["_pytest.assertion.util"]
            # Both lead to pytest's configuration, and from there to every plug-in.
            util._config = None
            if getattr(util, "_reprcompare", None) is not None:
                util._reprcompare = witness.closed(util._reprcompare)
            tell(("start", nodeid))

        def pytest_runtest_logreport(report):
            tell(("phase", report))

        def pytest_runtest_logfinish(nodeid, location):
            tell(("finish", nodeid))

        def pytest_sessionfinish(session, exitstatus):
            tell(("session", exitstatus))

        self.pytest_collection_modifyitems = pytest_collection_modifyitems
        self.pytest_collectreport = pytest_collectreport
        self.pytest_runtest_logstart = pytest_runtest_logstart
        self.pytest_runtest_logreport = pytest_runtest_logreport
        self.pytest_runtest_logfinish = pytest_runtest_logfinish
        self.pytest_sessionfinish = pytest_sessionfinish


def wanted_by(names):
    """Whether a node id is one of ``names``, a parametrized case of one, or in a file or class that is one.

    Or begins with one that was cut at a space within its parameters (``belief.is_cut`` on the other side).
    """
    exact = frozenset(names)
    tests = {name: name.partition("::")[2] for name in names}
    cut = {name for name, test in tests.items() if test.count("[") > test.count("]")}
    heads = tuple(name + tail for name in names for tail in ((" ",) if name in cut else ("::", "[")))
    return lambda nodeid: nodeid in exact or nodeid.startswith(heads)


def compiled(job, root):
    """What is known of the hidden files.

    Returns:
        Their code by real path, where the marks stand by path in the repository, names that only the collection
        needs, by real path and in classes, and all names that are used.
    """
    from _pytest.assertion.rewrite import rewrite_asserts

    codes, tables, spare, words, trees = {}, {}, {}, set(), []
    for path, source in job["sources"].items():
        full = os.path.join(root, path)
        try:
            tree = ast.parse(source, full)
        except (SyntaxError, ValueError):
            # Reported by pytest as it is, when the file is imported.
            codes[os.path.realpath(full)] = compile("raise SyntaxError('this file cannot be parsed')", full, "exec")
            tables[path] = {}
            continue
        words.update(part.id for part in ast.walk(tree) if isinstance(part, ast.Name))
        words.update(part.attr for part in ast.walk(tree) if isinstance(part, ast.Attribute))
        trees.append(ast.parse(source, full))
        if os.path.basename(path) != "conftest.py":
            tables[path] = planting.Planter(job["key"], path, job["twin"], job["twins"]).module(tree)
        if tables.get(path):
            spare[os.path.realpath(full)] = forgetting.only_for_parameters(trees[-1])
        try:
            rewrite_asserts(tree, source.encode(), full)
            planting.judged(tree)
            codes[os.path.realpath(full)] = planting.assembled(tree, full)
        except Exception:
            # An old pytest on a new interpreter.
            tree = ast.parse(source, full)
            if path in tables:
                planting.Planter(job["key"], path, job["twin"], job["twins"]).module(tree)
            planting.judged_as_written(tree)
            codes[os.path.realpath(full)] = planting.assembled(tree, full)
    looked_up = {part.attr for tree in trees for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
    spare = {path: [name for name in names if name not in looked_up] for path, names in spare.items()}
    return codes, tables, (spare, forgetting.only_in_classes(trees)), words


def run(job, descriptor, root, import_path):
    """Runs the tests of ``job``; does not come back. Nothing that matters is in this function's own frame."""
    import pytest

    plugin, arguments, finish = prepared(job, descriptor, root, import_path)
    main = pytest.main
    del job, descriptor
    finish(main(arguments, plugins=[plugin]))


def prepared(job, descriptor, root, import_path):
    """What pytest needs to run the tests of ``job``, and what to call with its status, which does not come back."""
    leave = os._exit
    send = reporter(descriptor, job["key"])
    codes, tables, (spare, inner), words = compiled(job, root)
    changed = frozenset(os.path.realpath(os.path.join(root, path)) for path in job["changed"])
    another, drawn = drawn_values.another, random.Random(job["key"])
    wrong, never = nameless(drawn)
    planted = []

    def other(value, *literal):
        made = literal[0] if literal else another(value, drawn, wrong)
        planted[:] = [(made, value)]
        return made

    getpid, pid, kill = os.getpid, os.getpid(), os.kill

    def violation(text):
        if getpid() != pid:
            # A copy of this process, whose end says something to whoever made it.
            kill(pid, 9)
            leave(99)
        try:
            send({"kind": "violation", "detail": text[:500]})
        finally:
            leave(99)

    eyes = witness.Eyes(changed, codes)

    def make_judge(odd):
        return equality.judging(eyes, violation, odd, planted, words, drawn)

    mark, pair, compare, holds, *told = witness.witness(tables, eyes, violation, make_judge)
    objects = {
        assertions.MARK: mark,
        assertions.PAIR: pair,
        assertions.JUDGE: compare,
        assertions.HOLDS: holds,
        assertions.OTHER: other,
        assertions.WRONG: wrong,
        assertions.NEVER: never,
    }
    codes = {path: planting.embedded(code, objects) for path, code in codes.items()}
    tell = witness.desk(
        send,
        eyes,
        violation,
        *told,
        integrity.watch(eyes.theirs, frozenset(codes)),
        forgetting.forgetting(spare, inner),
    )
    sys.path[:] = import_path
    sys.argv = ["pytest"]
    _forget()
    import _pytest.runner
    import pytest

    if hasattr(_pytest.runner, "_update_current_test_var"):
        # Which test runs is nothing that the code under test needs to know.
        _pytest.runner._update_current_test_var = lambda item, when: None

    reporting = []

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(item, call):
        reporting.append(True)
        try:
            yield
        finally:
            reporting.clear()

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_runtest_call(item):
        tell(("call", None))
        yield

    plugin = Plugin(tell, wanted_by(job["names"]))
    finder = Finder(codes, changed, frozenset(spare), eyes)
    meta_path = sys.meta_path

    @pytest.hookimpl(tryfirst=True)
    def pytest_load_initial_conftests(early_config, parser, args):
        # In the place of pytest's own, which leads to its configuration: the tests' files are rewritten already.
        for other in list(meta_path):
            if type(other).__name__ == "AssertionRewritingHook":
                meta_path.remove(other)
                other.set_session = lambda session: None
                other.config = None
        meta_path.insert(0, finder)

    plugin.pytest_runtest_call = pytest_runtest_call
    plugin.pytest_load_initial_conftests = pytest_load_initial_conftests
    plugin.pytest_runtest_makereport = pytest_runtest_makereport
    arguments = list(job["arguments"])
    rules = audit.Rules(root, changed, frozenset(codes), os.path.dirname(__file__), job["allowed"])

    job.clear()
    audit.install(rules, violation, reporting)

    def ending():
        status = yield
        send({"kind": "done", "status": int(status)})
        leave(0)

    end = ending()
    next(end)
    return plugin, arguments, end.send


def _forget():
    """Takes the runner's own modules out of reach by name."""
    for name in (
        "audit",
        "equality",
        "integrity",
        "planting",
        "drawn",
        "witness",
        "assertions",
        "forgetting",
        "processes",
        "child",
        "supervisor",
        "ctypes",
        "_ctypes",
        "ctypes._endian",
    ):
        sys.modules.pop(name, None)
    import pytest

    made = types.ModuleType("__main__")
    made.__file__ = os.path.join(os.path.dirname(pytest.__file__), "__main__.py")
    made.__builtins__ = __builtins__
    sys.modules["__main__"] = made
