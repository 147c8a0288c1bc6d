"""Run folders of Terminal-Bench 1.x and of Harbor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from needs import missing

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats import detect, load_trajectories
from pivotgym.envs.formats.atif import export_document
from pivotgym.envs.formats.terminal_bench import parse_response, read_terminal_bench
from pivotgym.envs.sandbox import SandboxUnavailable
from pivotgym.envs.terminal.tasks import TerminalTask
from pivotgym.envs.trajectory import Trajectory

OPENING = "Make a file.\n\nCurrent terminal state:\nroot@4f2a:/app# \n"
SECOND = "New Terminal Output:\nroot@4f2a:/app# ls\nroot@4f2a:/app# "


def answer(*commands: tuple[str, float], done: bool = False) -> str:
    rows = [{"keystrokes": keys, "duration": wait} for keys, wait in commands]
    return json.dumps({"analysis": "a", "plan": "p", "commands": rows, "task_complete": done}, indent=1)


def trial(folder: Path, episodes: list[tuple[str, str | None]], *, suffix: str = "txt", **results: Any) -> Path:
    for number, (prompt, response) in enumerate(episodes):
        episode = folder / "agent-logs" / f"episode-{number}"
        episode.mkdir(parents=True)
        (episode / "prompt.txt").write_text(prompt, encoding="utf-8")
        if response is not None:
            (episode / f"response.{suffix}").write_text(response, encoding="utf-8")
        (episode / "debug.json").write_text(json.dumps({"model": "m", "messages": [1] * 9}), encoding="utf-8")
    (folder / "panes").mkdir(parents=True)
    (folder / "panes" / "post-agent.txt").write_text("root@4f2a:/app# ls\nx\n", encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def messages(trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in trajectory.messages]


def keys(trajectory: Trajectory) -> list[Any]:
    return [call.arguments for message in trajectory.messages for call in message.tool_calls]


def test_terminus_2_in_a_run_folder(tmp_path: Path) -> None:
    first, second, last = answer(("ls\n", 0.1), ("C-c", 0.5)), "Sure:\n" + answer(("", 5.0)), answer(done=True)
    trial(
        tmp_path / "run" / "task-a" / "task-a.1-of-1",
        [(OPENING, first), (SECOND, second), ("Are you sure?", last)],
        task_id="task-a",
        is_resolved=True,
        failure_mode="unset",
        parser_results={"test_x": "passed"},
    )
    trial(tmp_path / "run" / "task-b" / "t", [(OPENING, answer(done=True))], task_id="task-b", is_resolved=False)
    (tmp_path / "run" / "run_metadata.json").write_text("{}")
    assert detect(tmp_path / "run") == "terminal-bench"
    one, other = load_trajectories(tmp_path / "run")
    assert (one.id, other.id) == ("task-a/task-a.1-of-1", "task-b/t")
    assert messages(one) == [
        ("user", OPENING),
        ("assistant", first),
        ("tool", SECOND),
        ("assistant", second),
        ("tool", "Are you sure?"),
        ("assistant", last),
    ]
    assert keys(one) == [{"keys": ["ls\n", "C-c"], "wait": 0.6}, {"keys": [""], "wait": 5.0}]
    assert (one.outcome.reward, one.outcome.termination, other.outcome.reward) == (1.0, None, 0.0)
    assert one.task is not None
    task = TerminalTask.of(one.task)
    assert (task.workdir, task.definition, task.instruction) == ("/app", {"task_id": "task-a"}, OPENING)
    assert one.messages[1].source["debug"] == {"model": "m"}
    assert one.source["logs"]["panes/post-agent.txt"].endswith("x\n")
    assert one.messages[1].source["commands"] == json.loads(first)["commands"]


def test_terminus_1(tmp_path: Path) -> None:
    commands = [{"keystrokes": "make\n", "is_blocking": True, "timeout_sec": 90}]
    first = {"state_analysis": "s", "explanation": "e", "commands": commands, "is_task_complete": False}
    folder = trial(tmp_path / "x", [(OPENING, json.dumps(first)), ("root@4f2a:/app# make\n", None)], suffix="json")
    (trajectory,) = load_trajectories(folder)
    assert keys(trajectory) == [{"keys": ["make\n"], "wait": 60.0}]  # no screen is waited for longer
    assert [role for role, _ in messages(trajectory)] == ["user", "assistant", "tool"]
    assert trajectory.id == "x"


def test_xml_answers() -> None:
    text = (
        "<response>\n<analysis>a</analysis>\n<commands>\n<keystrokes duration='0.5'>echo '<b>' && ls\n</keystrokes>\n"
        "<keystrokes>C-d</keystrokes>\n</commands>\n<task_complete>true</task_complete>\n</response>"
    )
    batch, done = parse_response(text)
    assert batch is not None and done
    assert [(typed, wait) for typed, wait, _ in batch] == [("echo '<b>' && ls\n", 0.5), ("C-d", 1.0)]


def test_an_answer_that_could_not_be_read_was_refused(tmp_path: Path) -> None:
    folder = trial(
        tmp_path / "x",
        [(OPENING, "I would list the files."), ("Previous response had parsing errors: …", answer(("ls\n", 0.1)))],
    )
    (trajectory,) = read_terminal_bench(folder / "agent-logs")
    assert [message.delivered for message in trajectory.messages] == [True, False, False, True]
    assert keys(trajectory) == [{"keys": ["ls\n"], "wait": 0.1}]


def test_keys_alone(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    lines = ["['bash /oracle/solution.sh', 'Enter']", "'echo it\\'s\\n'", "['bash ', '/tests/run-tests.sh', 'Enter']"]
    (folder / "commands.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "results.json").write_text('{"instruction": "Make a file."}', encoding="utf-8")
    (trajectory,) = load_trajectories(folder)
    assert messages(trajectory)[0] == ("user", "Make a file.")
    assert [one["keys"] for one in keys(trajectory)] == [["bash /oracle/solution.sh", "Enter"], ["echo it's\n"]]
    (folder / "commands.txt").write_text("os.system('x')\n", encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        list(load_trajectories(folder))
    assert (caught.value.file, caught.value.line) == (folder / "commands.txt", 1)


ATIF = {
    "schema_version": "ATIF-v1.5",
    "session_id": "s",
    "agent": {"name": "a", "version": "1"},
    "steps": [
        {"step_id": 1, "source": "user", "message": "Make a file."},
        {
            "step_id": 2,
            "source": "agent",
            "message": "",
            "tool_calls": [{"tool_call_id": "1", "function_name": "Bash", "arguments": {"command": "touch x"}}],
            "observation": {"results": [{"source_call_id": "1", "content": ""}]},
        },
    ],
}


@pytest.mark.parametrize("where", ["result", "text", "json", "nowhere"])
def test_a_trial_of_harbor(where: str, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "2026" / "make-a-file__x1"
    for part in ("agent", "verifier"):
        (folder / part).mkdir(parents=True)
    (folder / "agent" / "trajectory.json").write_text(json.dumps(ATIF), encoding="utf-8")
    (folder / "config.json").write_text('{"task": {"path": "tasks/make-a-file"}}', encoding="utf-8")
    if where == "result":
        (folder / "result.json").write_text('{"verifier_result": {"rewards": {"reward": 1.0}}}', encoding="utf-8")
    elif where == "text":
        (folder / "verifier" / "reward.txt").write_text("1\n", encoding="utf-8")
    elif where == "json":
        (folder / "verifier" / "reward.json").write_text('{"reward": 1, "style": 0.5}', encoding="utf-8")
    assert detect(tmp_path / "jobs") == "terminal-bench"
    (trajectory,) = load_trajectories(tmp_path / "jobs")
    assert trajectory.id == "2026/make-a-file__x1"
    assert trajectory.outcome.reward == (None if where == "nowhere" else 1.0)
    assert keys(trajectory) == [{"command": "touch x"}]
    assert export_document(trajectory) == ATIF
    assert trajectory.source["trial"]["config"] == {"task": {"path": "tasks/make-a-file"}}


def test_other_folders_are_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "agent-logs").mkdir()
    with pytest.raises(BadInput, match=r"a folder of no known trajectory format; looked for .*agent-logs"):
        load_trajectories(tmp_path)
    with pytest.raises(BadInput, match="no trial here"):
        list(read_terminal_bench(tmp_path))
    (tmp_path / "x").write_text("a")
    with pytest.raises(BadInput, match="no folder"):
        list(read_terminal_bench(tmp_path / "x"))
    broken = trial(tmp_path / "a", [(OPENING, answer(done=True))])
    (broken / "results.json").write_text("{", encoding="utf-8")
    trial(tmp_path / "b", [(OPENING, answer(done=True))])
    problems: list[BadInput] = []
    assert [one.id for one in load_trajectories(tmp_path, on_error="skip", errors=problems)] == ["b"]
    assert [problem.file for problem in problems] == [broken / "results.json"]


def test_a_run_at_a_screen_is_restored(tmp_path: Path) -> None:
    if shutil.which("tmux") is None:
        missing("tmux is not installed")
    batches = [
        ["mkdir -p /app/x && cd /app/x\n"],
        ["echo hi > a\n", "cat a\n"],
        ["cat > b\n"],
        ["one\ntwo", "C-d", "C-d"],
        ["ls -A\n"],
    ]
    env = gym.make("pivotgym/Terminal-v0", screen=True, disable_env_checker=True)
    try:
        try:
            env.reset(options={"task": TerminalTask(workdir="/app", system="").task("t")})
        except SandboxUnavailable as error:
            missing(str(error))
        episodes: list[tuple[str, str | None]] = []
        shown = "Try some.\n\nroot@sandbox:/app# "
        for batch in batches:
            episodes.append((shown, answer(*((one, 0.3) for one in batch))))
            call = {"name": "keystrokes", "arguments": {"keys": batch, "wait": 0.3 * len(batch)}}
            observation, *_ = env.step(f"<tool_call>\n{json.dumps(call)}\n</tool_call>")
            shown = json.loads(observation)[0]["content"]
        episodes.append((shown, answer(done=True)))
        (trajectory,) = load_trajectories(trial(tmp_path / "x", episodes))
        assert trajectory.task is not None and trajectory.task.data["workdir"] == "/app"
        for turn in (len(batches), 2):
            _, info = env.reset(options={"trajectory": trajectory, "turn": turn})
            assert info["restore"].fidelity == 1.0, info["restore"].diverged
            assert len(info["restore"].checks) == turn
    finally:
        env.close()
