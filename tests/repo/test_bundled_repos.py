"""The bundled repositories played: references solve them, nothing does not, every turn of an expert restores."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import pytest
from needs import missing

from pivotgym.envs.errors import NotRestorable, PivotGymError
from pivotgym.envs.formats.packed import pack
from pivotgym.envs.repo.bundled import (
    SEEDS,
    WORKDIR,
    BundledRepos,
    build,
    bundled_trajectories,
    load_projects,
    make_task,
    unified_diff,
)
from pivotgym.envs.repo.bundled.generate import Options, generate, main, record, script
from pivotgym.envs.repo.env import RepoEnv
from pivotgym.envs.repo.prompts import MARKER
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.env import TerminalEnv
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory

BackendName = Literal["bubblewrap", "docker"]
SAMPLE = [("kvstore", 0), ("textadventure", 1), ("linediff", 2)]
"""Played by default: both interfaces, one file and two, each seed."""


@contextmanager
def repo_env(backend: BackendName) -> Iterator[RepoEnv]:
    try:
        get_backend(backend).clean()
    except SandboxUnavailable as error:
        missing(str(error))
    with closing(RepoEnv(tasks="bundled", backend=backend, snapshots=SnapshotStore())) as made:
        yield made


@pytest.fixture(scope="module")
def env() -> Iterator[RepoEnv]:
    with repo_env("bubblewrap") as made:
        yield made


@pytest.fixture(scope="module")
def docker() -> Iterator[RepoEnv]:
    with repo_env("docker") as made:
        yield made


def bash(command: str) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name="bash", arguments={"command": command}, id="call")])


def hand_in(name: str) -> Message:
    if load_projects()[name].spec.interface == "bash":
        return bash(f"echo {MARKER} && git diff")
    return Message(role="assistant", tool_calls=[ToolCall(name="submit", arguments={}, id="call")])


def reward(env: RepoEnv, name: str, seed: int, patch: str) -> tuple[float, str]:
    """Reward and reason of an episode that applies a patch and hands in."""
    env.reset(options={"task": make_task(name, seed)})
    if patch:
        env.step(bash(f"git apply - <<'END OF PATCH' && git diff --stat\n{patch}END OF PATCH\n"))
        assert "changed" in env.messages[-1].text, env.messages[-1].text
    _, value, terminated, _, info = env.step(hand_in(name))
    assert terminated
    return float(value), info["verdict"]["reason"]


@cache
def recordings() -> dict[str, Trajectory]:
    return {row.id: row for row in bundled_trajectories(None)}


def recording(name: str, seed: int) -> Trajectory:
    return recordings()[f"bundled-{name}-{seed}"]


def restored_and_judged(env: RepoEnv, row: Trajectory) -> float:
    """Restores every turn of an expert's recording, in order, then takes its last action: the reward."""
    report = None
    for turn in range(len(row.turns)):
        _, info = env.reset(options={"trajectory": row, "turn": turn})
        report = info["restore"]
        assert report.note is None and report.fidelity == 1.0, (row.id, turn, report.diverged)
    assert report is not None and len(report.checks) == len(row.turns) - 1
    _, value, terminated, _, info = env.step(row.action(len(row.turns) - 1))
    assert terminated, row.id
    assert value == 1.0, (row.id, info["verdict"]["reason"])
    return float(value)


# What ships -------------------------------------------------------------------------------------------------------


def test_what_ships() -> None:
    """A solved recording of each instance, of the task that the generator makes now."""
    rows = bundled_trajectories(None)
    assert [row.id for row in rows] == [f"bundled-{name}-{seed}" for name in load_projects() for seed in range(SEEDS)]
    assert [row.task for row in rows] == list(BundledRepos().tasks())
    for row in rows:
        assert row.outcome.reward == 1.0 and row.outcome.termination == "submitted"
        assert 4 <= len(row.turns) <= 15
    train, heldout = bundled_trajectories("train"), bundled_trajectories("heldout")
    assert len(train) + len(heldout) == len(rows) and {row.id for row in train}.isdisjoint(row.id for row in heldout)
    assert [row.task for row in heldout] == list(BundledRepos().tasks("heldout"))


def test_recordings_say_what_the_experts_do() -> None:
    for row in bundled_trajectories(None):
        assert row.task is not None
        definition = row.task.data["definition"]
        turns = build(definition["project"], definition["seed"]).project.spec.turn
        calls = [row.action(turn).tool_calls for turn in range(len(row.turns))]
        assert [[(call.name, call.arguments) for call in made] for made in calls] == [
            [(turn.tool, turn.call)] for turn in turns
        ]


def test_no_recording_depends_on_the_machine() -> None:
    """No time of a test run but the fixed one, no temporary name, no memory address."""
    for row in bundled_trajectories(None):
        for message in row.messages:
            if message.role == "tool":
                for word in (" in 0.0", " in 0.1", " in 0.2", "/tmp/tmp", " at 0x", "/tmp/pytest-of"):
                    assert word not in message.text.replace(" in 0.05s", ""), (row.id, message.text)


# Played -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "seed"), SAMPLE)
def test_reference_solves_and_nothing_does_not(name: str, seed: int, env: RepoEnv) -> None:
    check_scores(env, name, seed)


