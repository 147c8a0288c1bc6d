"""A session that outlives the browser: what was done in it is known, so after a crash it is done again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pivotgym.envs.browser.engine import BrowserError, BrowserGone, Engine, engine, running
from pivotgym.envs.browser.proxy import SiteHost
from pivotgym.envs.browser.session import Call, Done, Session, differing
from pivotgym.envs.browser.slots import Preload, slots_of
from pivotgym.envs.browser.tab import PageFault
from pivotgym.envs.browser.tasks import BrowserTask, PageView, Site, TaskSet
from pivotgym.envs.trajectory import Task

T = TypeVar("T")
TURN_SECONDS = 180.0
"""How long one turn, or one replay, may take in all."""
ATTEMPTS = 4
"""How often a turn is tried when the browser dies under it."""
_TIMED = ("page_stuck", "page_restless", "page_crashed")
"""Faults that a starved machine can cause too: they count once they have happened twice."""


@dataclass(frozen=True)
class Kept:
    """A saved state: how to get there, and what is there.

    Attributes:
        turns: the calls of every turn so far.
        view: what the browser looks like.
        site: the site's own state.
    """

    turns: tuple[tuple[Call, ...], ...]
    view: PageView
    site: bytes


class SteadySession:
    """One episode's browser for callers in any thread."""

    def __init__(self, task: Task, spec: BrowserTask, tasks: TaskSet) -> None:
        self._task, self._spec, self._tasks = task, spec, tasks
        self._turns: list[tuple[Call, ...]] = []
        self._host = SiteHost(None)
        self._session: Session | None = None
        self._engine: Engine | None = None
        self._view: PageView | None = None
        self.goal: str | None = None
        self.revivals = 0

    @property
    def session(self) -> Session:
        """The running session. Raises BrowserError after :meth:`close`."""
        if self._session is None:
            raise BrowserError("the session is closed")
        return self._session

    @property
    def site(self) -> Site | None:
        """What serves the pages."""
        return self._host.site

    @property
    def view(self) -> PageView | None:
        """What the browser looked like after the last turn; None where a page's fault ended it."""
        return self._view

    @property
    def missing(self) -> list[str]:
        """Requests of the pages that nobody served."""
        return list(self._host.missing)

    def start(self) -> PageView:
        """Goes to the task's first page.

        Raises:
            PageFault: that page cannot be shown.
            BrowserError: the browser died again and again.
        """
        self._view = self._steadily(lambda: self._open(look=True))
        return self._view_now()

    def turn(self, calls: Sequence[Call]) -> Done:
        """Carries out one turn's calls. Raises as :meth:`start` does; after a PageFault there is no page any more."""
        wanted = tuple(calls)
        fresh = [False]

        def attempt() -> Done:
            if fresh[0]:
                self._open()
                engine().run(self.session.replay(self._turns), TURN_SECONDS)
            fresh[0] = True
            return engine().run(self.session.turn(wanted), TURN_SECONDS)

        try:
            done = self._steadily(attempt)
        except PageFault:
            self._view = None
            raise
        self._turns.append(wanted)
        self._view = done.view
        return done

    def keep(self) -> Kept | None:
        """The state now, or None where there is no page any more."""
        if self._view is None:
            return None
        return Kept(tuple(self._turns), self._view, self._site_state())

    def restore(self, kept: Kept) -> None:
        """Goes to a saved state by doing again what led to it, and proves that it is the same.

        Raises:
            BrowserError: the state reached differs: pages that do not do the same twice.
        """
        differs: list[str] = []
        for _ in range(2):
            self._turns = list(kept.turns)
            view = self._steadily(lambda: self._again(kept))
            differs = differing(kept.view.state, view.state)
            if not differs and self._facts(kept.site) != self._facts(self._site_state()):
                differs = ["site"]
            if not differs:
                self._view = kept.view
                return
            self.session.soil("diverged")
        raise BrowserError(f"the pages of {self._task.id} did not do the same twice: {', '.join(differs)} differ")

    def screenshot(self, full_page: bool = False) -> bytes:
        """The active tab as PNG."""
        return self._reading(lambda: engine().run(self.session.screenshot(full_page), TURN_SECONDS))

    def close(self) -> None:
        """Gives everything back."""
        session, self._session = self._session, None
        browser = running()
        if session is not None and browser is not None and browser is self._engine:
            with contextlib.suppress(Exception):
                browser.run(session.close(), 30.0)
        site, self._host = self._host.site, SiteHost(None)
        if site is not None:
            site.close()

    # Inner parts ----------------------------------------------------------------------------------------------

    def _again(self, kept: Kept) -> PageView:
        self._open()

        async def work() -> PageView:
            await self.session.replay(kept.turns)
            return await self.session.view()

        return engine().run(work(), TURN_SECONDS)

    def _reading(self, what: Callable[[], T]) -> T:
        """``what`` changes nothing; where the browser dies, the state is rebuilt first."""
        fresh = [False]

        def attempt() -> T:
            if fresh[0]:
                self._open()
                engine().run(self.session.replay(self._turns), TURN_SECONDS)
            fresh[0] = True
            return what()

        return self._steadily(attempt)

    def _open(self, look: bool = False) -> PageView | None:
        """A fresh session of the task, at its first page."""
        self.close()
        self._host = host = SiteHost(self._tasks.open(self._task, self._spec))
        self._engine = browser = engine()
        self._session = session = Session(
            slots_of(browser),
            self._spec,
            host,
            setup=self._tasks.setup_script(self._spec),
            probe=self._tasks.probe(self._spec),
            preload=self._preload(),
        )
        asked = self._tasks.goal_script(self._spec) if look else None

        async def work() -> PageView | None:
            await session.open()
            if asked is not None:
                self.goal = str(await session.active.evaluate(asked))
            return await session.view() if look else None

        return browser.run(work(), TURN_SECONDS)

    def _preload(self) -> Preload | None:
        if not self._tasks.stateless:
            return None
        host = SiteHost(self._tasks.open(self._task, self._spec))
        return Preload(self._spec.url, float(self._spec.step_ms), host)

    def _steadily(self, attempt: Callable[[], T]) -> T:
        """Tries until the browser lives through it.

        Raises:
            PageFault: the page's own doing.
            BrowserError: not within :data:`ATTEMPTS`.
        """
        died, faults = list[str](), list[PageFault]()
        for _ in range(ATTEMPTS):
            try:
                return attempt()
            except PageFault as fault:
                self._drop("fault")
                faults.append(fault)
                if fault.kind not in _TIMED or len(faults) > 1:
                    raise
            except BrowserGone as gone:
                crashed = "crashed" in str(gone)
                self._drop("gone")
                died.append(str(gone).splitlines()[0] if str(gone) else "gone")
                self.revivals += 1
                if crashed:
                    faults.append(PageFault("page_crashed", "the page's process crashed"))
                    if len(faults) > 2:
                        raise faults[-1] from gone
                time.sleep(0.1 * len(died))
            except BrowserError:
                self._drop("error")
                raise
        raise BrowserError(f"the browser died {len(died)} times in one turn: {died[-1]}")

    def _drop(self, why: str) -> None:
        if self._session is not None:
            self._session.soil(why)

    def _site_state(self) -> bytes:
        site = self._host.site
        if site is None:
            return b""
        with self._host.lock:
            return site.save()

    def _facts(self, state: bytes) -> object:
        return self._host.site.facts(state) if self._host.site is not None else None

    def _view_now(self) -> PageView:
        if self._view is None:
            raise BrowserError("there is no page")
        return self._view
