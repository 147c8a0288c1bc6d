"""What is not shared: objects between forks and recordings, kept states between configurations and environments."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium as gym
import pytest
from pydantic import ValidationError

from pivotgym.envs.core import EnvConfig, Opening
from pivotgym.envs.errors import NotRestorable
from pivotgym.envs.restore import prefix_keys
from pivotgym.envs.snapshots import SnapshotStore, State
from pivotgym.envs.trajectory import FORMAT_VERSION, Message, Task, ToolCall, Trajectory, copy_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from ledger import TOOLS, Ledger, demonstrate


class RentConfig(EnvConfig):
    rent: str = "100"


class Rents(Ledger):
    Config = RentConfig
    config: RentConfig

    def start(self, task: Task) -> Opening:
        opening = super().start(task)
        self.book["rent"] = self.config.rent
        return opening


def test_differently_configured_environments_keep_their_own_states() -> None:
    store, recording = SnapshotStore(), demonstrate(Rents(rent="5"))
    Rents(rent="5", snapshots=store).reset(options={"trajectory": recording, "turn": 1})
    other = Rents(rent="7", snapshots=store)
    assert other.reset(options={"trajectory": recording, "turn": 1})[1]["restore"].replayed == 1
    assert other.book["rent"] == "7"
    same = Rents(rent="5", snapshots=store, max_turns=3, max_malformed=9, verifier="exact")
    assert same.reset(options={"trajectory": recording, "turn": 1})[1]["restore"].replayed == 0


def test_nothing_handed_out_is_shared() -> None:
    recording = demonstrate(Ledger())
    recording = recording.model_copy(update={"tools": copy_json(TOOLS)})
    before, env = recording.model_dump_json(), Ledger(snapshots=SnapshotStore())
    env.reset(options={"trajectory": recording, "turn": 4})
    fork = env.fork()
    sibling = fork.fork()
    assert fork.messages[4].tool_calls[0].arguments == {"key": "rent"}
    fork.messages[4].tool_calls[0].arguments["key"] = "HACKED"  # type: ignore[index]
    fork.messages[0].content = "HACKED"
    fork.tools[0]["function"]["name"] = "HACKED"
    fork.tools.append({})
    child = fork.fork()
    assert child.messages[0].content == "HACKED" and len(child.tools) == 5, "a fork is in the state of its parent"
    child.tools.clear()
    assert len(fork.tools) == 5
    late = Ledger(snapshots=env.snapshots)
    late.reset(options={"trajectory": recording, "turn": 4})
    for other in (env, sibling, late, env.fork()):
        assert other.messages == recording.prefix(4) and other.tools == TOOLS
    assert recording.model_dump_json() == before
    env.advance(recording.action(4), recording.answer(4))
    env.messages[-1].content = env.messages[-2].content = "HACKED"
    assert recording.model_dump_json() == before


def test_copies_are_equal_and_independent() -> None:
    parts = [{"type": "text", "text": "x"}]
    message = Message(
        role="assistant",
        content=parts,
        tool_calls=[ToolCall(name="a", arguments={"b": [1, {"c": None}]}, source={"d": object()})],
        source={"e": [2]},
    )
    twin = message.clone()
    assert twin.model_copy(update={"tool_calls": []}) == message.model_copy(update={"tool_calls": []})
    assert twin.tool_calls[0].arguments == message.tool_calls[0].arguments
    twin.content[0]["text"] = twin.tool_calls[0].arguments["b"][1]["c"] = twin.source["e"][0] = "y"  # type: ignore[index]
    assert message.content == parts and message.tool_calls[0].arguments == {"b": [1, {"c": None}]}
    assert parts[0]["text"] == "x" and message.source == {"e": [2]}
    empty = Message(role="user", content="x")
    empty.clone().source["a"] = 1
    assert empty.source == {} and ToolCall(name="a").clone() == ToolCall(name="a")


def keys(*calls: ToolCall) -> list[str]:
    messages = [
        Message(role="assistant", tool_calls=list(calls)),
        Message(role="tool", content="r"),
        Message(role="assistant", content="x"),
    ]
    task = Task(env="e", id="a")
    return prefix_keys(Ledger(), Trajectory(id="t", task=task, messages=messages), task)


def test_different_calls_have_different_keys() -> None:
    a, b = ToolCall(name="a"), ToolCall(name="b")
    found = [keys(a, b), keys(ToolCall(name="a({})b")), keys(b, a), keys(ToolCall(name="a', {}), ('b"))]
    found += [keys(ToolCall(name="a", arguments="{")), keys(a)]
    assert len({row[1] for row in found}) == len(found)
    assert keys(a) == keys(ToolCall(name="a", id="call_9"))


def test_a_recording_of_another_environment_is_refused() -> None:
    for name in ("tests/Ledger-v0", "tests/Renamed-v0"):
        if name not in gym.registry:
            gym.register(name, entry_point=Ledger)
    recording = demonstrate(Ledger())
    foreign = recording.model_copy(update={"task": recording.task.model_copy(update={"env": "somebody/Else-v3"})})  # type: ignore[union-attr]
    tools = recording.model_copy(update={"task": recording.task.model_copy(update={"env": "pivotgym/Tools-v0"})})  # type: ignore[union-attr]
    for name in ("tests/Ledger-v0", "tests/Renamed-v0"):  # the same environment under a name of its own
        env = gym.make(name, disable_env_checker=True)
        assert env.reset(options={"trajectory": recording, "turn": 1})[1]["turn"] == 1
        for other in (foreign, tools):
            with pytest.raises(NotRestorable, match=r"recorded in \w+/\w+-v., this is tests/") as caught:
                env.reset(options={"trajectory": other, "turn": 1})
            assert caught.value.kind == "other_environment"
    assert Ledger().reset(options={"trajectory": foreign, "turn": 1})[1]["turn"] == 1, "made directly: knows no id"


def test_recordings_of_a_newer_format_are_refused() -> None:
    recording = demonstrate(Ledger())
    with pytest.raises(ValidationError, match=f"format version 99; this release reads up to {FORMAT_VERSION}"):
        Trajectory.model_validate({**recording.model_dump(), "version": 99})
    with pytest.raises(NotRestorable, match="newer_format"):
        Ledger().reset(options={"trajectory": recording.model_copy(update={"version": 99}), "turn": 1})


def test_the_notes_of_kept_states_are_linked_and_counted() -> None:
    env = Ledger(snapshots=SnapshotStore())
    messages = list(demonstrate(Ledger()).messages[:2])
    for number in range(60):
        action = Message(role="assistant", tool_calls=[ToolCall(name="read", arguments={"key": "rent"})])
        messages += [action, Message(role="tool", content="x" * 500 if number % 2 else "100")]
    recording = Trajectory(id="long", task=Ledger().tasks()[0], messages=messages)
    first = env.reset(options={"trajectory": recording, "turn": 59})[1]["restore"]
    again = env.reset(options={"trajectory": recording, "turn": 59})[1]["restore"]
    assert first.replayed == 59 and again.replayed == 0 and again.checks == first.checks
    assert [check.turn for check in again.checks] == list(range(59)) and len(again.diverged) == 29
    middle = env.reset(options={"trajectory": recording, "turn": 20})[1]["restore"]
    assert middle.replayed == 0 and middle.checks == first.checks[:20]
    held = list(env.snapshots._entries.values())
    assert sum(len(entry.note[0].since) for entry in held if entry.note[0] is not None) == 59, "each kept once"
    diffs = sum(len(check.diff or "") for check in first.checks)
    assert env.snapshots.nbytes > diffs > 10_000
    env.close()
    env.snapshots.clear()
    assert env.snapshots.nbytes == 0


def test_a_note_counts_against_the_budget() -> None:
    store = SnapshotStore(100)
    assert not store.put("a", State("a", 60), note="long", note_bytes=50) and store.nbytes == 0
    assert store.put("a", State("a", 60), note="short", note_bytes=30) and store.nbytes == 90
    assert store.put("b", State("b", 20)) and store.nbytes == 20 and store.stats.evictions == 1
