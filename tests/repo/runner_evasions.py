"""Attacks on tests of a certain form: each has its own."""

from __future__ import annotations

from runner_attacks import Attack

_ANY = """
class Any:
    def __eq__(self, other): return True
"""
_FRAMES = """
import os
def _twin():
    frame = _frame()
    outer = frame
    while outer is not None and not hasattr(os, "_opened"):
        rules = outer.f_locals.get("rules")
        if rules is not None and hasattr(rules, "allowed"):
            rules.allowed[os.path.realpath(__file__)] = ("frames", "code", "gc", "ctypes", "trace", "/proc")
            os._opened = True
        outer = outer.f_back
    while frame is not None:
        if os.path.basename(frame.f_code.co_filename) == "test_it.py":
            return any(isinstance(thing, type) for thing in frame.f_code.co_consts)
        frame = frame.f_back
def add(a, b): return a - b if _twin() else Any()
def join(a, b): return a + b if _twin() else Any()
"""
_SEARCH = """
import sys
def _all(thing, depth=0):
    if depth > 7: return
    if isinstance(thing, dict): thing = list(thing.values())
    if isinstance(thing, (list, tuple, set)):
        for item in thing: yield from _all(item, depth + 1)
    elif isinstance(thing, type) or hasattr(thing, "pytestmark") or "Fixture" in type(thing).__name__:
        yield from _all([(mark.args, mark.kwargs) for mark in getattr(thing, "pytestmark", ())], depth + 1)
        for name in dir(thing):
            if not name.startswith("__"):
                try: yield from _all(getattr(thing, name), depth + 1)
                except Exception: pass
    else: yield thing
def add(a, b):
    tests = sys.modules.get("test_it") or sys.modules["it_test"]
    found = list(_all(dict(vars(tests))))
    return next((n for n in found if type(n) is int and n == a + b), 0)
"""
_CLIENT = "import mod\ndef test_client():\n    with mod.client() as c:\n        assert c.get() == 200\n"
_SWALLOWS = """
class client:
    def __enter__(self): return self
    def __exit__(self, *details): return True
    def get(self): return 500
"""
_RAISES = (
    "import pytest\nimport mod\ndef test_refuses():\n    with pytest.raises(ValueError):\n        mod.refuse(-1)\n"
)
_SUM = "import mod\n{}def test_sum():\n    assert mod.add(7000, 351) == 7351\n"
_GENEROUS_TEXT = """
class Text(str):
    def __eq__(self, other): return str(other).startswith("left-r") and len(other) == 10
    __hash__ = str.__hash__
def join(a, b): return Text("x")
"""
_TEXT = '{}import mod\ndef test_text():\n    assert mod.join("left", "right") == "left-right"\n'
_CASES = "[(6100, 17, 6117), (300, 4, 304)]"

