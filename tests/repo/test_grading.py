"""What of an agent's work is graded, and what the verdict says. The cheats have a file of their own."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterator

import pytest
from needs import missing
from sandboxes import taken
from slugs import FILES, FIX, HIDDEN, NAMES, REFERENCE, ROOT, slug_task

from pivotgym.envs.errors import BadInput, MissingExtra
from pivotgym.envs.repo.changes import Change, Item, loaded, read_change
from pivotgym.envs.repo.grading import grade, run_names
from pivotgym.envs.repo.log_parsers import register_log_parser
from pivotgym.envs.repo.patches import patched
from pivotgym.envs.repo.rules import Rules
from pivotgym.envs.repo.tasks import RepoTask, Tests
from pivotgym.envs.sandbox import Backend, SandboxUnavailable, Snapshot, get_backend
from pivotgym.envs.terminal.env import NoGoal
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
    box = prepare(backend, slug_task(), "host")
    snapshot = taken(box)
    box.stop()
    yield snapshot
    backend.close(snapshot)


@pytest.fixture(scope="module")
def fixed(backend: Backend, pristine: Snapshot) -> Iterator[Snapshot]:
    snapshot = patched(backend, pristine, REFERENCE, ROOT)
    yield snapshot
    backend.close(snapshot)


def state(backend: Backend, start: Snapshot, script: str) -> Snapshot:
    with loaded(backend, start) as box:
        result = box.run(f"cd {ROOT}; {script}")
        assert result.status == 0, result
        return taken(box)


def change_of(backend: Backend, start: Snapshot, script: str) -> Change:
    final = state(backend, start, script)
    try:
        return read_change(backend, start, final, ROOT, Rules.of(["tests/test_slug.py"]))
    finally:
        backend.close(final)


# The change ------------------------------------------------------------------------------------------------------


HELPERS = {
    "textkit/testutils.py": "from textkit.test_base import same\n",
    "textkit/test_base.py": "def same(one, two):\n    assert one == two\n",
    "textkit/testing.py": "WORDS = 1\n",
    "textkit/word_test.py": "def is_word(text): return text.isalpha()\n",
    "textkit/test_visible.py": "def test_it(): pass\n",
    "testdata/out.txt": "hello-world",
    "build/plans.py": "A = 1\n",
    "env/settings.py": "A = 1\n",
    "venv/pyvenv.cfg": "home = /usr\n",
    "venv/tool.py": "A = 1\n",
}
USES = """import pathlib

import textkit.testutils
from textkit import slugify


def test_repeated():
    textkit.testutils.same(slugify("Hello World"), "hello_world")


def test_ends():
    assert slugify("Hello World") == pathlib.Path("testdata/out.txt").read_text()
"""


def test_what_the_tests_use_and_what_only_looks_like_it(backend: Backend, pristine: Snapshot) -> None:
    """Helpers that deciding tests import, and data, stay; sources with names like tests' may change."""
    write = "; ".join(
        f"mkdir -p $(dirname {path}); printf %s {shlex.quote(text)} > {path}" for path, text in HELPERS.items()
    )
    start = state(backend, pristine, write)
    every = f"{FIX}\nfor f in {' '.join(HELPERS)}; do echo '# more' >> $f; done; rm testdata/out.txt; "
    every += "ln -s README.md testdata/out.txt"
    final = state(backend, start, every)
    cheat = state(backend, start, "echo 'def same(*a): pass' | tee textkit/test_base.py > textkit/testutils.py")
    moved = state(backend, start, "mkdir d; mv testdata d; echo worng > d/testdata/out.txt; ln -s d/testdata testdata")
    path = "tests/test_slug.py"
    task = slug_task(files={path: USES}, pass_to_pass=[])
    patch = diff(FILES[path], USES, path)
    try:
        taken = grade(backend, task, start, final)
        by_patch = grade(backend, slug_task(files={}, patch=patch, pass_to_pass=[]), start, final)
        allowed = grade(
            backend, task.model_copy(update={"reference": diff("a\n", "b\n", "textkit/test_base.py")}), start, final
        )
        kept = grade(backend, task, start, cheat)
        linked = grade(backend, task, start, moved)
    finally:
        for snapshot in (start, final, cheat, moved):
            backend.close(snapshot)
    stay = {"textkit/testutils.py", "textkit/test_base.py", "textkit/test_visible.py", "testdata/out.txt",
            "venv/pyvenv.cfg", "venv/tool.py"}  # fmt: skip
    for verdict in (taken, by_patch):
        assert set(verdict.evidence["left_out"]) == stay, verdict
        assert set(verdict.evidence["changed"]) == set(HELPERS) - stay | {"textkit/slug.py"}
        assert verdict.evidence["fail_to_pass"] == {f"{path}::test_repeated": "failed", f"{path}::test_ends": "passed"}
    assert "textkit/test_base.py" in allowed.evidence["changed"]
    assert set(kept.evidence["left_out"]) == {"textkit/test_base.py", "textkit/testutils.py"} and kept.reward == 0.0
    assert {"testdata", "testdata/out.txt"} <= set(linked.evidence["left_out"]), linked
    assert linked.evidence["fail_to_pass"][f"{path}::test_ends"] == "passed", linked


