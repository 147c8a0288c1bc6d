"""InterCode import: nothing of the recorded sessions is lost, and untidy files are read or located."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import detect, load_trajectories
from pivotgym.envs.formats.intercode import export_session, read_intercode
from pivotgym.envs.formats.jsonl import read_jsonl, write_jsonl
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import Trajectory

FILES = {1: (60, 401), 2: (53, 310)}


@pytest.fixture(scope="module", params=FILES)
def recorded(request: pytest.FixtureRequest, shared_data: Path) -> tuple[int, Path, dict[str, Any], list[Trajectory]]:
    path = shared_data / "intercode" / f"gpt-4_fs_{request.param}.json"
    return request.param, path, json.loads(path.read_text(encoding="utf-8")), list(read_intercode(path))


def test_every_session_is_given_back(recorded: Any, tmp_path: Path) -> None:
    number, path, document, trajectories = recorded
    assert (len(trajectories), sum(len(trajectory.turns) for trajectory in trajectories)) == FILES[number]
    write_jsonl(tmp_path / "t.jsonl.gz", trajectories)
    stored = list(read_jsonl(tmp_path / "t.jsonl.gz"))
    assert stored == trajectories
    assert [export_session(trajectory) for trajectory in stored] == list(document.values())
    assert detect(path) == "intercode"
    assert [trajectory.id for trajectory in load_trajectories(path)] == [trajectory.id for trajectory in trajectories]


def test_messages_rewards_and_tasks(recorded: Any) -> None:
    number, path, document, trajectories = recorded
    references = json.loads((path.parent / f"nl2bash_fs_{number}.json").read_text(encoding="utf-8"))
    for session, trajectory, reference in zip(document.values(), trajectories, references, strict=True):
        history = session["turn_history"]
        calls = [trajectory.action(turn).tool_calls[0] for turn in range(len(trajectory.turns))]
        assert [call.arguments for call in calls] == [{"command": action} for action in history["actions"]]
        results = [message for message in trajectory.messages if message.role == "tool"]
        assert [message.text for message in results] == history["observations"]
        assert [message.tool_call_id for message in results] == [call.id for call in calls]
        assert trajectory.outcome.reward == session["summary"]["max_reward"]
        assert trajectory.messages[0].text == session["query"]
        assert trajectory.task is not None
        spec = TerminalTask.of(trajectory.task)
        assert spec.set == "intercode" and spec.instruction == session["query"] and spec.workdir == "/"
        assert spec.definition["gold"] == reference["gold"]
        assert spec.setup.archive_bytes() == [(path.parent / f"fs_{number}.tar.gz").read_bytes()]


def test_what_a_file_shows_of_its_container_goes_into_every_task(shared_data: Path) -> None:
    folder = shared_data / "intercode"
    first, second = (next(read_intercode(folder / f"gpt-4_fs_{number}.json")) for number in FILES)
    assert first.task is not None and second.task is not None
    # Session 6 printed the name; session 17 did not find xxd, session 49 of the other file no wget.
    assert TerminalTask.of(first.task).hostname == "750f73ff0550"
    assert "xxd" in TerminalTask.of(first.task).setup.script
    assert TerminalTask.of(second.task).hostname == "sandbox"
    assert (
        "wget" in TerminalTask.of(second.task).setup.script and "wget" not in TerminalTask.of(first.task).setup.script
    )


def test_without_its_file_system_a_session_is_imported_and_the_task_says_what_is_missing(
    shared_data: Path, tmp_path: Path
) -> None:
    shutil.copy(shared_data / "intercode" / "gpt-4_fs_2.json", tmp_path)
    trajectories = list(read_intercode(tmp_path / "gpt-4_fs_2.json"))
    assert len(trajectories) == 53
    assert trajectories[0].task is not None
    spec = TerminalTask.of(trajectories[0].task)
    assert spec.setup.archives == [] and "fs_2.tar.gz" in spec.setup.script
    assert "gold" not in spec.definition


# ------------------------------------------------------------------------------------------------- untidy files


def session(**history: Any) -> dict[str, Any]:
    turns = {"actions": ["ls"], "observations": ["a\n"], "rewards": [1.0], "valid_action": [True], **history}
    return {"environment": "ic_bash", "dataset": "nl2bash_fs_7.json", "task_id": 3, "query": "?", "turn_history": turns}


def write(tmp_path: Path, *sessions: Any) -> Path:
    path = tmp_path / "sessions.json"
    path.write_text(json.dumps({str(key): value for key, value in enumerate(sessions)}), encoding="utf-8")
    return path


def test_messages_without_a_command_are_no_actions(tmp_path: Path) -> None:
    refused = "No bash code was found in your last response.\n\nYour response should be a bash command."
    row = session(
        actions=["I would list the files.", "ls", "skip", "blocked"],
        observations=[refused, "a\n", "skipped"],
        rewards=[0, 0.5, 0, 0],
        valid_action=[False, True, True],
    )
    (trajectory,) = read_intercode(write(tmp_path, row))
    assert [message.delivered for message in trajectory.messages] == [True, False, False, True, True, False, False]
    assert trajectory.outcome.reward == 0.5 and trajectory.outcome.termination == "max_turns"
    assert export_session(trajectory) == row


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"turn_history": {"actions": ["ls"], "observations": ["a", "b"]}}, "0.turn_history.actions"),
        ({"turn_history": {"actions": [3], "observations": ["a"]}}, "0.turn_history.actions.0"),
        ({"turn_history": {"actions": ["ls"]}}, "0.turn_history"),
        ({"query": None}, "0.query"),
        ({"environment": "ic_sql"}, "0.environment"),
        ({"dataset": "elsewhere"}, "0.dataset"),
    ],
)
def test_a_bad_session_is_located_and_skipped(change: dict[str, Any], field: str, tmp_path: Path) -> None:
    path = write(tmp_path, {**session(), **change}, session())
    with pytest.raises(BadInput) as raised:
        list(read_intercode(path))
    assert str(raised.value.field).startswith(field)
    errors: list[BadInput] = []
    assert [trajectory.id for trajectory in read_intercode(path, "skip", errors)] == ["sessions/1"]
    assert [error.field for error in errors] == [raised.value.field]
