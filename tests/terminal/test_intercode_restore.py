"""InterCode's recorded sessions restore: what does not reproduce is classed by cause, and strict mode refuses it."""

from __future__ import annotations

import json
import random
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from needs import missing

from pivotgym.envs.errors import NotRestorable, RestoreDiverged
from pivotgym.envs.formats.intercode import read_intercode
from pivotgym.envs.restore import ObservationCheck
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.env import NoGoal, TerminalEnv
from pivotgym.envs.terminal.intercode import InterCodeTasks
from pivotgym.envs.terminal.intercode_causes import cause_of_session
from pivotgym.envs.terminal.intercode_reward import similarity
from pivotgym.envs.terminal.intercode_shell import TIMED_OUT, shell
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory

KINDS = {
    *("awk_nan", "bash_version", "date", "disk_usage", "host_files", "host_name", "machine", "missing_program"),
    *("network", "order", "process_id", "program_version", "race", "timeout"),
}


@pytest.fixture
def env() -> Iterator[TerminalEnv]:
    try:
        get_backend("bubblewrap").clean()
    except SandboxUnavailable as reason:
        missing(str(reason))
    made = gym.make("pivotgym/Terminal-v0", tasks="intercode", snapshots=SnapshotStore())
    yield made.unwrapped  # type: ignore[misc]
    made.close()


def bash(command: str) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name="bash", arguments={"command": command}, id="1")])


def waits(trajectory: Trajectory) -> bool:
    """Whether a command ran into the time limit, or walks the whole machine."""
    texts = [message for message in trajectory.messages if message.role == "tool"]
    return any(message.text == TIMED_OUT or len(message.text) > 5000 for message in texts)


# ------------------------------------------------------------------------------------------------- how it runs


def words_of(action: str) -> list[str] | None:
    """What the shell program hands to bash after ``-c``; None where it calls the action malformed."""
    program = shell("1")
    until = program[2].index('if ! cd "$workdir"')
    script = program[2][:until] + 'printf "%s\\0" "${words[@]}"'
    done = subprocess.run(["/bin/bash", "-c", script, "x", "1", action], capture_output=True, check=False)
    return None if done.stdout == b"Malformed command" else [w.decode() for w in done.stdout.split(b"\0")[:-1]]


def test_actions_are_split_as_dockers_client_splits_them(shared_data: Path) -> None:
    actions = [
        action
        for number in (1, 2)
        for session in json.loads((shared_data / "intercode" / f"gpt-4_fs_{number}.json").read_text()).values()
        for action in session["turn_history"]["actions"]
        if not action.startswith("cd")
    ]
    draw = random.Random(5)
    actions += ["".join(draw.choices("ab \\\"'$\n\té;", k=draw.randint(0, 14))) for _ in range(200)]
    malformed = 0
    for action in {*actions}:
        try:
            expected: list[str] | None = shlex.split(f'/bin/bash -c "{action.strip()}"')[2:]
        except ValueError:
            expected, malformed = None, malformed + 1
        assert words_of(action) == expected, action
    assert malformed > 20


def test_directory_quotes_and_time_limit(env: TerminalEnv, shared_data: Path) -> None:
    (task, *_) = InterCodeTasks(shared_data / "intercode" / "nl2bash_fs_1.json").tasks()
    env.reset(options={"task": task})

    def run(command: str) -> str:
        return json.loads(env.step(bash(command))[0])[0]["content"]  # type: ignore[no-any-return]

    assert run("pwd") == "/\n"
    assert run("cd testbed/dir1/../dir2") == ""
    assert run("pwd; ls") == "/testbed/dir2\nshellscript2.sh\nsubdir1\nsubdir2\n"
    assert run("cd /nowhere").endswith("No such file or directory\n")
    assert run("pwd") == "/testbed/dir2\n"
    assert run('echo "a b"') == "a\n"
    assert run("echo \\") == "Malformed command"
    assert run("printf '\\377'") == "Malformed command"
    assert run("export X=1; cd /") == "" and run("echo $X; pwd") == "\n/testbed/dir2\n"
    assert run("yes") == TIMED_OUT
    assert run("hostname; wc -l </etc/hosts") == "sandbox\n7\n"
    # Git keeps no empty folders, so a session never had them.
    assert run("find / -xdev -type d -empty -path '/testbed/*'; ls -d /tmp /mnt").count("No such file") == 2


# ------------------------------------------------------------------------------------------------- restoring


def check_all(env: TerminalEnv, trajectory: Trajectory) -> list[ObservationCheck]:
    """Restores the last turn, executes its action too, and compares every observation."""
    last = len(trajectory.turns) - 1
    _, info = env.reset(options={"trajectory": trajectory, "turn": last})
    action, recorded = trajectory.action(last), trajectory.answer(last)
    found = env.check_answer(action, env.respond(action, recorded).messages, recorded, trajectory.turns[last] + 1)
    return [*info["restore"].checks, *(check.model_copy(update={"turn": last}) for check in found)]


