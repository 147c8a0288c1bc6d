"""AgentEnv: resets, steps, forks, restores, and what holds when something fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from pivotgym.envs.core import Opening, Response
from pivotgym.envs.errors import BadInput, NotRestorable, RestoreDiverged, ToolServerError
from pivotgym.envs.snapshots import SnapshotStore, State
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from ledger import DEMONSTRATION, Ledger, call, demonstrate


def test_an_episode() -> None:
    env = Ledger(render_mode="ansi")
    with pytest.raises(gym.error.ResetNeeded):
        env.step("hello")
    observation, info = env.reset(options={"task": "ledger-2"})
    assert [row["role"] for row in json.loads(observation)] == ["system", "user"] and info["task"] == "ledger-2"
    text = '<tool_call>{"name": "write", "arguments": {"key": "paid", "value": "yes"}}</tool_call>'
    observation, reward, terminated, truncated, info = env.step(text)
    assert json.loads(observation)[0]["content"] == "paid = yes" and (reward, terminated, truncated) == (
        0,
        False,
        False,
    )
    assert "malformed" in env.step("<tool_call>{")[4]
    env.step({"content": "nearly"})
    _, reward, terminated, _, info = env.step("done")
    assert reward == 1.0 and terminated and info["termination"] == "done" and info["verdict"]["rule"] == "goal"
    assert "[tool] paid = yes" in str(env.render()) and '"value": "yes"' in str(env.render())
    with pytest.raises(gym.error.ResetNeeded):
        env.step("more")


def test_truncation_is_scored() -> None:
    env = Ledger(max_turns=2, snapshots=SnapshotStore())
    env.reset(seed=1)
    env.step(call("write", key="paid", value="x"))
    _, reward, terminated, truncated, info = env.step("wait")
    assert (reward, terminated, truncated, info["termination"]) == (1.0, False, True, "max_turns")


@pytest.mark.parametrize(
    ("options", "told"),
    [({"task": "nobody"}, "nobody"), ({"tusk": 1}, "options.tusk"), ({"trajectory": 5}, "options.trajectory")],
)
def test_bad_options_leave_no_episode(options: dict[str, Any], told: str) -> None:
    env = Ledger()
    env.reset(seed=0)
    with pytest.raises(BadInput, match=told):
        env.reset(options=options)


def test_unknown_keywords_are_bad_input() -> None:
    with pytest.raises(BadInput, match="max_truns"):
        Ledger(max_truns=3)


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"messages": []}, "no_messages"), ({"task": None}, "no_environment"), ({}, "no_such_turn")],
)
def test_what_cannot_be_restored_says_why(change: dict[str, Any], kind: str) -> None:
    env = Ledger()
    env.reset(seed=0)
    with pytest.raises(NotRestorable) as caught:
        env.reset(options={"trajectory": demonstrate(Ledger()).model_copy(update=change), "turn": 99})
    assert caught.value.kind == kind
    with pytest.raises(gym.error.ResetNeeded):
        env.step("a half-built episode must not go on")
    only_user = demonstrate(Ledger()).model_copy(update={"messages": [Message(role="user", content="x")]})
    with pytest.raises(NotRestorable, match="no_turns"):
        env.reset(options={"trajectory": only_user})


def test_trajectories_with_a_common_prefix_share_snapshots() -> None:
    store = SnapshotStore()
    one = demonstrate(Ledger())
    branch = Ledger()
    branch.reset(options={"trajectory": one, "turn": 4})
    branch.step(call("write", key="other", value="way"))
    branch.step("so be it")
    other = Trajectory(id="other", task=one.task, messages=list(branch.messages))
    env = Ledger(snapshots=store)
    first = env.reset(options={"trajectory": one, "turn": 5})[1]["restore"]
    assert (first.replayed, len(first.checks), first.fidelity) == (5, 5, 1.0)
    second = env.reset(options={"trajectory": other, "turn": 5})[1]["restore"]
    assert (second.replayed, len(second.checks)) == (1, 5) and env.book["other"] == "way"
    assert env.reset(options={"trajectory": one, "turn": 3})[1]["restore"].replayed == 0
    assert "receipt" in env.book and "other" not in env.book
    moved = one.model_copy(update={"task": one.task.model_copy(update={"data": {"rent": "999"}})})  # type: ignore[union-attr]
    assert env.reset(options={"trajectory": moved, "turn": 3})[1]["restore"].replayed == 3, (
        "another task, same messages"
    )


def test_tools_of_one_recording_are_not_handed_to_another() -> None:
    one = demonstrate(Ledger())
    own = one.model_copy(update={"id": "own", "tools": [{"type": "function", "function": {"name": "only"}}]})
    env = Ledger(snapshots=SnapshotStore())
    env.reset(options={"trajectory": own, "turn": 3})
    assert [tool["function"]["name"] for tool in env.tools] == ["only"]
    env.reset(options={"trajectory": one, "turn": 3})
    assert len(env.tools) == 4


def altered(trajectory: Trajectory) -> Trajectory:
    messages = list(trajectory.messages)
    place = trajectory.turns[1] + 1
    messages[place] = messages[place].model_copy(update={"content": "rent was 5"})
    return trajectory.model_copy(update={"messages": messages})


def test_a_divergence_is_reported_and_strict_refuses() -> None:
    trajectory = altered(demonstrate(Ledger()))
    env = Ledger(snapshots=SnapshotStore())
    report = env.reset(options={"trajectory": trajectory, "turn": 4})[1]["restore"]
    assert not report.faithful and report.fidelity == 0.75 and report.diverged[0].kind == "different"
    assert "-rent was 5" in report.diverged[0].diff and "+100" in report.diverged[0].diff
    for _ in range(2):  # from kept states and after a replay alike
        with pytest.raises(RestoreDiverged, match="rent was 5"):
            env.reset(options={"trajectory": trajectory, "turn": 4, "strict": True})
        with pytest.raises(gym.error.ResetNeeded):
            env.step("no")
        env.snapshots.clear()
    assert env.reset(options={"trajectory": trajectory, "turn": 1, "strict": True})[1]["restore"].faithful


def test_missing_and_unexpected_observations_are_told() -> None:
    trajectory = demonstrate(Ledger())
    messages = list(trajectory.messages)
    del messages[trajectory.turns[1] + 1]
    env = Ledger(snapshots=SnapshotStore())
    shorter = trajectory.model_copy(update={"messages": messages})
    report = env.reset(options={"trajectory": shorter, "turn": 3})[1]["restore"]
    assert [check.kind for check in report.diverged] == ["unexpected"]
    extra = list(trajectory.messages)
    extra.insert(trajectory.turns[1] + 1, Message(role="tool", content="twice"))
    longer = trajectory.model_copy(update={"messages": extra})
    report = env.reset(options={"trajectory": longer, "turn": 3})[1]["restore"]
    assert [check.kind for check in report.diverged] == ["different", "missing"]


def test_a_fork_and_the_effect_of_an_action() -> None:
    env = Ledger(snapshots=SnapshotStore())
    env.reset(options={"trajectory": demonstrate(Ledger()), "turn": 2})
    effect = env.effect(DEMONSTRATION[2])
    assert effect.known and effect.changes == [
        {"key": "receipt", "before": None, "after": "transfer-0815-to-the-landlord"}
    ]
    assert effect.observation[0].text.startswith("receipt = ") and "receipt" not in env.book
    fork = env.fork()
    assert fork.pivot is not None and fork.pivot.demonstration == DEMONSTRATION[2]
    fork.step(DEMONSTRATION[2])
    assert fork.pivot is None and env.pivot is not None and len(fork.messages) == len(env.messages) + 2
    again = fork.fork()
    fork.close()
    assert json.loads(again.step(call("read", key="receipt"))[0])[0]["content"].startswith("transfer")


class OnDisk(Ledger):
    """Counts its saved states as if each were a file."""

    alive: set[int] = set()  # noqa: RUF012
    made = 0

    def save(self) -> State | None:
        state = super().save()
        assert state is not None
        OnDisk.made += 1
        number = OnDisk.made
        self.alive.add(number)
        return State(state.payload, 100, lambda: self.alive.remove(number))


def test_every_saved_state_is_disposed_of_exactly_once() -> None:
    store = SnapshotStore(250)
    env = OnDisk(snapshots=store)
    for turn in (5, 3, 5):
        env.reset(options={"trajectory": demonstrate(Ledger()), "turn": turn})
        with_child = env.fork()
        grandchild = with_child.fork()
        with_child.effect(DEMONSTRATION[0])
        with_child.close()
        grandchild.step(DEMONSTRATION[0])
        grandchild.close()
        grandchild.close()
    env.close()
    assert len(OnDisk.alive) == len(store) <= 2 and OnDisk.made > 12
    store.clear()
    assert not OnDisk.alive


class Breaks(Ledger):
    """A server that goes down at the word ``break``, or already at the start."""

    at_start = False
    stopped = 0

    def start(self, task: Task) -> Opening:
        if self.at_start:
            raise ToolServerError("down")
        return super().start(task)

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        if action.text == "break":
            raise ToolServerError("down")
        return super().respond(action, recorded)

    def stop(self) -> None:
        self.stopped += 1


def test_an_infrastructure_failure_gives_no_reward_and_ends_the_episode() -> None:
    env = Breaks()
    env.reset(seed=0)
    with pytest.raises(ToolServerError):
        env.step("break")
    assert env.episode.termination == "infrastructure_error"
    with pytest.raises(gym.error.ResetNeeded):
        env.step("hello")
    env.at_start, before = True, env.stopped
    with pytest.raises(ToolServerError):
        env.reset(seed=0)
    assert env.stopped >= before + 1, "what the start left behind is freed"
    with pytest.raises(gym.error.ResetNeeded):
        env.step("hello")
    env.at_start = False
    assert env.reset(seed=0)[1]["turn"] == 0


def test_a_fork_that_fails_leaves_nothing_held() -> None:
    class NoLoad(OnDisk):
        def load(self, state: State) -> None:
            raise ToolServerError("down")

    env = NoLoad(snapshots=SnapshotStore())
    env.reset(seed=0)
    before = set(OnDisk.alive)
    with pytest.raises(ToolServerError):
        env.fork()
    assert OnDisk.alive == before


def test_failed_calls_in_a_row_end_a_tools_episode() -> None:
    env = gym.make("pivotgym/Tools-v0", max_errors=3)
    env.reset(seed=0)
    bad = Message(role="assistant", tool_calls=[ToolCall(name="no_such_tool")])
    assert not env.step(bad)[2] and not env.step(bad)[2]  # type: ignore[arg-type]
    _, reward, terminated, _, info = env.step(bad)  # type: ignore[arg-type]
    assert terminated and reward == 0.0 and info["termination"] == "too_many_errors"
    env.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments(mode: str) -> None:
    many = gym.make_vec("pivotgym/Tools-v0", 3, vectorization_mode=mode, max_turns=4)
    observations, infos = many.reset(seed=11)
    single = gym.make("pivotgym/Tools-v0")
    alone = [single.reset(seed=11 + offset)[0] for offset in range(3)]
    assert list(observations) == alone and len(set(infos["task"])) > 1
    ended = [False] * 3
    for _ in range(4):
        observations, rewards, terminated, truncated, infos = many.step(("Hello?",) * 3)
        ended = [before or bool(now) for before, now in zip(ended, terminated | truncated, strict=True)]
        assert rewards.shape == (3,) and all(isinstance(json.loads(text), list) for text in observations)
    assert all(ended)
    many.reset(seed=11)  # a finished batch begins again
    many.close()
    single.close()
