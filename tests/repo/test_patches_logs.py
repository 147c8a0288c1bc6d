"""Unified diffs, logs of test runs, and errors planted in test files: against git, pytest and its reports."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from needs import missing

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.log_parsers import get_log_parser
from pivotgym.envs.repo.patches import apply_patch, patch_paths
from pivotgym.envs.repo.planted import plant
from pivotgym.envs.sandbox import Backend, SandboxConfig, SandboxUnavailable, get_backend


@pytest.fixture(scope="module")
def backend() -> Backend:
    try:
        backend = get_backend("bubblewrap")
        backend.clean()
    except SandboxUnavailable as error:
        missing(str(error))
    return backend


LOGGED = """
import pytest

@pytest.mark.parametrize("text", ["plain", "a - b", "[x] - y", "a b"])
def test_passes(text): print("FAILED test_log.py::test_passes[plain] - printed")

@pytest.mark.parametrize("text", ["a - b"])
def test_fails(text): assert text == "other - text"

@pytest.fixture
def broken(): raise ValueError("no - fixture")

def test_error(broken): pass
def test_both(request): request.addfinalizer(lambda: 1 / 0)
def test_skipped(): pytest.skip("why")
@pytest.mark.xfail
def test_expected(): assert False
@pytest.mark.xfail
def test_unexpected(): pass
class TestGroup:
    def test_inside(self): pass
"""


def test_the_log_of_pytest(tmp_path: Path) -> None:
    """Against pytest's own report, with outcomes and messages of every kind."""
    (tmp_path / "test_log.py").write_text(LOGGED)
    options = ["-rA", "--color=yes", "--junitxml=report.xml", "-p", "no:cacheprovider"]
    run = [sys.executable, "-m", "pytest", *options, "test_log.py"]
    log = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    found = get_log_parser("pytest")(log)
    expected = {}
    for case in ElementTree.parse(tmp_path / "report.xml").iter("testcase"):
        kinds = {child.tag for child in case if child.tag in ("failure", "error", "skipped")}
        group = "::TestGroup" if case.get("classname") == "test_log.TestGroup" else ""
        outcome = {"failure": "failed", "error": "error", "skipped": "skipped"}.get(min(kinds, default=""), "passed")
        name = f"test_log.py{group}::{case.get('name')}"
        expected[name] = "error" if "error" in (outcome, expected.get(name)) else outcome
    del expected["test_log.py::test_skipped"]  # the summary gives its place, not its name
    expected |= {"test_log.py::test_expected": "xfailed", "test_log.py::test_unexpected": "xpassed"}
    assert found == expected and len(found) == 10


def test_of_two_summaries_the_last_one_counts() -> None:
    head = "=========================== short test summary info ============================"
    log = f"{head}\nPASSED a.py::test_a\n{head}\nPASSED a.py::test_b\nFAILED a.py::test_b - no\n"
    assert get_log_parser("pytest")(log) == {"a.py::test_b": "failed"}
    assert get_log_parser("pytest")("PASSED a.py::test_a\n") == {}


