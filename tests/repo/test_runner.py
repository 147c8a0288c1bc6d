"""The trusted test runner on honest code: what it reports, and that it believes it."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import needs
import pytest

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.runner import INSTALL, TOOLKIT, Report, run_tests, toolkit_archive
from pivotgym.envs.repo.tasks import Tests
from pivotgym.envs.sandbox import Sandbox, SandboxConfig, SandboxUnavailable, Snapshot, get_backend

ROOT = "/testbed"


@pytest.fixture(scope="module")
def ready() -> Iterator[Snapshot]:
    """A sandbox with pytest in it, as a task's is before its first turn."""
    backend = get_backend("bubblewrap")
    try:
        box = backend.start(SandboxConfig(workdir=ROOT))
    except SandboxUnavailable as error:
        needs.missing(str(error))
        raise
    box.write_file(f"{ROOT}/empty.py", b"")
    run_tests(box, root=ROOT, tests=Tests(files={"test_x.py": "def test_x(): pass"}), names=["test_x.py"], changed=[])
    box.run(f"rm -rf {ROOT}/*; git init -q {ROOT}")
    snapshot = box.snapshot()
    assert snapshot is not None, box.incomplete
    box.stop()
    yield snapshot
    backend.close(snapshot)


@pytest.fixture
def box(ready: Snapshot) -> Iterator[Sandbox]:
    made = get_backend("bubblewrap").load(ready, fresh_shell=True)
    yield made
    made.stop()


def supervised(box: Sandbox, files: dict[str, str], test: str, *names: str, timeout: float = 60, **more: str) -> Report:
    """Runs ``test`` as ``test_it.py`` on ``files``, all of them changed."""
    for path, text in files.items():
        box.write_file(f"{ROOT}/{path}", text.encode())
    tests = Tests(files={"test_it.py": test, **more}, timeout=timeout)
    wanted = [f"test_it.py::{name}" for name in names] or ["test_it.py"]
    return run_tests(box, root=ROOT, tests=tests, names=wanted, changed=list(files))


def outcomes(report: Report) -> dict[str, str]:
    return {name.partition("::")[2]: result.outcome for name, result in report.results.items()}


