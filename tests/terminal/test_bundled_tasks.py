"""The bundled tasks: experts reach their goals and restore, doing nothing and plausible mistakes do not."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files

import pytest
from bundled_wrong import INSTEAD, WRONG
from needs import missing

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.formats.packed import pack
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.bundled import (
    BUILDERS,
    KINDS,
    SEEDS,
    BundledTasks,
    build,
    bundled_trajectories,
    make_task,
)
from pivotgym.envs.terminal.bundled.generate import generate, record, script
from pivotgym.envs.terminal.env import TerminalEnv
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory

SEED = {name: number % SEEDS for number, name in enumerate(BUILDERS)}
"""One instance of each task for the quick tests: all seeds and both splits occur."""


@pytest.fixture(scope="module")
def env() -> Iterator[TerminalEnv]:
    try:
        get_backend("bubblewrap").clean()
    except SandboxUnavailable as error:
        missing(str(error))
    with closing(TerminalEnv(tasks="bundled", snapshots=SnapshotStore())) as made:
        yield made


def finish(env: TerminalEnv, name: str, seed: int, commands: list[str], answer: str) -> tuple[float, str]:
    """Reward and reason of an episode with these commands."""
    env.reset(options={"task": make_task(name, seed)})
    for command in commands:
        env.step(Message(role="assistant", tool_calls=[ToolCall(name="bash", arguments={"command": command})]))
    _, reward, terminated, _, info = env.step(Message(role="assistant", content=answer))
    assert terminated
    return reward, info["verdict"]["reason"]


def test_what_there_is() -> None:
    assert len(KINDS) == 8 and all(len(builders) >= 6 for builders in KINDS.values()) and len(BUILDERS) >= 48
    tasks = BundledTasks().tasks()
    assert [task.id for task in tasks] == [task.id for task in BundledTasks().tasks()]
    assert len({task.id for task in tasks}) == len({task.key for task in tasks}) == len(BUILDERS) * SEEDS
    for name in BUILDERS:
        assert 3 <= len(build(name, 0).turns) <= 11
        assert len({str(make_task(name, seed).data["setup"]) for seed in range(SEEDS)}) == SEEDS, name


def test_split() -> None:
    train, heldout = BundledTasks().tasks("train"), BundledTasks().tasks("heldout")
    assert len(train) + len(heldout) == len(BUILDERS) * SEEDS
    assert 0.78 < len(train) / (len(train) + len(heldout)) < 0.82
    assert {task.id.split(".")[0] for task in heldout} == {task.id.split(".")[0] for task in train} == set(KINDS)
    shown = {row.task.key for row in bundled_trajectories() if row.task is not None}
    assert len(shown) == len(train) >= 120
    assert not shown & {task.key for task in heldout}
    assert len(bundled_trajectories(None)) == len(train) + len(heldout)
    with pytest.raises(BadInput, match="no split"):
        bundled_trajectories("test")


def test_a_task_shows_nothing_of_its_check_or_expert() -> None:
    """What the sandbox and the prompt are made of does not hold the expert's commands; the definition only names it."""
    for name in BUILDERS:
        spec = TerminalTask.of(make_task(name, SEED[name]))
        assert set(spec.definition) == {"task", "seed", "generator", "split"}
        shown = spec.model_dump_json()
        for _, command in build(name, SEED[name]).turns:
            assert len(command) < 40 or command not in shown


def test_unknown_tasks_are_refused() -> None:
    with pytest.raises(NotRestorable, match="no bundled terminal task"):
        make_task("files.nothing", 0)
    task = make_task("files.mirror", 0)
    task.data["definition"]["generator"] = 99
    with pytest.raises(NotRestorable, match="generator 99"):
        BundledTasks().goal(task, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BUILDERS)