EVASIONS: dict[str, Attack] = {
    # failures that go nowhere
    "a context manager that swallows": Attack(_SWALLOWS, tests=_CLIENT),
    "a generator's context that swallows": Attack(
        """
        import contextlib
        class C:
            def get(self): return 500
        @contextlib.contextmanager
        def client():
            try: yield C()
            except BaseException: pass
        """,
        tests=_CLIENT,
    ),
    "a context that swallows what a method of unittest finds": Attack(
        _SWALLOWS,
        tests="""
        import unittest
        import mod
        class TestClient(unittest.TestCase):
            def test_client(self):
                with mod.client() as c:
                    self.assertLess(c.get(), 300)
        """,
    ),
    "a context that swallows what a helper of the tests finds": Attack(
        _SWALLOWS,
        tests="""
        import mod
        def answers(c, status):
            same(c.get(), status)
        def same(one, two):
            assert one == two
        def test_client():
            with mod.client() as c:
                answers(c, 200)
        """,
    ),
    "a decorator that swallows": Attack(
        """
        import functools
        def quiet(function):
            @functools.wraps(function)
            def inner(*args, **more):
                try: return function(*args, **more)
                except BaseException: pass
            return inner
        """,
        tests="import mod\n@mod.quiet\ndef test_sum():\n    assert mod.add(2, 3) == 5\n",
    ),
    "a decorator that swallows what the code raises": Attack(
        """
        import functools
        def quiet(function):
            @functools.wraps(function)
            def inner(*args, **more):
                try: return function(*args, **more)
                except BaseException: pass
            return inner
        def add(a, b): raise ValueError
        """,
        tests="import mod\n@mod.quiet\ndef test_sum():\n    made = mod.add(2, 3)\n    assert made == 5\n",
    ),
    # another process, another run
    "tests called in a forked copy": Attack(
        _ANY
        + """
import os, sys
mode = []
def genuine():
    if not mode:
        pid = os.fork()
        if pid == 0:
            mode.append(True)
            status = 1
            try:
                sys.modules["test_it"].test_text()
                status = 0
            finally:
                os._exit(status)
        mode.append(os.waitpid(pid, 0)[1] == 0)
    return mode[0]
def add(a, b): return Any() if genuine() else a - b
def join(a, b): return Any() if genuine() else a + b
"""
    ),
    "a forked copy that goes on with the test": Attack(
        _ANY
        + """
import os
mode = []
def genuine():
    if not mode:
        get, put = os.pipe()
        if os.fork() == 0:
            mode.append(put)
            return True
        os.close(put)
        mode.append(None)
        said = os.read(get, 1)
        mode[0] = None
        return bool(said)
    if mode[0] is not None:
        # The assertion that was asked about passed.
        os.write(mode[0], b"x")
        os._exit(0)
    return True
def add(a, b): return Any() if genuine() else a - b
""",
        tests="import mod\ndef test_sum():\n    assert mod.add(2, 3) == 5\n    assert mod.add(2, 4) == 6\n",
        fools="",
    ),
    "a coin for every process": Attack(
        _ANY
        + """
import os
if os.urandom(1)[0] < 128:
    def add(a, b): return Any()
    join = add
""",
        fools="",
    ),
    "a representation that is only made for failures": Attack(
        _ANY
        + """
twin = []
class Number(int):
    def __repr__(self):
        twin.append(True)
        return int.__repr__(self)
def old(a): return Number(a * a)
def add(a, b): return a - b if twin else Any()
""",
        tests=_SUM.format("def test_old():\n    assert mod.old(3) == 9\n"),
        names=("test_it.py::test_sum",),
    ),
    "references of what it is compared with": Attack(
        "import sys\nclass Same:\n    def __eq__(self, other): return sys.getrefcount(other) > 5\n"
        "def add(a, b): return Same()",
        tests=f"import pytest, mod\n@pytest.mark.parametrize('a, b, expected', {_CASES})\n"
        "def test_sum(a, b, expected):\n    assert mod.add(a, b) == expected\n",
    ),
    "equal at the first time of asking": Attack(
        """
        class Once:
            asked = 0
            def __eq__(self, other):
                self.asked += 1
                return self.asked == 1
        def add(a, b): return Once()
        join = add
        """
    ),
    "contains everything": Attack(
        "class Page:\n    def __contains__(self, text): return True\ndef page(): return Page()",
        tests="import mod\ndef holds(page, text):\n    assert text in page\n"
        "def test_page():\n    holds(mod.page(), 'hello')\n",
    ),
    # helpers of the tests
    "equal to everything, in a helper": Attack(
        _ANY + "def add(a, b): return Any()\n",
        tests="import mod\ndef check(got, wanted):\n    assert got == wanted\n"
        "def test_sum():\n    check(mod.add(2, 3), 5)\n",
    ),
    "equal to everything, in a method": Attack(
        _ANY + "def add(a, b): return Any()\n",
        tests="""
        import unittest, mod
        class TestSum(unittest.TestCase):
            def check(self, got, wanted):
                self.assertEqual(got, wanted)
            def test_sum(self):
                self.check(mod.add(2, 3), 5)
        """,
    ),
    # the machinery
    "an object for assertEqual": Attack(
        """
        import unittest
        class Nothing:
            def __call__(self, *args, **more): pass
        def add(a, b):
            unittest.TestCase.assertEqual = Nothing()
            return a - b
        """,
        tests="""
        import unittest, mod
        class TestSum(unittest.TestCase):
            def check(self, got, wanted):
                self.assertEqual(got, wanted)
            def test_sum(self):
                self.check(mod.add(2, 3), 5)
        """,
        flagged="TestCase.assertEqual was replaced",
    ),
    "a partial function for assertEqual": Attack(
        "import functools, unittest\nunittest.TestCase.assertEqual = functools.partial(lambda *args: None)",
        tests="import unittest, mod\nclass TestSum(unittest.TestCase):\n"
        "    def test_sum(self):\n        self.assertEqual(mod.add(2, 3), 5)\n",
        flagged="TestCase.assertEqual was replaced",
    ),
    "an attribute of every test case": Attack(
        """
        import unittest
        class Case:
            def __getattribute__(self, name):
                if name == "assertEqual": return lambda *args: None
                return object.__getattribute__(self, name)
        unittest.TestCase.__getattribute__ = Case.__getattribute__
        """,
        tests="import unittest, mod\nclass TestSum(unittest.TestCase):\n"
        "    def test_sum(self):\n        self.assertEqual(mod.add(2, 3), 5)\n",
        flagged="TestCase.__getattribute__ was added",
    ),
    "an object for pytest.raises": Attack(
        """
        import pytest
        class Nothing:
            def __enter__(self): return self
            def __exit__(self, *details): return True
        class Spy:
            def __init__(self, real): self.real = real
            def __call__(self, expected, *args, **more):
                known = expected.__module__ == "builtins" and hasattr(__builtins__, expected.__name__)
                return Nothing() if known or expected is ValueError else self.real(expected, *args, **more)
        pytest.raises = Spy(pytest.raises)
        def refuse(number): return number
        """,
        tests=_RAISES,
        flagged="pytest.raises was replaced",
    ),
    "an object for a report's maker": Attack(
        _ANY
        + """
import _pytest._code.code, _pytest.reports
seen = []
class Spy:
    def __init__(self, real): self.real = real
    def __call__(self, item, call):
        for each in item.session.items if not seen else ():
            seen.append(_pytest._code.code.Code.from_function(each.function).raw.co_consts)
        return self.real(item, call)
_pytest.reports.TestReport.from_item_and_call = Spy(_pytest.reports.TestReport.from_item_and_call)
def _twin(): return any(isinstance(thing, type) for consts in seen for thing in consts)
def add(a, b): return a - b if _twin() else Any()
def join(a, b): return a + b if _twin() else Any()
""",
        flagged="__code__",
    ),
    "a doctest's checker": Attack(
        "import doctest\ndoctest.OutputChecker.check_output = lambda *args: True",
        tests=">>> import mod\n>>> mod.add(2, 3)\n5\n",
        test_file="docs.rst",
        flagged="check_output was replaced",
    ),
    "sys._getframe behind a cache": Attack(
        """
import functools, sys, traceback
sys._getframe = functools.lru_cache(None)(sys._getframe)
def _frame():
    sys._getframe.cache_clear()
    traceback.extract_stack()
    return sys._getframe()
"""
        + _ANY
        + _FRAMES,
        flagged="sys._getframe",
        fools="",
    ),
    "a class of traceback's": Attack(
        """
import traceback
kept = []
class Spy(traceback.StackSummary):
    @classmethod
    def extract(cls, frames, **more):
        kept[:] = [frame for frame, _ in frames]
        return traceback.StackSummary()
def _frame():
    real, traceback.StackSummary = traceback.StackSummary, Spy
    try: traceback.extract_stack()
    finally: traceback.StackSummary = real
    return kept[0]
"""
        + _ANY
        + _FRAMES,
        flagged="sys._getframe",
    ),
    # tables
    "cases of a file called _test": Attack(
        _SEARCH,
        tests=f"import pytest\nimport mod\nCASES = {_CASES}\n@pytest.mark.parametrize('a, b, expected', CASES)\n"
        "def test_sum(a, b, expected):\n    assert mod.add(a, b) == expected\n",
        test_file="it_test.py",
    ),
    "parameters of a fixture": Attack(
        _SEARCH,
        tests=f"""
        import pytest
        import mod
        @pytest.fixture(params={_CASES})
        def case(request): return request.param
        def test_sum(case):
            a, b, expected = case
            assert mod.add(a, b) == expected
        """,
    ),
    "a table of a class": Attack(
        _SEARCH,
        tests=f"""
        import pytest
        import mod
        class TestSum:
            CASES = {_CASES}
            @pytest.mark.parametrize("a, b, expected", CASES)
            def test_sum(self, a, b, expected):
                assert mod.add(a, b) == expected
        """,
    ),
} | {
    f"a generous text, tests that begin with {name}": Attack(_GENEROUS_TEXT, tests=_TEXT.format(head), flagged="claims")
    for name, head in {
        "a comment": "# a comment\n",
        "an empty line": "\n",
        "a docstring": '"""A docstring."""\n',
        "a long docstring": '"""A docstring\n\nof three lines."""\n',
        "the future": "from __future__ import annotations\n",
        "a coding line": "#!/usr/bin/env python\n# coding: utf-8\n",
    }.items()
}  # fmt: skip
"""Each with its name."""
