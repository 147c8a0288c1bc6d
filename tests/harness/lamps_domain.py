"""The lamps domain of the tests: without torch, so that processes which only hold environments start quickly."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from pivotgym.envs.tools.domain import register_domain
from pivotgym.envs.tools.functions import FunctionDomain, ToolError
from pivotgym.envs.trajectory import Task, ToolCall

KEYS = "abcdefgh"
DOMAIN = "lamps"


class Panel(BaseModel):
    """Which lamp is lit, and how many presses there were."""

    lit: str = ""
    presses: int = 0


def press(panel: Panel, key: str) -> str:
    """Press a key.

    Args:
        key: one letter.
    """
    if key not in KEYS:
        raise ToolError(f"no key {key}")
    panel.lit = key
    panel.presses += 1
    return "ok"


class Lamps(FunctionDomain):
    """Press the key the user names."""

    name = DOMAIN
    functions = (press,)

    def tasks(self) -> Sequence[Task]:
        return [task(key) for key in KEYS]

    def initial(self, task: Task) -> Panel:
        return Panel()

    def first_message(self, task: Task) -> str:
        return str(task.data["key"])

    def reference(self, task: Task) -> Sequence[ToolCall]:
        return [ToolCall(name="press", arguments={"key": task.data["key"]})]


register_domain(DOMAIN, Lamps)


def task(key: str) -> Task:
    return Task(env="pivotgym/Tools-v0", id=f"press-{key}", data={"domain": DOMAIN, "key": key})
