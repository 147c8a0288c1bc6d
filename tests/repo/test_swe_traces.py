"""Recordings about repositories: read without loss, executable, and restored where the repository can be had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from marshmallow_source import BLOB, on_marshmallow, source_files
from needs import missing, require

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import detect, load_trajectories
from pivotgym.envs.formats.nemo_gym import export_row as nemo_row
from pivotgym.envs.formats.openhands import export_row, read_openhands
from pivotgym.envs.formats.swe_agent import export_document
from pivotgym.envs.repo.env import RepoEnv
from pivotgym.envs.repo.tasks import ENV_ID, RepoTask
from pivotgym.envs.repo.tools import Toolbox
from pivotgym.envs.repo.tools.commands import TYPED
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import Task, Trajectory

RECORDINGS = [f"swe-agent_marshmallow-1867_{number}" for number in range(1, 7)]
STYLES = {
    "pydicom__pydicom-1458": ("classic", "0.6", 100),
    "swe-agent_marshmallow-1867_1": ("classic", "0.6", 100),
    "swe-agent_marshmallow-1867_2": ("cursors", "0.6", 200),
    "swe-agent_marshmallow-1867_3": ("classic", "0.6", 100),
    "swe-agent_marshmallow-1867_4": ("windowed", "1.0.dev1", 100),
    "swe-agent_marshmallow-1867_5": ("windowed", "1.0.dev1", 100),
    "swe-agent_marshmallow-1867_6": ("windowed", "1.0.dev2", 100),
}
DIVERGED = {
    # `ls`: the release leaves out six of the repository's files and folders, and theirs is in a terminal's columns.
    # `pip install`: what pip says of its index and of the packages that are there.
    "swe-agent_marshmallow-1867_1": {0: "missing_files", 2: "installation", 6: "missing_files"},
    "swe-agent_marshmallow-1867_2": {3: "missing_files"},
    "swe-agent_marshmallow-1867_3": {3: "missing_files"},
    "swe-agent_marshmallow-1867_4": {3: "missing_files"},
    "swe-agent_marshmallow-1867_5": {3: "missing_files"},
    "swe-agent_marshmallow-1867_6": {0: "missing_files", 2: "installation", 6: "missing_files"},
}


def repo_task(trajectory: Trajectory) -> RepoTask:
    assert trajectory.task is not None
    assert trajectory.task.env == ENV_ID
    return RepoTask.of(trajectory.task)


def recorded(shared_data: Path, name: str) -> Trajectory:
    (trajectory,) = load_trajectories(shared_data / "swe" / f"{name}.traj")
    return trajectory


# ------------------------------------------------------------------------------------------------ read, nothing lost


@pytest.mark.parametrize("name", sorted(STYLES))
def test_every_action_is_one_our_tools_execute(shared_data: Path, name: str) -> None:
    document = json.loads((shared_data / "swe" / f"{name}.traj").read_text(encoding="utf-8"))
    trajectory = recorded(shared_data, name)
    toolbox = Toolbox("swe-agent")
    assert len(trajectory.turns) == len(document["trajectory"])
    for turn, step in enumerate(document["trajectory"]):
        (call,) = trajectory.action(turn).tool_calls
        assert isinstance(call.arguments, dict)
        assert call.name == "bash" or toolbox.knows(call.name)
        assert TYPED not in call.arguments
        assert call.name in (step["action"].split()[0], "bash")
        for answer in trajectory.answer(turn):
            assert (step["observation"] or "").rstrip() in answer.text
    assert export_document(Trajectory.model_validate_json(trajectory.model_dump_json())) == document


@pytest.mark.parametrize("name", sorted(STYLES))
def test_a_recording_names_its_repository_and_its_viewer(shared_data: Path, name: str) -> None:
    spec = repo_task(recorded(shared_data, name))
    family, release, window = STYLES[name]
    assert spec.definition["editor"] == {"family": family, "release": release, "window": window, "overlap": 2}
    assert (spec.set, spec.interface, spec.tests) == ("recorded", "swe-agent", None)
    repo = "pydicom/pydicom" if "pydicom" in name else "marshmallow-code/marshmallow"
    number = name[-1]
    if number in "3456":
        assert spec.definition["repo"] == repo
        assert spec.repository.commit == "bfd2593d4b416122e30cdefe0c72d322ef471611"
        assert spec.definition["instance_id"] == "marshmallow-code__marshmallow-1867"
    if number in "456":
        assert (spec.repository.kind, spec.workdir) == ("image", "/testbed")
        assert spec.image is not None and spec.image.endswith("marshmallow-code_1776_marshmallow-1867:latest")


def test_rollouts_on_swe_bench_instances_keep_their_row(shared_data: Path) -> None:
    path = shared_data / "swe" / "nemo_gym_mini_swe_rollouts.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    trajectories = list(load_trajectories(path))
    assert [nemo_row(one) for one in trajectories] == rows
    for trajectory, row in zip(trajectories, rows, strict=True):
        spec = repo_task(trajectory)
        assert (spec.interface, spec.workdir, spec.set) == ("bash", "/testbed", "recorded")
        assert spec.definition["row"]["instance_id"] == row["instance_id"]
        assert spec.definition["row"]["metadata"] == row["metadata"]
        assert spec.repository.kind == "image" and spec.image is not None
        assert row["instance_id"].replace("__", "_1776_") in spec.image


def test_a_run_of_mini_swe_agent_on_an_instance_is_a_repository_task(shared_data: Path, tmp_path: Path) -> None:
    instance = json.loads((shared_data / "swe" / "swe-bench-lite-test.json").read_text(encoding="utf-8"))[0]
    document = {
        "trajectory_format": "mini-swe-agent-1.1",
        "instance_id": instance["instance_id"],
        "info": {"exit_status": "Submitted", "submission": "", "config": {"environment": {"cwd": "/testbed"}}},
        "messages": [
            {"role": "user", "content": "Solve it."},
            {"role": "assistant", "content": "```bash\nls\n```"},
            {"role": "user", "content": "<returncode>0</returncode>\n<output>\na\n</output>"},
        ],
    }
    named, whole = tmp_path / "named.traj.json", tmp_path / "whole.traj.json"
    named.write_text(json.dumps(document))
    whole.write_text(json.dumps({**document, "instance": instance}))
    (one,), (other,) = load_trajectories(named), load_trajectories(whole)
    assert repo_task(one).definition["row"] == {"instance_id": instance["instance_id"]}
    spec = repo_task(other)
    assert spec.definition["row"] == instance
    assert (spec.repository.kind, spec.repository.commit) == ("image", instance["base_commit"])
    assert (spec.interface, spec.finish_marker) == ("bash", "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")
    for name in ("github_issue.traj.json", "local.traj.json"):  # runs on no repository stay at a terminal
        (plain,) = load_trajectories(shared_data / "swe" / name)
        assert plain.task is not None and plain.task.env == "pivotgym/Terminal-v0"


# ------------------------------------------------------------------------------------------------------- restored


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return source_files(tmp_path_factory.mktemp("marshmallow"))


@pytest.fixture(scope="module")
def env() -> Iterator[RepoEnv]:
    require("flake8", "repo")
    try:
        get_backend("bubblewrap").clean()
    except SandboxUnavailable as reason:
        missing(str(reason))
    made = gym.make(ENV_ID, snapshots=SnapshotStore(), disable_env_checker=True)
    yield made.unwrapped  # type: ignore[misc]
    made.close()


@pytest.mark.parametrize("name", RECORDINGS)
def test_recordings_on_marshmallow_restore(shared_data: Path, files: dict[str, bytes], env: RepoEnv, name: str) -> None:
    trajectory = on_marshmallow(recorded(shared_data, name), files)
    last = len(trajectory.turns) - 1
    for turn in range(1, last + 1):  # every turn, each time from the state kept before it
        _, info = env.reset(options={"trajectory": trajectory, "turn": turn})
        assert len(info["restore"].checks) == turn
    checks = {check.turn: check for check in info["restore"].checks}
    assert set(checks) == set(range(last))
    assert {turn: check.kind for turn, check in checks.items() if check.status == "diverged"} == DIVERGED[name]
    own = [turn for turn in checks if trajectory.action(turn).tool_calls[0].name != "bash"]
    assert len(own) >= 5
    assert [turn for turn in own if checks[turn].status != "exact"] == []
    # The last turn hands in: the same patch to the last byte, for git names contents.
    handed_in = env.respond(trajectory.action(last), [])
    assert handed_in.done and handed_in.termination == "submitted"
    (message,) = handed_in.messages
    assert f"index {BLOB}.." in message.text
    assert message.source["submitted"].strip() == trajectory.outcome.details["submission"].replace("\r\n", "\n").strip()
    for answer in trajectory.answer(last):
        assert message.text == answer.text


def test_a_restored_state_has_its_editor(shared_data: Path, files: dict[str, bytes], env: RepoEnv) -> None:
    """The open file and its window go with snapshots and forks, and a new episode begins without them."""
    trajectory = on_marshmallow(recorded(shared_data, RECORDINGS[0]), files)
    env.reset(options={"trajectory": trajectory, "turn": 9})
    fork = env.fork()
    try:
        action = trajectory.action(9)
        (recorded_answer,) = trajectory.answer(9)
        assert fork.respond(action, []).messages[0].text == recorded_answer.text
        fork.respond(trajectory.action(1), [])  # opens another file in the fork alone
        assert env.respond(action, []).messages[0].text == recorded_answer.text
    finally:
        fork.close()
    env.reset(options={"trajectory": trajectory, "turn": 0})
    answer = env.respond(action, []).messages[0].text
    assert answer.startswith("No file open. Use the `open` command first.") and "(Open file: n/a)" in answer


# ------------------------------------------------------------------------------------------------------ OpenHands


def openhands_events() -> list[dict[str, Any]]:
    """A short run: actions from tool calls (two in one response), one without, and events beside the conversation."""
    metadata = {"exit_code": 0, "working_dir": "/workspace/calc", "py_interpreter_path": "/usr/bin/python3"}
    ended = {**metadata, "prefix": "", "suffix": "\n[The command completed with exit code 0.]", "pid": -1}

    def call(name: str, call_id: str, **arguments: Any) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}

    path = "/workspace/calc/calc.py"
    looks = [
        call("execute_bash", "c1", command="cat calc.py"),
        call("str_replace_editor", "c2", command="view", path=path),
    ]
    change = call("str_replace_editor", "c3", command="str_replace", path=path, old_str="a - b", new_str="a + b")

    def response(number: int, said: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        message = {"role": "assistant", "content": said, "tool_calls": calls}
        return {"id": f"r{number}", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}

    def of(one: dict[str, Any], answer: dict[str, Any], count: int) -> dict[str, Any]:
        return {
            "function_name": one["function"]["name"],
            "tool_call_id": one["id"],
            "model_response": answer,
            "total_calls_in_response": count,
        }

    first, second = response(1, "I look.", looks), response(2, "", [change])
    stamp = {"timestamp": "2025-02-01T10:00:00", "message": ""}
    view = f"Here's the result of running `cat -n` on {path}:\n"
    view += "     1\tdef add(a, b):\n     2\t    return a - b\n     3\t\n"
    edited = (
        f"The file {path} has been edited. Here's the result of running `cat -n` on a snippet of {path}:\n"
        "     1\tdef add(a, b):\n     2\t    return a + b\n     3\t\nReview the changes and make sure they are as "
        "expected. Edit the file again if necessary."
    )
    asked = "<uploaded_files>\n/workspace/calc\n</uploaded_files>\nadd subtracts."
    return [
        {"id": 0, **stamp, "source": "agent", "action": "system", "args": {"content": "You help.", "tools": None}},
        {"id": 1, **stamp, "source": "user", "action": "message", "args": {"content": asked, "image_urls": None}},
        {"id": 2, **stamp, "source": "user", "action": "recall", "args": {"query": asked}},
        {
            **{"id": 3, **stamp, "source": "environment", "cause": 2, "observation": "recall", "content": "added"},
            "extras": {"recall_type": "workspace_context"},
        },
        {
            **{"id": 4, **stamp, "source": "agent", "tool_call_metadata": of(looks[0], first, 2), "action": "run"},
            "args": {"command": "cat calc.py", "thought": "I look."},
        },
        {
            **{"id": 5, **stamp, "source": "agent", "tool_call_metadata": of(looks[1], first, 2), "action": "read"},
            "args": {"path": path, "view_range": None, "thought": ""},
        },
        {
            **{"id": 6, **stamp, "source": "agent", "cause": 4, "tool_call_metadata": of(looks[0], first, 2)},
            **{"observation": "run", "content": "def add(a, b):\n    return a - b"},
            "extras": {"command": "cat calc.py", "metadata": ended},
        },
        {
            **{"id": 7, **stamp, "source": "agent", "cause": 5, "tool_call_metadata": of(looks[1], first, 2)},
            **{"observation": "read", "content": view, "extras": {"path": path, "impl_source": "oh_aci"}},
        },
        {
            **{"id": 8, **stamp, "source": "agent", "tool_call_metadata": of(change, second, 1), "action": "edit"},
            "args": {"path": path, "command": "str_replace", "old_str": "a - b", "new_str": "a + b"},
        },
        {
            **{"id": 9, **stamp, "source": "agent", "cause": 8, "tool_call_metadata": of(change, second, 1)},
            **{"observation": "edit", "content": edited, "extras": {"path": path, "prev_exist": True}},
        },
        {"id": 10, **stamp, "source": "agent", "action": "think", "args": {"thought": "Done."}},
        {
            **{"id": 11, **stamp, "source": "agent", "cause": 10, "observation": "think"},
            **{"content": "Your thought has been logged.", "extras": {}},
        },
        {"id": 12, **stamp, "source": "agent", "action": "run", "args": {"command": "cd / && pwd", "thought": "Away."}},
        {
            **{"id": 13, **stamp, "source": "agent", "cause": 12, "observation": "run", "content": "/"},
            "extras": {"command": "cd / && pwd", "metadata": {**ended, "working_dir": "/"}},
        },
        {
            **{"id": 14, **stamp, "source": "agent", "action": "finish"},
            "args": {"final_thought": "It adds.", "task_completed": "true", "outputs": {}},
        },
    ]


def openhands_row() -> dict[str, Any]:
    return {
        "instance_id": "someone__calc-7",
        "test_result": {"git_patch": "diff --git a/calc.py b/calc.py\n", "report": {"resolved": True}},
        "instance": {"instance_id": "someone__calc-7", "repo": "someone/calc", "base_commit": "1a2b3c4d"},
        "metadata": {"agent_class": "CodeActAgent", "max_iterations": 30},
        "history": openhands_events(),
        "error": None,
    }


def test_an_openhands_run_is_read_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "output.jsonl"
    path.write_text(json.dumps(openhands_row()) + "\n")
    assert detect(path) == "openhands"
    (trajectory,) = load_trajectories(path)
    roles = [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "tool",
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]
    assert [message.role for message in trajectory.messages] == [*roles, "assistant"]
    calls = [[call.name for call in trajectory.action(turn).tool_calls] for turn in range(len(trajectory.turns))]
    assert calls == [
        ["execute_bash", "str_replace_editor"],
        ["str_replace_editor"],
        ["think"],
        ["execute_bash"],
        ["finish"],
    ]
    assert [message.tool_call_id for message in trajectory.answer(0)] == ["c1", "c2"]
    assert trajectory.answer(0)[0].text.endswith(
        "[The command completed with exit code 0.]\n[Current working directory: /workspace/calc]\n"
        "[Python interpreter: /usr/bin/python3]\n[Command finished with exit code 0]"
    )
    assert (trajectory.outcome.reward, trajectory.outcome.termination) == (1.0, "finish")
    assert export_row(Trajectory.model_validate_json(trajectory.model_dump_json())) == openhands_row()
    spec = repo_task(trajectory)
    assert (spec.interface, spec.workdir, spec.instruction[:16]) == ("openhands", "/workspace/calc", "<uploaded_files>")
    assert (spec.definition["row"], spec.repository.commit) == (openhands_row()["instance"], "1a2b3c4d")


def test_events_alone_and_in_pairs_are_read_as_well(tmp_path: Path) -> None:
    events = openhands_events()[:-1]
    listed, paired = tmp_path / "trajectory.json", tmp_path / "old.jsonl"
    listed.write_text(json.dumps(events))
    pairs = [[events[12], events[13]], [events[10], events[11]]]
    paired.write_text(json.dumps({"instance_id": "x", "history": pairs}) + "\n")
    for path, raw in ((listed, events), (paired, {"instance_id": "x", "history": pairs})):
        assert detect(path) == "openhands"
        (trajectory,) = read_openhands(path)
        assert export_row(trajectory) == raw
    assert [message.role for message in trajectory.messages] == ["assistant", "tool", "assistant", "tool"]


def test_a_restored_openhands_run_reads_what_it_read(tmp_path: Path, env: RepoEnv) -> None:
    path = tmp_path / "output.jsonl"
    path.write_text(json.dumps(openhands_row()) + "\n")
    (trajectory,) = load_trajectories(path)
    spec = repo_task(trajectory)
    script = f"cd {spec.workdir} && git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm base"
    there = {"files": {f"{spec.workdir}/calc.py": "def add(a, b):\n    return a - b\n"}, "script": script}
    data = {key: one for key, one in trajectory.task.data.items() if key not in ("image", "repository")}  # type: ignore[union-attr]
    trajectory.task = Task(env=ENV_ID, id=trajectory.id, data={**data, "setup": there})
    _, info = env.reset(options={"trajectory": trajectory, "turn": 4})
    assert [(check.turn, check.status) for check in info["restore"].checks] == [
        *((0, "exact"), (0, "exact"), (1, "exact"), (2, "exact"), (3, "exact"))
    ]
    done = env.respond(trajectory.action(4), [])
    assert done.done and done.messages[0].source["submitted"] == "It adds."


def test_openhands_chats_hold_calls_as_such_or_as_text(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "execute_bash", "arguments": '{"command": "ls"}'}}
    written = "I look.\n\n<function=str_replace_editor>\n<parameter=command>view</parameter>\n"
    written += "<parameter=path>/testbed/a.py</parameter>\n<parameter=view_range>[1, 5]</parameter>\n</function>"
    rows: list[dict[str, Any]] = [
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "You help."}]},
                {"role": "user", "content": "Look at /workspace/proj"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {
                    "role": "tool",
                    "content": [{"type": "text", "text": "a"}],
                    "tool_call_id": "c1",
                    "name": "execute_bash",
                },
            ],
            "response": {"id": "r", "choices": [{"message": {"role": "assistant", "content": "That is all."}}]},
            "kwargs": {"tools": [{"type": "function", "function": {"name": "execute_bash", "parameters": {}}}]},
        },
        {
            "instance_id": "a__b-1",
            "resolved": False,
            "messages": [
                {"role": "user", "content": "Fix /testbed"},
                {
                    "role": "assistant",
                    "content": "<function=execute_bash>\n<parameter=command>ls\n</parameter>\n</function>",
                },
                {
                    "role": "user",
                    "content": "EXECUTION RESULT of [execute_bash]:\na.py\n[Command finished with exit code 0]",
                },
                {"role": "assistant", "content": written},
                {"role": "user", "content": "EXECUTION RESULT of [str_replace_editor]:\nERROR:\nno"},
            ],
        },
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert detect(path) == "openhands"
    one, other = load_trajectories(path)
    assert [export_row(each) for each in (one, other)] == rows
    assert [message.text for message in one.messages][2:] == ["", "a", "That is all."]
    assert other.action(1).tool_calls[0].arguments == {"command": "view", "path": "/testbed/a.py", "view_range": [1, 5]}
    assert [message.role for message in other.messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert other.messages[2].text == "a.py\n[Command finished with exit code 0]"
    assert other.outcome.reward == 0.0
    other.messages[2].content = "b.py"
    assert export_row(other)["messages"][2]["content"] == "EXECUTION RESULT of [execute_bash]:\nb.py"


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ({"instance_id": "x", "history": 5}, "history"),
        ({"instance_id": "x", "history": []}, "history"),
        ({"instance_id": "x", "history": [5]}, "history.0"),
        ({"instance_id": "x", "history": [{"id": 1}]}, "history.0"),
        ({"instance_id": "x", "messages": [5]}, "messages.0"),
        (
            {"instance_id": "x", "messages": [{"role": "oracle", "content": "<function=execute_bash>"}]},
            "messages.0.role",
        ),
    ],
)
def test_bad_openhands_rows_name_the_field(tmp_path: Path, row: dict[str, Any], where: str) -> None:
    path = tmp_path / "output.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(BadInput) as caught:
        list(read_openhands(path))
    assert (caught.value.field, caught.value.line) == (where, 1)