@pytest.mark.parametrize(("name", "seed"), SAMPLE)
def test_expert(name: str, seed: int, env: RepoEnv) -> None:
    """Recording it again gives what ships; every turn restores; the expert's files are the reference's."""
    row = recording(name, seed)
    assert record(name, seed, env) == row
    env.snapshots.clear()
    assert restored_and_judged(env, row) == 1.0
    check_files(env, row)


@pytest.mark.parametrize("path", ["records.py", "store.py"])
def test_half_a_reference_does_not_solve(path: str, env: RepoEnv) -> None:
    project = build("kvstore", 0).project
    assert len(project.fix) == 2
    half = {name: text for name, text in project.fix.items() if name.endswith(f"/{path}")}
    assert len(half) == 1
    value, reason = reward(env, "kvstore", 0, unified_diff(project.repo, half))
    assert value == 0.0, reason


def test_a_fix_of_the_reported_case_alone_does_not_solve(env: RepoEnv) -> None:
    """The issue names a file of spaces and an empty one: what heeds only these fails on the rest."""
    project = build("huffpack", 0).project
    (path,) = [path for path in project.repo if path.endswith("/archive.py")]
    text = project.repo[path]
    wrong = text.replace('"""An archive of data."""', '"""An archive of data."""\n    if not data:\n        return b""')
    assert wrong != text
    value, reason = reward(env, "huffpack", 0, unified_diff(project.repo, {path: wrong}))
    assert value == 0.0, reason


def test_the_agent_has_pytest(env: RepoEnv) -> None:
    env.reset(options={"task": make_task("linediff", 0)})
    env.step(bash("python3 -m pytest -q 2>&1 | tail -n 1; git status --porcelain"))
    assert "12 passed" in env.messages[-1].text and "??" not in env.messages[-1].text


def test_the_terminal_plays_no_repository_task() -> None:
    task = make_task("kvstore", 0)
    with closing(TerminalEnv(tasks="bundled-repos")) as made, pytest.raises(NotRestorable, match=r"pivotgym/Repo-v0"):
        made.reset(options={"task": task})


def test_further_seeds_can_be_recorded(tmp_path: Path) -> None:
    try:
        get_backend("bubblewrap").clean()
    except SandboxUnavailable as error:
        missing(str(error))
    main(Options(project="linediff", seed=7, out=tmp_path / "more.jsonl"))
    (line,) = (tmp_path / "more.jsonl").read_text().splitlines()
    row = Trajectory.model_validate_json(line)
    assert row.id == "bundled-linediff-7" and row.outcome.reward == 1.0
    assert row.task == make_task("linediff", 7)


def test_an_expert_that_fails_is_not_recorded(env: RepoEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = script("linediff", 0)[-1:]
    monkeypatch.setattr("pivotgym.envs.repo.bundled.generate.script", lambda name, seed: lazy)
    with pytest.raises(PivotGymError, match="linediff-0: the expert failed"):
        record("linediff", 0, env)
    monkeypatch.setattr("pivotgym.envs.repo.bundled.generate.script", lambda name, seed: [*lazy, *lazy])
    with pytest.raises(PivotGymError, match="goes on after"):
        record("linediff", 0, env)


def check_scores(env: RepoEnv, name: str, seed: int) -> None:
    value, reason = reward(env, name, seed, build(name, seed).reference)
    assert value == 1.0, (name, seed, reason)
    value, reason = reward(env, name, seed, "")
    assert value == 0.0, (name, seed, reason)


def check_files(env: RepoEnv, row: Trajectory) -> None:
    """Before it is handed in, the expert's working tree is the repository with the fix, and nothing else."""
    assert row.task is not None
    definition = row.task.data["definition"]
    project = build(definition["project"], definition["seed"]).project
    env.reset(options={"trajectory": row, "turn": len(row.turns) - 1})
    for path, text in {**project.repo, **project.fix}.items():
        assert env.sandbox.read_file(f"{WORKDIR}/{path}").decode() == text, (row.id, path)
    status = env.sandbox.run("git status --porcelain -uall").output.splitlines()
    assert {line[3:] for line in status} <= set(project.fix), row.id


# All of them ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", load_projects())
def test_every_instance_is_scored(name: str, env: RepoEnv) -> None:
    for seed in range(SEEDS):
        check_scores(env, name, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", load_projects())
def test_every_instance_restores_at_every_turn(name: str, env: RepoEnv) -> None:
    for seed in range(SEEDS):
        row = recording(name, seed)
        assert restored_and_judged(env, row) == 1.0
        check_files(env, row)
    env.snapshots.clear()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", load_projects())
def test_every_project_on_docker(name: str, docker: RepoEnv) -> None:
    """Where an image's programs run, not this machine's: all experts restore and solve; one instance is scored."""
    for seed in range(SEEDS):
        assert restored_and_judged(docker, recording(name, seed)) == 1.0
    check_scores(docker, name, 0)
    docker.snapshots.clear()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_bundled_file_is_made_again_byte_for_byte() -> None:
    packed = files("pivotgym.envs.repo.bundled").joinpath("trajectories.jsonl.gz").read_bytes()
    again = pack(generate(list(load_projects()), range(SEEDS), "bubblewrap"))
    assert gzip.decompress(again) == gzip.decompress(packed)
