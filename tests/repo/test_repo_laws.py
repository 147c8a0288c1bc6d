"""The laws of every environment, on repositories."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing

import pytest
from needs import missing

from pivotgym.envs.check import check_env_laws
from pivotgym.envs.errors import InfrastructureError, MissingExtra
from pivotgym.envs.repo.bundled.generate import record
from pivotgym.envs.repo.env import RepoEnv
from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.sandbox import get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import Trajectory

ENV = "pivotgym/Repo-v0"


@pytest.fixture(scope="module", params=["bubblewrap", pytest.param("docker", marks=pytest.mark.slow)])
def env(request: pytest.FixtureRequest) -> Iterator[RepoEnv]:
    try:
        get_backend(request.param)
    except (InfrastructureError, MissingExtra) as error:
        missing(str(error))
    with closing(RepoEnv(tasks="bundled", backend=request.param, snapshots=SnapshotStore())) as made:
        yield made


def test_the_laws_on_an_expert(env: RepoEnv) -> None:
    """Its first turns, which only look: a run of the tests takes a second, and the laws run every turn many times."""
    recording = record("taskgraph", 1, env)
    looks = recording.model_copy(update={"messages": recording.messages[: recording.turns[4]], "outcome": None})
    check(env, [looks], turns=3, horizon=1, resets=3)


@pytest.mark.slow
def test_the_laws_on_experts(env: RepoEnv) -> None:
    """One with the editor, one with a shell only."""
    check(env, [record("ledger", 0, env), record("taskgraph", 1, env)], turns=4, horizon=3, resets=5)


def check(env: RepoEnv, recordings: list[Trajectory], *, turns: int, horizon: int, resets: int) -> None:
    report = check_env_laws(
        ENV,
        recordings,
        env_kwargs={"tasks": "bundled", "backend": env.config.backend},
        max_turns_checked=turns,
        horizon=horizon,
        resets=resets,
    )
    assert [f"{result.law}: {result.detail}" for result in report.results if not result.passed] == []
    assert report.result("fidelity").checked >= turns


def test_tests_and_reference_are_nowhere_in_the_sandbox(env: RepoEnv) -> None:
    """Not in its files, not in git's objects, packed or not; and the search finds what is there."""
    task = next(task for task in env.tasks() if task.id.startswith("stocktake"))
    spec = RepoTask.of(task)
    env.reset(options={"task": task})
    assert spec.tests is not None
    lines = [line.strip() for text in spec.tests.files.values() for line in text.splitlines()]
    repaired = [line[1:].strip() for line in spec.reference.splitlines() if line.startswith("+") and line[1:2] == " "]
    head = env.sandbox.run("git ls-files -z | xargs -0 cat; git log -p --all").output
    marks = [line for line in {*lines, *repaired} if len(line) > 40 and line not in head]
    assert len(marks) > 10
    env.sandbox.write_file("/var/tmp/marks", "\n".join(marks).encode())
    found = "for o in $(git cat-file --batch-all-objects --batch-check | cut -d' ' -f1); do git cat-file -p $o; done"
    assert env.sandbox.run(f"({found}) | grep -aFf /var/tmp/marks | head").output == ""
    where = "find / -xdev -type f -not -path '/usr/*' -not -path /var/tmp/marks -print0"
    files = f"{where} | xargs -0 grep -alFf /var/tmp/marks"
    assert env.sandbox.run(f"{files}; true", timeout=120).output == ""
    env.sandbox.run(f"printf %s {shlex.quote(marks[0])} > /root/planted")
    assert env.sandbox.run(f"{files}; true", timeout=120).output == "/root/planted\n"
