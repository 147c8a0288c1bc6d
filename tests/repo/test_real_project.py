"""A real project's two releases as an instance in SWE-bench form: made, stored, loaded, solved and judged.

``sqlparse`` (https://pypi.org/project/sqlparse, BSD) is pure Python, its source distributions hold its tests, and these
need nothing but pytest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from downloads import source_distribution
from needs import missing
from planted import git

from pivotgym.envs.repo import blind
from pivotgym.envs.repo.env import RepoEnv
from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.trajectory import Message, ToolCall
from pivotgym.envs.verdict import Verdict

PROJECT, OLD, NEW = "sqlparse", "0.4.2", "0.4.3"
REPO = "andialbrecht/sqlparse"
RECORD = """
import json, sys
import pytest

class Record:
    def __init__(self):
        self.passed, self.other = set(), set()
    def pytest_runtest_logreport(self, report):
        good = report.passed and not hasattr(report, "wasxfail")
        if report.when == "call" or not good:
            (self.passed if good else self.other).add(report.nodeid)

record = Record()
pytest.main(["-q", "-p", "no:cacheprovider", "tests"], plugins=[record])
json.dump(sorted(record.passed - record.other), open(sys.argv[1], "w"))
"""


EVERY = 20
"""The quick row keeps every twentieth test that must go on passing; the whole one is for the exhaustive test."""
BREAKING = "sed -i 's/self.char = char/self.char = char * 2/' sqlparse/filters/reindent.py"
"""Doubles an indentation, which has nothing to do with what the release mends."""


@dataclass(frozen=True)
class Instance:
    """The row with fewer tests, all that must go on passing, the file with both rows, the clones, the later commit."""

    row: dict[str, Any]
    kept: list[str]
    broken: list[str]
    repositories: Path
    file: Path
    fix: str


@pytest.fixture(scope="module")
def releases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two source distributions, unpacked. What was downloaded is kept for the next run."""
    cache = getattr(request.config, "cache", None)
    kept = Path(cache.mkdir("pivotgym-sdists")) if cache is not None else tmp_path_factory.mktemp("sdists")
    folder = tmp_path_factory.mktemp("releases")
    for version in (OLD, NEW):
        with tarfile.open(source_distribution(PROJECT, version, kept)) as file:
            file.extractall(folder, filter="data")
    return {version: folder / f"{PROJECT}-{version}" for version in (OLD, NEW)}


