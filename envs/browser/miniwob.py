"""MiniWoB++: over a hundred small pages with a goal, a seed and a reward each, from the ``miniwob`` package.

The pages are served unchanged. Seeding, the hidden display (clock, last reward, start cover and the goal itself, which
the user says instead) and the time limit follow BrowserGym, so that its recordings fit.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pivotgym.envs.browser.tasks import Answer, BrowserTask, Final, PageView, Request, Site, TaskSet
from pivotgym.envs.errors import BadInput, MissingExtra
from pivotgym.envs.trajectory import Task
from pivotgym.envs.verdict import Verdict

HOST = "miniwob.test"
VIEWPORT = (500, 320)
MAX_TIME_MS = 1_000_000
"""How long an episode may last by the page's own clock, as in BrowserGym; the page itself would say 10 s."""
SEEDS = range(3)
"""The seeds of the tasks that are listed; any other may be asked for."""
_SETUP = """
(() => {
  const parts = ["reward-display", "click-canvas", "sync-task-cover"], aside = new Map();
  let asked = null;
  // An icon that is another image under the mouse has no size until that one is there: it would not feel the click.
  const icons = [];
  for (const sheet of document.styleSheets) {
    for (const rule of sheet.cssRules) {
      if (!(rule.selectorText || "").includes(":hover")) continue;
      for (const found of rule.cssText.matchAll(/url\\("([^"]+)"\\)/g)) {
        const icon = new Image();
        icon.src = new URL(found[1], sheet.href || location.href).href;
        icons.push(icon);
      }
    }
  }
  const hide = () => {
    icons.length;  // so that they are kept
    core.clearTimer();
    document.body.removeEventListener("click", core.canvasDrawClick);
    const query = document.getElementById("query");
    asked = query.cloneNode(true);
    query.innerHTML = "";
    for (const id of parts) {
      const part = document.getElementById(id);
      if (part) { part.remove(); aside.set(id, part); }
    }
  };
  const reveal = () => {
    document.getElementById("query").innerHTML = asked.innerHTML;
    for (const part of aside.values()) document.body.appendChild(part);
    core.createDisplay();
  };
  for (const name of ["getUtterance", "endEpisode", "startEpisodeReal"]) {
    const own = core[name];
    core[name] = function (...given) {
      reveal();
      try { return own.apply(core, given); } finally { hide(); }
    };
  }
  hide();
  Math.seedrandom(SEED);
  core.EPISODE_MAX_TIME = LIMIT;
  core.startEpisodeReal();
})()
"""
_GOAL = "(() => { const said = core.getUtterance(); return typeof said === 'string' ? said : said.utterance; })()"
_PROBE = """{
  raw: WOB_RAW_REWARD_GLOBAL, reward: WOB_REWARD_GLOBAL, reason: WOB_REWARD_REASON, done: WOB_DONE_GLOBAL,
  ready: WOB_TASK_READY, episode: WOB_EPISODE_ID
}"""


class MiniWobSite:
    """The package's files; it has no state."""

    def handle(self, request: Request) -> Answer | None:
        """A file of the package."""
        found = _read(request.path) if request.host == HOST and request.method in ("GET", "HEAD") else None
        if found is None:
            return None
        kind, body = found
        return Answer(200, [("Content-Type", kind), ("Cache-Control", "max-age=86400")], body)

    def save(self) -> bytes:
        """Nothing."""
        return b""

    def load(self, state: bytes) -> None:
        """Nothing."""

    def facts(self, state: bytes) -> dict[str, Any]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing."""


class MiniWobTasks(TaskSet):
    """All of the package's pages; those that move do so by the page's own clock, a step a turn."""

    name: ClassVar[str] = "miniwob"
    stateless: ClassVar[bool] = True

    def tasks(self) -> Sequence[Task]:
        """Every page with a few seeds."""
        return _tasks()

    def open(self, task: Task, spec: BrowserTask) -> Site:
        """Serves the package's files."""
        if spec.name not in page_names():
            raise BadInput(f"miniwob has no page {spec.name!r}", field="task.data.name")
        return MiniWobSite()

    def setup_script(self, spec: BrowserTask) -> str:
        """Seeds the page and starts its episode."""
        return _SETUP.replace("SEED", json.dumps(spec.seed)).replace("LIMIT", str(MAX_TIME_MS))

    def goal_script(self, spec: BrowserTask) -> str:
        """What the page asks for."""
        return _GOAL

    def probe(self, spec: BrowserTask) -> str:
        """The page's own reward."""
        return _PROBE

    def ended(self, spec: BrowserTask, view: PageView) -> str | None:
        """Over when the page says so, or when it was left."""
        if _left(view, spec):
            return "left_the_page"
        found = view.state["task"] or {}
        return "done" if found.get("done") else None

    def goal(self, task: Task, final: Final) -> Verdict:
        """The page's raw reward (without its discount for time), at least 0."""
        if final.view is None:
            return Verdict(reward=0.0, rule="goal", reason=f"the page is gone ({final.termination})")
        found = final.view.state["task"] or {}
        raw = float(found.get("raw") or 0.0)
        done = bool(found.get("done")) and not _left(final.view, BrowserTask.of(task))
        reason = str(found.get("reason") or ("the page's own reward" if done else "the page's episode is not over"))
        reward = min(max(raw, 0.0), 1.0) if done else 0.0
        return Verdict(reward=reward, rule="goal", reason=reason, evidence={"raw": raw, "done": done})


def _left(view: PageView, spec: BrowserTask) -> bool:
    """Whether another document is shown; links such as ``#`` stay in the page."""
    return view.url.partition("#")[0] != spec.url


def miniwob_task(name: str, seed: int, **fields: Any) -> Task:
    """The task of one page with one seed. Raises BadInput for an unknown page."""
    if name not in page_names():
        raise BadInput(f"miniwob has no page {name!r}", field="name")
    spec = BrowserTask(
        set="miniwob",
        name=name,
        url=page_url(name),
        seed=seed,
        viewport=VIEWPORT,
        **fields,
    )
    return spec.task(f"miniwob.{name}.{seed}")


def page_url(name: str) -> str:
    """Where a page is served."""
    return f"http://{HOST}/miniwob/{name}.html"


def browsergym_seed(task_seed: int) -> int:
    """The seed BrowserGym gives a page for one of its task seeds."""
    import numpy as np

    return int(np.random.RandomState(task_seed).randint(0, 1_000_000))


@lru_cache(maxsize=1)
def page_names() -> tuple[str, ...]:
    """All pages, sorted. Raises MissingExtra."""
    return tuple(sorted(path.stem for path in (_root() / "miniwob").glob("*.html")))


@lru_cache(maxsize=1)
def _tasks() -> tuple[Task, ...]:
    return tuple(miniwob_task(name, seed) for name in page_names() for seed in SEEDS)


@lru_cache(maxsize=1)
def _root() -> Path:
    spec = find_spec("miniwob")
    if spec is None or spec.origin is None:
        raise MissingExtra("miniwob", "browser")
    return Path(spec.origin).resolve().parent / "html"


@lru_cache(maxsize=256)
def _read(path: str) -> tuple[str, bytes] | None:
    root = _root()
    wanted = (root / path.lstrip("/")).resolve()
    if not wanted.is_relative_to(root) or not wanted.is_file():
        return None
    kind = mimetypes.guess_type(wanted.name)[0] or "application/octet-stream"
    text = kind.startswith("text/") or kind.endswith("javascript")
    return f"{kind}; charset=utf-8" if text else kind, wanted.read_bytes()
