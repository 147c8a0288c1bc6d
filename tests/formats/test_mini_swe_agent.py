"""mini-swe-agent's trajectory files and NeMo Gym's rollouts of it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from mini_swe_agent_runs import COMMANDS, FINISH, FORMS, record
from needs import missing

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import detect, load_trajectories
from pivotgym.envs.formats.mini_swe_agent import export_document, read_mini_swe_agent
from pivotgym.envs.formats.nemo_gym import export_row, read_nemo_gym
from pivotgym.envs.repo.tasks import ENV_ID, RepoTask
from pivotgym.envs.sandbox import CommandResult, SandboxUnavailable
from pivotgym.envs.terminal.env import NoGoal
from pivotgym.envs.terminal.render import render
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import Trajectory


def terminal(trajectory: Trajectory) -> TerminalTask:
    assert trajectory.task is not None
    return (RepoTask if trajectory.task.env == ENV_ID else TerminalTask).of(trajectory.task)


def commands(trajectory: Trajectory) -> list[str]:
    return [
        call.arguments["command"]
        for message in trajectory.messages
        for call in message.tool_calls
        if isinstance(call.arguments, dict)
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One recording of the package per form of its models."""
    return {form: record(form, tmp_path_factory.mktemp(form), tmp_path_factory.mktemp("work")) for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_a_recording_of_the_package_is_read_in_full(form: str, runs: dict[str, Path]) -> None:
    path = runs[form]
    assert detect(path) == "mini-swe-agent"
    (trajectory,) = load_trajectories(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert export_document(trajectory) == document
    again = Trajectory.model_validate_json(trajectory.model_dump_json())
    assert export_document(again) == document
    assert commands(trajectory) == [*COMMANDS, FINISH]
    assert [message.role for message in trajectory.messages] == [
        "system",
        "user",
        *["assistant", "tool"] * len(COMMANDS),
        "assistant",
    ]
    assert all(message.text.startswith("Step ") for message in trajectory.messages if message.role == "assistant")
    assert trajectory.outcome.termination == "Submitted"
    assert trajectory.outcome.details == {"submission": "inner\n"}
    task = terminal(trajectory)
    assert task.instruction == "Task: try some commands" and task.system == "You work in a shell."
    assert task.workdir == document["info"]["config"]["environment"]["cwd"]
    assert task.env == {"GREETING": "hello", "PAGER": "cat"}
    assert (task.shell, task.timeout) == (["/bin/sh", "-c"], 20.0)


@pytest.mark.parametrize("form", FORMS)
def test_the_kept_template_gives_the_recorded_texts(form: str, runs: dict[str, Path]) -> None:
    (trajectory,) = read_mini_swe_agent(runs[form])
    task = terminal(trajectory)
    shown = [message for message in trajectory.messages if message.role == "tool"]
    assert len(shown) == len(COMMANDS)
    for message in shown:
        extra = message.source["raw"]["extra"]
        result = CommandResult(extra["raw_output"], extra["returncode"])
        assert render(result, task) == message.text


def test_calls_and_results_are_paired_where_one_message_has_several(tmp_path: Path) -> None:
    path = record("toolcall", tmp_path, tmp_path / "work", commands=[["echo one", "echo two"], "echo three"])
    (trajectory,) = load_trajectories(path)
    first = trajectory.action(0)
    assert [call.id for call in first.tool_calls] == ["call_0_0", "call_0_1"]
    assert [(one.tool_call_id, "one" in one.text) for one in trajectory.answer(0)] == [
        ("call_0_0", True),
        ("call_0_1", False),
    ]
    assert commands(trajectory) == ["echo one", "echo two", "echo three", FINISH]


@pytest.mark.parametrize("config", ["mini.yaml", "benchmarks/swebench.yaml", "benchmarks/swebench_backticks.yaml"])
def test_templates_the_package_ships_are_kept_and_recognised_without_its_configuration(
    config: str, tmp_path: Path
) -> None:
    import importlib.util

    import yaml

    spec = importlib.util.find_spec("minisweagent")
    if spec is None or spec.origin is None:
        missing("mini-swe-agent is not installed")
        return
    text = (Path(spec.origin).parent / "config" / config).read_text(encoding="utf-8")
    template = yaml.safe_load(text)["model"]["observation_template"]
    path = record("toolcall", tmp_path, tmp_path / "work", template=template)
    (kept,) = load_trajectories(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    for one in document["messages"]:
        one.pop("extra", None)
    del document["info"]["config"]
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(document), encoding="utf-8")
    (inferred,) = load_trajectories(bare)
    assert terminal(kept).observation == terminal(inferred).observation == "template"
    checked = 0
    for message in kept.messages:
        if message.role != "tool":
            continue
        extra = message.source["raw"]["extra"]
        result = CommandResult(extra["raw_output"], extra["returncode"])
        assert render(result, terminal(kept)) == message.text
        assert render(result, terminal(inferred)) == message.text
        checked += 1
    assert checked == len(COMMANDS)


def test_recorded_files_of_the_first_releases(shared_data: Path) -> None:
    for name, turns in (("github_issue", 10), ("local", 2)):
        path = shared_data / "swe" / f"{name}.traj.json"
        assert detect(path) == "mini-swe-agent"
        (trajectory,) = load_trajectories(path)
        assert export_document(trajectory) == json.loads(path.read_text(encoding="utf-8"))
        assert (trajectory.id, len(trajectory.turns), len(commands(trajectory))) == (name, turns, turns)
        task = terminal(trajectory)
        assert task.finish_marker == "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
        assert trajectory.answer(turns - 1) == []  # the last one hands in
        assert ("diff --git" in trajectory.outcome.details["submission"]) == (name == "github_issue")
        for turn in range(turns - 1):
            (answer,) = trajectory.answer(turn)
            found = re.fullmatch(r"(?s)<returncode>(\d+)</returncode>\n<output>\n(.*)</output>", answer.text)
            assert found is not None
            assert render(CommandResult(found[2], int(found[1])), task) == answer.text


def test_nemo_gym_rollouts(shared_data: Path) -> None:
    path = shared_data / "swe" / "nemo_gym_mini_swe_rollouts.jsonl"
    assert detect(path) == "nemo-gym"
    trajectories = list(load_trajectories(path))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [export_row(one) for one in trajectories] == rows
    assert [one.outcome.reward for one in trajectories] == [row["reward"] for row in rows]
    assert [len(one.turns) for one in trajectories] == [5, 5, 10, 20, 22]
    for trajectory, row in zip(trajectories, rows, strict=True):
        items = row["response"]["output"]
        assert len(commands(trajectory)) == sum(item["type"] == "function_call" for item in items)
        task = terminal(trajectory)
        assert task.image == f"swebench/sweb.eval.x86_64.{row['instance_id'].replace('__', '_1776_')}:latest"
        for message in trajectory.messages:
            if message.role == "tool":
                assert render(_produced(message.text), task) == message.text


def _produced(text: str) -> CommandResult:
    """A command's result that NeMo Gym's runner showed as ``text``; the elided middle is made up."""
    code, body = re.fullmatch(r"(?s)<returncode>(-?\d+)</returncode>\n(.*)", text).groups()  # type: ignore[union-attr]
    short = re.fullmatch(r"(?s)<output>\n(.*)</output>", body)
    if short is not None:
        output = short[1]
    else:
        long = re.fullmatch(
            r"(?s).*?<output_head>\n(.*)\n</output_head>\n<elided_chars>\n(\d+) characters elided\n</elided_chars>\n"
            r"<output_tail>\n(.*)\n</output_tail>",
            body,
        )
        assert long is not None
        output = long[1] + "?" * int(long[2]) + long[3]
    if code == "0":
        return CommandResult(output + "\n" if output else "", 0)
    assert output.endswith(f"CommandExecError: {code}")
    return CommandResult(output.removesuffix(f"CommandExecError: {code}"), int(code))


def v1(*messages: tuple[str, Any], **document: Any) -> dict[str, Any]:
    chat = [{"role": role, "content": content} for role, content in messages]
    return {"info": {"exit_status": "Submitted"}, **document, "messages": chat}


def test_an_answer_without_one_command_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.traj.json"
    two = "```bash\nls\n```\n```bash\npwd\n```"
    document = v1(
        ("user", "do it"),
        ("assistant", "I think."),
        ("user", "Please give one action."),
        ("assistant", two),
        ("user", "Please give one action."),
        ("assistant", "```bash\nls\n```"),
        ("user", "<returncode>0</returncode>\n<output>\na\n</output>"),
        instance_id="repo__thing-1",
    )
    path.write_text(json.dumps(document), encoding="utf-8")
    (trajectory,) = load_trajectories(path)
    assert trajectory.id == "repo__thing-1"
    assert [message.delivered for message in trajectory.messages] == [True, False, False, False, False, True, True]
    assert commands(trajectory) == ["ls"]
    assert export_document(trajectory) == document


def test_the_configuration_of_release_1(tmp_path: Path) -> None:
    path = tmp_path / "x.traj.json"
    config = {
        "agent": {"action_observation_template": "In {{ cwd }}: {{output}}", "action_regex": "<run>(.*?)</run>"},
        "environment": {"image": "python:3.11", "cwd": "/app", "timeout": 7, "env": {"A": 1}},
        "environment_type": "minisweagent.environments.docker.DockerEnvironment",
    }
    shown = "In /app: {'output': 'hi\\n', 'returncode': 0}"
    document = v1(
        ("user", "t"),
        ("assistant", "<run>echo hi</run>"),
        ("user", shown),
        info={"exit_status": "LimitsExceeded", "config": config},
        trajectory_format="mini-swe-agent-1",
    )
    path.write_text(json.dumps(document), encoding="utf-8")
    (trajectory,) = load_trajectories(path)
    task = terminal(trajectory)
    assert (task.image, task.workdir, task.timeout, task.env) == ("python:3.11", "/app", 7.0, {"A": "1"})
    assert task.shell == ["bash", "-lc"]
    assert render(CommandResult("hi\n", 0), task) == shown
    assert commands(trajectory) == ["echo hi"]
    assert trajectory.outcome.termination == "LimitsExceeded"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"trajectory_format": "mini-swe-agent-1", "messages": 5}', "messages"),
        ('{"trajectory_format": "mini-swe-agent-1", "messages": []}', "messages"),
        ('{"trajectory_format": "mini-swe-agent-1", "messages": [{"role": "oracle"}]}', "messages.0.role"),
        (
            '{"trajectory_format": "mini-swe-agent-1", "messages": [{"role": "user", "content": 5}]}',
            "messages.0.content",
        ),
        ('{"responses_create_params": {"input": []}, "response": {}}', "response.output"),
        (
            '{"responses_create_params": {"input": []}, "response": {"output": [{"type": "x"}]}}',
            "response.output.0.type",
        ),
    ],
)
def test_bad_documents_name_the_field(text: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    read = read_nemo_gym if "responses" in text else read_mini_swe_agent
    with pytest.raises(BadInput) as caught:
        list(read(path))
    assert (caught.value.field, caught.value.file) == (field, path)


@pytest.mark.parametrize("form", FORMS)
def test_a_recording_of_the_package_is_restored_at_every_turn(form: str, tmp_path: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix="pivotgym-agent-", dir="/tmp"))
    try:
        (trajectory,) = load_trajectories(record(form, tmp_path, work))
    finally:
        shutil.rmtree(work)  # the sandbox starts from nothing of it
    env = gym.make("pivotgym/Terminal-v0", disable_env_checker=True)
    try:
        for turn in range(len(trajectory.turns)):
            try:
                _, info = env.reset(options={"trajectory": trajectory, "turn": turn, "strict": True})
            except SandboxUnavailable as error:
                missing(str(error))
            assert info["restore"].fidelity == 1.0
            assert all(check.status == "exact" for check in info["restore"].checks)
            assert len(info["restore"].checks) == turn
            action, recorded = trajectory.action(turn), trajectory.answer(turn)
            observation, _, terminated, _, _ = _step(env, action.chat())
            if recorded:
                assert [one["content"] for one in observation] == [one.text for one in recorded]
            assert terminated == (turn == len(trajectory.turns) - 1)
        assert not work.exists()
    finally:
        env.close()


def _step(env: Any, action: Any) -> tuple[list[Any], float, bool, bool, Any]:
    try:
        observation, reward, terminated, truncated, info = env.step(action)
    except NoGoal:  # a recording has none, and its last action ends the episode
        return [], 0.0, True, False, {}
    return json.loads(observation), reward, terminated, truncated, info
