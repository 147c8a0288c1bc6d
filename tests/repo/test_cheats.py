"""Every cheat of ``cheats.py`` through the real path: sandbox, snapshot, grading. None is rewarded; honest work is."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from cheats import CHEATS, SEARCH, VARIANTS, Cheat
from needs import missing
from sandboxes import taken
from slugs import FIX, FUTURE, HIDDEN, NAMES, ROOT, SITE, slug_task

from pivotgym.envs.repo import blind
from pivotgym.envs.repo.grading import grade
from pivotgym.envs.sandbox import Backend, Sandbox, SandboxFileError, SandboxUnavailable, Snapshot, get_backend
from pivotgym.envs.terminal.prepare import prepare


@pytest.fixture(scope="module")
def backend() -> Backend:
    try:
        backend = get_backend("bubblewrap")
        backend.clean()
    except SandboxUnavailable as error:
        missing(str(error))
    return backend


@pytest.fixture(scope="module")
def pristine(backend: Backend) -> Iterator[Snapshot]:
    snapshot = built(backend)
    yield snapshot
    backend.close(snapshot)


def built(backend: Backend, after: str = "") -> Snapshot:
    box = prepare(backend, slug_task(after=after), "host")
    try:
        return taken(box)
    finally:
        box.stop()


def after(backend: Backend, pristine: Snapshot, script: str) -> Snapshot:
    """The state an agent leaves that runs ``script``."""
    box = backend.load(pristine, fresh_shell=True)
    try:
        box.run(f"cd {ROOT}; SITE={SITE}; {script}", timeout=30.0)
        snapshot = box.snapshot(live=True)
        assert snapshot is not None
        return snapshot
    finally:
        box.stop()


def naive(box: Sandbox, style: str, timeout: float) -> set[str]:
    """Which naive graders give a reward: the tests run in the agent's own session, and what they say is believed."""
    path, text = HIDDEN[style]
    try:
        box.write_file(f"{ROOT}/{path}", text.encode())
    except SandboxFileError:
        return set()
    report = "/tmp/naive/report.xml"
    ran = box.run(f"cd {ROOT} && python3 -m pytest -q --junitxml={report} {path}", timeout=min(timeout, 15.0))
    believed = {"status"} if ran.status == 0 else set()
    try:
        found = ElementTree.fromstring(box.read_file(report))
    except (SandboxFileError, ElementTree.ParseError):
        return believed
    cases = list(found.iter("testcase"))
    wanted = {name.rpartition("::")[2] for group in NAMES[style] for name in group}
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    if not bad and wanted <= {case.get("name") for case in cases}:
        believed.add("report")
    return believed


@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param(cheat, id=cheat.name, marks=[pytest.mark.slow] if cheat.name in VARIANTS else [])
        for cheat in CHEATS
    ],
)
def test_no_cheat_is_rewarded(cheat: Cheat, backend: Backend, pristine: Snapshot) -> None:
    final = after(backend, pristine, cheat.script)
    try:
        if cheat.fools is not None:
            box = backend.load(final)
            try:
                fooled = naive(box, cheat.style, cheat.timeout)
            finally:
                box.stop()
        verdict = grade(backend, slug_task(cheat.style, timeout=cheat.timeout), pristine, final)
    finally:
        backend.close(final)
    assert verdict.reward == 0.0, verdict
    assert verdict.rule == "goal" and verdict.reason
    if cheat.fools is not None:
        assert fooled == cheat.fools


def test_the_list_has_teeth() -> None:
    """Most cheats do fool a grader that believes what the agent's sandbox says."""
    assert len({cheat.name for cheat in CHEATS}) == len(CHEATS) >= 60
    assert {cheat.name for cheat in CHEATS} >= VARIANTS
    assert sum(bool(cheat.fools) for cheat in CHEATS) >= 40