def test_names_of_doctests_do_not_protect_the_source(backend: Backend, pristine: Snapshot) -> None:
    final = state(backend, pristine, FIX)
    try:
        run = run_names(backend, slug_task(pass_to_pass=["textkit/slug.py::textkit.slug"]), pristine, final, [])
    finally:
        backend.close(final)
    assert set(run.change.items) == {"textkit/slug.py"} and not run.change.left_out


def test_what_a_change_holds(backend: Backend, pristine: Snapshot) -> None:
    change = change_of(
        backend,
        pristine,
        "rm -r README.md tests; chmod +x textkit/slug.py; mkdir -p new/deep empty; echo x > new/deep/file; "
        "touch /elsewhere; ln -s slug.py textkit/l; ln -s textkit linked; printf '\\xff\\0' > binary",
    )
    assert change.items == {
        "README.md": Item("absent", was="file"),
        "textkit/slug.py": Item("file", FILES["textkit/slug.py"].encode(), True, was="file"),
        "new/deep/file": Item("file", b"x\n"),
        "textkit/l": Item("link", target="slug.py"),
        "linked": Item("link", target="textkit"),
        "binary": Item("file", b"\xff\0"),
    }
    assert set(change.left_out) == {
        "tests",
        "tests/conftest.py",
        "tests/test_slug.py",
        "tests/test_slug_case.py",
    } and not (change.problem)


def test_folders_links_and_files_in_each_others_place(backend: Backend, pristine: Snapshot) -> None:
    """Whatever takes whatever's place, the fork has it, and nothing is written through a link."""
    script = (
        "mv textkit kept; ln -s kept textkit; rm README.md; mkdir README.md; echo x > README.md/x; "
        "rm -rf docs; echo 'import sys' > kept/more.py"
    )
    first = state(backend, pristine, "mkdir docs; echo a > docs/a; ln -s docs manual; git add -A; git commit -qm docs")
    final = state(
        backend, first, f"{script}; rm manual; mkdir manual; echo b > manual/b; {FIX.replace('textkit/', 'kept/')}"
    )
    try:
        verdict = grade(backend, slug_task(), first, final)
        assert verdict.reward == 1.0, verdict
        assert {"docs/a", "manual/b", "textkit", "textkit/slug.py", "README.md/x"} <= set(verdict.evidence["changed"])
    finally:
        backend.close(first)
        backend.close(final)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"cd / && rm -rf {ROOT}", "the repository's folder /testbed is gone"),
        (f"cd / && mv {ROOT} /t && ln -s /t {ROOT}", "the repository's folder /testbed is a link now"),
        ("for i in $(seq 4100); do echo $i > f$i; done", "the change has more than 4000 files"),
        ("for i in $(seq 10); do head -c 7000000 /dev/zero > f$i; done", "the change has more than 64 MiB"),
    ],
)
def test_a_change_that_cannot_be_taken_is_a_verdict(
    script: str, reason: str, backend: Backend, pristine: Snapshot
) -> None:
    final = state(backend, pristine, script)
    try:
        verdict = grade(backend, slug_task(), pristine, final)
    finally:
        backend.close(final)
    assert verdict.reward == 0.0 and verdict.reason == reason and verdict.evidence["problem"] == reason
    assert set(verdict.evidence["pass_to_pass"].values()) == {"not run"}