def test_expert(name: str, env: TerminalEnv) -> None:
    """Recording it again gives the bundled trajectory and reward 1; every turn restores exactly."""
    seed = SEED[name]
    (bundled,) = [row for row in bundled_trajectories(None) if row.id == f"bundled-{name}-{seed}"]
    assert record(name, seed, env) == bundled
    assert bundled.outcome.reward == 1.0
    env.snapshots.clear()
    for turn in reversed(range(len(bundled.turns))):
        _, info = env.reset(options={"trajectory": bundled, "turn": turn, "strict": True})
        report = info["restore"]
        assert {check.status for check in report.checks} <= {"exact"} and report.note is None
    assert report.fidelity == 1.0


@pytest.mark.parametrize("name", BUILDERS)
def test_doing_nothing_reaches_nothing(name: str, env: TerminalEnv) -> None:
    reward, reason = finish(env, name, SEED[name], [], build(name, SEED[name]).final)
    assert reward == 0.0, reason


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in WRONG.items() for case in range(len(cases))]
)
def test_wrong_ends(name: str, case: int, env: TerminalEnv) -> None:
    what, commands, answer = WRONG[name][case]
    built = build(name, 0)
    before = [] if commands.startswith(INSTEAD) else [command for _, command in built.turns]
    reward, reason = finish(env, name, 0, [*before, commands], answer or built.final)
    assert reward == 0.0, f"{what}: {reason}"


def test_wrong_ends_for_every_task() -> None:
    assert WRONG.keys() == BUILDERS.keys() and all(len(cases) >= 2 for cases in WRONG.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_instance_restores_at_every_turn(env: TerminalEnv) -> None:
    """All shipped trajectories: each turn is restored from the one before, compared, and the end is judged."""
    env.snapshots.clear()
    rows = bundled_trajectories(None)
    assert len(rows) == len(BUILDERS) * SEEDS
    for row in rows:
        assert restored_and_judged(env, row) == 1.0, row.id


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_experts_on_docker() -> None:
    """One instance of each task where an image's programs run, not this machine's."""
    try:
        get_backend("docker").clean()
    except SandboxUnavailable as error:
        missing(str(error))
    with closing(TerminalEnv(tasks="bundled", backend="docker", snapshots=SnapshotStore())) as env:
        for name in BUILDERS:
            (row,) = [row for row in bundled_trajectories(None) if row.id == f"bundled-{name}-{SEED[name]}"]
            assert restored_and_judged(env, row) == 1.0, row.id
            reward, reason = finish(env, name, SEED[name], [], build(name, SEED[name]).final)
            assert reward == 0.0, (name, reason)


def restored_and_judged(env: TerminalEnv, row: Trajectory) -> float:
    """Restores every turn of an expert's recording, in order, then takes its last action: the reward."""
    report = None
    for turn in range(len(row.turns)):
        _, info = env.reset(options={"trajectory": row, "turn": turn})
        report = info["restore"]
        assert report.note is None and report.fidelity == 1.0, (row.id, turn, report.diverged)
    assert report is not None and len(report.checks) == len(row.turns) - 1
    _, reward, terminated, _, info = env.step(row.messages[-1])
    assert terminated, row.id
    assert reward == 1.0, (row.id, info["verdict"]["reason"])
    return float(reward)


@pytest.mark.slow
def test_the_bundled_file_is_made_again_byte_for_byte(env: TerminalEnv) -> None:
    packed = files("pivotgym.envs.terminal.bundled").joinpath("trajectories.jsonl.gz").read_bytes()
    assert gzip.decompress(pack(generate(list(BUILDERS), range(SEEDS), "bubblewrap"))) == gzip.decompress(packed)


def test_scripts_end_with_an_answer_where_one_is_asked_for() -> None:
    for name in BUILDERS:
        built = build(name, 1)
        last = script(name, 1)[-1].text
        assert (built.answer is not None) == ("ANSWER:" in built.instruction)
        assert built.answer is None or last.endswith(f"ANSWER: {built.answer}")