def passing(folder: Path, report: Path) -> set[str]:
    """Names of the tests that pass there, run as anybody would."""
    script = report.with_suffix(".py")
    script.write_text(f"import sys\nsys.path.insert(0, {str(folder)!r})\n{RECORD}")
    command = [sys.executable, "-B", "-W", "ignore", str(script), str(report)]
    environment = {"PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert report.exists(), done.stdout + done.stderr
    return set(json.loads(report.read_text()))


@pytest.fixture(scope="module")
def instance(releases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """The older release as a repository, the difference to the newer one as a row."""
    folder = tmp_path_factory.mktemp("instance")
    clone = folder / "clones" / REPO.replace("/", "__")
    clone.mkdir(parents=True)
    git(clone, "init", "-q", "-b", "master")
    commits = {}
    for when, version in enumerate((OLD, NEW)):
        git(clone, "rm", "-r", "-q", "--ignore-unmatch", ".")
        for path in releases[version].iterdir():
            if path.name not in ("PKG-INFO", f"{PROJECT}.egg-info"):
                subprocess.run(["cp", "-r", str(path), str(clone)], check=True)
        git(clone, "add", "-A")
        git(clone, "commit", "-q", "-m", f"Release {version}", when=when)
        git(clone, "tag", version)
        commits[version] = git(clone, "rev-parse", "HEAD")
    patch = git(clone, "diff", OLD, NEW, "--", ".", ":!tests", whole=True)
    test_patch = git(clone, "diff", OLD, NEW, "--", "tests", whole=True)
    after = passing(clone, folder / "after.json")
    git(clone, "checkout", "-q", OLD, "--", PROJECT)
    before = passing(clone, folder / "before.json")
    git(clone, "checkout", "-q", "-f", "master")
    subprocess.run(["bash", "-c", BREAKING], cwd=clone, check=True)
    broken = after - passing(clone, folder / "broken.json")
    git(clone, "checkout", "-q", "-f", "master")
    kept = sorted(after & before)
    row = {
        "instance_id": f"{REPO.replace('/', '__')}-{NEW.replace('.', '')}",
        "repo": REPO,
        "base_commit": commits[OLD],
        "problem_statement": (clone / "CHANGELOG").read_text().split("Release 0.4.2")[0],
        "patch": patch,
        "test_patch": test_patch,
        "FAIL_TO_PASS": json.dumps(sorted(after - before)),
        "PASS_TO_PASS": json.dumps(kept[::EVERY]),
        "version": OLD,
    }
    file = folder / "rows.jsonl"
    whole = {**row, "instance_id": f"{row['instance_id']}-whole", "PASS_TO_PASS": json.dumps(kept)}
    file.write_text(f"{json.dumps(row)}\n{json.dumps(whole)}\n")
    return Instance(row, kept, sorted(broken), clone.parent, file, commits[NEW])


@pytest.fixture(scope="module")
def env(instance: Instance) -> Iterator[RepoEnv]:
    try:
        get_backend("bubblewrap")
    except SandboxUnavailable as error:
        missing(str(error))
    options = {"tasks": str(instance.file), "repositories": str(instance.repositories)}
    made = gym.make("pivotgym/Repo-v0", disable_env_checker=True, **options).unwrapped
    assert isinstance(made, RepoEnv)
    with closing(made):
        yield made


def act(tool: str, **arguments: Any) -> Message:
    return Message(role="assistant", content="", tool_calls=[ToolCall(name=tool, arguments=arguments, id="1")])


def episode(env: RepoEnv, *commands: str, row: int = 0) -> tuple[float, Verdict]:
    """A whole episode: the commands, then handing in."""
    env.reset(options={"task": env.tasks()[row]})
    for command in commands:
        observation, *_ = env.step(act("bash", command=command))
        assert "exit status" not in observation.lower() and "error" not in observation.lower(), observation
    _, reward, terminated, _, info = env.step(act("submit"))
    assert terminated
    return float(reward), Verdict.model_validate(info["verdict"])


def applying(patch: str) -> str:
    return f"git apply --whitespace=nowarn - <<'END-OF-PATCH'\n{patch}END-OF-PATCH"


def test_the_instance_is_what_two_releases_give(instance: Instance) -> None:
    failing = json.loads(instance.row["FAIL_TO_PASS"])
    assert len(failing) == 6 and len(instance.kept) >= 400
    assert any("test_utils.py" in name for name in failing)  # a file that only the tests bring
    assert "IS" in instance.row["problem_statement"]


def test_the_row_is_loaded_with_all_it_has(instance: Instance, env: RepoEnv) -> None:
    task, _ = env.tasks()
    spec = RepoTask.of(task)
    assert spec.definition["row"] == instance.row and spec.repository.kind == "clone" and spec.tests is not None
    assert json.dumps(spec.tests.fail_to_pass) == instance.row["FAIL_TO_PASS"]


def test_the_next_release_is_nowhere_to_be_seen(instance: Instance, env: RepoEnv) -> None:
    env.reset(options={"task": env.tasks()[0]})
    assert blind.check(env.sandbox, "/testbed", instance.row["base_commit"]) == []
    seen = env.sandbox.run(
        f"git log --all --format=%s; git tag; git cat-file -t {instance.fix}; ls tests/test_utils.py"
    )
    assert seen.output.split("\n")[:2] == ["Release 0.4.2", "0.4.2"] and seen.status != 0


def test_the_reference_patch_scores_one(instance: Instance, env: RepoEnv) -> None:
    reward, verdict = episode(env, applying(instance.row["patch"]))
    assert reward == 1.0, verdict
    for name in ("FAIL_TO_PASS", "PASS_TO_PASS"):
        assert verdict.evidence[name.lower()] == dict.fromkeys(json.loads(instance.row[name]), "passed")


def test_no_patch_scores_zero_and_every_test_is_named(instance: Instance, env: RepoEnv) -> None:
    reward, verdict = episode(env)
    assert reward == 0.0
    failing, kept = verdict.evidence["fail_to_pass"], verdict.evidence["pass_to_pass"]
    assert list(failing) == json.loads(instance.row["FAIL_TO_PASS"]) and "passed" not in failing.values()
    assert kept == dict.fromkeys(json.loads(instance.row["PASS_TO_PASS"]), "passed")


def test_what_a_patch_breaks_is_named_and_scores_zero(instance: Instance, env: RepoEnv) -> None:
    """The same tests break as where anybody runs them."""
    reward, verdict = episode(env, applying(instance.row["patch"]), BREAKING)
    assert reward == 0.0
    for name in ("FAIL_TO_PASS", "PASS_TO_PASS"):
        wanted = {test: "failed" if test in instance.broken else "passed" for test in json.loads(instance.row[name])}
        assert verdict.evidence[name.lower()] == wanted and set(wanted.values()) == {"passed", "failed"}


@pytest.mark.slow
def test_the_whole_suite_decides(instance: Instance, env: RepoEnv) -> None:
    reward, verdict = episode(env, applying(instance.row["patch"]), row=1)
    assert reward == 1.0 and verdict.evidence["pass_to_pass"] == dict.fromkeys(instance.kept, "passed")
    reward, verdict = episode(env, row=1)
    assert reward == 0.0 and verdict.evidence["pass_to_pass"] == dict.fromkeys(instance.kept, "passed")
