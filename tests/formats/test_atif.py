"""ATIF documents: read, written, and given back."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from needs import require

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import detect, load_trajectories, save_trajectories
from pivotgym.envs.formats.atif import export_document, read_atif
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import Message, Outcome, Task, ToolCall, Trajectory


def call(name: str, call_id: str, /, **arguments: Any) -> dict[str, Any]:
    return {"tool_call_id": call_id, "function_name": name, "arguments": arguments}


BASH = {
    "schema_version": "ATIF-v1.7",
    "session_id": "run-1",
    "trajectory_id": "t-1",
    "agent": {"name": "mini", "version": "2.4", "model_name": "m", "extra": {"k": 1}},
    "notes": "n",
    "steps": [
        {"step_id": 1, "source": "system", "message": "You help.", "timestamp": "2026-01-01T00:00:00Z"},
        {"step_id": 2, "source": "user", "message": "Say hi."},
        {
            "step_id": 3,
            "source": "agent",
            "message": "I look.",
            "reasoning_content": "hm",
            "model_name": "m2",
            "tool_calls": [call("bash_command", "a", command="ls"), call("bash_command", "b", command="echo hi")],
            "observation": {
                "results": [
                    {"source_call_id": "a", "content": "<returncode>0</returncode>\n<output>\nx\n</output>"},
                    {"source_call_id": "b", "content": "<returncode>1</returncode>\n<output>\nhi\n</output>"},
                ]
            },
            "metrics": {"prompt_tokens": 3, "completion_token_ids": [1, 2], "logprobs": [-0.1, -0.2]},
            "extra": {"anything": True},
        },
        {
            "step_id": 4,
            "source": "system",
            "message": "Handed over.",
            "observation": {"results": [{"subagent_trajectory_ref": [{"trajectory_path": "sub.json"}]}]},
        },
        {"step_id": 5, "source": "agent", "message": "Done."},
    ],
    "final_metrics": {"total_cost_usd": 0.5, "total_steps": 5},
}
KEYS = {
    "schema_version": "ATIF-v1.5",
    "session_id": "run-2",
    "agent": {"name": "terminus-2", "version": "2.0"},
    "steps": [
        {"step_id": 1, "source": "user", "message": "Make a file.\nroot@host:/#"},
        {
            "step_id": 2,
            "source": "agent",
            "message": "Analysis",
            "tool_calls": [
                call("bash_command", "c1", keystrokes="cd /tmp\n", duration=0.5),
                call("bash_command", "c2", keystrokes="C-c", duration=1.0),
            ],
            "observation": {"results": [{"content": "root@host:/tmp# ^C"}]},
        },
        {
            "step_id": 3,
            "source": "agent",
            "message": "Complete",
            "tool_calls": [call("mark_task_complete", "c3")],
            "observation": {"results": [{"content": "Are you sure?"}]},
        },
    ],
}
WORDS = {
    "schema_version": "ATIF-v1.6",
    "session_id": "run-3",
    "agent": {
        "name": "chat",
        "version": "1",
        "tool_definitions": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    },
    "steps": [
        {"step_id": 1, "source": "user", "message": [{"type": "text", "text": "What is this?"}]},
        {
            "step_id": 2,
            "source": "agent",
            "message": "",
            "is_copied_context": True,
            "tool_calls": [call("look", "x")],
            "observation": {"results": [{"source_call_id": "x", "content": [{"type": "text", "text": "a cat"}]}]},
        },
        {"step_id": 3, "source": "agent", "message": "A cat.", "observation": {"results": [{"content": "Thanks."}]}},
    ],
}


@pytest.mark.parametrize("document", [BASH, KEYS, WORDS])
def test_a_document_comes_back_as_it_was(document: dict[str, Any], tmp_path: Path) -> None:
    require("atif", "dev")
    import atif

    atif.Trajectory.model_validate(document)  # the samples themselves are of the format
    path = tmp_path / "trajectory.json"
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    assert detect(path) == "atif"
    (trajectory,) = load_trajectories(path)
    assert export_document(trajectory) == document
    assert export_document(Trajectory.model_validate_json(trajectory.model_dump_json())) == document
    out = tmp_path / "out.json"
    save_trajectories(out, [trajectory], "atif")
    assert json.loads(out.read_text(encoding="utf-8")) == document


def load(document: dict[str, Any], folder: Path) -> Trajectory:
    path = folder / "trajectory.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return next(iter(read_atif(path)))


def test_steps_become_messages(tmp_path: Path) -> None:
    trajectory = load(BASH, tmp_path)
    roles = [message.role for message in trajectory.messages]
    assert roles == ["system", "user", "assistant", "tool", "tool", "system", "assistant"]
    assert trajectory.id == "t-1"
    first = trajectory.action(0)
    assert [(one.name, one.arguments, one.id) for one in first.tool_calls] == [
        ("bash", {"command": "ls"}, "a"),
        ("bash", {"command": "echo hi"}, "b"),
    ]
    assert first.reasoning_content == "hm"
    assert [one.tool_call_id for one in trajectory.answer(0)][:2] == ["a", "b"]
    assert trajectory.task is not None
    task = TerminalTask.of(trajectory.task)
    assert (task.set, task.observation, task.instruction, task.system) == (
        "recorded",
        "template",
        "Say hi.",
        "You help.",
    )


def test_keystrokes_of_a_step_are_one_call(tmp_path: Path) -> None:
    trajectory = load(KEYS, tmp_path)
    (pressed,) = trajectory.action(0).tool_calls
    assert (pressed.name, pressed.id) == ("keystrokes", "c1")
    assert pressed.arguments == {"keys": ["cd /tmp\n", "C-c"], "wait": 1.5}
    (answer,) = trajectory.answer(0)
    assert (answer.role, answer.tool_call_id, answer.text) == ("tool", "c1", "root@host:/tmp# ^C")
    assert [tool["function"]["name"] for tool in trajectory.tools] == ["keystrokes", "mark_task_complete"]
    assert trajectory.task is not None and trajectory.task.data.get("observation") == "raw"


def test_an_agent_without_a_terminal_has_no_task(tmp_path: Path) -> None:
    trajectory = load(WORDS, tmp_path)
    assert trajectory.task is None
    assert [message.delivered for message in trajectory.messages] == [True, False, False, True, True]
    assert trajectory.messages[-1].role == "user"  # no call: nothing a tool message could answer
    assert trajectory.tools == WORDS["agent"]["tool_definitions"]  # type: ignore[index]


def test_an_edited_text_is_written_as_edited(tmp_path: Path) -> None:
    trajectory = load(BASH, tmp_path)
    trajectory.messages[3].content = "edited"
    trajectory.messages[1].content = "Say ho."
    document = copy.deepcopy(BASH)
    document["steps"][2]["observation"]["results"][0]["content"] = "edited"  # type: ignore[index]
    document["steps"][1]["message"] = "Say ho."  # type: ignore[index]
    assert export_document(trajectory) == document


OTHER = Trajectory(
    id="other",
    task=Task(env="pivotgym/Terminal-v0", id="t", data={"instruction": "do"}),
    tools=[{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}],
    messages=[
        Message(role="system", content="s"),
        Message(role="developer", content="d"),
        Message(
            role="user", content=[{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "u"}}]
        ),
        Message(
            role="assistant",
            content=None,
            reasoning_content="why",
            tool_calls=[
                ToolCall(name="bash", arguments={"command": "ls"}, id="1"),
                ToolCall(name="bash", arguments="not json", id="2"),
            ],
        ),
        Message(role="tool", content="a\n", tool_call_id="1", name="bash"),
        Message(role="tool", content="Error", tool_call_id="2"),
        Message(role="user", content="go on", name="ann"),
        Message(role="assistant", content="Done."),
    ],
    outcome=Outcome(reward=0.5, termination="answered"),
)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".jsonl.gz"])
def test_any_trajectory_keeps_its_messages_on_the_way_through(suffix: str, tmp_path: Path) -> None:
    require("atif", "dev")
    import atif

    atif.Trajectory.model_validate(export_document(OTHER))
    second = OTHER.model_copy(update={"id": "second"})
    path = tmp_path / f"x{suffix}"
    assert save_trajectories(path, [OTHER, second], "atif") == 2
    assert detect(path) == "atif"
    for before, after in zip([OTHER, second], load_trajectories(path), strict=True):
        assert [one.chat() for one in after.messages] == [one.chat() for one in before.messages]
        assert (after.id, after.task, after.outcome, after.tools) == (
            before.id,
            before.task,
            before.outcome,
            before.tools,
        )


def test_recordings_of_other_formats_are_valid_documents(shared_data: Path, tmp_path: Path) -> None:
    require("atif", "dev")
    import atif

    files = [*sorted((shared_data / "swe").glob("*.traj*")), shared_data / "swe" / "nemo_gym_mini_swe_rollouts.jsonl"]
    count = 0
    for file in files:
        for trajectory in load_trajectories(file):
            atif.Trajectory.model_validate(export_document(trajectory))
            path = tmp_path / "x.json"
            save_trajectories(path, [trajectory], "atif")
            (again,) = load_trajectories(path)
            for before, after in zip(trajectory.messages, again.messages, strict=True):
                assert (after.role, after.text) == (before.role, before.text)
                assert [one.chat() for one in after.tool_calls] == [one.chat() for one in before.tool_calls]
            assert again.task == trajectory.task
            count += 1
    assert count == 14


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": None}, "steps"),
        ({"steps": []}, "steps"),
        ({"steps": [{"source": "robot", "message": ""}]}, "steps.0.source"),
        ({"steps": [{"source": "agent", "message": "", "tool_calls": [{}]}]}, "steps.0.tool_calls.0.function_name"),
        ({"steps": [{"source": "agent", "message": "", "observation": []}]}, "steps.0.observation"),
        ({"extra": {"pivotgym": {"task": {"env": 5, "id": "a"}}}}, "extra.pivotgym.task.env"),
    ],
)
def test_bad_documents_name_the_field(change: dict[str, Any], field: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load({**BASH, **change}, tmp_path)
    assert caught.value.field == field
