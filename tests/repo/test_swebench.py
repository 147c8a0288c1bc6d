"""Rows in SWE-bench's form: nothing of them is lost, and faults have a place."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from needs import require
from planted import git
from swebench_samples import FILES, ROW, listed, stored

from pivotgym.envs.errors import BadInput, MissingExtra, NotRestorable
from pivotgym.envs.repo.log_parsers import get_log_parser
from pivotgym.envs.repo.repository import setup_of
from pivotgym.envs.repo.sources import open_repo_tasks
from pivotgym.envs.repo.swebench import SweBenchTasks, read_rows, reversed_patch
from pivotgym.envs.repo.swebench_specs import IMAGE_PYTHON, commands_of, directives
from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.terminal.tasks import TaskSet, register_task_set
from pivotgym.envs.trajectory import Task


def one(tmp_path: Path, row: dict[str, Any], **options: Any) -> RepoTask:
    path = tmp_path / "row.json"
    path.write_text(json.dumps([row]))
    (task,) = read_rows(path, **options)
    return RepoTask.of(task)


# Genuine rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_genuine_rows_come_without_loss(name: str, shared_data: Path) -> None:
    path = shared_data / "swe" / name
    rows, tasks = stored(path), open_repo_tasks(path).tasks()
    assert [task.id for task in tasks] == [row["instance_id"] for row in rows]
    for row, task in zip(rows, tasks, strict=True):
        spec = RepoTask.of(Task.model_validate_json(task.model_dump_json()))
        assert spec.definition["row"] == row and spec.set == "swe-bench"
        assert spec.repository.kind == "image"
        assert spec.image == f"swebench/sweb.eval.x86_64.{row['instance_id'].replace('__', '_1776_')}:latest"
        if "rollouts" in name:
            asked = row["responses_create_params"]["input"][1]["content"]
            assert spec.instruction and spec.instruction in asked and spec.tests is None
            continue
        assert spec.instruction == row["problem_statement"] and spec.reference == row["patch"]
        assert spec.repository.commit == row["base_commit"]
        assert spec.tests is not None and spec.tests.patch == row["test_patch"]
        assert spec.tests.fail_to_pass == listed(row["FAIL_TO_PASS"])
        assert spec.tests.pass_to_pass == listed(row["PASS_TO_PASS"])
        own = row["repo"] in ("django/django", "sympy/sympy")
        assert spec.tests.runner == ("command" if own else "pytest")
        assert spec.tests.python == IMAGE_PYTHON


def test_projects_with_a_runner_of_their_own(shared_data: Path) -> None:
    tests = {task.id: RepoTask.of(task).tests for task in open_repo_tasks(shared_data / "swe" / FILES[1]).tasks()}
    django, sympy = tests["django__django-16255"], tests["sympy__sympy-13031"]
    assert django is not None and sympy is not None
    assert "./tests/runtests.py" in django.command and "sitemaps_tests.test_http sitemaps_tests.urls" in django.command
    assert "bin/test" in sympy.command and sympy.command.endswith("sympy/matrices/tests/test_sparse.py")
    assert (django.parser, sympy.parser) == ("parse_log_django", "parse_log_sympy")
    assert get_log_parser(django.parser) and get_log_parser(sympy.parser)


# Faults -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"instance_id": None}, "instance_id", "missing"),
        ({"instance_id": 7}, "instance_id", "no text but int"),
        ({"problem_statement": ["a"]}, "problem_statement", "no text but list"),
        ({"FAIL_TO_PASS": "[1]"}, "FAIL_TO_PASS", "list of texts"),
        ({"PASS_TO_PASS": "[not a list"}, "PASS_TO_PASS", "list of texts"),
        ({"FAIL_TO_PASS": {"a": 1}}, "FAIL_TO_PASS", "list of texts"),
        ({"repo": "../../etc"}, "repo", "owner/name"),
        ({"repo": None, "instance_id": "nothing"}, "repo", "missing"),
        ({"test_cmd": 3}, "test_cmd", "command"),
        ({"install_config": "[]"}, "install_config", "no object"),
        ({"instance_dict": "{broken"}, "instance_dict", "no JSON"),
    ],
)
def test_a_bad_row_is_one_error_with_its_place(changes: dict[str, Any], field: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps({**ROW, **changes})}\n")
    with pytest.raises(BadInput, match=said) as raised:
        SweBenchTasks(path).tasks()
    assert (str(raised.value.file), raised.value.line, raised.value.field) == (str(path), 2, field)


# Other sets -----------------------------------------------------------------------------------------------------------


def test_a_row_that_is_wrapped(tmp_path: Path) -> None:
    inner = {key: value for key, value in ROW.items() if key != "instance_id"}
    wrapped = {
        "instance_id": ROW["instance_id"],
        "responses_create_params": {
            "input": [],
            "metadata": {
                "instance_dict": json.dumps({**inner, "FAIL_TO_PASS": json.dumps(ROW["FAIL_TO_PASS"])}),
                "container_formatter": "docker://swebench/sweb.eval.x86_64.{instance_id}",
            },
        },
    }
    spec, plain = one(tmp_path, wrapped), one(tmp_path, ROW)
    assert spec.tests == plain.tests and spec.reference == plain.reference and spec.instruction == "It subtracts."
    assert spec.image == "swebench/sweb.eval.x86_64.owner_1776_calc-1"
    assert spec.definition["row"] == wrapped
    assert one(tmp_path, {"instance": ROW}).tests == plain.tests


def test_a_row_may_say_how_it_is_installed_and_tested(tmp_path: Path) -> None:
    (tmp_path / "owner__calc").mkdir()
    git(tmp_path / "owner__calc", "init", "-q")
    row = {
        **ROW,
        "FAIL_TO_PASS": ["test one"],
        "docker_image": "registry.example/calc:1",
        "install_config": {"install": ["make", "make install"], "test_cmd": "make check", "log_parser": "tap"},
    }
    spec = one(tmp_path, row, repositories=tmp_path)
    assert spec.repository.install == "make\nmake install" and spec.repository.kind == "clone"
    assert spec.tests is not None and spec.tests.command == "make check t/test_a.py" and spec.tests.parser == "tap"
    assert spec.tests.runner == "command" and spec.tests.python == "python3"
    other = one(tmp_path, row)
    assert (other.image, other.repository.kind, other.repository.install) == ("registry.example/calc:1", "image", "")


def test_the_script_of_an_evaluation_gives_the_command(tmp_path: Path) -> None:
    script = textwrap.dedent("""\
        #!/bin/bash
        source /opt/miniconda3/bin/activate
        conda activate testbed
        cd /testbed
        git checkout abc tests/a.js
        git apply -v - <<'EOF_1'
        +export no
        EOF_1
        : '>>>>> Start Test Output'
        npx jest --verbose
        : '>>>>> End Test Output'
        git checkout abc tests/a.js
        """)
    row = {**ROW, "FAIL_TO_PASS": ["adds two"], "eval_script": script, "log_parser": "parse_log_jest"}
    tests = one(tmp_path, row).tests
    assert tests is not None and tests.parser == "parse_log_jest"
    assert tests.command == "source /opt/miniconda3/bin/activate\nconda activate testbed\nnpx jest --verbose"


def test_swe_smith_rows_bring_the_bug_and_are_solved_by_taking_it_back(tmp_path: Path) -> None:
    row = {
        "instance_id": "oauthlib__oauthlib.1fd52536.combine_file__09vlzwgc",
        "repo": "swesmith/oauthlib__oauthlib.1fd52536",
        "image_name": "jyangballin/swesmith.x86_64.oauthlib_1776_oauthlib.1fd52536",
        "patch": ROW["patch"],
        "FAIL_TO_PASS": ["tests/test_a.py::test_b"],
        "PASS_TO_PASS": ["tests/test_a.py::test_c"],
        "problem_statement": "Broken.",
    }
    spec = one(tmp_path, row)
    assert spec.image == row["image_name"] and spec.repository.kind == "image" and spec.repository.commit == ""
    assert spec.repository.patch == ROW["patch"] and "+1" in spec.reference and "-2" in spec.reference
    assert spec.tests is not None and spec.tests.runner == "pytest" and spec.tests.patch == ""
    (tmp_path / "oauthlib").mkdir()
    git(tmp_path / "oauthlib", "init", "-q")
    clone = one(tmp_path, row, repositories=tmp_path).repository
    assert (clone.kind, clone.commit, clone.patch) == ("clone", "1fd52536", ROW["patch"])


def test_a_patch_taken_back_gives_the_files_before(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    lines = [f"line {number}\n" for number in range(40)]
    (tmp_path / "long.txt").write_text("".join(lines))
    (tmp_path / "gone.sql").write_text("-- a comment\n++ odd\n")
    (tmp_path / "old name.py").write_text("x = 1\n" * 20)
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "end").write_text("no end of line")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "a")
    before = git(tmp_path, "write-tree")
    lines[3:5] = ["--- a/fake\n", "+++ b/fake\n", "@@ -1 +1 @@\n"]
    lines[30] = "changed\n"
    (tmp_path / "long.txt").write_text("".join(lines))
    (tmp_path / "gone.sql").unlink()
    (tmp_path / "new.sql").write_text("-- new\n")
    (tmp_path / "empty").write_text("")
    git(tmp_path, "mv", "old name.py", "new name.py")
    (tmp_path / "new name.py").write_text("x = 1\n" * 20 + "y = 2\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "end").write_text("no end of line still")
    git(tmp_path, "add", "-A")
    patch = git(tmp_path, "diff", "--cached", "-M", whole=True)
    back = reversed_patch(patch)
    assert reversed_patch(back) == patch and back != patch
    git(tmp_path, "apply", "--index", "-", data=back.encode())
    assert git(tmp_path, "write-tree") == before


def test_genuine_patches_can_be_taken_back(shared_data: Path) -> None:
    for name in FILES[:3]:
        for row in stored(shared_data / "swe" / name):
            assert reversed_patch(reversed_patch(row["patch"])) == row["patch"]


# Where the repository is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["owner__calc", "owner/calc", "calc", "calc.bare"])
def test_clones_are_found_in_a_folder(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / layout.removesuffix(".bare")
    folder.mkdir(parents=True)
    git(folder, "init", "-q", *(["--bare"] if layout.endswith(".bare") else []))
    repository = one(tmp_path, ROW, repositories=str(tmp_path)).repository
    assert (repository.kind, repository.source, repository.commit) == ("clone", str(folder), "a" * 40)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("https://github.com", "https://github.com/owner/calc"),
        ("https://github.com/", "https://github.com/owner/calc"),
        ("git@github.com:", "git@github.com:owner/calc"),
        ("https://mirror.example/{repo}.git", "https://mirror.example/owner/calc.git"),
    ],
)
def test_clones_from_a_server(where: str, source: str, tmp_path: Path) -> None:
    assert one(tmp_path, ROW, repositories=where).repository.source == source


def test_a_missing_clone_is_named_when_the_task_starts(tmp_path: Path) -> None:
    spec = one(tmp_path, ROW, repositories=tmp_path)
    with pytest.raises(NotRestorable, match=r"no_repository.*owner__calc"):
        setup_of(spec)
    with pytest.raises(BadInput, match="no folder of repositories"):
        one(tmp_path, ROW, repositories=tmp_path / "nowhere")


def test_a_row_may_name_its_repository_whole(tmp_path: Path) -> None:
    repository = one(tmp_path, {**ROW, "repo": "https://git.example/owner/calc.git"}).repository
    assert (repository.kind, repository.source) == ("clone", "https://git.example/owner/calc")


def test_images_can_be_named_otherwise(tmp_path: Path) -> None:
    spec = one(tmp_path, ROW, image="xingyaoww/sweb.eval.x86_64.{id_s}")
    assert spec.image == "xingyaoww/sweb.eval.x86_64.owner_s_calc-1"


# Sources ------------------------------------------------------------------------------------------------------------


def test_sets_are_opened_by_name(tmp_path: Path) -> None:
    class Own(SweBenchTasks):
        name = "own-rows"

    register_task_set("own-rows", Own)
    assert isinstance(open_repo_tasks("own-rows"), Own) and open_repo_tasks("swe-bench").tasks() == []
    with pytest.raises(BadInput, match=r"no task set.*own-rows"):
        open_repo_tasks("no-such-set")
    with pytest.raises(BadInput, match="no such file"):
        open_repo_tasks(tmp_path / "none.jsonl").tasks()


@pytest.mark.parametrize("name", ["bundled", "bundled-repos"])
def test_the_bundled_set_is_the_default(name: str) -> None:
    made = open_repo_tasks(name)
    assert isinstance(made, TaskSet) and len(made.tasks()) >= 30
    assert {RepoTask.of(task).set for task in made.tasks()} == {"bundled-repos"}


def test_rows_are_judged_by_their_tests_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW))
    tasks = SweBenchTasks(path)
    with pytest.raises(BadInput, match="Repo-v0"):
        tasks.goal(tasks.tasks()[0], None)  # type: ignore[arg-type]


# Commands and logs ----------------------------------------------------------------------------------------------------


def test_what_a_runner_is_told_to_run() -> None:
    patch = "".join(
        f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n"
        for path in ("tests/a/tests.py", "tests/a/data.json", "tests/b/test_c.py", "tests/a/tests.py")
    )
    assert directives("django/django", patch) == ["a.tests", "b.test_c"]
    assert directives("sympy/sympy", patch) == ["tests/a/tests.py", "tests/b/test_c.py"]


def test_the_log_of_unittest_as_django_prints_it(tmp_path: Path) -> None:
    """A real run: Django's runner is unittest's, at verbosity 2."""
    (tmp_path / "some_tests.py").write_text(
        textwrap.dedent('''\
            import sys, unittest
            class Case(unittest.TestCase):
                def test_good(self): pass
                def test_described(self):
                    """It has a description."""
                def test_bad(self): self.assertEqual(1, 2)
                def test_bad_described(self):
                    """It fails with one ... ok"""
                    raise ValueError
                def test_prints(self):
                    print("noise on the line", file=sys.stderr)
                @unittest.skip("why ... ok")
                def test_skipped(self): pass
                @unittest.expectedFailure
                def test_expected(self): self.fail()
                @unittest.expectedFailure
                def test_unexpected(self): pass
            ''')
    )
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", "some_tests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    read = get_log_parser("parse_log_django")(done.stderr)
    where = "some_tests.Case" if sys.version_info < (3, 11) else "some_tests.Case.{}"

    def name(test: str) -> str:
        return f"{test} ({where.format(test)})"

    assert read[name("test_good")] == "passed" and read["It has a description."] == "passed"
    assert read[name("test_bad")] == "failed" and read[name("test_bad_described")] == "error"
    assert read["It fails with one ... ok"] == "error"
    assert read[name("test_prints")] == "passed" and read[name("test_skipped")] == "skipped"
    assert read[name("test_expected")] == "xfailed" and read[name("test_unexpected")] == "failed"


SYMPY_LOG = """\
============================= test process starts ==============================
sympy/matrices/tests/test_sparse.py[5]
test_sparse_matrix F
test_transpose ok
test_trace E
test_slow s
test_copyin f                                                             [FAIL]