HONEST = """
import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools
import inspect
import logging
import pickle
import subprocess
import sys
import traceback
import typing
import warnings


class Color(enum.Enum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Item:
    name: str
    count: int = 0


class Strict:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == other.value

    __hash__ = None


def add(a, b):
    logging.getLogger(__name__).warning("adding %s", a, stack_info=False)
    return a + b


def report():
    try:
        raise ValueError("no")
    except ValueError:
        logging.exception("seen")
        return traceback.format_exc()


def old():
    warnings.warn("old", DeprecationWarning, stacklevel=2)


def parameters(function):
    return list(inspect.signature(function).parameters)


def source(function):
    return inspect.getsource(function)


def wrapped(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner


def hints():
    return typing.get_type_hints(Item)


def child():
    return subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True).stdout


def swallow(function):
    with contextlib.suppress(AssertionError):
        function()
    return 1


def expects(kind):
    def decorate(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            try:
                function(*args, **kwargs)
            except kind:
                return
            raise AssertionError("not raised")
        return inner
    return decorate


async def later(value):
    await asyncio.sleep(0)
    return value


def numbers():
    yield from range(3)


def roundtrip(value):
    return pickle.loads(pickle.dumps(value))
"""
HONEST_TEST = '''
import asyncio
import threading
import unittest
from unittest import mock

import pytest

import honest

TABLE = [(1, 2, 3), (4, 5, 9)]


@pytest.fixture
def three():
    made = honest.add(1, 2)
    assert made == 3
    yield made
    assert made == 3


def test_plain():
    """A docstring."""
    assert honest.add(1, 2) == 3
    assert honest.add("a", "b") == "ab", "message"


def test_left():
    assert 3 == honest.add(1, 2)
    assert [1, {"a": None}] == honest.add([1], [{"a": None}])


def test_containers():
    assert honest.add([], []) == []
    assert honest.add((), ()) == ()
    assert {1, 4, 6} == {1, 4, 6}
    assert honest.Point(1, 2) == (1, 2)
    assert dict(a=1) == {"a": 1}
    assert honest.Item("x") == honest.Item("x", 0)


@pytest.mark.parametrize("a, b, c", TABLE)
def test_parametrized(a, b, c):
    assert honest.add(a, b) == c


@pytest.mark.parametrize("value", [1.5, "x y", None, True, b"z"], ids=str)
def test_ids(value):
    assert honest.roundtrip(value) == value


def test_fixture(three, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("builtins.open", None)
    print(three)
    assert capsys.readouterr().out == "3\\n"
    assert not list(tmp_path.iterdir())


def test_raises():
    with pytest.raises(TypeError):
        honest.add(1, "a")
    with pytest.raises(TypeError, match="unsupported") as caught:
        honest.add(1, "a")
    assert "unsupported" in str(caught.value)
    pytest.raises(TypeError, honest.add, 1, "a")


def test_raises_an_assertion():
    with pytest.raises(AssertionError):
        assert honest.add(1, 2) == 4


def test_nothing_is_asserted():
    honest.add(1, 2)


def test_pass():
    pass


def check(value):
    assert value == 3


def test_helper():
    check(honest.add(1, 2))


def test_no_turns():
    for item in []:
        assert item == 1


def test_loop():
    for number, item in enumerate(honest.numbers()):
        if item == 2:
            continue
        assert number == item
    while True:
        assert honest.add(1, 1) == 2
        break


def test_returns():
    if honest.add(1, 1) == 2:
        return
    assert False


def test_returns_in_try():
    try:
        return
    except:
        pass


def test_caught():
    try:
        assert honest.add(1, 1) == 3
    except AssertionError:
        pass
    assert honest.swallow(lambda: honest.add(1, 1)) == 1


def test_swallowed_callback():
    def callback():
        assert honest.add(1, 1) == 3
    assert honest.swallow(callback) == 1


def test_other_operators():
    assert honest.add(1, 1) != 3
    assert honest.add(1, 1) < 3 <= honest.add(1, 2)
    assert not honest.add(0, 0)
    assert honest.Color.RED is honest.Color.RED
    assert honest.add(1, 1) is not None
    assert "a" in honest.add("a", "b") and "z" not in "ab"
    assert isinstance(honest.add(1, 1), int)
    assert honest.add(1, 1) == 2 and honest.add(2, 2) == 4
    assert honest.add(1, 1) == 2 or honest.add(2, 2) == 5
    assert (lambda: 1)() == 1
    assert pytest.approx(0.3) == honest.add(0.1, 0.2)
    assert honest.add(0.1, 0.2) == pytest.approx(0.3)


class Matcher:
    def __eq__(self, other):
        return isinstance(other, int)


def test_matchers():
    result = honest.add(1, 1)
    expected = pytest.approx(2, abs=50)
    assert result == mock.ANY
    assert result == Matcher()
    assert Matcher() == result
    assert result == pytest.approx(2, abs=50)
    assert pytest.approx(2, abs=50) == honest.add(1, 1)
    assert honest.add(1, 1) == expected
    assert expected == honest.add(1, 1)
    assert [honest.add(1, 1), 3] == [mock.ANY, 3]
    assert {"a": honest.add(1, 1)} == {"a": mock.ANY}


def test_variables():
    expected = {"a": [1, (2, "x")], "b": None, "c": True, "d": 1.5, "e": set(), "f": b""}
    assert honest.roundtrip(expected) == expected
    assert expected == honest.roundtrip(expected)
    for value in (0, 1, True, "", "x", (), [], {}, None, 2.5, float("inf"), 1j, frozenset([1]), honest.Color.RED):
        assert honest.roundtrip(value) == value
        assert value == honest.roundtrip(value)


def test_strict_equality():
    assert honest.Strict(3) == honest.Strict(3)


@pytest.mark.xfail(reason="known")
def test_xfail():
    assert honest.add(1, 1) == 3


@pytest.mark.skip(reason="no")
def test_skipped():
    assert honest.add(1, 1) == 3


@honest.expects(ValueError)
def test_expected_by_a_decorator():
    raise ValueError


@honest.wrapped
def test_wrapped():
    assert honest.add(1, 1) == 2


@mock.patch("honest.add", return_value=5)
def test_mock(made):
    assert honest.add(1, 1) == 5
    made.assert_called_once_with(1, 1)


def test_warns():
    with pytest.warns(DeprecationWarning):
        honest.old()


def test_library(caplog):
    assert "ValueError: no" in honest.report()
    assert honest.parameters(check) == ["value"]
    assert honest.parameters(test_plain) == []
    assert "def add" in honest.source(honest.add)
    assert honest.hints() == {"name": str, "count": int}
    assert honest.child() == "42\\n"


def test_async():
    assert asyncio.run(honest.later(4)) == 4


def test_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(honest.add(1, 1)))
    thread.start()
    thread.join()
    assert seen == [2]


class TestPlain:
    value = 4

    def test_method(self):
        assert honest.add(self.value, 0) == 4

    @staticmethod
    def test_static():
        assert honest.add(1, 0) == 1

    class TestInner:
        def test_inner(self):
            assert honest.add(1, 0) == 1


class Base:
    kind = int

    def test_inherited(self):
        assert honest.add(self.kind(1), self.kind(1)) == 2


class TestInts(Base):
    pass


class TestFloats(Base):
    kind = float


class TestUnit(unittest.TestCase):
    def setUp(self):
        self.item = honest.Item("x")

    def test_equal(self):
        self.assertEqual(honest.add(1, 1), 2)
        self.assertEqual(2, honest.add(1, 1), "message")
        self.assertListEqual(honest.add([1], [2]), [1, 2])
        self.assertDictEqual({"a": honest.add(1, 1)}, {"a": 2})
        self.assertAlmostEqual(honest.add(0.1, 0.2), 0.3)
        self.assertCountEqual([1, 2], honest.add([2], [1]))

    def test_others(self):
        self.assertTrue(honest.add(1, 1))
        self.assertFalse(honest.add(0, 0))
        self.assertIn("a", honest.add("a", "b"))
        self.assertIn(3, range(100))
        self.assertAlmostEqual(honest.add(1, 1), 2, delta=50)
        self.assertIsNone(None)
        self.assertIsInstance(honest.add(1, 1), int)
        self.assertGreater(honest.add(1, 1), 1)

    def test_raises(self):
        with self.assertRaises(TypeError):
            honest.add(1, "a")
        with self.assertRaisesRegex(TypeError, "unsupported"):
            honest.add(1, "a")
        self.assertRaises(TypeError, honest.add, 1, "a")

    def test_sub(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertEqual(honest.add(number, 0), number)

    @unittest.expectedFailure
    def test_expected_failure(self):
        self.assertEqual(honest.add(1, 1), 3)


class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def test_async(self):
        self.assertEqual(await honest.later(3), 3)
'''


