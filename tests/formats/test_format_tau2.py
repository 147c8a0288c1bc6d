"""τ²-bench import: nothing of six real result files is lost, and untidy ones are read or located."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_jsonl, write_jsonl
from pivotgym.envs.formats.tau2 import ADDED, export_info, export_simulation, read_tau2
from pivotgym.envs.trajectory import Message, Trajectory

FILES = [
    ("claude-sonnet-4-5_airline", "tau2/airline", 50),
    ("ft-gpt-4.1_retail", "tau2/retail", 40),
    ("gpt-4.1_airline", "tau2/airline", 20),
    ("gpt-4.1_retail", "tau2/retail", 40),
    ("gpt-4.1_telecom-no-user", "tau2/telecom", 40),
    ("gpt-4.1_telecom", "tau2/telecom", 40),
]


@pytest.fixture(scope="module", params=FILES, ids=[name for name, _, _ in FILES])
def recorded(request: pytest.FixtureRequest, shared_data: Path) -> tuple[dict[str, Any], list[Trajectory], str, int]:
    name, domain, count = request.param
    path = shared_data / "tau2" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")), list(read_tau2(path)), domain, count


def test_every_simulation_is_given_back(recorded: Any, tmp_path: Path) -> None:
    original, trajectories, _, count = recorded
    assert len(trajectories) == count
    write_jsonl(tmp_path / "t.jsonl.gz", trajectories)
    stored = list(read_jsonl(tmp_path / "t.jsonl.gz"))
    assert stored == trajectories
    for simulation, trajectory in zip(original["simulations"], stored, strict=True):
        assert export_simulation(trajectory) == simulation
        assert export_info(trajectory) == original["info"]
        assert trajectory.source["file"]["rest"] == {"timestamp": original["timestamp"]}
        # The structured fields alone give the messages back; no copy of the source is carried.
        assert not any("verbatim" in message.source for message in trajectory.messages)


def test_every_task_travels_with_its_trajectory(recorded: Any) -> None:
    original, trajectories, domain, _ = recorded
    tasks = {task["id"]: task for task in original["tasks"]}
    for simulation, trajectory in zip(original["simulations"], trajectories, strict=True):
        assert trajectory.task is not None
        assert trajectory.task.env == "pivotgym/Tools-v0"
        assert trajectory.task.id == simulation["task_id"]
        assert trajectory.task.data["domain"] == domain
        assert trajectory.task.data["definition"] == tasks.pop(simulation["task_id"])
        assert trajectory.outcome.reward == simulation["reward_info"]["reward"]
        assert trajectory.outcome.termination == simulation["termination_reason"]
    assert not tasks


def test_the_policy_comes_first_and_is_marked(recorded: Any) -> None:
    original, trajectories, _, _ = recorded
    solo = original["info"]["user_info"]["implementation"] == "dummy_user"
    for trajectory in trajectories:
        first, *rest = trajectory.messages
        assert first.role == "system" and first.source["added_by"] == ADDED
        assert first.text.startswith(original["info"]["environment_info"]["policy"])
        assert not any(message.source.get("added_by") for message in rest)
        assert trajectory.task is not None
        assert trajectory.task.data.get("mode") == ("solo" if solo else None)
        assert (trajectory.task.data["definition"].get("ticket") or "no ticket") in first.text or not solo


def test_calls_keep_their_requestor(shared_data: Path) -> None:
    path = shared_data / "tau2" / "gpt-4.1_telecom.json"
    original = json.loads(path.read_text(encoding="utf-8"))
    raw = [m for s in original["simulations"] for m in s["messages"] if m["role"] == "tool"]
    messages = [m for t in read_tau2(path) for m in t.messages if m.role == "tool"]
    assert [m.requestor for m in messages] == [m["requestor"] for m in raw]
    assert sum(m.requestor == "user" for m in messages) == 482
    assert not any(m.visible_to_agent for m in messages if m.requestor == "user")


# ------------------------------------------------------------------------------------------------- untidy files

CALL = {"id": "c1", "name": "find", "arguments": {"x": 1}, "requestor": "assistant"}
RESULT = {"role": "tool", "id": "c1", "content": "1", "requestor": "assistant", "error": False}


def file_with(simulations: list[Any], tmp_path: Path, tasks: list[Any] | None = None, **info: Any) -> Path:
    document = {
        "info": {"environment_info": {"domain_name": "airline", "policy": "Be kind."}, **info},
        "tasks": [{"id": "1", "ticket": "help"}] if tasks is None else tasks,
        "simulations": simulations,
    }
    path = tmp_path / "untidy.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def simulation(messages: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "s", "task_id": "1", "messages": messages, "reward_info": {"reward": 1}, **fields}


def read_one(path: Path) -> Trajectory:
    (trajectory,) = read_tau2(path)
    return trajectory


def without_additions(trajectory: Trajectory) -> list[Message]:
    return [message for message in trajectory.messages if message.source.get("added_by") != ADDED]


UNTIDY: dict[str, dict[str, Any]] = {
    "id used twice": simulation(
        [{"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT] * 2,
    ),
    "several calls": simulation([{"role": "assistant", "content": "a", "tool_calls": [CALL, CALL]}, RESULT, RESULT]),
    "arguments as text": simulation([{"role": "assistant", "tool_calls": [{**CALL, "arguments": '{"x":  1}'}]}]),
    "arguments no JSON": simulation([{"role": "assistant", "tool_calls": [{**CALL, "arguments": "{x: 1"}]}]),
    "arguments null": simulation([{"role": "assistant", "tool_calls": [{**CALL, "arguments": None}]}]),
    "no requestor": simulation([{"role": "assistant", "content": None, "tool_calls": [{"id": "", "name": "f"}]}]),
    "call fields": simulation([{"role": "assistant", "content": "", "tool_calls": [{**CALL, "extra": [1]}]}]),
    "empty list of calls": simulation([{"role": "assistant", "content": "hi", "tool_calls": []}]),
    "null content": simulation([{"role": "user", "content": None, "tool_calls": None}]),
    "absent content": simulation([{"role": "user"}]),
    "reasoning": simulation([{"role": "assistant", "content": "a", "reasoning": "because", "tool_calls": None}]),
    "both reasonings": simulation([{"role": "assistant", "content": "a", "reasoning": "b", "reasoning_content": "c"}]),
    "no reward": simulation([{"role": "user", "content": "a"}], reward_info=None),
    "empty reward": simulation([{"role": "user", "content": "a"}], reward_info={}),
    "no messages": simulation([]),
    "null messages": simulation(None),
    "reward absent": {"id": "s", "task_id": "1", "messages": [{"role": "user", "content": "a"}]},
    "messages absent": {"id": "s", "task_id": "1"},
    "nested tool messages": simulation(
        [
            {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
            {"role": "tool", "turn_idx": 3, "tool_messages": [RESULT, {**RESULT, "content": None}]},
            {"role": "user", "content": "thanks", "tool_calls": None},
        ]
    ),
}


@pytest.mark.parametrize("case", UNTIDY, ids=UNTIDY.keys())
def test_untidy_simulations_are_given_back(case: str, tmp_path: Path) -> None:
    path = file_with([UNTIDY[case]], tmp_path)
    imported = read_one(path)
    write_jsonl(tmp_path / "t.jsonl", [imported])
    (stored,) = read_jsonl(tmp_path / "t.jsonl")
    assert stored == imported
    assert export_simulation(stored) == UNTIDY[case]
    assert export_info(stored)["environment_info"] == {"domain_name": "airline", "policy": "Be kind."}


def test_untidy_messages_are_understood(tmp_path: Path) -> None:
    def messages(case: str) -> list[Message]:
        return without_additions(read_one(file_with([UNTIDY[case]], tmp_path)))

    assert messages("arguments as text")[0].tool_calls[0].arguments == {"x": 1}
    assert messages("arguments no JSON")[0].tool_calls[0].arguments == "{x: 1"
    assert [m.tool_call_id for m in messages("id used twice")] == [None, "c1", None, "c1"]
    assert [m.role for m in messages("nested tool messages")] == ["assistant", "tool", "tool", "user"]
    assert messages("reasoning")[0].reasoning_content == "because"
    assert read_one(file_with([UNTIDY["no reward"]], tmp_path)).outcome.reward is None
    empty = read_one(file_with([UNTIDY["no messages"]], tmp_path))
    assert empty.messages == [] and empty.source["notes"] == ["no messages"]


def test_result_without_requestor_answers_the_last_caller(tmp_path: Path) -> None:
    bare = {key: value for key, value in RESULT.items() if key != "requestor"}
    calls = [{"role": role, "content": None, "tool_calls": [CALL]} for role in ("user", "assistant")]
    imported = read_one(file_with([simulation([calls[0], bare, calls[1], bare])], tmp_path))
    assert [m.requestor for m in imported.messages if m.role == "tool"] == ["user", "assistant"]
    assert export_simulation(imported)["messages"] == [calls[0], bare, calls[1], bare]


def test_an_edited_message_is_exported_as_edited(tmp_path: Path) -> None:
    imported = read_one(file_with([UNTIDY["arguments as text"]], tmp_path))
    edited = copy.deepcopy(imported)
    edited.messages[1].tool_calls[0].arguments = {"x": 2}
    assert export_simulation(edited)["messages"][0]["tool_calls"][0]["arguments"] == {"x": 2}


def test_a_task_that_the_file_lacks_is_noted(tmp_path: Path) -> None:
    imported = read_one(file_with([simulation([{"role": "user", "content": "a"}], task_id="7")], tmp_path))
    assert imported.task is not None and imported.task.id == "7"
    assert "definition" not in imported.task.data
    assert imported.source["notes"] == ["the file's tasks have no '7'"]
    assert imported.source["file"]["unused_tasks"] == [{"id": "1", "ticket": "help"}]


def test_task_ids_match_as_number_or_text(tmp_path: Path) -> None:
    imported = read_one(file_with([simulation([], task_id=1)], tmp_path))
    assert imported.task is not None and imported.task.data["definition"]["ticket"] == "help"
    assert export_simulation(imported)["task_id"] == 1


def test_solo_runs_carry_the_ticket(tmp_path: Path) -> None:
    path = file_with(
        [simulation([{"role": "user", "content": "a"}])], tmp_path, agent_info={"implementation": "a_solo"}
    )
    imported = read_one(path)
    assert imported.task is not None and imported.task.data["mode"] == "solo"
    assert imported.messages[0].text == "Be kind.\n\n<ticket>\nhelp\n</ticket>"
    assert export_info(imported)["environment_info"]["policy"] == "Be kind."


def calling(*calls: Any) -> dict[str, Any]:
    return simulation([{"role": "assistant", "tool_calls": list(calls)}])


BAD: list[tuple[Any, str]] = [
    ("text", "simulations.0"),
    ({"id": "s", "messages": []}, "simulations.0.task_id"),
    (simulation("text"), "simulations.0.messages"),
    (simulation({}), "simulations.0.messages"),
    (simulation(["text"]), "simulations.0.messages.0"),
    (simulation([{"content": "a"}]), "simulations.0.messages.0.role"),
    (simulation([{"role": "judge"}]), "simulations.0.messages.0.role"),
    (simulation([{"role": "user", "content": 5}]), "simulations.0.messages.0.content"),
    (simulation([{"role": "user"}, {"role": "user", "tool_calls": 5}]), "simulations.0.messages.1.tool_calls"),
    (calling("f"), "simulations.0.messages.0.tool_calls.0"),
    (calling({"id": "1"}), "simulations.0.messages.0.tool_calls.0.name"),
    (calling({"name": 1}), "simulations.0.messages.0.tool_calls.0.name"),
    (calling({"name": "f", "arguments": [1]}), "simulations.0.messages.0.tool_calls.0.arguments"),
    (simulation([{"role": "tool", "id": 3}]), "simulations.0.messages.0.tool_call_id"),
    (simulation([{"role": "tool", "requestor": "judge"}]), "simulations.0.messages.0.requestor"),
    (simulation([{"role": "tool", "tool_messages": [5]}]), "simulations.0.messages.0.tool_messages.0"),
]


@pytest.mark.parametrize(("bad", "field"), BAD, ids=[field + f"-{n}" for n, (_, field) in enumerate(BAD)])
def test_bad_simulations_are_located_and_skipped(bad: Any, field: str, tmp_path: Path) -> None:
    path = file_with([bad, simulation([{"role": "user", "content": "a"}], id="good")], tmp_path)
    with pytest.raises(BadInput) as caught:
        list(read_tau2(path))
    assert caught.value.field == field
    assert f"{path}: field {field}: " in str(caught.value)
    errors: list[BadInput] = []
    assert [t.id for t in read_tau2(path, "skip", errors)] == ["good"]
    assert [error.field for error in errors] == [field]


def test_a_simulation_id_used_twice_is_reported(tmp_path: Path) -> None:
    path = file_with([simulation([]), simulation([])], tmp_path)
    errors: list[BadInput] = []
    assert len(list(read_tau2(path, "skip", errors))) == 1
    assert "'s' is used twice" in str(errors[0])


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"simulations": []}, "info"),
        ({"info": {}, "simulations": []}, "info.environment_info.domain_name"),
        ({"info": {"environment_info": {"domain_name": 1}}, "simulations": []}, "info.environment_info.domain_name"),
        ({"info": {"environment_info": {"domain_name": "a"}}}, "simulations"),
        ({"info": {"environment_info": {"domain_name": "a"}}, "simulations": [], "tasks": [1]}, "tasks.0"),
    ],
)
def test_a_file_without_its_parts_is_refused(document: Any, field: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        list(read_tau2(path, "skip", []))
    assert caught.value.field == field and caught.value.file == path


def test_a_truncated_file_names_the_line(shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "tau2" / "gpt-4.1_airline.json").read_bytes()
    path = tmp_path / "cut.json"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="not valid JSON") as caught:
        list(read_tau2(path))
    assert caught.value.line == whole[: len(whole) // 2].count(b"\n") + 1