def restore_all(env: TerminalEnv, trajectories: list[Trajectory]) -> Counter[str]:
    """Restores every turn; returns how many observations are of each kind."""
    kinds: Counter[str] = Counter()
    for trajectory in trajectories:
        checks = check_all(env, trajectory)
        assert len(checks) == len(trajectory.turns)
        diverged = {check.turn for check in checks if check.status == "diverged"}
        for check in checks:
            kinds[check.status if check.kind is None else check.kind] += 1
            assert check.kind in KINDS if check.status == "diverged" else check.kind in {None, *KINDS}, (
                trajectory.id,
                check,
            )
        for turn in range(len(trajectory.turns)):
            options = {"trajectory": trajectory, "turn": turn, "strict": True}
            if any(before < turn for before in diverged):
                with pytest.raises(RestoreDiverged):
                    env.reset(options=options)
            else:
                assert env.reset(options=options)[1]["restore"].faithful
    return kinds


@pytest.mark.parametrize("number", [1, 2])
def test_every_turn_restores_and_strict_mode_refuses_what_diverged(
    number: int, env: TerminalEnv, shared_data: Path
) -> None:
    trajectories = read_intercode(shared_data / "intercode" / f"gpt-4_fs_{number}.json")
    kinds = restore_all(env, [trajectory for trajectory in trajectories if not waits(trajectory)])
    print(number, kinds)
    # Where awk is not the recorded one (mawk), its complaints are of another wording: a twelfth of the second file.
    assert (kinds["exact"] + kinds["normalised"]) / kinds.total() > 0.6
    assert (kinds["exact"] + kinds["normalised"] + kinds["program_version"]) / kinds.total() > 0.65


@pytest.mark.slow
def test_sessions_that_reach_the_time_limit(env: TerminalEnv, shared_data: Path) -> None:
    trajectories = [
        trajectory
        for number in (1, 2)
        for trajectory in read_intercode(shared_data / "intercode" / f"gpt-4_fs_{number}.json")
        if waits(trajectory)
    ]
    assert trajectories
    kinds = restore_all(env, trajectories)
    print(kinds)