________________________________________________________________________________
___________ sympy/matrices/tests/test_sparse.py:test_sparse_matrix _____________
Traceback (most recent call last):
AssertionError
"""


def test_the_log_of_sympy() -> None:
    read = get_log_parser("parse_log_sympy")(SYMPY_LOG)
    assert read == {
        "test_sparse_matrix": "failed",
        "test_transpose": "passed",
        "test_trace": "error",
        "test_slow": "skipped",
        "test_copyin": "xfailed",
    }


def test_own_parsers_agree_with_the_swebench_package() -> None:
    require("swebench", "swebench")
    from pivotgym.envs.repo.swebench_specs import swebench_parser

    theirs = swebench_parser("parse_log_sympy")(SYMPY_LOG)
    ours = get_log_parser("parse_log_sympy")(SYMPY_LOG)
    assert {name for name, status in theirs.items() if status == "PASSED"} == {
        name for name, outcome in ours.items() if outcome == "passed"
    }
    assert get_log_parser("parse_log_jest")("PASS a.test.js\n  ✓ adds (3 ms)\n")


def test_tables_need_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from pivotgym.envs.repo import swebench_specs

    swebench_specs._tables.cache_clear()
    monkeypatch.setitem(sys.modules, "swebench.harness.log_parsers", None)
    with pytest.raises(MissingExtra, match="swebench"):
        commands_of("a/b", "1", {}, ["t.py::a"], "", tables=True)
    assert commands_of("a/b", "1", {}, ["t.py::a"], "").runner == "pytest"
    assert commands_of("a/b", "1", {}, ["some name"], "").command == ""
    swebench_specs._tables.cache_clear()
