"""PivotGym's own tool domain: the service desk of a shop.

Fourteen tools over a small SQLite database, eleven kinds of request in 25 variants, a scripted user, a scripted
expert, and recorded trajectories of that expert. It is the embedded default and needs no download.

Splits, with people, addresses and ids that no two of them share (names and streets come from separate lists; ids are
even in ``train``, odd in ``heldout``, and have four digits in ``long``):

- ``train`` and ``heldout``: the same kinds of task, one request each or two short ones; 4 or 5 turns, and prompts
  under 500 tokens, short enough for a small model on a CPU.
- ``long``: one customer has two or three requests and states the next one when the one before is served; 6 to 12
  turns, and prompts of up to about 1000 tokens. For larger models, for restoring deep turns, and for evaluation.
"""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import ClassVar

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.tools.functions import Fact, FunctionDomain
from pivotgym.envs.tools.schema import ToolFunction
from pivotgym.envs.tools.servicedesk import scenario as scenarios
from pivotgym.envs.tools.servicedesk.expert import act
from pivotgym.envs.tools.servicedesk.scenario import GENERATOR, Scenario
from pivotgym.envs.tools.servicedesk.tools import FUNCTIONS
from pivotgym.envs.tools.servicedesk.user import follow
from pivotgym.envs.tools.users import ScriptedUser
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory

__all__ = ["COUNTS", "ServiceDesk", "act", "bundled_trajectories", "make_task"]

COUNTS = {"train": 400, "heldout": 100, "long": 150}
"""Tasks (and bundled trajectories) of each split."""

_BUNDLES = {"trajectories.jsonl.gz": ("train", "heldout"), "long.jsonl.gz": ("long",)}


class ServiceDesk(FunctionDomain):
    """The service desk as a tool domain (``servicedesk``)."""

    name = "servicedesk"
    policy = files(__package__).joinpath("policy.md").read_text(encoding="utf-8").strip()
    functions: ClassVar[Sequence[ToolFunction]] = FUNCTIONS

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """The tasks of ``train`` (400), ``heldout`` (100) or ``long`` (150), or all of them in this order."""
        return _tasks(split)

    def initial(self, task: Task) -> sqlite3.Connection:
        """The task's database."""
        return scenario_of(task).world.database()

    def first_message(self, task: Task) -> str:
        """What the user writes first."""
        return scenario_of(task).opening

    def reference(self, task: Task) -> Sequence[ToolCall]:
        """Calls that lead to the state asked for."""
        return scenario_of(task).reference

    def facts(self, task: Task) -> Sequence[Fact]:
        """What the user has to be told, over all requests."""
        return [fact for request in scenario_of(task).requests for fact in request.facts]

    def untold(self, task: Task, messages: Sequence[Message]) -> Sequence[Fact]:
        """The facts of the requests that the user did not come to see settled, each judged in its own turn."""
        scenario = scenario_of(task)
        served = follow(scenario, messages).served
        return [fact for request in scenario.requests[served:] for fact in request.facts]

    def user(self, task: Task) -> ScriptedUser:
        """The scripted user."""
        scenario = scenario_of(task)
        return ScriptedUser(lambda _, messages: follow(scenario, messages).reply)


def make_task(split: str, index: int, seed: int = 0) -> Task:
    """Task number ``index`` of a split; further seeds give further tasks with the same people and streets."""
    data = {"domain": "servicedesk", "split": split, "seed": seed, "index": index, "generator": GENERATOR}
    name = f"{scenarios.kind_of(index, split)}-{split}-{seed}-{index}"
    return Task(env="pivotgym/Tools-v0", id=name, data=data)


def scenario_of(task: Task) -> Scenario:
    """What a task is about. Raises NotRestorable for a task this version cannot build."""
    try:
        split, seed, index = str(task.data["split"]), int(task.data["seed"]), int(task.data["index"])
        generator = task.data["generator"]
    except (KeyError, TypeError, ValueError) as error:
        raise NotRestorable("unknown_task", f"no service-desk task: {task.id} ({error!r})") from error
    if split not in COUNTS or index < 0:
        raise NotRestorable("unknown_task", f"no service-desk task {index} in split {split!r}")
    if generator != GENERATOR:
        raise NotRestorable("unknown_task", f"task {task.id} is of generator {generator}, this is {GENERATOR}")
    return _build(split, seed, index)


@lru_cache
def _tasks(split: str | None) -> tuple[Task, ...]:
    if split is not None and split not in COUNTS:
        raise BadInput(f"no split {split!r}; there are {', '.join(COUNTS)}", field="split")
    splits = [split] if split is not None else list(COUNTS)
    return tuple(make_task(name, index) for name in splits for index in range(COUNTS[name]))


@lru_cache(maxsize=2048)
def _build(split: str, seed: int, index: int) -> Scenario:
    return scenarios.build(split, seed, index)


def bundled_trajectories(split: str | None = None) -> list[Trajectory]:
    """The recorded expert trajectories that ship with the package, one for every task of a split.

    400 of ``train``, 100 of ``heldout``, 150 of ``long``; all of them in this order by default.

    Raises:
        BadInput: there is no such split.
    """
    if split is not None and split not in COUNTS:
        raise BadInput(f"no split {split!r}; there are {', '.join(COUNTS)}", field="split")
    lines: list[str] = []
    for name, splits in _BUNDLES.items():
        if split is None or split in splits:
            packed = files(__package__).joinpath(name).read_bytes()
            lines += gzip.decompress(packed).decode().splitlines()
    rows = [Trajectory.model_validate_json(line) for line in lines]
    return [row for row in rows if split is None or (row.task is not None and row.task.data["split"] == split)]