def test_a_module_of_the_images_packages_is_not_replaced(backend: Backend, pristine: Snapshot) -> None:
    """What the tests' interpreter can import stays what it is; a module of the repository's own may be new."""
    final = state(
        backend,
        pristine,
        f"{FIX}\necho 'raise SystemExit' > iniconfig.py; echo > fresh.py; mkdir src; echo > src/pluggy.py",
    )
    try:
        verdict = grade(backend, slug_task(), pristine, final)
    finally:
        backend.close(final)
    assert verdict.reward == 1.0, verdict
    assert set(verdict.evidence["left_out"]) == {"iniconfig.py", "src/pluggy.py"}
    assert set(verdict.evidence["changed"]) == {"fresh.py", "textkit/slug.py"}


# Verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["pytest", "unittest"])
def test_the_reference_earns_one_and_nothing_earns_none(
    style: str, backend: Backend, pristine: Snapshot, fixed: Snapshot
) -> None:
    task = slug_task(style)
    assert task.tests is not None
    right, wrong = grade(backend, task, pristine, fixed), grade(backend, task, pristine, pristine)
    assert right.reward == 1.0 and right.rule == "goal", right
    assert right.evidence["fail_to_pass"] == dict.fromkeys(task.tests.fail_to_pass, "passed")
    assert right.evidence["pass_to_pass"] == dict.fromkeys(task.tests.pass_to_pass, "passed")
    assert wrong.reward == 0.0 and "the repository was not changed" in wrong.reason
    assert wrong.reason.startswith(
        f"2 of {len(task.tests.fail_to_pass + task.tests.pass_to_pass)} tests that must pass"
    )
    assert wrong.evidence["pass_to_pass"] == dict.fromkeys(task.tests.pass_to_pass, "passed")
    assert "rock-----roll" in wrong.evidence["details"][task.tests.fail_to_pass[0]]
    json.dumps([right.model_dump(), wrong.model_dump()])


def test_what_worked_before_must_go_on(backend: Backend, pristine: Snapshot) -> None:
    final = state(backend, pristine, f"{FIX}\nsed -i 's/separator, text/\"-\", text/' textkit/slug.py")
    try:
        verdict = grade(backend, slug_task(), pristine, final)
    finally:
        backend.close(final)
    assert verdict.reward == 0.0
    assert verdict.reason == (
        "1 of 4 tests that must pass do not, 1 of them passed before: tests/test_slug.py::test_separator (failed)"
    )


def test_which_tests_pass_in_a_state(backend: Backend, pristine: Snapshot, fixed: Snapshot) -> None:
    names = ["tests/test_slug.py::test_ends", "tests/test_slug.py::test_simple", "tests/test_slug.py::test_no_such"]
    before, now = (run_names(backend, slug_task(), pristine, each, names) for each in (pristine, fixed))
    assert [before.passed(name) for name in names] == [False, True, False]
    assert [now.passed(name) for name in names] == [True, True, False]
    assert now.results[names[2]].outcome == "missing" and "textkit/slug.py" in now.change.items


def test_tests_may_come_as_a_patch(backend: Backend, pristine: Snapshot, fixed: Snapshot) -> None:
    path, text = HIDDEN["pytest"]
    patch = diff(FILES[path], text, path)
    task = slug_task(files={}, patch=patch)
    # An agent's own edit of the patched file does not keep the patch from applying.
    edited = state(backend, fixed, f"echo '# mine' > {path}")
    try:
        assert grade(backend, task, pristine, edited).reward == 1.0
    finally:
        backend.close(edited)
    assert grade(backend, task, pristine, pristine).reward == 0.0
    with pytest.raises(BadInput, match=r"tests\.patch.*does not apply"):
        grade(backend, slug_task(files={}, patch=diff("nothing\nlike\nit\n", "x\n", path)), pristine, fixed)


def test_no_tests_no_goal(backend: Backend, pristine: Snapshot) -> None:
    with pytest.raises(NoGoal):
        grade(backend, RepoTask(workdir=ROOT), pristine, pristine)
    with pytest.raises(NoGoal):
        grade(backend, slug_task(fail_to_pass=[], pass_to_pass=[]), pristine, pristine)
    with pytest.raises(BadInput, match=r"tests\.files.*outside of the repository"):
        grade(backend, slug_task(files={"../x": ""}), pristine, pristine)


