"""PivotGym's own terminal tasks, the embedded default of ``pivotgym/Terminal-v0``.

Eight kinds (files, text processing, git, archives, permissions, processes, SQLite, Python scripting), each with six
or seven tasks that have little in common, each task in three instances made from a seed. An instance is an instruction,
a set-up, a hidden check of the final state, and a scripted expert whose recorded trajectories ship with the package.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files as resources
from typing import ClassVar

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.formats.packed import unpack
from pivotgym.envs.sandbox import Limits
from pivotgym.envs.terminal.bundled import (
    archives,
    files,
    git,
    permissions,
    processes,
    scripting,
    sqlite,
    text,
)
from pivotgym.envs.terminal.bundled.look import Look, Wrong, same
from pivotgym.envs.terminal.bundled.spec import GENERATOR, WORKDIR, Builder, Built
from pivotgym.envs.terminal.judging import bugs_named, printable
from pivotgym.envs.terminal.tasks import Final, Setup, TaskSet, TerminalTask, verdict
from pivotgym.envs.trajectory import Task, Trajectory
from pivotgym.envs.verdict import Verdict

__all__ = [
    "BUILDERS",
    "KINDS",
    "SEEDS",
    "SPLITS",
    "BundledTasks",
    "build",
    "bundled_trajectories",
    "make_task",
    "split",
]

KINDS: dict[str, Sequence[Builder]] = {
    "files": files.TASKS,
    "text": text.TASKS,
    "git": git.TASKS,
    "archives": archives.TASKS,
    "permissions": permissions.TASKS,
    "processes": processes.TASKS,
    "sqlite": sqlite.TASKS,
    "scripting": scripting.TASKS,
}
"""The tasks of each kind."""

BUILDERS: dict[str, Builder] = {
    f"{kind}.{builder.__name__}": builder for kind, builders in KINDS.items() for builder in builders
}
"""Every task by its name (``text.top_clients``)."""

SEEDS = 3
"""Instances of every task that :meth:`BundledTasks.tasks` lists."""

SPLITS = ("train", "heldout")

# Byte code holds the time of its source: without it, equal work leaves equal files.
_ENV = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"}
_LIMITS = Limits(memory_bytes=512 << 20, processes=64, cpu_seconds=60, disk_bytes=128 << 20, file_bytes=64 << 20)
_ANSWER = re.compile(r"[*_`]*answer[*_`]*:[*_`]*\s*(.*)", re.IGNORECASE)


class BundledTasks(TaskSet):
    """The tasks as a task set (``bundled``)."""

    name: ClassVar[str] = "bundled"

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """The instances of ``train`` (four of five) or ``heldout``, or all of them, always in the same order."""
        return _tasks(split)

    def goal(self, task: Task, final: Final) -> Verdict:
        """Judges what the agent left behind, and its answer where the task asks for one.

        Raises:
            VerifierBug: a check raised what no check should.
        """
        name, seed = _identity(task)
        built = build(name, seed)
        with bugs_named(final):
            try:
                if built.answer is not None:
                    _check_answer(built.answer, final.answer)
                with Look(final, WORKDIR) as look:
                    _check_files(built, look)
                    if built.check is not None:
                        built.check(look)
            except Wrong as wrong:
                return verdict(False, printable(str(wrong)))
        return verdict(True, "the final state is what was asked for")


def make_task(name: str, seed: int) -> Task:
    """An instance of a task; other seeds than those listed give further ones."""
    built = build(name, seed)
    setup = Setup(
        files={f"{WORKDIR}/{path}": content for path, content in built.files.items()},
        script=f"set -e\numask 022\nexport LC_ALL=C.UTF-8 TZ=UTC\nmkdir -p {WORKDIR}\ncd {WORKDIR}\n"
        f"find . -exec touch -d '2024-02-01 12:00' {{}} +\n{built.script}",
    )
    return TerminalTask(
        set=BundledTasks.name,
        instruction=built.instruction,
        workdir=WORKDIR,
        env={**_ENV, **built.env},
        limits=_LIMITS,
        setup=setup,
        timeout=20.0,
        definition={"task": name, "seed": seed, "generator": GENERATOR, "split": split(name, seed)},
    ).task(f"{name}-{seed}")


@lru_cache(maxsize=512)
def build(name: str, seed: int) -> Built:
    """Instruction, set-up, expert and check of an instance. Raises NotRestorable for an unknown task."""
    if name not in BUILDERS:
        raise NotRestorable("unknown_task", f"no bundled terminal task {name!r}")
    return BUILDERS[name](random.Random(f"{name} {seed}"))


def split(name: str, seed: int) -> str:
    """``train`` or ``heldout``: one instance of five is held out, of a different task each time."""
    return "heldout" if (list(BUILDERS).index(name) * SEEDS + seed) % 5 == 4 else "train"


def bundled_trajectories(split: str | None = "train") -> list[Trajectory]:
    """The recorded expert trajectories that ship with the package; ``None`` gives those of both splits.

    Raises:
        BadInput: there is no such split.
    """
    _check_split(split)
    packed = resources(__package__).joinpath("trajectories.jsonl.gz").read_bytes()
    rows = unpack(packed)
    return [row for row in rows if split is None or (row.task is not None and _split_of(row.task) == split)]


def _split_of(task: Task) -> str:
    return str(task.data["definition"]["split"])


def _check_split(split: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise BadInput(f"no split {split!r}; there are {', '.join(SPLITS)}", field="split")


@lru_cache
def _tasks(split: str | None) -> tuple[Task, ...]:
    _check_split(split)
    tasks = (make_task(name, seed) for name in BUILDERS for seed in range(SEEDS))
    return tuple(task for task in tasks if split is None or _split_of(task) == split)


def _identity(task: Task) -> tuple[str, int]:
    definition = TerminalTask.of(task).definition
    try:
        name, seed, generator = str(definition["task"]), int(definition["seed"]), definition["generator"]
    except (KeyError, TypeError, ValueError) as error:
        raise NotRestorable("unknown_task", f"no bundled terminal task: {task.id} ({error!r})") from error
    if generator != GENERATOR:
        raise NotRestorable("unknown_task", f"task {task.id} is of generator {generator}, this is {GENERATOR}")
    return name, seed


def _check_answer(wanted: str, answer: str | None) -> None:
    text = (answer or "").strip()
    found = _ANSWER.fullmatch(text.splitlines()[-1].strip()) if text else None
    if found is None:
        raise Wrong("the last line of the final message gives no answer")
    same(found.group(1).strip(" `*_."), wanted, "the answer")


def _check_files(built: Built, look: Look) -> None:
    for path, expected in {**built.files, **built.after}.items():
        if path in built.ignore and path not in built.after:
            continue
        if expected is None:
            if not look.absent(path):
                raise Wrong(f"{path} is still there")
        elif callable(expected):
            try:
                expected(look.bytes(path))
            except Wrong as wrong:
                raise Wrong(f"{path}: {wrong}") from wrong
        else:
            content = expected.encode() if isinstance(expected, str) else expected
            if look.bytes(path) != content:
                raise Wrong(f"{path} is not as it should be")
    for folder in built.closed:
        kept = {**{path: content for path, content in built.files.items() if path not in built.ignore}, **built.after}
        wanted = sorted(
            path.removeprefix(f"{folder}/")
            for path, content in kept.items()
            if content is not None and path.startswith(f"{folder}/")
        )
        extra = sorted(set(look.files(folder)) ^ set(wanted))
        if extra:
            raise Wrong(f"{folder}: {extra[0]} is missing or should not be there")
