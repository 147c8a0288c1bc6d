"""A small task set for tests of the environment itself, and recordings made on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
from needs import missing

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.sandbox import SandboxUnavailable, get_backend
from pivotgym.envs.terminal.tasks import Final, Setup, TaskSet, TerminalTask, register_task_set, verdict
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory
from pivotgym.envs.verdict import Verdict


class SmallSet(TaskSet):
    """Four tasks, each to leave a file with a certain text and to answer with a certain word."""

    name: ClassVar[str] = "small"

    def tasks(self) -> Sequence[Task]:
        scripts = ["mkdir -p /data && seq 9 > /data/numbers", "mkdir -p /data/deep/er && echo x > /data/deep/er/f"]
        made = []
        for number in range(4):
            spec = TerminalTask(
                set="small",
                instruction=f"Write the word right{number} to /data/out and answer {number}.",
                workdir="/data",
                setup=Setup(script=scripts[number % 2], files={"/data/note.txt": f"note {number}\n"}),
                definition={"text": f"right{number}\n", "answer": str(number)},
            )
            made.append(spec.task(f"small-{number}"))
        return made

    def goal(self, task: Task, final: Final) -> Verdict:
        wanted = task.data["definition"]
        with final.fork() as box:
            shown = box.run("cat /data/out 2>/dev/null").output
        right = shown == wanted["text"] and (final.answer or "").strip() == wanted["answer"]
        return verdict(right, "as asked" if right else "otherwise", out=shown, answer=final.answer)


register_task_set("small", SmallSet)


def bash(command: str, name: str = "bash", **more: Any) -> Message:
    """An action that runs one command."""
    return Message(role="assistant", tool_calls=[ToolCall(name=name, arguments={"command": command, **more}, id="c")])


def press(*keys: str, wait: float = 1.0) -> Message:
    """An action that sends keys."""
    call = ToolCall(name="keystrokes", arguments={"keys": list(keys), "wait": wait}, id="k")
    return Message(role="assistant", tool_calls=[call])


def say(text: str) -> Message:
    """An action that ends the episode."""
    return Message(role="assistant", content=text)


def need(backend: str) -> None:
    """Goes on only where the machine can run that backend."""
    try:
        get_backend(backend).clean()
    except SandboxUnavailable as error:
        missing(str(error))


def make(**options: Any) -> AgentEnv:
    """The environment on the small set."""
    env = gym.make("pivotgym/Terminal-v0", disable_env_checker=True, **{"tasks": "small", **options}).unwrapped
    assert isinstance(env, AgentEnv)
    return env


def record(env: AgentEnv, task: Task | str, actions: Sequence[Message], name: str = "recording") -> Trajectory:
    """A trajectory made by executing ``actions`` for real."""
    env.reset(options={"task": task})
    for action in actions:
        env.advance(action)
    messages = [message.model_copy(deep=True) for message in env.transcript]
    return Trajectory(id=name, task=env.task, tools=env.tools, messages=messages)
