"""A session that outlives the browser: what was done in it is known, so after a crash it is done again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pivotgym.envs.browser.contexts import Preload
from pivotgym.envs.browser.engine import BrowserError, BrowserGone, Engine, engine, running
from pivotgym.envs.browser.landing import Landing, Shallow, same_page
from pivotgym.envs.browser.proxy import SiteHost
from pivotgym.envs.browser.session import Call, Done, Session, differing
from pivotgym.envs.browser.slots import slots_of
from pivotgym.envs.browser.standby import Ready, give_back, standby_of
from pivotgym.envs.browser.tab import PageFault
from pivotgym.envs.browser.tasks import BrowserTask, PageView, Site, TaskSet
from pivotgym.envs.browser.witness import WITNESS_SECONDS, starved
from pivotgym.envs.trajectory import Task

T = TypeVar("T")
TURN_SECONDS = 180.0
"""How long one turn, or one replay, may take in all."""
ATTEMPTS = 4
"""How often a turn is tried when the browser dies under it."""
TIMED = ("page_stuck", "page_restless", "page_crashed")
"""Faults that a starved machine can cause too: they count once they have happened twice while another page of the
browser had time to answer (:mod:`.witness`)."""


@dataclass(frozen=True)
class Kept:
    """A saved state: how to get there, and what is there.

    Attributes:
        turns: the calls of every turn so far.
        view: what the browser looks like.
        site: the site's own state.
        landing: how to load the document it stands on without going through those before, where that is known.
    """

    turns: tuple[tuple[Call, ...], ...]
    view: PageView
    site: bytes
    landing: Landing | None = None

    @property
    def nbytes(self) -> int:
        """About how large it is, in bytes."""
        landing = self.landing.nbytes if self.landing is not None else 0
        return 4096 + len(self.site) + 4 * len(self.view.text) + landing


class SteadySession:
    """One episode's browser for callers in any thread."""

    def __init__(self, task: Task, spec: BrowserTask, tasks: TaskSet, image: str = "") -> None:
        self._task, self._spec, self._tasks, self._image = task, spec, tasks, image
        self._turns: list[tuple[Call, ...]] = []
        self._host = SiteHost(None)
        self._session: Session | None = None
        self._engine: Engine | None = None
        self._view: PageView | None = None
        self._landing: Landing | None = None
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
        self._landing = self.session.landing
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
        self._landing = self.session.landing or self._landing
        return done

    def keep(self) -> Kept | None:
        """The state now, or None where there is no page any more."""
        if self._view is None:
            return None
        return Kept(tuple(self._turns), self._view, self._site_state(), self._landing)

    def restore(self, kept: Kept) -> None:
        """Goes to a saved state and proves that it is the same.

        The document it stands on is loaded again where that is known to bring the same, and the actions since are done
        in it; else everything that led there is done again.

        Raises:
            BrowserError: the state reached differs: pages that do not do the same twice.
        """
        self._turns = list(kept.turns)
        self._landing = landing = kept.landing if kept.landing is not None and not kept.landing.refuted else None
        if not self._adopt(kept) and (landing is None or not self._land(kept, landing)):
            self._landing = None
            self._repeat(kept)
        self._view = kept.view
        browser = engine()
        standby_of(browser).restored(self._key(kept), lambda: self._another(browser, kept))

    def _key(self, kept: Kept) -> tuple[str, str, str]:
        return self._task.key, repr(kept.turns), self._image

    def _adopt(self, kept: Kept) -> bool:
        """Whether a session stood by for the state."""
        browser = engine()
        ready = standby_of(browser).take(self._key(kept))
        if ready is None:
            return False
        self.close()
        self._engine = browser
        self._session, self._host = ready
        try:
            view = browser.run(self._session.view(), TURN_SECONDS)
        except (BrowserGone, BrowserError, PageFault):
            self._drop("gone")
            return False
        return self._proven(kept, view)

    async def _another(self, browser: Engine, kept: Kept) -> Ready:
        """One more session at the state, for whoever restores it next. In the browser's thread."""
        landing = kept.landing if kept.landing is not None and not kept.landing.refuted else None
        session, host = self._made(browser, landing, ahead=True)
        try:
            if landing is not None:
                await session.resume(landing)
            else:
                await session.open()
            await session.replay(kept.turns[landing.turns if landing is not None else 0 :])
            return session, host
        except BaseException:
            session.soil("not prepared")
            await give_back(session, host)
            raise

    def _proven(self, kept: Kept, view: PageView) -> bool:
        if not self._differing(kept, view) and same_page(kept.view.text, view.text):
            return True
        self._drop("diverged")
        return False

    def _repeat(self, kept: Kept) -> None:
        differs: list[str] = []
        for _ in range(2):
            view = self._steadily(lambda: self._again(kept))
            differs = self._differing(kept, view)
            if not differs:
                return
            self.session.soil("diverged")
        raise BrowserError(f"the pages of {self._task.id} did not do the same twice: {', '.join(differs)} differ")

    def _land(self, kept: Kept, landing: Landing) -> bool:
        """Whether the state was reached by way of its landing."""
        try:
            view = self._steadily(lambda: self._from(landing, kept))
        except PageFault:
            view = None
        landing.refuted = view is None or not self._proven(kept, view)
        return not landing.refuted

    def _differing(self, kept: Kept, view: PageView) -> list[str]:
        found = differing(kept.view.state, view.state)
        if found:
            return found
        site = self._site_state()
        return [] if site == kept.site or self._facts(site) == self._facts(kept.site) else ["site"]

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
        host, self._host = self._host, SiteHost(None)
        host.close()

    # Inner parts ----------------------------------------------------------------------------------------------

    def _again(self, kept: Kept) -> PageView:
        self._open()

        async def work() -> PageView:
            await self.session.replay(kept.turns)
            return await self.session.view()

        return engine().run(work(), TURN_SECONDS)

    def _from(self, landing: Landing, kept: Kept) -> PageView | None:
        session, browser = self._begin(landing)

        async def work() -> PageView | None:
            try:
                await session.resume(landing)
                await session.replay(kept.turns[landing.turns :])
                return await session.view()
            except Shallow:
                return None

        return browser.run(work(), TURN_SECONDS)

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

    def _begin(self, landing: Landing | None = None) -> tuple[Session, Engine]:
        """A fresh session of the task, no page opened yet; the server as a landing finds it."""
        self.close()
        self._engine = browser = engine()
        self._session, self._host = self._made(browser, landing)
        return self._session, browser

    def _made(self, browser: Engine, landing: Landing | None, *, ahead: bool = False) -> Ready:
        host = SiteHost(self._tasks.open(self._task, self._spec), self._spec.clock)
        if landing is not None:
            host.missing += landing.request.missing
            if host.site is not None:
                host.site.load(landing.request.site)
        session = Session(
            slots_of(browser),
            self._spec,
            host,
            setup=self._tasks.setup_script(self._spec),
            probe=self._tasks.probe(self._spec),
            preload=self._preload(),
            image=self._image,
            ahead=ahead,
        )
        return session, host

    def _open(self, look: bool = False) -> PageView | None:
        """A fresh session of the task, at its first page."""
        session, browser = self._begin()
        asked = self._tasks.goal_script(self._spec) if look else None

        async def work() -> PageView | None:
            await session.open()
            if not look:
                return None
            view = await session.view(asked=asked)
            if asked is not None:
                if session.answer is None:
                    raise PageFault("page_broken", "the task's page does not say what is asked for")
                self.goal = str(session.answer)
            return view

        return browser.run(work(), TURN_SECONDS)

    def _preload(self) -> Preload | None:
        if not self._tasks.stateless:
            return None
        host = SiteHost(self._tasks.open(self._task, self._spec), self._spec.clock)
        return Preload(self._spec.url, float(self._spec.step_ms), host)

    def _steadily(self, attempt: Callable[[], T]) -> T:
        """Tries until the browser lives through it.

        Raises:
            PageFault: the page's own doing.
            BrowserError: not within :data:`ATTEMPTS`, or the machine gave it no time.
        """
        died, faults = list[str](), list[PageFault]()
        for _ in range(ATTEMPTS):
            try:
                return attempt()
            except PageFault as fault:
                self._drop("fault")
                if fault.kind in TIMED and self._starved():
                    died.append(f"a starved machine ({fault})")
                    continue
                faults.append(fault)
                if fault.kind not in TIMED or len(faults) > 1:
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
            except Shallow:  # this session loaded its document on its own: the next one goes through all of them
                continue
            except BrowserError:
                self._drop("error")
                raise
        raise BrowserError(f"the browser failed {len(died)} times in one turn: {died[-1]}")

    def _starved(self) -> bool:
        browser = engine()
        try:
            return browser.run(starved(browser, self._image), WITNESS_SECONDS)
        except BrowserError:
            return True

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
