"""Tasks of an application as a task set of ``pivotgym/Browser-v0``."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from calendar import timegm
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import ClassVar

from pivotgym.envs.browser.apps.draw import START, Draw
from pivotgym.envs.browser.apps.judge import judge
from pivotgym.envs.browser.apps.spec import GENERATOR, Builder, Built
from pivotgym.envs.browser.apps.web import WebApp
from pivotgym.envs.browser.tasks import BrowserTask, Final, Site, TaskSet
from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.formats.packed import unpack
from pivotgym.envs.trajectory import Task, Trajectory
from pivotgym.envs.verdict import Verdict

SEEDS = 3
"""Instances of every kind that :meth:`AppTasks.tasks` lists."""
SPLITS = ("train", "heldout")


class AppTasks(TaskSet):
    """The tasks of one application: kinds, each with instances made from a seed."""

    app: ClassVar[type[WebApp]]
    user: ClassVar[int]
    """The user whose browser it is."""
    builders: ClassVar[Mapping[str, Builder]]

    @classmethod
    @abstractmethod
    def world(cls, seed: str) -> sqlite3.Connection:
        """The application's database for a seed."""

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """The instances of ``train`` (four of five) or ``heldout``, or all of them, always in the same order."""
        check_split(split)
        every = (self.make(kind, seed) for kind in self.builders for seed in range(SEEDS))
        return [task for task in every if split is None or BrowserTask.of(task).definition["split"] == split]

    def make(self, kind: str, seed: int) -> Task:
        """An instance of a kind; other seeds than those listed give further ones."""
        built, _, url = self.build(kind, seed)
        return BrowserTask(
            set=self.name,
            name=kind,
            url=url,
            seed=seed,
            goal=built.instruction,
            clock=timegm(START.timetuple()) * 1000,
            ends_on_message=True,
            definition={"generator": GENERATOR, "split": self.split(kind, seed)},
        ).task(f"{self.name}.{kind}-{seed}")

    def split(self, kind: str, seed: int) -> str:
        """``train`` or ``heldout``: one instance of five is held out, of a different kind each time."""
        return "heldout" if (list(self.builders).index(kind) * SEEDS + seed) % 5 == 4 else "train"

    @classmethod
    @lru_cache(maxsize=512)
    def build(cls, kind: str, seed: int) -> tuple[Built, bytes, str]:
        """Instruction, goal and scripts of an instance; its database; where the browser starts.

        Raises:
            NotRestorable: there is no such kind.
        """
        if kind not in cls.builders:
            raise NotRestorable("unknown_task", f"no task {kind!r} in the set {cls.name!r}")
        db = cls.world(f"{cls.name}/{kind}/{seed}")
        try:
            built = cls.builders[kind](db, Draw(cls.name, kind, seed))
            start = db.serialize()
        finally:
            db.close()
        app = cls.app(start)
        try:
            path = f"/link/{app.seal(f'link {cls.user}')}" if built.signed_in else "/"
        finally:
            app.close()
        return built, start, f"http://{cls.app.name}.test{path}"

    def open(self, task: Task, spec: BrowserTask) -> Site:
        """The application with the instance's database."""
        _, start, _ = self._of(spec)
        return self.app(start)

    def goal(self, task: Task, final: Final) -> Verdict:
        """Judges the database and what the user was told."""
        built, start, _ = self._of(BrowserTask.of(task))
        if not isinstance(final.site, WebApp):
            raise BadInput(f"task {task.id} is judged by its application's state", field="site")
        return judge(built, start, final.site.save(), final.answer)

    def _of(self, spec: BrowserTask) -> tuple[Built, bytes, str]:
        if spec.definition.get("generator") != GENERATOR:
            found = spec.definition.get("generator")
            raise NotRestorable("unknown_task", f"{spec.name} is of generator {found}, this is {GENERATOR}")
        return self.build(spec.name, spec.seed)


def bundled_trajectories(split: str | None = "train") -> list[Trajectory]:
    """The recorded expert trajectories that ship with the package; ``None`` gives those of both splits.

    Raises:
        BadInput: there is no such split.
    """
    check_split(split)
    packed = files("pivotgym.envs.browser.apps").joinpath("trajectories.jsonl.gz").read_bytes()
    rows = unpack(packed)
    return [row for row in rows if row.task and (split is None or row.task.data["definition"]["split"] == split)]


def check_split(split: str | None) -> None:
    """Raises BadInput for a split there is not."""
    if split is not None and split not in SPLITS:
        raise BadInput(f"no split {split!r}; there are {', '.join(SPLITS)}", field="split")
