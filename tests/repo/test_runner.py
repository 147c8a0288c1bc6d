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
from runner_honest import HONEST, HONEST_TEST

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.runner import INSTALL, TOOLKIT, Report, run_tests, toolkit_archive
from pivotgym.envs.repo.runner.belief import Case, Run, judge
from pivotgym.envs.repo.runner.results import TestResult
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


def test_a_test_file_that_is_no_python_is_the_tasks_failure(box: Sandbox) -> None:
    """The change has no part in it. Data that looks like Python is another matter: tests read it."""
    with pytest.raises(BadInput, match=r"field tests\.files\.test_it\.py: .*SyntaxError"):
        supervised(box, {"it.py": "x = 1"}, "def test_a(:\n", "test_a")
    test = "import pathlib\n\ndef test_a():\n"
    test += "    assert (pathlib.Path(__file__).parent / 'data/bad.py').read_text() == 'def ('\n"
    report = supervised(box, {"it.py": "x = 1"}, test, "test_a", **{"data/bad.py": "def ("})
    assert outcomes(report) == {"test_a": "passed"}, report


@pytest.mark.parametrize("terms", [700, 2500])
def test_deep_expressions(box: Sandbox, terms: int) -> None:
    """Deeper than Python functions may call each other."""
    test = f"import sys, it\nX = {' + '.join(['1'] * terms)}\n\ndef test_a():\n    assert it.f(X) == {terms}\n"
    test += "\ndef test_limit():\n    assert sys.getrecursionlimit() == 1000\n"
    report = supervised(box, {"it.py": "def f(x): return x"}, test, "test_a", "test_limit")
    assert outcomes(report) == {"test_a": "passed", "test_limit": "passed"}, report
    assert report.violations == []
    report = supervised(box, {"it.py": "def f(x): return x + 1"}, test, "test_a")
    assert outcomes(report) == {"test_a": "failed"}, report


def test_what_cannot_be_prepared_is_the_tasks_failure(box: Sandbox) -> None:
    with pytest.raises(BadInput, match=r"field tests\.files: .*RecursionError"):
        supervised(box, {"it.py": "x = 1"}, f"X = {'-' * 5000}1\n\ndef test_a():\n    assert X\n", "test_a")


CONFIGURED = {
    "pytest.ini": "[pytest]\naddopts = -vx --failed-first --cache-clear --strict-config --strict-markers "
    "--cov pkg -n 2\ncache_dir = .cache\npythonpath = src\nfilterwarnings = error\nmarkers =\n    net: a mark\n",
    "pytest.toml": '[pytest]\naddopts = ["-xvs"]\npythonpath = ["src"]\nmarkers = ["net: a mark"]\n',
    "pyproject.toml": '[tool.pytest]\naddopts = ["-x", "--nf"]\npythonpath = ["src"]\nmarkers = ["net: a mark"]\n',
}


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_projects_own_configuration(box: Sandbox, name: str) -> None:
    box.write_file(f"{ROOT}/{name}", CONFIGURED[name].encode())
    test = "import pytest, it\n\ndef test_a():\n    assert it.f() == 2\n"
    test += "\n@pytest.mark.net\n@pytest.mark.flaky(reruns=2)\ndef test_b():\n    assert it.f() == 1\n"
    report = supervised(box, {"src/it.py": "def f(): return 1"}, test, "test_a", "test_b")
    assert outcomes(report) == {"test_a": "failed", "test_b": "passed"}, report
    assert report.failure is None and box.run(f"ls -A {ROOT}").output.split() == [".git", name, "src", "test_it.py"]


def test_pytest_that_gives_up_is_no_verdict(box: Sandbox) -> None:
    """Whose failure it is shows without the change, see the grading."""
    box.write_file(f"{ROOT}/pytest.ini", b"[pytest]\naddopts = --no-such-option\n")
    report = supervised(box, {"it.py": "x = 1"}, "def test_a():\n    assert 1 == 1\n", "test_a")
    assert isinstance(report.failure, BadInput) and "--no-such-option" in str(report.failure), report
    assert outcomes(report) == {"test_a": "missing"}


@pytest.mark.slow
def test_a_slow_test_has_its_time_whatever_its_twins_took(box: Sandbox) -> None:
    test = "import time, it\n\ndef test_a():\n    assert it.f() == 1\n    time.sleep(12)\n"
    for _ in range(4):  # the order of the runs is drawn
        report = supervised(box, {"it.py": "def f(): return 1"}, test, "test_a")
        assert outcomes(report) == {"test_a": "passed"}, report


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