def test_honest_code_is_believed(box: Sandbox) -> None:
    report = supervised(box, {"honest.py": HONEST}, HONEST_TEST, *_names(HONEST_TEST))
    bad = {name: result for name, result in report.results.items() if result.outcome != "passed"}
    assert set(bad) == {"test_it.py::test_skipped"}, bad
    assert bad["test_it.py::test_skipped"].outcome == "skipped"
    assert report.violations == []


def test_honest_code_is_believed_whichever_assertion_is_wrong(box: Sandbox) -> None:
    """With as many twins as a test has assertions, each is the first wrong one in some twin."""
    box.write_file(f"{ROOT}/honest.py", HONEST.encode())
    tests = Tests(files={"test_it.py": HONEST_TEST})
    report = run_tests(box, root=ROOT, tests=tests, names=["test_it.py"], changed=["honest.py"], twins=12)
    result = report.results["test_it.py"]
    assert (result.outcome, result.detail.split(":")[2]) == ("skipped", "test_skipped"), report
    assert report.violations == []


def _names(text: str) -> list[str]:
    """Functions and classes of a test file, as node ids within it."""
    return [
        node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name.lower().startswith("test")
    ]


def test_wrong_code_fails_and_says_why(box: Sandbox) -> None:
    test = "import it\nimport pytest\n\ndef test_a():\n    assert it.f() == 2\n"
    test += "\n@pytest.fixture\ndef broken():\n    1 / 0\n"
    test += "\ndef test_b(broken):\n    pass\n\ndef test_c():\n    assert it.f() == 1\n"
    report = supervised(box, {"it.py": "def f(): return 1"}, test, "test_a", "test_b", "test_c", "test_d")
    assert outcomes(report) == {"test_a": "failed", "test_b": "error", "test_c": "passed", "test_d": "missing"}
    assert "assert 1 == 2" in report.results["test_it.py::test_a"].detail
    assert "ZeroDivisionError" in report.results["test_it.py::test_b"].detail
    assert all(len(result.detail) <= 500 for result in report.results.values())


