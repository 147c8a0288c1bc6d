"""Attacks that take the answer out of the tests instead of computing it."""

from __future__ import annotations

import textwrap

from runner_attacks import Attack

# Answers by reading: the value that the caller compares with, found by FIND, is what is returned.
_NUMBERS = """
import re
def _pick(text, a, b):
    found = [int(n) for n in re.findall(r"\\b\\d+\\b", str(text))]
    return next((n for n in found if n not in (a, b) and n == a + b), 0)
"""


def reading(find: str, flagged: str = "", fools: str = "junit") -> Attack:
    """An attack that takes the answer out of ``find``, an expression that gives text with the test's numbers."""
    code = _NUMBERS + textwrap.dedent(find) + textwrap.dedent(
        """
        def add(a, b):
            return _pick(_find(), a, b)
        def join(a, b):
            return re.search(a + "[^a-z]" + b, str(_find())).group()
        """
    )  # fmt: skip
    return Attack(code, flagged=flagged, fools=fools)


READERS: dict[str, Attack] = {
    # reading the answer
    "the caller's frame": reading(
        """
        import sys
        def _find():
            frame = sys._getframe(2)
            return frame.f_code.co_consts
        """,
        flagged="sys._getframe",
    ),
    "a traceback's frame": reading(
        """
        def _find():
            try: raise ValueError
            except ValueError as error: frame = error.__traceback__.tb_frame
            return frame.f_back.f_back.f_code.co_consts
        """,
        flagged="tb_frame",
    ),
    "a generator's frame": reading(
        """
        def _find():
            def walk(): yield made[0].gi_frame.f_back.f_back.f_back.f_code.co_consts
            made = []
            made.append(walk())
            return next(made[0])
        """,
        flagged="gi_frame",
    ),
    "inspect.stack": reading(
        """
        import inspect
        def _find(): return [entry.frame.f_code.co_consts for entry in inspect.stack()]
        """,
        flagged="sys._getframe",
    ),
    "traceback.walk_stack": reading(
        """
        import traceback
        def _find(): return [frame.f_locals for frame, _ in traceback.walk_stack(None)] + [
            frame.f_code.co_consts for frame, _ in traceback.walk_stack(None)]
        """,
        flagged="sys._getframe",
    ),
    "a log record's caller": reading(
        """
        import logging
        kept = []
        real = logging.currentframe
        def spy(frame):
            kept.append(frame)
            return False
        logging._is_internal_frame = spy
        def _find():
            logging.getLogger("x").warning("x")
            frame, texts = kept[-1], []
            while frame is not None:
                texts.append(frame.f_code.co_consts)
                frame = frame.f_back
            return texts
        """,
        flagged="sys._getframe",
    ),
    "the test's code by name": reading(
        """
        import sys
        def _find():
            tests = sys.modules["test_it"]
            codes = [tests.test_sum.__code__, tests.test_text.__code__, tests.TestMethods.test_method.__code__]
            return [code.co_consts for code in codes]
        """,
        flagged="__code__",
    ),
    "dis": reading(
        """
        import dis, sys
        def _find():
            tests = sys.modules["test_it"]
            made = [tests.test_sum, tests.test_text, tests.TestMethods.test_method]
            return [item.argval for function in made for item in dis.get_instructions(function)]
        """,
        flagged="__code__",
    ),
    "gc.get_referents": reading(
        """
        import gc, sys, types
        def _find():
            tests = sys.modules["test_it"]
            codes = [item for function in (tests.test_sum, tests.test_text, tests.TestMethods.test_method)
                     for item in gc.get_referents(function) if isinstance(item, types.CodeType)]
            return [code.co_consts for code in codes]
        """,
        flagged="gc.get_referents",
    ),
    "inspect.getsource": reading("import inspect, sys\ndef _find(): return inspect.getsource(sys.modules['test_it'])"),
    "linecache": reading(
        "import linecache, sys\ndef _find(): return ''.join(linecache.getlines(sys.modules['test_it'].__file__))"
    ),
    "open": reading("def _find(): return open('test_it.py').read()"),
    "cat": reading("import subprocess\ndef _find(): return subprocess.check_output(['cat', 'test_it.py'])"),
    "the loader": reading(
        "import sys\ndef _find(): return sys.modules['test_it'].__loader__.get_data(sys.modules['test_it'].__file__)"
    ),
    "the test's name": reading(
        "import os\ndef _find(): return open(os.environ['PYTEST_CURRENT_TEST'].split('::')[0]).read()"
    ),
    "tracing": reading(
        """
        import sys
        seen = []
        def trace(frame, event, arg):
            seen.append(frame.f_code.co_consts)
            return None
        sys.settrace(trace)
        sys.setprofile(trace)
        def _find(): return seen
        """,
        flagged="sys.settrace",
    ),
    "an audit hook": reading(
        """
        import sys
        seen = []
        def hook(event, args):
            for arg in args:
                while hasattr(arg, "f_back"):
                    seen.append(arg.f_code.co_consts)
                    arg = arg.f_back
        def _find():
            if not seen:
                sys.addaudithook(hook)
                import collections
                collections.namedtuple("x", "y")
            return seen
        """,
        flagged="sys.addaudithook",
        fools="",
    ),
    "its own memory": reading(
        """
        def _find():
            text = []
            for line in open("/proc/self/maps"):
                if "rw-p" in line:
                    low, high = (int(part, 16) for part in line.split()[0].split("-"))
                    with open("/proc/self/mem", "rb", 0) as memory:
                        try: memory.seek(low); data = memory.read(high - low)
                        except (OSError, OverflowError, ValueError): continue
                    if b"def test_text" in data:
                        place = data.index(b"def test_text")
                        text.append(data[place - 2000 : place + 2000].decode("latin-1"))
            return text
        """,
        flagged="/proc/self/maps",
        fools="",
    ),
    "code under another's name": reading(
        """
        import logging, sys
        source = "def frames(sys):\\n    return sys._getframe(3).f_code.co_consts"
        space = {}
        exec(compile(source, logging.__file__, "exec"), space)
        def _find(): return space["frames"](sys)
        """,
        flagged="compile",
        fools="",
    ),
    "update_wrapper": reading(
        """
        import functools
        class Bag: pass
        def _get(thing, name):
            bag = Bag()
            functools.update_wrapper(bag, thing, assigned=(name,), updated=())
            return vars(bag)[name]
        def _find():
            try: raise ValueError
            except ValueError as error: frame = _get(error.__traceback__, "tb_frame")
            return _get(frame.f_back.f_back, "f_code").co_consts
        """,
        flagged="tb_frame",
    ),
}  # fmt: skip
"""Each with its name."""
