"""Pages of the tests' own, served to a real Chromium, and who clicks on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.browser.tasks import (
    Answer,
    BrowserTask,
    Final,
    PageView,
    Request,
    Site,
    TaskSet,
    register_task_set,
)
from pivotgym.envs.trajectory import JsonObject, Task, Trajectory
from pivotgym.envs.verdict import Verdict

HOST = "pages.test"


class PagesSite:
    """HTML by path, and a counter on the server that ``/count`` adds to."""

    def __init__(self, pages: dict[str, str]) -> None:
        self.pages, self.count = pages, 0
        self.asked: list[str] = []

    def handle(self, request: Request) -> Answer | None:
        self.asked.append(f"{request.method} {request.host}{request.path}")
        if request.host != HOST:
            return None
        if request.path == "/count":
            self.count += 1
            return Answer(200, [("Content-Type", "text/html")], f"<p>Count {self.count}</p>".encode())
        if request.path == "/echo":
            return Answer(200, [("Content-Type", "text/plain")], request.body or request.query.encode())
        if request.path == "/cookie":
            headers = [("Content-Type", "text/html"), ("Set-Cookie", "session=abc; Path=/")]
            return Answer(200, headers, f"<p>Cookie: {request.headers.get('cookie', 'none')}</p>".encode())
        if request.path == "/file.zip":
            return Answer(200, [("Content-Type", "application/zip")], b"PK")
        if request.path == "/huge":
            size = 100 * 1024 * 1024
            return Answer(200, [("Content-Type", "text/html")], b"<p>" + b"x" * size)
        if request.path == "/go":
            return Answer(302, [("Location", "/second")])
        if request.path not in self.pages:
            return None
        return Answer(200, [("Content-Type", "text/html; charset=utf-8")], self.pages[request.path].encode())

    def save(self) -> bytes:
        return str(self.count).encode()

    def load(self, state: bytes) -> None:
        self.count = int(state)

    def facts(self, state: bytes) -> dict[str, Any]:
        return {"count": int(state)}

    def close(self) -> None:
        pass


class PagesTasks(TaskSet):
    """Tasks whose pages are in their definition; won once the page's title is ``won``."""

    name: ClassVar[str] = "pages"
    opened: ClassVar[list[PagesSite]] = []

    def tasks(self) -> Sequence[Task]:
        return [pages_task("<h1>One</h1>")]

    def open(self, task: Task, spec: BrowserTask) -> Site:
        site = PagesSite(spec.definition["pages"])
        self.opened.append(site)
        return site

    def goal(self, task: Task, final: Final) -> Verdict:
        won = final.view is not None and final.view.title == "won"
        return Verdict(reward=float(won), rule="goal", reason="won" if won else "not won")

    def ended(self, spec: BrowserTask, view: PageView) -> str | None:
        return "done" if view.title == "won" else None


register_task_set("pages", PagesTasks)


def pages_task(start: str, *, more: dict[str, str] | None = None, **fields: Any) -> Task:
    """A task that starts on a page with this HTML; ``more`` is further HTML by path."""
    pages = {"/": start, **(more or {})}
    spec = BrowserTask(set="pages", url=f"http://{HOST}/", goal="Win.", definition={"pages": pages}, **fields)
    return spec.task("pages")


def call(name: str, **arguments: Any) -> JsonObject:
    """An action of one tool call."""
    return {"role": "assistant", "tool_calls": [{"id": "1", "name": name, "arguments": arguments}]}


class Agent:
    """Drives one environment by what elements are called."""

    def __init__(self, env: BrowserEnv) -> None:
        self.env = env
        self.last: tuple[float, bool, bool, JsonObject] = (0.0, False, False, {})

    def open(self, start: str, **fields: Any) -> str:
        """Begins an episode on that page; what is shown."""
        self.env.reset(options={"task": pages_task(start, **fields)})
        return self.seen

    @property
    def seen(self) -> str:
        """The last observation."""
        return self.env.messages[-1].text

    def id_of(self, part: str) -> str:
        """The id of the first element whose line holds ``part``."""
        line = next(line for line in self.seen.splitlines() if part in line and "[" in line and "Focused" not in line)
        return line.partition("[")[2].partition("]")[0]

    def do(self, name: str, **arguments: Any) -> str:
        """One action; what is shown then."""
        _, reward, terminated, truncated, info = self.env.step(call(name, **arguments))
        self.last = (reward, terminated, truncated, info)
        return self.seen

    def click(self, part: str) -> str:
        """Clicks the element whose line holds ``part``."""
        return self.do("click", bid=self.id_of(part))

    def recording(self) -> Trajectory:
        """The episode so far as a recording."""
        env = self.env
        return Trajectory(id="t", task=env.task, tools=env.tools, messages=[m.clone() for m in env.transcript])