def test_broken_file_is_an_error(box: Sandbox) -> None:
    report = supervised(box, {"it.py": "x = 1"}, "import nowhere\n\ndef test_a():\n    pass\n", "test_a")
    assert outcomes(report) == {"test_a": "error"}
    assert "nowhere" in report.results["test_it.py::test_a"].detail
    assert outcomes(supervised(box, {}, "def test_a(:\n", "test_a")) == {"test_a": "error"}


def test_names(box: Sandbox) -> None:
    test = """
import pytest

@pytest.mark.parametrize("a", ["x y", "[z]", "ö"])
def test_p(a):
    assert a != "[z]"

class TestC:
    def test_m(self): assert 1
    def test_n(self): assert 0
"""
    names = ["test_p[x y]", "test_p[[z]]", "test_p", "TestC", "TestC::test_m", "TestC::test_n"]
    report = supervised(box, {}, test, *names)
    assert outcomes(report) == {
        "test_p[x y]": "passed",
        "test_p[[z]]": "failed",
        "test_p": "failed",
        "TestC": "failed",
        "TestC::test_m": "passed",
        "TestC::test_n": "failed",
    }


def test_files_beside_the_tests(box: Sandbox) -> None:
    """A conftest.py with a fixture, a helper module and data, all of them the tests' own."""
    files = {
        "pkg/__init__.py": "def double(x): return 2 * x",
        "pytest.ini": "[pytest]\naddopts = -x -n 4 --cov=pkg -v\nmarkers = known: a mark\n",
    }
    for path, text in files.items():
        box.write_file(f"{ROOT}/{path}", text.encode())
    tests = Tests(
        files={
            "tests/__init__.py": "",
            "tests/conftest.py": "import pytest\n\n@pytest.fixture\ndef fourfold():\n    return 4\n",
            "tests/support.py": "def read(name):\n    import pathlib\n"
            "    return (pathlib.Path(__file__).parent / name).read_text()\n",
            "tests/data.txt": "8",
            "tests/test_a.py": "import pkg, pytest\nfrom tests.support import read\nfrom .support import read as same\n"
            "\n@pytest.mark.known\ndef test_a(fourfold):\n    assert pkg.double(fourfold) == int(read('data.txt'))\n"
            "    assert read is same\n\n@pytest.mark.unknown\ndef test_b(): pass\n",
        }
    )
    names = ["tests/test_a.py::test_a", "tests/test_a.py::test_b"]
    report = run_tests(box, root=ROOT, tests=tests, names=names, changed=["pkg/__init__.py"])
    assert [result.outcome for result in report.results.values()] == ["passed", "passed"], report
    # Nothing of the tests' text is on the disk, and what they run as may not write there.
    found = box.run(f"grep -rl 'fourfold' {ROOT} /tmp /var/tmp /var/lib/pivotgym* 2> /dev/null").output
    assert found == "", found


def test_nothing_is_left_behind(box: Sandbox) -> None:
    code = """
import pathlib, subprocess, tempfile
def f():
    pathlib.Path("/tmp/left-by-run").write_text("x")
    pathlib.Path("/dev/shm/left-by-run").write_text("x")
    tempfile.mkdtemp(dir="/var/tmp")
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return 1
"""
    test = "import pathlib, it\n\ndef test_a():\n    assert not pathlib.Path('/tmp/left-by-run').exists()\n"
    test += "    assert it.f() == 1\n"
    before = box.run("ls -A /tmp /var/tmp /dev/shm; ps ax -o args | grep -c '[s]leep 1000'").output
    report = supervised(box, {"it.py": code}, test, "test_a")
    assert outcomes(report) == {"test_a": "passed"}, report
    assert box.run("ls -A /tmp /var/tmp /dev/shm; ps ax -o args | grep -c '[s]leep 1000'").output == before


def test_parts_are_measured(box: Sandbox) -> None:
    report = supervised(box, {}, "def test_a():\n    assert 1 == 1\n", "test_a")
    assert set(report.parts) == {"upload", "import", "fork", "tests", "genuine", "twins", "cpu", "rest"}
    assert report.parts["genuine"] + report.parts["twins"] <= report.parts["tests"] < report.seconds
    assert report.notes == []


def test_the_agents_own_test_is_not_believed(box: Sandbox) -> None:
    box.write_file(f"{ROOT}/test_own.py", b"def test_a():\n    assert True\n")
    report = run_tests(box, root=ROOT, tests=Tests(), names=["test_own.py::test_a"], changed=["test_own.py"])
    assert report.results["test_own.py::test_a"].outcome == "unbelieved"