def test_preparing_sees_the_change_but_decides_nothing(backend: Backend, pristine: Snapshot) -> None:
    """The preparation runs the agent's code as root: what that does outside of the repository is forgotten."""
    setup = (
        "import glob, os\n"
        "for path in glob.glob('/usr/bin/python3*'): os.remove(path)\n"
        "open('conftest.py', 'w').write('0/0')\n"
    )
    task = slug_task(prepare="echo MADE = $((6 * 7)) > textkit/made.py\n[ ! -e setup.py ] || python3 setup.py")
    change = f"{FIX}\necho 'import textkit.made' >> textkit/slug.py; cat > setup.py <<'EOF'\n{setup}EOF"
    final = state(backend, pristine, change)
    try:
        verdict = grade(backend, task, pristine, final)
    finally:
        backend.close(final)
    assert verdict.reward == 1.0, verdict
    assert "textkit/made.py" in verdict.evidence["changed"] and "conftest.py" not in verdict.evidence["changed"]
    broken = state(backend, pristine, f"{FIX}\necho 'import sys; sys.exit(3)' > setup.py")
    try:
        verdict = grade(backend, task, pristine, broken)
    finally:
        backend.close(broken)
    assert verdict.reward == 0.0 and "cannot be prepared with the change: ended with status 3" in verdict.reason
    with pytest.raises(BadInput, match=r"tests\.prepare.*fails without any change"):
        grade(backend, slug_task(prepare="exit 4"), pristine, pristine)


def test_whose_failure_it_is_that_pytest_gives_up(backend: Backend) -> None:
    """A usage error without any change is the task's; one that only the change brings is a verdict."""
    box = prepare(backend, slug_task(after="printf '[pytest]\\naddopts = --no-such' > pytest.ini"), "host")
    broken = taken(box)
    box.stop()
    box = prepare(backend, slug_task(after="echo 'import textkit' > conftest.py"), "host")
    start = taken(box)
    box.stop()
    changed = state(backend, broken, FIX)
    raising = state(backend, start, "echo 'import pytest; raise pytest.UsageError(1)' >> textkit/slug.py")
    try:
        for final in (broken, changed):
            with pytest.raises(BadInput, match=r"(?s)field tests: pytest cannot be used in this way.*--no-such"):
                grade(backend, slug_task(), broken, final)
        verdict = grade(backend, slug_task(), start, raising)
    finally:
        for snapshot in (broken, start, changed, raising):
            backend.close(snapshot)
    assert verdict.reward == 0.0 and "4 of 4 tests that must pass do not" in verdict.reason, verdict
    assert "UsageError" in next(iter(verdict.evidence["details"].values())), verdict


def test_a_mark_that_expects_a_failure_must_have_expected_it_before(backend: Backend, pristine: Snapshot) -> None:
    """What the code under test raises in its name is not the test's expectation."""
    path, text = HIDDEN["pytest"]
    head = "import pytest\n\nfrom textkit import slugify\n"
    never = '@pytest.mark.xfail(not slugify, reason="never")\ndef test_'
    always = "\n\n@pytest.mark.xfail\ndef test_known():\n    assert slugify('x') == 'y'\n"
    task = slug_task(
        files={path: head + text.replace("def test_", never) + always},
        pass_to_pass=[*NAMES["pytest"][1], f"{path}::test_known"],
    )
    fixed = state(backend, pristine, FIX)
    liar = state(backend, pristine, "printf 'import pytest\\nslugify = lambda *a: pytest.xfail()' >> textkit/slug.py")
    try:
        right, wrong = grade(backend, task, pristine, fixed), grade(backend, task, pristine, liar)
        whole = grade(backend, task.model_copy(update={"tests": _whole(task, path)}), pristine, fixed)
        fooled = grade(backend, task.model_copy(update={"tests": _whole(task, path)}), pristine, liar)
    finally:
        backend.close(fixed)
        backend.close(liar)
    assert right.reward == 1.0 and whole.reward == 1.0, (right, whole)
    assert wrong.reward == 0.0 and fooled.reward == 0.0, (wrong, fooled)
    assert set(wrong.evidence["fail_to_pass"].values()) == {"skipped"}, wrong
    assert wrong.evidence["pass_to_pass"] == {
        NAMES["pytest"][1][0]: "skipped", NAMES["pytest"][1][1]: "skipped", f"{path}::test_known": "passed",
    }, wrong  # fmt: skip


def _whole(task: RepoTask, path: str) -> Tests:
    """All tests of a file by the file's name."""
    assert task.tests is not None
    return task.tests.model_copy(update={"fail_to_pass": [path], "pass_to_pass": []})


# Commands and logs -----------------------------------------------------------------------------------------------