def test_a_missing_file_system_is_named_when_restored(env: TerminalEnv, shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "gpt-4_fs_1.json"
    path.write_bytes((shared_data / "intercode" / "gpt-4_fs_1.json").read_bytes())
    trajectory = next(read_intercode(path))
    with pytest.raises(NotRestorable, match=r"fs_1\.tar\.gz"):
        env.reset(options={"trajectory": trajectory, "turn": 1})


def test_an_episode_without_a_reference_is_not_judged(env: TerminalEnv, shared_data: Path, tmp_path: Path) -> None:
    for name in ("gpt-4_fs_1.json", "fs_1.tar.gz"):
        (tmp_path / name).write_bytes((shared_data / "intercode" / name).read_bytes())
    trajectory = next(read_intercode(tmp_path / "gpt-4_fs_1.json"))
    env.reset(options={"trajectory": trajectory, "turn": 2, "strict": True})
    with pytest.raises(NoGoal, match="reference"):
        env.step(Message(role="assistant", content="done"))


NOBODY = "-c: line 1: unexpected EOF while looking for matching `''\n"


@pytest.mark.parametrize(
    ("command", "replayed", "recorded", "kind"),
    [
        ("echo '", f"x: {NOBODY}", f"x: {NOBODY}x: -c: line 2: syntax error: unexpected end of file\n", "bash_version"),
        ("echo '", f"x: {NOBODY}", f"y: {NOBODY}", None),
        ("awk x", "-nan\n", "nan\n", "awk_nan"),
        ("awk x", "-nan\n", "0\n", None),
        ("awk x", "awk: .:1: error: cannot read\n", "awk: read error (Is a directory)\n", "program_version"),
        ("awk x", "a\nawk: line 1: syntax error\n", "b\nawk: cmd. line:1: ^ syntax error\n", None),
        ("awk x", "", "awk: read error (Is a directory)\n", None),
        ("awk x", "", "REcompile() - panic:  values still on machine stack\n", "program_version"),
        ("cat x", "awk: one\n", "awk: another\n", None),
        ("ls", "a b\n", "b a\n", "order"),
        ("ls", "a\nb\n", "a\nc\n", None),
        ("find . -name x", "./usr/x\n", "./var/x\n", "host_files"),
        ("cd /testbed && find . -name x", "./a/x\n", "./b/x\n", None),
        ("find / | wc -l", "71\n", "72\n", "host_files"),
        ("find /testbed | wc -l", "71\n", "72\n", None),
        ("find testbed -mtime +7", "", "testbed/a\n", "date"),
        ("stat -c %y x", "2024-01-02 10:00\n", "2023-01-02 11:11\n", "date"),
    ],
)
def test_a_cause_is_proven_by_the_texts(command: str, replayed: str, recorded: str, kind: str | None) -> None:
    assert cause_of_session(command, replayed, recorded) == kind


# ------------------------------------------------------------------------------------------------- judging


def judge(env: TerminalEnv, task: Task, *commands: str) -> dict[str, Any]:
    env.reset(options={"task": task})
    for command in commands:
        env.step(bash(command))
    _, reward, terminated, _, info = env.step(Message(role="assistant", content="done"))
    assert terminated
    verdict: dict[str, Any] = info["verdict"]
    assert verdict["reward"] == reward
    return verdict


def earn_or_not(env: TerminalEnv, tasks: Sequence[Task]) -> None:
    # Three references depend on what else this machine does just then: files of /proc, free disk space, and how often
    # curl shows its progress until it knows that there is no network.
    for task in tasks:
        gold = TerminalTask.of(task).definition["gold"]
        if "DIRECTORY" not in gold and not gold.startswith(("df ", "curl ")):
            assert judge(env, task, gold)["reward"] == 1.0, (task.id, gold)
        idle = judge(env, task)
        assert idle["reward"] == 0.0 and idle["evidence"]["paper_reward"] < 1.0


@pytest.mark.parametrize("number", [1, 2])
def test_references_earn_one_and_doing_nothing_none(number: int, env: TerminalEnv, shared_data: Path) -> None:
    tasks = InterCodeTasks(shared_data / "intercode" / f"nl2bash_fs_{number}.json").tasks()
    assert len(tasks) == {1: 60, 2: 53}[number]
    earn_or_not(env, tasks[2::5])


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_every_reference_earns_one_and_doing_nothing_none(number: int, env: TerminalEnv, shared_data: Path) -> None:
    earn_or_not(env, InterCodeTasks(shared_data / "intercode" / f"nl2bash_fs_{number}.json").tasks())


def test_files_decide_not_words(env: TerminalEnv, shared_data: Path) -> None:
    folder = shared_data / "intercode"
    tasks = {TerminalTask.of(t).definition["gold"]: t for t in InterCodeTasks(folder / "nl2bash_fs_1.json").tasks()}
    changing = next(
        task for gold, task in tasks.items() if "chmod" not in gold and "tar" in gold and "/backup1" in gold
    )
    gold = TerminalTask.of(changing).definition["gold"]
    assert judge(env, changing, gold)["reward"] == 1.0
    empty = judge(env, changing, ": >/backup1.tar")
    assert empty["reward"] == 0.0 and empty["evidence"]["wrong"] == ["backup1.tar"]
    spoiled = judge(env, changing, "rm -r /testbed/dir2", gold)
    assert spoiled["reward"] == 0.0 and any(row.startswith("D testbed/dir2/") for row in spoiled["evidence"]["extra"])
    # A program that lies is not asked: the files are read from outside.
    lying = judge(env, changing, "touch /testbed/more; echo echo same >/usr/local/bin/git; chmod +x /usr/local/bin/git")
    assert "?? testbed/more" in lying["evidence"]["extra"]


def test_likeness_of_outputs_is_the_recorded_one(shared_data: Path) -> None:
    checked = 0
    for session in json.loads((shared_data / "intercode" / "gpt-4_fs_2.json").read_text(encoding="utf-8")).values():
        info = session["info"]
        if isinstance(info.get("agent_obs"), str) and isinstance(info.get("eval_obs"), str):
            assert similarity(info["agent_obs"], info["eval_obs"]) == pytest.approx(info["answer_similarity"], abs=1e-9)
            checked += 1
    assert checked > 40


def test_rewards_on_the_way_are_the_recorded_ones(env: TerminalEnv, shared_data: Path) -> None:
    """The paper's reward after every turn of sessions that reproduce, against the recorded one."""
    same, others = 0, []
    for trajectory in list(read_intercode(shared_data / "intercode" / "gpt-4_fs_2.json"))[16:36]:
        assert trajectory.task is not None
        # What the reference finds by its files' times is not what it found then.
        if waits(trajectory) or re.search(r"-[am]?(?:time|min)", TerminalTask.of(trajectory.task).definition["gold"]):
            continue
        if any(check.status != "exact" for check in check_all(env, trajectory)):
            continue
        for turn in range(1, len(trajectory.turns)):
            env.reset(options={"trajectory": trajectory, "turn": turn})
            paper = env.score().evidence["paper_reward"]
            recorded = [m.source["turn"]["rewards"] for m in trajectory.prefix(turn) if m.role == "tool"][-1]
            if paper == pytest.approx(recorded, abs=0.005):
                same += 1
            else:
                others.append((trajectory.id, turn, paper, recorded))
    assert same > 25 and len(others) < same / 10, (same, others)
