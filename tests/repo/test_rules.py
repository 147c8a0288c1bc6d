"""Which paths of a change may come, by their names and by what the tests use."""

from __future__ import annotations

import pytest

from pivotgym.envs.repo.helpers import modules_named
from pivotgym.envs.repo.rules import Rules, is_known_module, leads_outside, modules_of


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("textkit/slug.py", None),
        ("textkit/testing.py", None),
        ("docs/conf.py", None),
        ("setup.py", None),
        (".gitignore", None),
        (".gitattributes", None),
        ("environment/a.py", None),
        ("textkit/build/a.py", None),
        ("package/tests/helpers.py", None),  # no test that decides lives there
        (".git", ".git"),
        ("vendor/x/.git/config", "vendor/x/.git"),
        (".GIT/config", ".GIT"),
        ("a/__pycache__/b.cpython-311.pyc", "a/__pycache__"),
        ("textkit/slug.pyc", "textkit/slug.pyc"),
        ("textkit/slug.cpython-311-x86_64-linux-gnu.so", "textkit/slug.cpython-311-x86_64-linux-gnu.so"),
        ("lib/x.so.1.2", "lib/x.so.1.2"),
        ("conftest.py", "conftest.py"),
        ("a/b/conftest.py", "a/b/conftest.py"),
        (".pytest.ini", ".pytest.ini"),
        ("pytest.toml", "pytest.toml"),
        ("tox.ini", "tox.ini"),
        ("setup.cfg", "setup.cfg"),
        ("pyproject.toml", "pyproject.toml"),
        ("a/sitecustomize.py", "a/sitecustomize.py"),
        ("usercustomize/__init__.py", "usercustomize"),
        ("x.pth", "x.pth"),
        ("x.egg-info/entry_points.txt", "x.egg-info"),
        ("x-1.dist-info/RECORD", "x-1.dist-info"),
        (".venv/bin/python", ".venv"),
        ("venv/bin/python", "venv/bin/python"),
        ("build/lib/a.py", "build/lib/a.py"),
        ("tests/test_slug.py", "tests/test_slug.py"),
        ("tests/data/table.csv", "tests/data/table.csv"),
        ("tests", "tests"),
        ("textkit/test_new.py", "textkit/test_new.py"),
        ("textkit/slug_test.py", "textkit/slug_test.py"),
        ("plain/checks.py", "plain/checks.py"),
        ("plain", "plain"),
        ("app/tests.py", "app/tests.py"),
    ],
)
def test_which_paths_may_change(path: str, what: str | None) -> None:
    refusal = Rules.of(["tests/test_slug.py", "./plain/checks.py"]).refusal(path)
    assert (None if refusal is None else refusal[0]) == what


@pytest.mark.parametrize(
    ("tests", "path", "refused"),
    [
        ("Tests/test_image.py", "Tests/helper.py", True),
        ("testsuite/test_a.py", "testsuite/base.py", True),
        ("pkg/Testing/test_a.py", "pkg/Testing/data.json", True),
        ("tests/test_a.py", "testdata/out.txt", True),
        ("tests/test_a.py", "pkg/test_data/nested/out.txt", True),
        ("tests/test_a.py", "pkg/test-resources/a.py", True),
        ("tests/test_a.py", "fixtures/rows.json", True),
        ("tests/test_a.py", "pkg/snapshots/core.py", False),
        ("tests/test_a.py", "pkg/data/rows.json", False),
        ("tests/test_a.py", "examples/expected.json", False),
    ],
)
def test_what_tests_use_stays(tests: str, path: str, refused: bool) -> None:
    assert (Rules.of([tests]).refusal(path, existed=True) is not None) == refused
    assert Rules.of([tests], reference=[path]).refusal(path, existed=True) is None


def test_new_data_may_come() -> None:
    rules = Rules.of(["tests/test_a.py"])
    assert rules.refusal("testdata/new.txt") is None and rules.refusal("tests/new.txt") is not None


def test_what_a_reference_changes_may_not_configure_or_replace_the_tests() -> None:
    paths = ["conftest.py", "tests/test_a.py", "pkg/a.so", "pkg/test.py", "tests/helper.py"]
    rules = Rules.of(["tests/test_a.py"], reference=paths)
    assert [rules.refusal(path) is None for path in paths] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("text", "path", "names"),
    [
        ("import a.b.testing as t, c\nt.same(1)", "x.py", {"a/b/testing", "c", "a/b/testing/same"}),
        ("from a.tests import (\n    helper,\n    more as m,\n)\nm.x.y()", "x.py",
         {"a/tests", "a/tests/helper", "a/tests/more", "a/tests/more/x/y"}),
        ("from . import base\nfrom ..util import f", "p/q/r.py", {"/p/q", "/p/q/base", "/p/util", "/p/util/f"}),
        ("pytest_plugins = ['pkg.testing.plugin']", "x.py", {"pkg/testing/plugin"}),
    ],
)  # fmt: skip
def test_modules_that_a_text_names(text: str, path: str, names: set[str]) -> None:
    assert modules_named(text, path) == names


def test_a_build_of_the_tasks_own_may_bring_extensions() -> None:
    rules = Rules.of(["tests/test_slug.py"], artefacts=True)
    assert rules.refusal("textkit/fast.so") is None and rules.refusal("build/lib/fast.o") is None
    assert rules.refusal("textkit/fast.pyc") is not None and rules.refusal("conftest.py") is not None


@pytest.mark.parametrize(
    ("path", "target", "outside"),
    [
        ("a", "b", False),
        ("a/b", "../c/d", False),
        ("a/b/c", "../../d", False),
        ("a", ".", False),
        ("a", "/testbed/b", True),
        ("a", "..", True),
        ("a/b", "../..", True),
        ("a", "b/../../c", True),
        ("a/b", "c/../d", True),  # where c is a link, that is somewhere else
        ("a", ".git/hooks", True),
    ],
)
def test_which_links_lead_out(path: str, target: str, outside: bool) -> None:
    assert leads_outside(path, target) == outside


def test_which_paths_make_top_level_modules() -> None:
    roots = {"", "src", "tests"}
    assert modules_of("json.py", roots) == {("", "json")}
    assert modules_of("src/json/__init__.py", roots) == {("src", "json")}
    assert modules_of("tests/re.cpython-311-x86_64-linux-gnu.so", roots) == {("tests", "re")}
    assert modules_of("json", roots, link=True) == {("", "json")}
    assert not modules_of("json/data.txt", roots) and not modules_of("pkg/json.py", roots)
    assert is_known_module("json") and is_known_module("_pytest") and not is_known_module("textkit")
