"""How an episode ends decides what it can earn; and what a domain without a goal, or registered anew, does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from needs import require
from pydantic import BaseModel

from pivotgym.envs.errors import BadInput
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.tools.domain import get_domain, register_domain
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.functions import FunctionDomain
from pivotgym.envs.tools.mcp import McpDomain
from pivotgym.envs.tools.servicedesk import bundled_trajectories
from pivotgym.envs.tools.tau2 import Tau2Domain
from pivotgym.envs.tools.users import ScriptedUser
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory


def say(text: str) -> Message:
    return Message(role="assistant", content=text)


def do(name: str, **arguments: Any) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name=name, arguments=arguments)])


class Counter(BaseModel):
    value: int = 0


def look(counter: Counter) -> str:
    """Shows the counter."""
    return str(counter.value)


def counting(label: str, begin: int, *, goal: bool = True, user: bool = False) -> type[FunctionDomain]:
    class Counting(FunctionDomain):
        name = label
        policy = "Say what the counter shows."
        functions = (look,)

        def tasks(self) -> Sequence[Task]:
            return [Task(env="pivotgym/Tools-v0", id="t", data={"domain": label})]

        def initial(self, task: Task) -> Counter:
            return Counter(value=begin)

        def first_message(self, task: Task) -> str:
            return "What does it show?"

        def facts(self, task: Task) -> Sequence[str]:
            return [str(begin)] if goal else []

        def user(self, task: Task) -> ScriptedUser | None:
            return ScriptedUser(lambda *_: None) if user else None

    return Counting


# Cut off or ended -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def airline() -> Tau2Domain:
    require("tau2", "tau2")
    domain = get_domain("tau2/airline")
    assert isinstance(domain, Tau2Domain)
    return domain


def untouched(domain: Tau2Domain) -> list[Task]:
    """Tasks whose right outcome is to change nothing: any episode reaches their state."""
    found = []
    for task in domain.tasks():
        session = domain.open(task)
        if domain.goal(task, session, [say("banana")]).reward == 1.0:
            found.append(task)
    return found


def test_only_a_tau2_episode_that_agent_or_user_ended_can_score(airline: Tau2Domain) -> None:
    tasks = untouched(airline)
    assert len(tasks) > 5, "the test needs such tasks"
    for task in tasks[:4]:
        for action, options, termination in (
            (say("banana"), {"user": "none"}, "no_user"),
            (do("list_all_airports"), {"user": "none", "max_turns": 1}, "max_turns"),
            (do("no_such_tool"), {"user": "none", "max_errors": 1}, "too_many_errors"),
        ):
            env = ToolsEnv(domain="tau2/airline", snapshots=SnapshotStore(), **options)
            env.reset(options={"task": task})
            _, reward, _, _, info = env.step(action)
            assert info["termination"] == termination and reward == 0.0
            assert "cut off" in info["verdict"]["reason"] and info["verdict"]["evidence"]["ended"] is False
            env.close()
        said = [Message(role="user", content=text) for text in ("Hello.", "###STOP###")]
        recording = Trajectory(id="r", task=task, messages=[said[0], say("Bye."), said[1]])
        env = ToolsEnv(domain="tau2/airline", user="recorded", recording=recording, snapshots=SnapshotStore())
        env.reset(options={"task": task})
        assert env.score().reward == 1.0, "a state in the middle is judged as it is"
        _, reward, terminated, _, info = env.step(say("Bye."))
        assert terminated and info["termination"] == "user_stop" and reward == 1.0
        assert info["verdict"]["evidence"]["ended"] is True
        env.close()


def test_with_a_user_the_agents_stop_token_ends_nothing(airline: Tau2Domain) -> None:
    task = airline.tasks()[0]
    assert airline.finished(task, say("###STOP###")) is None
    said = [Message(role="user", content=text) for text in ("Hello.", "What?", "###STOP###")]
    recording = Trajectory(id="r", task=task, messages=[said[0], say("x"), said[1], say("y"), said[2]])
    env = ToolsEnv(domain="tau2/airline", user="recorded", recording=recording, snapshots=SnapshotStore())
    env.reset(options={"task": task})
    assert env.step(say("###STOP###"))[2] is False and env.messages[-1].text == "What?"
    env.close()


def test_tau2_counts_all_errors_and_others_those_in_a_row(airline: Tau2Domain) -> None:
    bad, good = do("no_such_tool"), do("list_all_airports")
    env = ToolsEnv(domain="tau2/airline", user="none", max_errors=3, snapshots=SnapshotStore())
    env.reset(options={"task": airline.tasks()[0]})
    ended = [env.step(action)[2] for action in (bad, good, bad, good, bad)]
    assert ended == [False] * 4 + [True] and env.episode.termination == "too_many_errors"
    env.close()
    register_domain("test/in-a-row", counting("test/in-a-row", 7))
    env = ToolsEnv(domain="test/in-a-row", max_errors=2, snapshots=SnapshotStore())
    env.reset()
    ended = [env.step(action)[2] for action in (bad, do("look"), bad, do("look"), bad, bad)]
    assert ended == [False] * 5 + [True]
    env.close()


def test_a_desk_episode_that_was_cut_off_is_no_success() -> None:
    row = next(row for row in bundled_trajectories("heldout") if row.task and row.task.id.startswith("refund-"))
    last = len(row.turns) - 1
    for options, termination, expected in (
        ({"user": "none"}, "no_user", 0.0),
        ({}, "user_stop", 1.0),
        ({"max_turns": last + 1}, "user_stop", 1.0),  # in the last turn there is, but ended
    ):
        env = ToolsEnv(snapshots=SnapshotStore(), **options)  # type: ignore[arg-type]
        env.reset(options={"trajectory": row, "turn": last})
        _, reward, _, _, info = env.step(row.action(last))
        assert (info["termination"], reward) == (termination, expected)
        env.close()
    for row in bundled_trajectories("heldout"):
        done = len(row.turns) - 2  # all is done but nobody was told
        env = ToolsEnv(snapshots=SnapshotStore(), max_turns=done + 1)
        env.reset(options={"trajectory": row, "turn": done})
        _, reward, _, truncated, info = env.step(row.action(done))
        assert truncated and reward == 0.0 and info["verdict"]["evidence"]["cut_off"] == "max_turns"
        env.close()
        break


def test_without_a_user_the_last_text_is_the_end_unless_the_domain_has_one() -> None:
    for user, expected in ((False, 1.0), (True, 0.0)):
        name = f"test/counting-{user}"
        register_domain(name, counting(name, 7, user=user))
        env = ToolsEnv(domain=name, user="none", snapshots=SnapshotStore())
        env.reset()
        _, reward, terminated, _, info = env.step("It shows 7.")
        assert terminated and info["termination"] == "no_user" and reward == expected
        env.close()


# No goal ----------------------------------------------------------------------------------------------------------


def test_an_episode_without_a_goal_cannot_be_scored() -> None:
    register_domain("test/aimless", counting("test/aimless", 7, goal=False))
    env = ToolsEnv(domain="test/aimless", snapshots=SnapshotStore())
    env.reset()
    assert not env.step(do("look"))[2], "it can be acted in"
    with pytest.raises(BadInput, match="names no goal"):
        env.step("bye")
    env.close()
    task = Task(env="pivotgym/Tools-v0", id="t", data={"domain": "mcp"})
    with pytest.raises(BadInput, match="names no goal"):
        McpDomain({"mcpServers": {"x": {"command": "x"}}}).goal(task, None, [])  # type: ignore[arg-type]


# Registered anew --------------------------------------------------------------------------------------------------


def test_a_domain_registered_anew_serves_no_kept_states() -> None:
    store = SnapshotStore()
    name = "test/anew"
    messages = [
        *(Message(role="user", content="What does it show?"), do("look"), Message(role="tool", content="1")),
        *(do("look"), Message(role="tool", content="1"), say("1")),
    ]
    recording = Trajectory(id="r", task=Task(env="pivotgym/Tools-v0", id="t", data={"domain": name}), messages=messages)
    for begin in (1, 1, 2):
        register_domain(name, counting(name, begin))
        for _ in range(2):
            env = ToolsEnv(domain=name, snapshots=store)
            _, info = env.reset(options={"trajectory": recording, "turn": 1})
            observed = json.loads(env.step(do("look"))[0])
            assert observed[0]["content"] == str(begin)
            env.close()
    assert info["restore"].replayed == 0, "kept as long as the name means the same"


# Data of one's own ------------------------------------------------------------------------------------------------


def test_tau2_takes_the_users_own_data_folder(airline: Tau2Domain, tmp_path: Path) -> None:
    """A checkout of one's own with one task and the policy changed, in a new process."""
    import tau2

    source = Path(str(tau2.__file__)).parent / "data" / "tau2" / "domains" / "airline"
    folder = tmp_path / "tau2" / "domains" / "airline"
    shutil.copytree(source, folder)
    tasks = json.loads((folder / "tasks.json").read_text())
    tasks[0]["user_scenario"]["instructions"] = "You want to fly to the moon."
    (folder / "tasks.json").write_text(json.dumps(tasks))
    (folder / "policy.md").write_text("No flights to the moon.")
    code = """
    from pivotgym.envs.tools.env import ToolsEnv
    env = ToolsEnv(domain="tau2/airline", user="none")
    env.reset(options={"task": env.tasks()[0].id})
    print(env.messages[0].text)
    print(env.domain.user_instructions(env.task))
    """
    told = []
    for data in (str(tmp_path), None):
        variables = {key: value for key, value in os.environ.items() if key != "TAU2_DATA_DIR"}
        if data is not None:
            variables["TAU2_DATA_DIR"] = data
        command = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=variables, check=True)
        told.append(done.stdout)
    assert told[0].startswith("No flights to the moon.") and "fly to the moon" in told[0]
    assert "moon" not in told[1]
