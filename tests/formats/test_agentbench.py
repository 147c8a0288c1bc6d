"""AgentBench run logs: nothing is lost, a run finds its task, and it restores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from needs import missing

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.formats import detect
from pivotgym.envs.formats.agentbench import export_run, read_agentbench
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.terminal.env import TerminalEnv
from pivotgym.envs.terminal.tasks import TerminalTask

HELLO = 21
"""Row of dev.json that asks for files ending in .helloworld: there are three."""


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def run(question: str, **output: Any) -> dict[str, Any]:
    history = [
        said("user", "You take one of three actions.\n\nNow, my problem is:\n\nHow many files are in /etc?"),
        said("agent", "Think: count.\n\nAct: bash\n\n```bash\nls /etc | wc -l\n```"),
        said("user", "The output of the OS:\n\n220"),
        said("agent", "Think: done.\n\nAct: answer(220)"),
        said("user", f"Now, I will start a new problem in a new OS. My problem is:\n\n{question}"),
        said("agent", "Think: look.\n\nAct: bash\n\n```bash\ncd /root && ls -A *hello* .hello*\n```"),
        said("user", "The output of the OS:\n\n.helloworld\n1.helloworld\n2.helloworld\n"),
        said("agent", "Think: where?\n\nAct: bash\n\n```bash\npwd; cd /\n```"),
        said("user", "The output of the OS:\n\n/root\n"),
        said("agent", "Think: nothing to show.\n\nAct: bash\n\n```bash\ntrue\n```"),
        said("user", "The output of the OS is empty."),
        said("agent", "Think: three (3).\n\nAct: answer(3)"),
    ]
    done = {"index": 21, "status": "completed", "result": {"result": True}, "history": history, **output}
    return {"index": 21, "error": None, "info": None, "output": done, "time": {"timestamp": 1, "str": "now"}}


@pytest.fixture
def log(shared_data: Path, tmp_path: Path) -> Path:
    tasks = json.loads((shared_data / "agentbench_os" / "dev.json").read_text(encoding="utf-8"))
    shutil.copy(shared_data / "agentbench_os" / "dev.json", tmp_path)
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(run(tasks[HELLO]["description"])) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def env() -> Iterator[TerminalEnv]:
    try:
        get_backend("bubblewrap").clean()
    except SandboxUnavailable as reason:
        missing(str(reason))
    made = gym.make("pivotgym/Terminal-v0", tasks="agentbench")
    yield made.unwrapped  # type: ignore[misc]
    made.close()


def test_a_run_is_given_back_and_finds_its_task(log: Path) -> None:
    assert detect(log) == "agentbench"
    (trajectory,) = read_agentbench(log)
    assert export_run(trajectory) == json.loads(log.read_text(encoding="utf-8"))
    commands = [call.arguments for message in trajectory.messages for call in message.tool_calls]
    assert commands == [
        {"command": "cd /root && ls -A *hello* .hello*"},
        {"command": "pwd; cd /"},
        {"command": "true"},
    ]
    assert trajectory.messages[-1].text == "3"
    assert trajectory.outcome.reward == 1.0 and trajectory.outcome.termination == "completed"
    assert trajectory.task is not None and trajectory.task.id == f"agentbench/dev/{HELLO}"
    assert len(trajectory.turns) == 4  # the example conversation is no part of the run


def test_a_run_restores_and_its_answer_earns_what_was_recorded(log: Path, env: TerminalEnv) -> None:
    (trajectory,) = read_agentbench(log)
    _, info = env.reset(options={"trajectory": trajectory, "turn": 3, "strict": True})
    assert [check.status for check in info["restore"].checks] == ["exact"] * 3
    _, reward, terminated, _, _ = env.step(trajectory.action(3))
    assert terminated and reward == trajectory.outcome.reward


def test_a_run_without_its_task_is_imported_and_says_so_when_restored(log: Path, env: TerminalEnv) -> None:
    (log.parent / "dev.json").unlink()
    (trajectory,) = read_agentbench(log)
    assert trajectory.task is not None and TerminalTask.of(trajectory.task).instruction.startswith("Recursively")
    with pytest.raises(NotRestorable, match="task file"):
        env.reset(options={"trajectory": trajectory, "turn": 1})


def test_an_action_that_is_none_was_not_executed(tmp_path: Path) -> None:
    row = run("?", history=[said("user", "Now, my problem is:\n\n?"), said("agent", "I do not know.")], result=None)
    (tmp_path / "runs.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (trajectory,) = read_agentbench(tmp_path / "runs.jsonl")
    assert [message.delivered for message in trajectory.messages] == [True, False]
    assert trajectory.outcome.reward is None and export_run(trajectory) == row


@pytest.mark.parametrize(
    ("history", "field"),
    [
        ([{"role": "user"}], "output.history.0.content"),
        ([said("user", "?"), {"role": "robot", "content": "x"}], "output.history.1.role"),
        ([3], "output.history.0"),
        ("no list", "output.history"),
    ],
)
def test_a_bad_line_is_located(history: Any, field: str, tmp_path: Path) -> None:
    rows = [run("?"), run("?", history=history)]
    rows[0]["index"] = 1
    (tmp_path / "runs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(BadInput) as raised:
        list(read_agentbench(tmp_path / "runs.jsonl"))
    assert (raised.value.line, raised.value.field) == (2, field)
