"""How episodes end, what malformed output does, and what counts as an action."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from pivotgym.envs.core import Response
from pivotgym.envs.errors import BadInput
from pivotgym.envs.snapshots import SnapshotStore, State
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.servicedesk import bundled_trajectories
from pivotgym.envs.trajectory import Message, Trajectory
from pivotgym.envs.verdict import Verdict

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from ledger import DEMONSTRATION, Ledger, call, demonstrate

BAD = "<tool_call>{"


class Ends(Ledger):
    """Keeps what the end was when the goal was asked, and gives nothing for an episode that was cut off."""

    def __init__(self, config: Any = None, **options: Any) -> None:
        super().__init__(config, **options)
        self.seen: list[str | None] = []

    def respond(self, action: Message, recorded: Any = None) -> Response:
        if action.text == "leave":
            return Response([], done=True, termination="no_user")
        return Response([], done=True) if action.text == "end" else super().respond(action, recorded)

    def score(self) -> Verdict:
        self.seen.append(self.episode.termination)
        return Verdict(reward=float(self.episode.termination in (None, "done")), rule="goal")


@pytest.mark.parametrize(
    ("text", "termination", "reward"),
    [("leave", "no_user", 0.0), ("done", "done", 1.0), ("end", "done", 1.0), ("again", "max_turns", 0.0)],
)
def test_the_goal_knows_how_the_episode_ended(text: str, termination: str, reward: float) -> None:
    env = Ends(max_turns=2)
    env.reset(seed=0)
    env.step("hello")
    _, got, terminated, truncated, info = env.step(text)
    assert env.seen == [termination] and info["termination"] == termination and got == reward
    assert truncated == (termination == "max_turns") and terminated != truncated


def test_a_verifier_asks_without_an_end() -> None:
    env = Ends()
    env.reset(options={"trajectory": demonstrate(Ledger()), "turn": 2})
    fork = env.fork()
    fork.advance(Message(role="assistant", content="leave"))
    assert fork.score().reward == 1.0 and fork.seen == [None]  # type: ignore[attr-defined]


def test_malformed_output_is_answered_not_delivered() -> None:
    env = Ledger()
    env.reset(seed=0)
    env.step(DEMONSTRATION[0])
    before = dict(env.book)
    observation, reward, terminated, truncated, info = env.step("<think>done")
    (answer,) = json.loads(observation)
    assert answer["role"] == "user" and answer["content"].startswith("Error: your last message was malformed: unclosed")
    assert (reward, terminated, truncated, info["turn"]) == (0.0, False, False, 2) and "unclosed" in info["malformed"]
    assert env.book == before and len(env.messages) == 4 and len(env.transcript) == 6
    assert [m.text for m in env.conversation[-2:]] == ["<think>done", answer["content"]]
    assert all(m.delivered for m in env.messages) and "undelivered" not in json.dumps(env.transcript[-1].chat())


@pytest.mark.parametrize("text", ["<think>the code is E4P8", '<tool_call>{"name": "x" E4P8', "E4P8</tool_call>"])
def test_malformed_output_tells_a_user_nothing(text: str) -> None:
    rows = [row for row in bundled_trajectories("heldout") if row.task is not None]
    row = next(row for row in rows if row.task is not None and row.task.id.startswith("password-"))
    env = ToolsEnv()
    env.reset(options={"trajectory": row, "turn": 4})
    words = row.action(4).text
    for _ in range(3):
        reward, terminated, _, info = env.step(f"<think>{words}" if "think" in text else text + words)[1:]
        assert reward == 0.0
    assert terminated and info["termination"] == "malformed" and info["verdict"]["rule"] == "malformed"


def test_malformed_in_a_row_ends_the_episode_without_reward() -> None:
    env = Ledger(max_malformed=2)
    env.reset(seed=0)
    env.step(call("write", key="paid", value="yes"))
    env.step(BAD)
    env.step("sorry")  # the row begins again
    assert not env.step(BAD)[2]
    fork = env.fork()
    for one in (fork, env):
        _, reward, terminated, truncated, info = one.step(BAD)
        assert (reward, terminated, truncated, info["termination"]) == (0.0, True, False, "malformed")
        with pytest.raises(gym.error.ResetNeeded):
            one.step("hello")


class OnlyReplays(Ledger):
    def save(self) -> State | None:
        return None

    def respond(self, action: Message, recorded: Any = None) -> Response:
        assert "<think>" not in action.text
        return super().respond(action, recorded)


@pytest.mark.parametrize("kind", [Ledger, OnlyReplays])
def test_refused_actions_are_refused_in_forks_and_restores_too(kind: type[Ledger]) -> None:
    env = kind(snapshots=SnapshotStore())
    env.reset(seed=0)
    for action in (DEMONSTRATION[2], "<think>", DEMONSTRATION[0], "<think>", "<think>"):
        env.step(action)
    fork = env.fork()
    assert fork.book == env.book and fork.episode.malformed == 2
    recording = Trajectory(id="r", task=env.task, messages=[*env.transcript, DEMONSTRATION[0]])
    recording = Trajectory.model_validate_json(recording.model_dump_json())
    again = kind(snapshots=SnapshotStore())
    for _ in range(2):
        report = again.reset(options={"trajectory": recording, "turn": 5, "strict": True})[1]["restore"]
        assert report.faithful and again.book == env.book and again.episode.malformed == 2
    assert again.step("<think>")[4]["termination"] == "malformed"


@pytest.mark.parametrize(
    "action",
    [
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "x"},
        Message(role="tool", content="x"),
        Message(role="user", content="done"),
    ],
)
def test_only_the_assistant_acts(action: Any) -> None:
    env = Ledger()
    env.reset(seed=0)
    with pytest.raises(BadInput, match=r"action\.role.*assistant"):
        env.step(action)
    assert env.episode.turn == 0 and not env.episode.done
    env.step({"role": "assistant", "content": "hello"})
    assert env.messages[-2].role == "assistant"
