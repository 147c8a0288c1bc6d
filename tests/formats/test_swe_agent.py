"""SWE-agent's .traj files, old and 1.x."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from needs import missing

from pivotgym.envs.errors import BadInput, RestoreDiverged
from pivotgym.envs.formats import detect, load_trajectories
from pivotgym.envs.formats.swe_agent import SPECIAL_COMMANDS, export_document, read_swe_agent
from pivotgym.envs.repo.tasks import ENV_ID, RepoTask
from pivotgym.envs.sandbox import CommandResult, SandboxUnavailable
from pivotgym.envs.terminal.render import render
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import Trajectory


def terminal(trajectory: Trajectory) -> TerminalTask:
    assert trajectory.task is not None
    return (RepoTask if trajectory.task.env == ENV_ID else TerminalTask).of(trajectory.task)


def names(trajectory: Trajectory) -> list[str]:
    return [call.name for message in trajectory.messages for call in message.tool_calls]


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> dict[str, tuple[Path, Trajectory]]:
    paths = sorted((shared_data / "swe").glob("*.traj"))
    assert len(paths) == 7
    return {path.stem: (path, next(iter(load_trajectories(path)))) for path in paths}


def test_every_recorded_file_is_read_without_loss(recorded: dict[str, tuple[Path, Trajectory]]) -> None:
    for name, (path, trajectory) in recorded.items():
        assert detect(path) == "swe-agent"
        document = json.loads(path.read_text(encoding="utf-8"))
        assert export_document(trajectory) == document
        assert export_document(Trajectory.model_validate_json(trajectory.model_dump_json())) == document
        assert trajectory.id == name
        assert len(trajectory.turns) == len(document["trajectory"])
        assert trajectory.outcome.details["submission"] == document["info"]["submission"]


def test_bash_commands_and_the_agents_own_are_told_apart(recorded: dict[str, tuple[Path, Trajectory]]) -> None:
    for path, trajectory in recorded.values():
        steps = json.loads(path.read_text(encoding="utf-8"))["trajectory"]
        actions = [step["action"] for step in steps]
        expected = ["bash" if one.split()[0] not in SPECIAL_COMMANDS else one.split()[0] for one in actions]
        assert names(trajectory) == expected
        for turn, action in enumerate(actions):
            (call,) = trajectory.action(turn).tool_calls
            assert isinstance(call.arguments, dict)
            if call.name == "bash":
                assert call.arguments["command"] == action.rstrip("\n")
    _, old = recorded["pydicom__pydicom-1458"]
    assert Counter(names(old)) == {"edit": 5, "bash": 3, "create": 1, "find_file": 1, "open": 1, "submit": 1}
    (edit,) = old.action(1).tool_calls
    assert isinstance(edit.arguments, dict)
    assert (edit.arguments["start_line"], edit.arguments["end_line"]) == (1, 1)
    assert edit.arguments["replacement_text"].startswith("import numpy as np\n")
    assert edit.arguments["replacement_text"].endswith('Result:", result)\n')
    _, new = recorded["swe-agent_marshmallow-1867_6"]
    (opened,) = new.action(1).tool_calls
    assert (opened.name, opened.arguments, opened.id) == ("open", {"path": "setup.py"}, "call_m6a0mcd6137L21vgVmR0DQaU")
    assert {tool["function"]["name"] for tool in new.tools} == set(names(new))
    (answer,) = new.answer(1)
    assert (answer.role, answer.tool_call_id) == ("tool", opened.id)


def test_where_the_recorded_agent_worked(recorded: dict[str, tuple[Path, Trajectory]]) -> None:
    _, old = recorded["swe-agent_marshmallow-1867_1"]
    assert (terminal(old).image, terminal(old).workdir) == (None, "/marshmallow-code__marshmallow")
    assert terminal(old).shell is None  # its session is one shell
    _, new = recorded["swe-agent_marshmallow-1867_6"]
    task = terminal(new)
    assert task.image == "swebench/sweb.eval.x86_64.marshmallow-code_1776_marshmallow-1867:latest"
    assert (task.workdir, task.env) == ("/testbed", {"WINDOW": "100", "OVERLAP": "2"})
    assert "TimeDelta" in task.instruction and task.system is not None


def test_the_template_gives_the_text_of_a_bash_turn_with_no_file_open(
    recorded: dict[str, tuple[Path, Trajectory]],
) -> None:
    checked = 0
    for path, trajectory in recorded.values():
        steps = json.loads(path.read_text(encoding="utf-8"))["trajectory"]
        for turn, step in enumerate(steps):
            state = json.loads(step["state"]) if isinstance(step["state"], str) else step["state"]
            answer = trajectory.answer(turn)
            if trajectory.action(turn).tool_calls[0].name != "bash" or not answer:
                continue
            shown = answer[0].text.replace(f"(Open file: {state['open_file']})", "(Open file: n/a)")
            assert (
                render(CommandResult(step["observation"], 0, cwd=terminal(trajectory).workdir), terminal(trajectory))
                == shown
            )
            checked += 1
    assert checked >= 20


def test_a_demonstration_is_no_turn_to_restore(tmp_path: Path) -> None:
    document = traj(
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": "look", "action": "ls\n", "is_demo": True},
        {"role": "user", "content": "a", "is_demo": True},
        {"role": "user", "content": "the issue"},
        {"role": "assistant", "content": "go", "action": "cat a && \\\n  ls\n"},
        {"role": "user", "content": "x"},
    )
    path = write(tmp_path, document)
    (trajectory,) = read_swe_agent(path)
    assert [message.delivered for message in trajectory.messages] == [True, False, True, True, True, True]
    assert [message.role for message in trajectory.messages][-1] == "tool"
    assert terminal(trajectory).instruction == "the issue"
    assert trajectory.messages[4].tool_calls[0].arguments == {"command": "cat a && \\\n  ls"}
    assert export_document(trajectory) == document


@pytest.mark.parametrize("configured", [False, True])
def test_a_command_the_agent_did_not_run_is_no_turn_to_restore(configured: bool, tmp_path: Path) -> None:
    said = "Sorry, no editors: '{{action}}'." if configured else "Interactive operation '{{action}}' is not supported."
    config = {"agent": {"tools": {"filter": {"blocklist_error_template": said}}}}
    document = traj(
        {"role": "user", "content": "the issue"},
        {"role": "assistant", "content": "", "action": "vim a"},
        {"role": "user", "content": said.replace("{{action}}", "vim a") + "\n(Current directory: /)"},
        {"role": "assistant", "content": "", "action": "echo No"},
        {"role": "user", "content": "No\n"},
        **({"replay_config": json.dumps(config)} if configured else {}),
    )
    (trajectory,) = read_swe_agent(write(tmp_path, document))
    assert [message.delivered for message in trajectory.messages] == [True, False, False, True, True]
    assert export_document(trajectory) == document


def test_a_file_without_history_is_read_from_its_steps(tmp_path: Path) -> None:
    document = {
        "environment": "main",
        "info": {},
        "trajectory": [
            {
                "action": "ls",
                "observation": "a\n",
                "response": "I look.",
                "state": {"working_dir": "/repo"},
                "query": [{"role": "system", "content": "s"}, {"role": "user", "content": "do"}],
            },
            {"action": "submit", "observation": "", "response": "Done.", "state": {"working_dir": "/repo"}},
        ],
    }
    (trajectory,) = read_swe_agent(write(tmp_path, document))
    assert [message.role for message in trajectory.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]
    assert (names(trajectory), terminal(trajectory).workdir) == (["bash", "submit"], "/repo")
    assert export_document(trajectory) == document


def traj(*history: Any, **more: Any) -> dict[str, Any]:
    return {"environment": "main", "trajectory": [], "history": list(history), "info": {}, **more}


def write(folder: Path, document: Any) -> Path:
    path = folder / "x.traj"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (traj({"role": "robot", "content": ""}), "history.0.role"),
        (traj({"role": "user", "content": "a"}, 5), "history.1"),
        (traj({"role": "user", "content": {"a": 1}}), "history.0.content"),
        (traj(trajectory=[5]), "trajectory.0"),
        (traj(), "trajectory"),
        ({"trajectory": {}, "history": [], "info": {}}, "trajectory"),
    ],
)
def test_bad_documents_name_the_field(document: Any, field: str, tmp_path: Path) -> None:
    path = write(tmp_path, document)
    with pytest.raises(BadInput) as caught:
        list(read_swe_agent(path))
    assert (caught.value.field, caught.value.file) == (field, path)


def test_the_agents_own_commands_are_restored_and_those_no_environment_has_are_named(tmp_path: Path) -> None:
    turns = [
        ("mkdir d && echo hi > d/a\n", "", "n/a"),
        ("cat d/a\n", "hi\n", "n/a"),
        ("open d/a\n", "[File: /work/d/a (1 lines total)]\n1:hi\n", "/work/d/a"),
        ("view_image d/a\n", "an image\n", "/work/d/a"),
        ("cat d/a", "hi\n", "/work/d/a"),
    ]
    history = [{"role": "user", "content": "the issue"}]
    steps = []
    for action, shown, opened in turns:
        state = f"\n(Open file: {opened})\n(Current directory: /work)\nbash-$"
        text = shown + state if shown else "Nothing to show." + state
        history += [{"role": "assistant", "content": "", "action": action}, {"role": "user", "content": text}]
        steps.append({"action": action, "observation": shown, "state": {"working_dir": "/work"}})
    (trajectory,) = load_trajectories(write(tmp_path, traj(*history, trajectory=steps)))
    env = gym.make("pivotgym/Repo-v0", disable_env_checker=True)
    try:
        _, info = env.reset(options={"trajectory": trajectory, "turn": 4})
        checks = info["restore"].checks
        assert [(check.status, check.kind) for check in checks] == [
            ("exact", None),
            ("exact", None),
            ("exact", None),
            ("diverged", "unknown_tool"),
        ]
        with pytest.raises(RestoreDiverged, match="turn 3"):
            env.reset(options={"trajectory": trajectory, "turn": 4, "strict": True})
    except SandboxUnavailable as error:
        missing(str(error))
    finally:
        env.close()
