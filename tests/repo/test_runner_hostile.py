"""Code under test that wants its tests to pass without being right: none of it is rewarded.

Every attack is what an agent could write into the module under test. Where it is meant to fool a plain
``python3 -m pytest``, it is shown to do so (exit status 0, or every test passed in the JUnit file), with the tests
lying in the repository as they would without the runner.
"""

from __future__ import annotations

import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import needs
import pytest
from runner_attacks import ATTACKS as OWN
from runner_attacks import Attack
from runner_evasions import EVASIONS
from runner_readers import READERS

from pivotgym.envs.repo.runner import Report, run_tests
from pivotgym.envs.repo.tasks import Tests
from pivotgym.envs.sandbox import Sandbox, SandboxConfig, SandboxFileError, SandboxUnavailable, Snapshot, get_backend

ROOT = "/testbed"
TESTS = """
import unittest

import mod

CASES = {"a": 6517}


def test_sum():
    expected = 7351
    assert mod.add(7000, 351) == expected


def test_text():
    assert mod.join("left", "right") == "left-right"


class TestMethods(unittest.TestCase):
    def test_method(self):
        self.assertEqual(mod.add(60, 4), 64)
"""
NAMES = ["test_it.py::test_sum", "test_it.py::test_text", "test_it.py::TestMethods::test_method"]
RIGHT = """
def add(a, b):
    return a + b


def join(a, b):
    return a + "-" + b
"""
WRONG = """
def add(a, b):
    return a - b


def join(a, b):
    return a + b
"""


ATTACKS = OWN | READERS | EVASIONS


@pytest.fixture(scope="module")
def ready() -> Iterator[Snapshot]:
    """A sandbox with pytest in it and an empty repository."""
    backend = get_backend("bubblewrap")
    try:
        box = backend.start(SandboxConfig(workdir=ROOT))
    except SandboxUnavailable as error:
        needs.missing(str(error))
        raise
    # The first run brings pytest.
    box.write_file(f"{ROOT}/empty.py", b"")
    run_tests(box, root=ROOT, tests=Tests(files={"test_x.py": "def test_x(): pass"}), names=["test_x.py"], changed=[])
    box.run(f"rm -rf {ROOT}/*; git init -q {ROOT}")
    snapshot = box.snapshot()
    assert snapshot is not None, box.incomplete
    box.stop()
    yield snapshot
    backend.close(snapshot)


def _box(ready: Snapshot, attack: Attack, code: str) -> Sandbox:
    box = get_backend("bubblewrap").load(ready, fresh_shell=True)
    box.write_file(f"{ROOT}/mod.py", code.encode())
    for path, text in attack.files.items():
        box.write_file(f"{ROOT}/{path}", textwrap.dedent(text).encode())
    return box


def _supervised(ready: Snapshot, attack: Attack, code: str) -> Report:
    box = _box(ready, attack, code)
    try:
        text = textwrap.dedent(attack.tests) or TESTS
        tests = Tests(files={attack.test_file: text}, timeout=attack.timeout)
        names = attack.names or ((attack.test_file,) if attack.tests else NAMES)
        return run_tests(box, root=ROOT, tests=tests, names=names, changed=["mod.py", *attack.files])
    finally:
        box.stop()


def _fooled(ready: Snapshot, attack: Attack, code: str) -> str:
    """What a plain run takes for success: ``junit`` (every test passed), ``status`` (exit status 0), or nothing."""
    box = _box(ready, attack, code)
    try:
        box.write_file(f"{ROOT}/{attack.test_file}", (textwrap.dedent(attack.tests) or TESTS).encode())
        command = f"python3 -m pytest -q -p no:cacheprovider --junitxml=/tmp/junit.xml {attack.test_file}"
        result = box.run(command, timeout=30)
        try:
            suite = ElementTree.fromstring(box.read_file("/tmp/junit.xml")).find("testsuite")
        except SandboxFileError:
            suite = None
        if (
            suite is not None
            and (suite.get("tests") == "3" if not attack.tests else int(suite.get("tests", "0")) > 0)
            and not any(int(suite.get(key, "1")) for key in ("failures", "errors", "skipped"))
        ):
            return "junit"
        return "status" if result.status in (0, None) and result.ending == "exit" else ""
    finally:
        box.stop()


CASES = """
import pytest
import mod

CASES = [(6100, 17, 6117), (300, 4, 304)]
NAMES = {"a": "left-right"}


@pytest.mark.parametrize("a, b, expected", CASES)
def test_sum(a, b, expected):
    assert mod.add(a, b) == expected


@pytest.mark.parametrize("name", list(NAMES.values()), ids=str)
@pytest.mark.parametrize("a, b", [("left", "right")])
class TestNames:
    def test_text(self, a, b, name):
        assert mod.join(a, b) == name
"""
SEARCH = """
import sys
def _all(thing, depth=0):
    if isinstance(thing, (list, tuple, set, dict)) and depth < 6:
        for item in thing.values() if isinstance(thing, dict) else thing:
            yield from _all(item, depth + 1)
    elif hasattr(thing, "pytestmark"):
        yield from _all([(mark.args, mark.kwargs) for mark in thing.pytestmark], depth + 1)
    else:
        yield thing
def _found(): return list(_all(dict(vars(sys.modules["test_it"]))))
def add(a, b):
    return next((n for n in _found() if isinstance(n, int) and n == a + b), 0)
def join(a, b):
    return next((n for n in _found() if isinstance(n, str) and n.startswith(a) and n.endswith(b)), "")
"""


@pytest.mark.parametrize(("code", "rewarded"), [(SEARCH, False), (RIGHT, True)])
def test_cases_cannot_be_looked_up(ready: Snapshot, code: str, rewarded: bool) -> None:
    """The tables of parametrized tests are nowhere in their modules when the tests run."""
    box = _box(ready, Attack(""), code)
    try:
        names = ["test_it.py::test_sum", "test_it.py::TestNames::test_text[left-right-left-right]"]
        tests = Tests(files={"test_it.py": CASES}, timeout=30)
        report = run_tests(box, root=ROOT, tests=tests, names=names, changed=["mod.py"])
        assert [report.passed(name) for name in names] == [rewarded] * 2, report
        box.write_file(f"{ROOT}/test_it.py", CASES.encode())
        assert box.run("python3 -m pytest -q -p no:cacheprovider test_it.py").status == 0
    finally:
        box.stop()


def test_right_code_is_rewarded(ready: Snapshot) -> None:
    report = _supervised(ready, Attack(""), RIGHT)
    assert [result.outcome for result in report.results.values()] == ["passed"] * 3, report
    assert report.violations == []


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_not_rewarded(ready: Snapshot, name: str) -> None:
    attack = ATTACKS[name]
    report = _supervised(ready, attack, WRONG + textwrap.dedent(attack.code))
    assert [result for result in report.results.values() if result.outcome == "passed"] == [], report
    if attack.flagged:
        assert any(attack.flagged in line for line in report.violations), report


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.fools])
def test_attack_works_on_a_plain_run(ready: Snapshot, name: str) -> None:
    attack = ATTACKS[name]
    assert _fooled(ready, attack, WRONG + textwrap.dedent(attack.code)) == attack.fools