def test_planted_errors(tmp_path: Path) -> None:
    """Every test fails with them and goes on as before without them, whatever its file looks like."""
    text = (
        "# coding: latin-1\nimport unittest\n\n\ndef test_plain():\n\tassert True\n\n\n"
        'class Case(unittest.TestCase):\n    def test_said(self):\n        """A test\n        with words."""\n'
        "        @staticmethod\n        def inner(): return '\u00e9'\n        self.assertEqual(len(inner()), 1)\n\x0c\n"
        "    def test_line(self): pass\n    def helper(self):\n        raise ValueError\n"
    )
    for wrong, failing in ((False, set()), (True, {"test_plain", "test_said"})):
        planted = plant({"a/tests/test_it.py": text, "b.py": "def test_x(:\n"}, wrong=wrong)
        (tmp_path / "test_it.py").write_bytes(planted.files["a/tests/test_it.py"].encode("latin-1"))
        subprocess.run(
            [sys.executable, "-m", "pytest", "--junitxml=report.xml", "-p", "no:cacheprovider"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        cases = list(ElementTree.parse(tmp_path / "report.xml").iter("testcase"))
        assert len(cases) == 3
        assert {case.get("name") for case in cases if case.find("failure") is not None} == failing
    assert planted.files["b.py"] == "def test_x(:\n"
    names = {
        "a/tests/test_it.py::test_plain[1-2]": True,
        "a/tests/test_it.py::Case::test_said": True,
        "test_said (tests.test_it.Case)": True,
        "test_said (test_it.Case.test_said)": True,
        "A test": True,
        "test_plain": True,
        "a/tests/test_it.py::Case::test_line": False,
        "other.py::test_plain": False,
        "test_said (tests.test_other.Case)": False,
        "Another test": False,
    }
    assert {name: planted.holds(name) for name in names} == names


# Patches ---------------------------------------------------------------------------------------------------------


def diff(old: str, new: str, path: str) -> str:
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"a/{path}", f"b/{path}")
    return "".join(lines)


def test_paths_of_real_patches(shared_data: Path, tmp_path: Path) -> None:
    """Against what git counts in the patches of SWE-bench's rows."""
    rows = json.loads((shared_data / "swe" / "swe-bench-lite-test.json").read_text())
    for patch in [row[key] for row in rows for key in ("patch", "test_patch")]:
        count = ["git", "apply", "--numstat", "-z", "-"]
        said = subprocess.run(count, input=patch, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert patch_paths(patch) == sorted(line.split("\t")[2] for line in said.stdout.split("\0") if line)


def test_paths_of_patches_of_every_kind() -> None:
    patch = (
        "From: someone\n---\n 1 file\n"
        "diff --git a/old name b/new name\nsimilarity index 100%\nrename from old name\nrename to new name\n"
        "diff --git a/empty b/empty\nnew file mode 100644\nindex 0000000..e69de29\n"
        'diff --git "a/\\303\\244.txt" "b/\\303\\244.txt"\n--- "a/\\303\\244.txt"\n+++ "b/\\303\\244.txt"\n'
        "@@ -1,2 +1 @@\n--- a/no header\n-x\n+++ b/neither\n"
        "--- /dev/null\n+++ b/made.py\t2024-01-01 00:00:00\n@@ -0,0 +1 @@\n+x\n"
        "--- plain/gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    )
    assert patch_paths(patch) == ["empty", "made.py", "new name", "old name", "plain/gone.py", "ä.txt"]
    assert patch_paths(" \n") == []
    for bad in ("no patch", "--- a/../../x\n+++ b/../../x\n", "--- /etc/passwd\n+++ /etc/passwd\n"):
        with pytest.raises(BadInput, match="patch"):
            patch_paths(bad)


@pytest.mark.parametrize("above", ["git init -q /work", "true"], ids=["a repository above", "no repository"])
def test_applying_patches(above: str, backend: Backend) -> None:
    """As git does; inexact context is found; what does not apply says so."""
    old = "".join(f"line {number}\n" for number in range(20))
    box = backend.start(SandboxConfig(workdir="/work/x y"))
    try:
        box.run(above)
        box.write_file("/work/x y/a.txt", old.encode())
        box.write_file("/work/x y/b.txt", b"one\r\ntwo\r\n")
        apply_patch(box, diff(old, old.replace("line 3\n", "LINE 3\n"), "a.txt"), "/work/x y")
        assert b"LINE 3" in box.read_file("/work/x y/a.txt")
        # The lines around are not quite these any more.
        shifted = old.replace("line 9\n", "line nine\n")
        apply_patch(box, diff(shifted, shifted.replace("line 12\n", "LINE 12\n"), "a.txt").rstrip("\n"), "/work/x y")
        assert b"LINE 12\n" in box.read_file("/work/x y/a.txt")
        apply_patch(box, diff("one\r\ntwo\r\n", "one\r\nzwei\r\n", "b.txt"), "/work/x y")
        assert box.read_file("/work/x y/b.txt") == b"one\r\nzwei\r\n"
        apply_patch(box, "", "/work/x y")
        with pytest.raises(BadInput, match=r"reference.*does not apply"):
            apply_patch(box, diff("nothing\nlike\nit\n", "x\n", "a.txt"), "/work/x y", field="reference")
        assert set(box.tree("/work/x y")) <= {"", "a.txt", "b.txt", "a.txt.rej"}
    finally:
        box.stop()
