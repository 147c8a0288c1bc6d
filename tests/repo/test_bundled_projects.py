"""Projects and what a seed makes of them: names, histories, patches, tasks. No episode is played here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from needs import missing

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.repo import bundled
from pivotgym.envs.repo.bundled import (
    SEEDS,
    WORKDIR,
    BundledRepos,
    build,
    bundled_trajectories,
    load_projects,
    make_task,
    split,
    unified_diff,
)
from pivotgym.envs.repo.bundled.project import PROJECTS, load_project, replacer
from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.sandbox import Sandbox, SandboxUnavailable, get_backend
from pivotgym.envs.terminal.prepare import prepare

INSTANCES = [(name, seed) for name in load_projects() for seed in range(SEEDS)]


@contextmanager
def repository(name: str, seed: int) -> Iterator[Sandbox]:
    """A sandbox that stands before the first turn of an instance."""
    backend = get_backend("bubblewrap")
    try:
        backend.clean()
    except SandboxUnavailable as error:
        missing(str(error))
    # Without pytest for the agent, which takes longer than all the rest and is no matter here.
    spec = RepoTask.of(make_task(name, seed)).model_copy(update={"pytest": False})
    box = prepare(backend, spec, "host")
    try:
        yield box
    finally:
        box.stop()


def git(box: Sandbox, command: str) -> str:
    result = box.run(f"git {command}")
    assert result.status == 0, result.output
    return result.output


def blob(text: str) -> str:
    data = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_what_there_is() -> None:
    projects = load_projects()
    assert len(projects) >= 30
    assert len({project.spec.kind for project in projects.values()}) == len(projects)
    interfaces = [project.spec.interface for project in projects.values()]
    assert 0.2 < interfaces.count("bash") / len(interfaces) < 0.5
    assert sum(len(project.fix) > 1 for project in projects.values()) >= 5
    for project in projects.values():
        assert 4 <= len(project.spec.turn) <= 15, project.name
        assert len(project.spec.fail_to_pass) >= 2 and len(project.pass_to_pass) >= 3, project.name
    tasks = BundledRepos().tasks()
    assert [task.id for task in tasks] == [f"{name}-{seed}" for name, seed in INSTANCES]
    assert len({task.key for task in tasks}) == len(tasks)


def test_split() -> None:
    train, heldout = BundledRepos().tasks("train"), BundledRepos().tasks("heldout")
    assert len(train) + len(heldout) == len(INSTANCES)
    assert 0.15 < len(heldout) / len(INSTANCES) < 0.25
    # By project: an instance of a project that is trained on says too much of its siblings.
    of = [{task.data["definition"]["project"] for task in tasks} for tasks in (train, heldout)]
    assert not of[0] & of[1]
    assert {split(name) for name in of[1]} == {"heldout"}
    with pytest.raises(BadInput, match="no split"):
        BundledRepos().tasks("test")
    with pytest.raises(BadInput, match="no split"):
        bundled_trajectories("test")


def test_instances_of_one_project_differ() -> None:
    for name, project in load_projects().items():
        instances = [build(name, seed) for seed in range(SEEDS)]
        assert len({instance.history.stream for instance in instances}) == SEEDS
        assert len({instance.instruction for instance in instances}) == SEEDS
        assert len({instance.reference for instance in instances}) == SEEDS, name
        if all(len(choices) >= SEEDS for choices in project.spec.renames.values()):
            tops = [frozenset(path.split("/")[0] for path in instance.project.repo) for instance in instances]
            assert len(set(tops)) == SEEDS, (name, tops)


def test_further_seeds_give_further_instances() -> None:
    histories = {build("kvstore", seed).history.stream for seed in range(9)}
    assert len(histories) == 9
    with pytest.raises(NotRestorable, match="no bundled repository"):
        make_task("nothing", 0)


def test_same_seed_same_bytes() -> None:
    """In another process, with other hash seeds."""
    program = (
        "from pivotgym.envs.repo.bundled import BundledRepos\n"
        "for task in BundledRepos().tasks(): print(task.id, task.key)\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == [f"{task.id} {task.key}" for task in BundledRepos().tasks()]


def test_a_task_shows_nothing_of_its_fix_or_tests() -> None:
    """What the sandbox and the prompt are made of has none of the lines that only the fix or the hidden tests have."""
    for name, seed in INSTANCES:
        instance = build(name, seed)
        project = instance.project
        spec = RepoTask.of(make_task(name, seed))
        assert spec.setup.archives == [] and list(spec.setup.files.values()) == [instance.history.stream]
        shown = {line.strip() for text in (instance.history.stream, project.issue) for line in text.splitlines()}
        there = {line.strip() for text in project.repo.values() for line in text.splitlines()}
        sources = [text for path, text in project.fix.items() if not path.startswith("tests/")]
        added = {line.strip() for text in sources for line in text.splitlines()} - there
        assert not {line for line in added if len(line) > 12} & shown, (name, seed)
        for path, text in project.hidden.items():
            assert text not in instance.history.stream and Path(path).stem not in instance.instruction


def test_only_repo_v0_judges() -> None:
    with pytest.raises(BadInput, match="Repo-v0"):
        BundledRepos().goal(make_task("kvstore", 0), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        pytest.param(*instance, marks=[] if number % 7 == 0 else pytest.mark.slow)
        for number, instance in enumerate(INSTANCES)
    ],
)
def test_history(name: str, seed: int) -> None:
    """Four to eight commits that end with the repository; no object of the fix or the tests, nothing unreachable."""
    instance = build(name, seed)
    project = instance.project
    with repository(name, seed) as box:
        assert git(box, "status --porcelain") == "" and git(box, "stash list") == ""
        assert git(box, "for-each-ref --format='%(refname)'").split() == ["refs/heads/main"]
        rows = [line.split("|") for line in git(box, "log --format='%an|%ae|%ct|%s'").splitlines()]
        assert len(rows) == instance.history.commits and 4 <= len(rows) <= 8
        times = [int(row[2]) for row in rows]
        assert times == sorted(times, reverse=True) and len(set(times)) == len(times)
        assert (rows[0][0], rows[0][1]) == instance.history.author
        tree = {path: entry for path, entry in box.tree(WORKDIR).items() if not path.startswith(".git/")}
        files = {path for path, entry in tree.items() if entry.kind == "file"}
        assert files == {*project.repo, ".gitignore"}
        for path, text in project.repo.items():
            assert box.read_file(f"{WORKDIR}/{path}").decode() == text
        reachable = {line.split(" ")[0] for line in git(box, "rev-list --all --objects").splitlines()}
        every = {line.split()[0] for line in git(box, "cat-file --batch-all-objects --batch-check").splitlines()}
        assert every == reachable
        assert git(box, "fsck --full --strict --unreachable --no-reflogs") == ""
        known = {blob(text) for text in project.repo.values()}
        future = {blob(text) for text in (*project.fix.values(), *project.hidden.values())} - known
        assert known <= every and future and not future & every
        left = [path for path in box.tree(f"{WORKDIR}/.git") if "ORIG" in path or "FETCH" in path or "logs" in path]
        assert left == [] and ".history" not in box.run("ls -A /").output.split()


def test_reference_patches_apply(tmp_path: Path) -> None:
    for name, seed in INSTANCES:
        instance = build(name, seed)
        folder = tmp_path / f"{name}-{seed}"
        write(folder, instance.project.repo)
        apply(folder, instance.reference)
        found = {
            path.relative_to(folder).as_posix(): path.read_bytes().decode()
            for path in folder.rglob("*.*")
            if path.is_file()
        }
        expected = {**instance.project.repo, **instance.project.fix}
        assert {path: text for path, text in found.items() if path in expected} == expected, name


def test_patches_of_odd_texts(tmp_path: Path) -> None:
    """Lines end with a line feed and with nothing else; files come."""
    before = {"a.txt": "one\ntwo\x0cthree\r\nfour\n", "b.txt": "same\n"}
    changed = {"a.txt": "one\ntwo\x0cthree\r\nfive\n\x1d\n", "new/c.txt": "here\n"}
    write(tmp_path, before)
    apply(tmp_path, unified_diff(before, changed))
    for path, text in {**before, **changed}.items():
        assert (tmp_path / path).read_bytes().decode() == text


def write(folder: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text.encode())


def apply(folder: Path, patch: str) -> None:
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent), "GIT_CONFIG_GLOBAL": "/dev/null"}
    subprocess.run(["git", "apply", "-"], cwd=folder, input=patch.encode(), env=environment, check=True)


def test_whole_words_are_replaced() -> None:
    change = replacer({"ledger": "journal", "post": "ledger"})
    assert change("ledger post/ledger.py, ledgers _ledger Ledger post_ledger") == (
        "journal ledger/journal.py, ledgers _ledger Ledger post_ledger"
    )
    assert replacer({})("as it is") == "as it is"


Change = Callable[[Path], object]


def edited(path: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        file = folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (edited("project.toml", 'kind = "', "kind = ["), "project.toml: no TOML"),
        (edited("project.toml", 'kind = "', 'sort = "'), "field kind: Field required"),
        (edited("project.toml", '"tools"', '"browser"'), "field interface"),
        (edited("project.toml", "::test_command_line", "::test_zero"), "field fail_to_pass: no hidden test"),
        (edited("project.toml", '"pocketdb", "logmap"', '"pocketdb", "PocketDB"'), "'PocketDB' is a choice"),
        (edited("project.toml", 'kvstore = ["kvstore", ', 'kvstore = ["store", '), "field renames.*kvstore"),
        (edited("project.toml", '["kvstore", "KVStore"]', '["kvstore", "Store"]'), "'Store' is not renamed"),
        (edited("project.toml", '"pocketdb", "logmap"', '"pocketdb"'), "lists differ in length"),
        (edited("project.toml", 'tool = "submit"', 'tool = "bash"\ncommand = "ls"'), "does not hand in"),
        (edited("project.toml", 'tool = "bash"', 'tool = "str_replace_editor"'), "field turn.0"),
        (lambda folder: None, None),
        (edited("hidden/tests/test_hidden_deleted.py", "def line(*entry):", "def line(*entry"), r"py:\d+: no Python"),
        (lambda folder: (folder / "issue.md").unlink(), "issue.md: no such file"),
        (lambda folder: shutil.rmtree(folder / "hidden"), "hidden: no files"),
        (lambda folder: (folder / "repo" / "data.bin").write_bytes(b"\xff\xfe"), "data.bin: no UTF-8"),
        (lambda folder: (folder / "repo" / "a b.txt").write_text("\n"), "'a b.txt' has characters"),
        (lambda folder: (folder / "repo" / "last.txt").write_text("no end"), "last.txt: the last line does not end"),
        (lambda folder: shutil.copy(folder / "repo/kvstore/log.py", folder / "fix/kvstore/log.py"), "the same as"),
    ],
)  # fmt: skip
def test_bad_projects(change: Change, problem: str | None, tmp_path: Path) -> None:
    """Each is refused with its file and field; a project that is as it should be is not."""
    folder = tmp_path / "kvstore"
    shutil.copytree(PROJECTS / "kvstore", folder)
    change(folder)
    if problem is None:
        assert load_project(folder) == load_projects()["kvstore"]
        return
    with pytest.raises(BadInput, match=problem) as caught:
        load_project(folder)
    assert caught.value.file is not None and Path(caught.value.file).is_relative_to(folder)


def test_a_project_left_alone_by_what_running_it_leaves(tmp_path: Path) -> None:
    folder = tmp_path / "kvstore"
    shutil.copytree(PROJECTS / "kvstore", folder)
    for place in ("repo/kvstore/__pycache__", "repo/.pytest_cache"):
        (folder / place).mkdir(parents=True)
        (folder / place / "x.pyc").write_bytes(b"\xff")
    (folder / "repo" / ".gitignore").write_text("*.log\n")
    assert load_project(folder) == load_projects()["kvstore"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(load_projects()))
def test_visible_tests_pass_with_and_without_the_fix(name: str, tmp_path: Path) -> None:
    for seed in range(SEEDS):
        project = build(name, seed).project
        folder = tmp_path / str(seed)
        write(folder, project.repo)
        visible(folder)
        write(folder, project.fix)
        visible(folder)


def visible(folder: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
        "-p",
        "no:cacheprovider",
    ]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:]


def test_generator_version_is_part_of_a_task() -> None:
    assert make_task("kvstore", 0).data["definition"]["generator"] == bundled.GENERATOR