def test_a_file_that_looked_at_frames_before_may_go_on(box: Sandbox) -> None:
    code = "import sys\n\ndef name():\n    return sys._getframe(1).f_globals['__name__']\n"
    test = "import it\n\ndef test_a():\n    assert it.name() == __name__\n"
    assert supervised(box, {"it.py": code}, test, "test_a").violations
    box.run("git add it.py; git -c user.name=a -c user.email=a@b.c commit -qm it")
    report = supervised(box, {"it.py": code + "\n\nx = 1\n"}, test, "test_a")
    assert outcomes(report) == {"test_a": "passed"}, report


def test_toolkit_is_for_the_agent_too(box: Sandbox) -> None:
    """pytest by the .pth file, and no second copy where the interpreter has one."""
    box.write_file("/tmp/toolkit.tar", toolkit_archive())
    result = box.run(
        f"PIVOTGYM_TOOLKIT=/tmp/toolkit.tar bash -c {shlex.quote(INSTALL)} && cd / && python3 -m pytest --version"
    )
    assert result.status == 0, result
    assert result.output.startswith("pytest "), result
    assert box.run("python3 -c 'import pytest; print(pytest.__file__)'").output.startswith(TOOLKIT)


def test_needs_root(ready: Snapshot) -> None:
    backend = get_backend("bubblewrap")
    made = backend.load(ready, config=ready.config.model_copy(update={"user": 1000}))
    try:
        with pytest.raises(BadInput, match="root"):
            run_tests(made, root=ROOT, tests=Tests(), names=["test_x.py"], changed=[])
    finally:
        made.stop()


def test_on_docker() -> None:
    needs.require("docker", "docker")
    from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE

    try:
        made = get_backend("docker").start(SandboxConfig(image=DEFAULT_IMAGE, workdir=ROOT))
    except SandboxUnavailable as error:
        needs.missing(str(error))
        raise
    try:
        code = "def f(): return 1"
        test = "import it\n\ndef test_a():\n    assert it.f() == 1\n\ndef test_b():\n    assert it.f() == 2\n"
        report = supervised(made, {"it.py": code}, test, "test_a", "test_b")
        assert outcomes(report) == {"test_a": "passed", "test_b": "failed"}, report
        assert report.notes == []
        code = "class A:\n    def __eq__(self, other): return True\ndef f(): return A()\n"
        report = supervised(made, {"it.py": code}, test, "test_a", "test_b")
        assert outcomes(report) == {"test_a": "unbelieved", "test_b": "unbelieved"}, report
    finally:
        made.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("project", "needed"),
    [("itsdangerous==2.2.0", ["freezegun"]), ("marshmallow==3.21.3", ["simplejson", "pytz", "packaging"])],
)
def test_real_projects_are_believed(box: Sandbox, tmp_path: Path, project: str, needed: list[str]) -> None:
    """Their own tests, with every file of theirs counted as the agent's and as new."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    loaded = subprocess.run(
        [*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", str(tmp_path), project], capture_output=True
    )
    if loaded.returncode:
        needs.missing(f"{project} cannot be downloaded")
    subprocess.run([*pip, "install", "--no-compile", "-t", str(tmp_path / "site"), *needed], check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    folder = tmp_path / archive.name.removesuffix(".tar.gz")
    subprocess.run([*pip, "install", "--no-compile", "--no-deps", "-t", str(tmp_path / "own"), str(folder)], check=True)
    box.upload(tmp_path / "site", "/opt/site")
    (metadata,) = (tmp_path / "own").glob("*.dist-info")
    box.upload(metadata, f"/opt/site/{metadata.name}")
    changed, files = [], {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name.startswith("tests/"):
            files[name] = path.read_text()
        elif path.is_file():
            box.write_file(f"{ROOT}/{name}", path.read_bytes())
            changed += [name] if name.endswith(".py") else []
    box.run("echo /testbed/src > $(python3 -c 'import site; print(site.getsitepackages()[0])')/own.pth")
    box.run("echo /opt/site >> $(python3 -c 'import site; print(site.getsitepackages()[0])')/own.pth")
    names = [name for name in files if Path(name).name.startswith("test_") and "mypy" not in name]
    assert len(names) >= 5
    tests = Tests(files=files, timeout=400)
    report = run_tests(box, root=ROOT, tests=tests, names=names, changed=changed, original={}, twins=2)
    assert report.violations == []
    assert {name: result for name, result in report.results.items() if result.outcome != "passed"} == {}