def command_task(command: str, **tests: object) -> RepoTask:
    return slug_task(runner="command", command=command, parser="pytest", **tests)


RUN = "python3 -m pytest -rA -p no:cacheprovider tests/test_slug.py"


def test_a_tasks_own_command(backend: Backend, pristine: Snapshot, fixed: Snapshot) -> None:
    task = command_task(RUN)
    assert grade(backend, task, pristine, fixed).reward == 1.0
    wrong = grade(backend, task, pristine, pristine)
    assert wrong.reward == 0.0 and wrong.evidence["fail_to_pass"]["tests/test_slug.py::test_ends"] == "failed"
    assert wrong.evidence["pass_to_pass"]["tests/test_slug.py::test_simple"] == "passed"
    late = grade(backend, command_task(f"{RUN}; sleep 100", timeout=3.0), pristine, fixed)
    assert late.reward == 0.0 and late.reason == "the tests' command did not end in time"
    with pytest.raises((BadInput, MissingExtra)):
        grade(backend, slug_task(runner="command", command=RUN, parser="no_such"), pristine, fixed)


FORGED = """cat >> textkit/slug.py <<'EOF'
import atexit, os
def forge():
    print("\\n=========================== short test summary info ============================")
    for name in ("simple", "separator", "repeated", "ends"):
        print("PASSED tests/test_slug.py::test_" + name, flush=True)
    os._exit(0)
atexit.register(forge)
EOF
"""


def test_a_forged_log_is_not_believed(backend: Backend, pristine: Snapshot) -> None:
    final = state(backend, pristine, FORGED)
    try:
        verdict = grade(backend, command_task(RUN), pristine, final)
    finally:
        backend.close(final)
    assert verdict.reward == 0.0
    assert set(verdict.evidence["fail_to_pass"].values()) == {"unbelieved"}, verdict


def test_a_log_that_breaks_its_parser_is_a_verdict(backend: Backend, pristine: Snapshot, fixed: Snapshot) -> None:
    register_log_parser("breaks", lambda log: {log.split("\0")[1]: "passed"})
    verdict = grade(backend, slug_task(runner="command", command=RUN, parser="breaks"), pristine, fixed)
    assert verdict.reward == 0.0 and "log cannot be read: IndexError" in verdict.reason


def test_an_expected_failure_counts_where_it_was_expected_before(backend: Backend, pristine: Snapshot) -> None:
    path, text = HIDDEN["pytest"]
    marked = text.replace("def test_separator", "@pytest.mark.xfail\ndef test_separator").replace("a_title", "b")
    marked = f"import pytest\n{marked}"
    fixed = state(backend, pristine, FIX)
    liar = state(
        backend, pristine, f"{FIX}\nprintf 'import pytest\\nslugify = lambda *a: pytest.xfail()' >> textkit/slug.py"
    )
    try:
        assert grade(backend, command_task(RUN, files={path: marked}), pristine, fixed).reward == 1.0
        verdict = grade(backend, command_task(RUN, files={path: marked}), pristine, liar)
        assert verdict.reward == 0.0
        assert verdict.evidence["pass_to_pass"] == {
            "tests/test_slug.py::test_simple": "skipped",
            "tests/test_slug.py::test_separator": "passed",
        }
    finally:
        backend.close(fixed)
        backend.close(liar)


def diff(old: str, new: str, path: str) -> str:
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"a/{path}", f"b/{path}")
    return "".join(lines)


# Docker ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_grading_on_docker() -> None:
    try:
        docker = get_backend("docker")
        docker.clean()
    except (SandboxUnavailable, MissingExtra) as error:
        missing(str(error))
    from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE

    box = prepare(docker, slug_task(), DEFAULT_IMAGE)
    start = taken(box)
    box.stop()
    states = {
        f"{FIX}\nln -s slug.py textkit/l; echo x > conftest.py": 1.0,
        "true": 0.0,
        "echo 'import os; os._exit(0)' >> textkit/slug.py": 0.0,
        "rm /usr/bin/python3 /bin/sh /bin/bash; rm -rf tests": 0.0,
        "cd /; rm -rf /testbed": 0.0,
    }
    for script, reward in states.items():
        with loaded(docker, start) as box:
            box.run(f"cd {ROOT}; {script}")
            final = box.snapshot(live=True)
        assert final is not None
        verdict = grade(docker, slug_task(), start, final)
        docker.close(final)
        assert verdict.reward == reward, (script, verdict)
    docker.close(start)