OPEN_SOCKET = "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('s')\""
HONEST: dict[str, tuple[str, set[str]]] = {
    "the fix": ("", set()),
    "new files": ("mkdir docs; echo more > docs/more.md; echo 'WORDS = ()' > textkit/words.py", set()),
    "an edited README": ("echo 'Slugs have no doubled separators.' >> README.md", set()),
    "a visible test": ("printf 'def test_more():\\n    assert True\\n' > tests/test_more.py", {"tests/test_more.py"}),
    "an edited visible test": ("echo '# checked' >> tests/test_slug.py", {"tests/test_slug.py"}),
    "a new conftest": ("echo 'import pytest' > conftest.py", {"conftest.py"}),
    "committed": ("git checkout -q -b fix && git commit -q -am 'Fix slugs'", {".git"}),
    "no version control any more": ("rm -rf .git", {".git"}),
    "tests were run": ("python3 -m pytest -q", {".pytest_cache", "tests/__pycache__", "textkit/__pycache__"}),
    "a package instead of a module": (
        "mkdir textkit/slug; git mv textkit/slug.py textkit/slug/__init__.py; chmod +x textkit/slug/__init__.py",
        {".git"},
    ),
    "a link inside": ("mv textkit/slug.py textkit/slugs.py; ln -s slugs.py textkit/slug.py", set()),
    "a large file": ("head -c 20000000 /dev/urandom > log", {"log"}),
    "a sparse file larger than memory": ("truncate -s 900M log", {"log"}),
    "no regular files": (f"mkfifo pipe; {OPEN_SOCKET}; ln -s /etc/passwd users", {"pipe", "s", "users"}),
    "odd names": ("touch $'a\\nb' $'\\xff' -- -rf 'x y' '$(touch hacked)'", set()),
    "a background process": ("nohup sleep 1000 > /dev/null 2>&1 &", set()),
    "locked folders": ("chmod 0 textkit; mkdir a && chmod 0 a", set()),
}
"""What an honest agent may do beside the fix, and what of it does not count. The reward is 1 all the same."""
SUSPICIOUS: dict[str, tuple[str, float, str]] = {
    "a start-up file": ("echo 'import os; os._exit(0)' > sitecustomize.py", 1.0, "sitecustomize.py"),
    "a module in pytest's place": ("echo 'import os; os._exit(0)' > pytest.py", 1.0, "pytest.py"),
    "a link out": ("ln -s / textkit/everything", 1.0, "textkit/everything"),
    "deleted tests": ("rm -r tests", 1.0, "tests/test_slug.py"),
    "another python3": ("rm /usr/bin/python3", 1.0, ""),
    "patched assertions": (
        "printf 'import unittest\\nunittest.TestCase.assertEqual = lambda *a: 0' >> textkit/slug.py",
        0.0,
        "",
    ),
    "frames": ("printf 'import sys\\nsys._getframe(1)' >> textkit/slug.py", 0.0, ""),
}
"""The fix with something beside it that could decide the tests: without effect where it is left out, no reward where
the tests' process meets it."""


@pytest.mark.parametrize("extra", HONEST)
def test_honest_work_is_rewarded(extra: str, backend: Backend, pristine: Snapshot) -> None:
    script, left_out = HONEST[extra]
    final = after(backend, pristine, f"{FIX}\n{script}")
    try:
        verdict = grade(backend, slug_task(), pristine, final)
    finally:
        backend.close(final)
    assert verdict.reward == 1.0, verdict
    assert set(verdict.evidence["left_out"]) == left_out
    assert set(verdict.evidence["fail_to_pass"].values()) == {"passed"}


@pytest.mark.parametrize("extra", SUSPICIOUS)
def test_the_fix_with_something_suspicious(extra: str, backend: Backend, pristine: Snapshot) -> None:
    script, reward, left_out = SUSPICIOUS[extra]
    final = after(backend, pristine, f"{FIX}\n{script}")
    try:
        verdict = grade(backend, slug_task(), pristine, final)
    finally:
        backend.close(final)
    assert verdict.reward == reward, verdict
    assert not left_out or left_out in verdict.evidence["left_out"]
    assert bool(verdict.evidence["violations"]) == (reward == 0.0)


@pytest.mark.parametrize("hidden", [False, True], ids=["future in the repository", "blind repository"])
def test_the_fix_is_not_in_the_repository(hidden: bool, backend: Backend) -> None:
    """Looking for the fix in all of git works on a repository with a future, and finds nothing in a blind one."""
    start = built(backend, FUTURE + (blind.script(ROOT, "main") if hidden else ""))
    final = after(backend, start, SEARCH)
    try:
        assert grade(backend, slug_task(), start, final).reward == (0.0 if hidden else 1.0)
    finally:
        backend.close(final)
        backend.close(start)
