"""What a browser task is, what serves its pages, and where tasks come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivotgym.envs.errors import NotRestorable
from pivotgym.envs.tasksets import TaskSets
from pivotgym.envs.trajectory import JsonObject, Message, Task
from pivotgym.envs.verdict import Verdict

ENV_ID = "pivotgym/Browser-v0"
CLOCK = 1_715_767_200_000
"""When pages believe it is, in milliseconds since 1970: 15 May 2024, 10:00 UTC."""


class BrowserTask(BaseModel):
    """The data of a ``pivotgym/Browser-v0`` task (``Task.data``), JSON all the way.

    Attributes:
        set: the :class:`TaskSet` it belongs to, which serves its pages and judges the episode.
        name: which page or scenario of that set.
        url: where the browser starts.
        seed: of the task: the set decides what it means.
        page_seed: seeds the random numbers pages draw.
        goal: what the user asks; None lets the set say it once the page stands (MiniWoB draws its own).
        viewport: width and height of the page in CSS pixels.
        clock: what time it is when a page is loaded, in milliseconds since 1970.
        step_ms: how much time passes for the page after each action, in milliseconds of its own clock.
        tree: ``full`` also lists elements that have no role of their own but can be clicked; ``browsergym`` leaves them
            out, as that package's recordings do.
        files: text files the agent may upload, by name.
        ends_on_message: ``send_msg_to_user`` ends the episode: the message is the answer.
        definition: whatever the set needs beside this; never shown.
    """

    model_config = ConfigDict(extra="forbid")

    set: str
    name: str = ""
    url: str = "about:blank"
    seed: int = 0
    page_seed: int = Field(default=1, ge=0, lt=1 << 32)
    goal: str | None = None
    viewport: tuple[int, int] = (1024, 768)
    clock: int = CLOCK
    step_ms: int = Field(default=500, ge=0, le=60_000)
    tree: Literal["full", "browsergym"] = "full"
    files: dict[str, str] = Field(default_factory=dict)
    ends_on_message: bool = False
    definition: JsonObject = Field(default_factory=dict)

    @classmethod
    def of(cls, task: Task) -> Self:
        """Reads a task's data. Raises NotRestorable where it is none of a browser task."""
        try:
            return cls.model_validate(task.data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            said = f"task {task.id} of {task.env}, field data.{where}: {first['msg']}"
            raise NotRestorable("bad_task", said) from error

    def task(self, name: str) -> Task:
        """As a task; fields that have their default are left out."""
        return Task(env=ENV_ID, id=name, data=self.model_dump(mode="json", exclude_defaults=True))


@dataclass(frozen=True)
class Request:
    """An HTTP request of a page.

    Attributes:
        method: upper case.
        host: the host name asked for, lower case, without a port.
        path: decoded nowhere: as it stood in the URL, ``/`` at least.
        query: what stood behind ``?``, or ``""``.
        headers: by lower-case name; the last one where a name came twice.
        body: at most 64 MiB.
        scheme: ``http``, or ``https`` for a site that intercepts requests.
        port: ``:8080`` where the URL names one, else ``""``.
    """

    method: str
    host: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    scheme: str = "http"
    port: str = ""


@dataclass(frozen=True)
class Answer:
    """An HTTP response to a page. ``Content-Length`` is added."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


class Site(Protocol):
    """What serves an episode's pages, with the server-side state behind them; one object an episode.

    It is called by one thread at a time, never by two at once, though not always by the same one. ``handle`` has to
    answer within milliseconds: all environments of the process wait for it. The same requests in the same order from
    the same state must bring the same answers (ids, times and random tokens come from the task's seed and clock).

    A site with an attribute ``intercepts`` that is true answers every request of its pages inside the browser, also
    ``https`` ones; without it, it is an HTTP server, which is faster and uses the browser's cache.
    """

    def handle(self, request: Request) -> Answer | None:
        """Answers a request; None where the site does not know the host or has no such file (a 404, and the restore
        report says so)."""

    def save(self) -> bytes:
        """The server's whole state now."""

    def load(self, state: bytes) -> None:
        """Goes to a saved state."""

    def facts(self, state: bytes) -> dict[str, Any]:
        """A saved state as comparable facts (for example a table's rows by their key): for effects and reports."""

    def close(self) -> None:
        """Frees what the site holds."""


@dataclass(frozen=True)
class PageView:
    """What an agent sees of the browser, and what effects compare.

    Attributes:
        url: of the active tab.
        title: of the active tab.
        text: the observation: address, title, tabs, focus, last error, accessibility tree with element ids.
        state: the same as comparable values, and more: tabs, tree without ids, form values, scrolling, focus, storage,
            cookies, and under ``task`` what :meth:`TaskSet.probe` found.
    """

    url: str
    title: str
    text: str
    state: JsonObject


@dataclass(frozen=True)
class Final:
    """The end of an episode, as its judge gets it.

    Attributes:
        view: the browser at the end; None where the page could not be looked at any more (it hung or crashed).
        site: what served the pages, with its final state; None for a set that has none.
        answer: the last thing the agent told the user, or None.
        messages: the whole conversation.
        termination: why it ended; None where a verifier asks about a state in the middle.
    """

    view: PageView | None
    site: Site | None
    answer: str | None
    messages: Sequence[Message] = ()
    termination: str | None = None


class TaskSet(ABC):
    """A family of tasks with one way of serving and judging them. Stateless; one instance serves the process."""

    name: ClassVar[str] = ""
    stateless: ClassVar[bool] = False
    """Whether the start page depends on its URL alone: then it may be loaded before an episode begins."""
    archived: ClassVar[bool] = False
    """Whether pages come from an archive: then a request without an answer is an error of a restore."""

    @abstractmethod
    def tasks(self) -> Sequence[Task]:
        """All tasks, always in the same order."""

    @abstractmethod
    def open(self, task: Task, spec: BrowserTask) -> Site | None:
        """A fresh site for an episode of ``task``; None for a set that serves nothing (``about:blank``)."""

    @abstractmethod
    def goal(self, task: Task, final: Final) -> Verdict:
        """Judges an episode."""

    def setup_script(self, spec: BrowserTask) -> str | None:
        """JavaScript run in the start page once it has loaded, before the first observation."""
        return None

    def probe(self, spec: BrowserTask) -> str | None:
        """A JavaScript expression for what the page itself says of the task (its reward, whether it is over), read
        after every action into ``PageView.state["task"]``; None there where it raised."""
        return None

    def goal_script(self, spec: BrowserTask) -> str | None:
        """A JavaScript expression, read once in the fresh start page, for the goal where the task does not say it."""
        return None

    def ended(self, spec: BrowserTask, view: PageView) -> str | None:
        """Why the episode is over after an action, or None to go on."""
        return None

    def explain(self, task: Task, action: Message, replayed: str, recorded: str) -> str | None:
        """A short kind for a known cause why a replayed observation differs, else None."""
        return None


_OWN = {
    "miniwob": "pivotgym.envs.browser.miniwob:MiniWobTasks",
    "shop": "pivotgym.envs.browser.apps.shop:ShopTasks",
    "tracker": "pivotgym.envs.browser.apps.tracker:TrackerTasks",
    "recorded": "pivotgym.envs.browser.har:RecordedSites",
}
"""Sets of this package, imported when first asked for."""
_SETS: TaskSets[TaskSet] = TaskSets("browser", _OWN)


def register_task_set(name: str, make: Callable[[], TaskSet]) -> None:
    """Makes a task set known: ``gym.make("pivotgym/Browser-v0", tasks=name)``."""
    _SETS.register(name, make)


def task_set_names() -> list[str]:
    """Every known name, sorted."""
    return _SETS.names()


def get_task_set(name: str) -> TaskSet:
    """The task set of that name. Raises BadInput for an unknown one."""
    return _SETS.get(name)