def test_names_cut_at_a_space(box: Sandbox) -> None:
    """As data sets have them that took the second word of a log's line; what is not reported stays missing."""
    test = """
import it
import pytest

WORDS = ["log(photon flux)", "log(photonX flux)", "[0, 1] [2, 3]", "a::b c", "a[0] d", "over", "no one", "no two"]

@pytest.mark.parametrize("a", WORDS)
def test_y(a):
    assert it.f(a)

@pytest.mark.parametrize("a", ["one good", "one bad", "one skipped", "two good", "two skipped", "one"])
def test_z(a):
    if "skipped" in a:
        pytest.skip("not here")
    assert it.f(a) and "bad" not in a

@pytest.mark.parametrize("a", ["end before", "end now", "end after"])
def test_end(a):
    assert it.f(a)
"""
    code = "import os\n\ndef f(a):\n    return a != 'no two' and (a != 'end now' or os._exit(0))\n"
    expected = {
        "test_y[log(photon": "passed",
        "test_y[[0,": "passed",
        "test_y[a::b": "passed",
        "test_y[a[0]": "passed",
        "test_y[no": "failed",
        "test_y[log(phot": "missing",
        "test_y[log(pho": "missing",
        "test_y[a": "missing",  # neither a::b nor a[0]: no space follows
        "test_y[over": "missing",
        "test_y[none": "missing",
        "test_y[": "missing",
        "test_z[one": "failed",
        "test_z[two": "skipped",
        "test_z[one]": "passed",
    }
    report = supervised(box, {"it.py": code}, test, *expected)
    assert outcomes(report) == expected, report
    assert report.results["test_it.py::test_y[no"].detail.startswith("test_it.py::test_y[no two]: ")
    assert report.results["test_it.py::test_z[one"].detail.startswith("test_it.py::test_z[one bad]: ")
    # The process ends in the middle: the first is reported, the other two are not.
    report = supervised(box, {"it.py": code}, test, "test_end[end", "test_y[log(photon")
    assert report.results["test_it.py::test_end[end"].outcome == "missing", report
    alone = supervised(box, {"it.py": code}, test, "test_y[log(photonX", "test_y[log(photon")
    assert outcomes(alone) == {"test_y[log(photonX": "passed", "test_y[log(photon": "passed"}


def test_a_cut_name_is_missing_where_one_of_its_cases_was_not_reported() -> None:
    genuine = Run(False, "exit 0", 1.0, "", collected=["t.py::test_y[a b]", "t.py::test_y[a c]", "t.py::test_y[aX]"])
    done = Case({"setup": "passed", "call": "passed", "teardown": "passed"}, finished=True)
    twin = Run(True, "exit 1", 1.0, "")
    genuine.cases["t.py::test_y[a b]"] = done
    assert judge("t.py::test_y[a", genuine, [twin]).outcome == "missing"
    genuine.cases["t.py::test_y[a c]"] = done
    assert judge("t.py::test_y[a", genuine, [twin]) == TestResult("t.py::test_y[a", "passed")
    genuine.cases["t.py::test_y[a c]"] = Case({"setup": "failed"}, finished=True)
    assert judge("t.py::test_y[a", genuine, [twin]).outcome == "error"


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


def test_tests_that_a_class_inherits(box: Sandbox) -> None:
    """From a file of the repository that does not come with the tests, and that the change leaves alone."""
    base = "import it\nfrom tests.more import More\n\nclass Base(More):\n    def test_sum(self):\n"
    base += "        assert it.add(1, 2) == self.value\n"
    more = "import unittest, it\n\nclass More:\n    def test_more(self):\n        assert it.add(2, 2) == 4\n"
    for path, text in {"tests/__init__.py": "", "tests/base.py": base, "tests/more.py": more}.items():
        box.write_file(f"{ROOT}/{path}", text.encode())
    test = "from tests import base\n\nclass TestIt(base.Base):\n    value = 3\n"
    names = ["test_it.py::TestIt::test_sum", "test_it.py::TestIt::test_more"]
    found = []
    equal = "class Any:\n    def __eq__(self, other): return True\n\ndef add(a, b): return Any()\n"
    for code in ("def add(a, b): return a + b\n", "def add(a, b): return a\n", equal):
        report = supervised(box, {"it.py": code}, test, "TestIt::test_sum", "TestIt::test_more")
        found.append([report.results[name].outcome for name in names])
    assert found == [["passed"] * 2, ["failed"] * 2, ["unbelieved"] * 2], report
    # Their own is not the change's to write.
    report = supervised(
        box, {"it.py": "def add(a, b): return 0", "tests/base.py": base.replace("it.add(1, 2)", "3")}, test
    )
    assert report.results["test_it.py"].outcome != "passed", report


LOADS = {
    "exec": "with open(path, 'rb') as f: exec(compile(f.read(), path, 'exec'), space)",
    "text": "exec(compile(open(path).read(), path, 'exec'), space)",
    "runpy": "import runpy; space = runpy.run_path(path)",
    "loader": """import importlib.machinery, importlib.util
    class Loader(importlib.machinery.SourceFileLoader): pass
    spec = importlib.util.spec_from_file_location('plug', path, loader=Loader('plug', path))
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); space = vars(module)""",
}


@pytest.mark.parametrize("way", LOADS)
def test_files_that_the_change_leaves_alone_may_be_compiled(box: Sandbox, way: str) -> None:
    box.write_file(f"{ROOT}/conf.py", b"KEY = 3\n")
    code = f"def load(path):\n    space = {{}}\n    {LOADS[way]}\n    return space['KEY']\n"
    test = "import os, it\n\ndef test_a():\n    here = os.path.dirname(__file__)\n"
    test += "    assert it.load(os.path.join(here, 'conf.py')) == 3\n"
    report = supervised(box, {"it.py": code}, test, "test_a")
    assert outcomes(report) == {"test_a": "passed"}, report
    # Under the name of such a file nothing else is compiled: names say whose code it is.
    other = code.replace("f.read()", "f.read() + b'# more'").replace(".read(),", ".read() + '# more',")
    if other != code:
        assert any("compile" in line for line in supervised(box, {"it.py": other}, test, "test_a").violations)


def test_a_file_that_shared_values_before_may_go_on(box: Sandbox) -> None:
    code = "import multiprocessing\n\ndef f():\n    return multiprocessing.Value('i', 3).value\n"
    test = "import it\n\ndef test_a():\n    assert it.f() == 3\n"
    assert any("ctypes" in line for line in supervised(box, {"it.py": code}, test, "test_a").violations)
    box.run("git add it.py; git -c user.name=a -c user.email=a@b.c commit -qm it")
    report = supervised(box, {"it.py": f"{code}\nx = 1\n"}, test, "test_a")
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
