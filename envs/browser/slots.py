"""Browser contexts, one an environment, kept between episodes where nothing of an episode can stay in them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pivotgym.envs.browser.engine import BrowserGone, Engine
from pivotgym.envs.browser.proxy import Proxy, SiteHost
from pivotgym.envs.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

T = TypeVar("T")
RECENT = 6
"""Of so many episodes that began last, two with the same start page mean that there will be more."""
SPARE = 2
"""Contexts held ready for episodes like those."""
LULL_SECONDS = 0.5
"""How long cleaning waits for a moment in which nobody waits for the browser, while enough others are ready."""
MAKE_SECONDS = 60.0
"""How long a context may take to be made."""
MAX_FREE = 8
"""Contexts kept for later, all kinds together."""
_QUIET_SECONDS = 0.03
LOCALE, TIME_ZONE = "en-US", "UTC"


@dataclass(frozen=True)
class Kind:
    """What an episode needs of its context; its documents begin with ``seed`` and ``clock``."""

    viewport: tuple[int, int]
    seed: int
    clock: int
    image: str = ""

    @property
    def mould(self) -> tuple[tuple[int, int], str]:
        """What a context is made with and cannot be changed later."""
        return self.viewport, self.image


@dataclass(frozen=True)
class Preload:
    """A start page that may be loaded before an episode begins.

    Attributes:
        url: its address.
        step_ms: how much of its own time passes then.
        host: what serves it.
    """

    url: str
    step_ms: float
    host: SiteHost


Start = tuple[Kind, tuple[str, float] | None]
"""How an episode begins: its kind, and the page that may be loaded before, or None for an empty one."""


@dataclass(eq=False)
class Slot:
    """A context with its proxy and its first tab.

    Attributes:
        script: takes away the script that its documents begin with; None where Playwright (before 1.60 or so) cannot.
        origins: the origins whose pages were open in it in this episode.
        soiled: why it must not be used again.
        asides: what its documents did beside their own state: ``history`` was asked, ``stores`` were written.
        ready: the start page it stands at already, if any.
    """

    kind: Kind
    context: BrowserContext
    proxy: Proxy
    tab: Tab
    script: AbstractAsyncContextManager[Any] | None
    origins: set[str] = field(default_factory=set)
    soiled: str | None = None
    asides: set[str] = field(default_factory=set)
    ready: tuple[str, float] | None = None

    @property
    def alive(self) -> bool:
        """Whether its browser and its page are still there."""
        browser = self.context.browser
        return self.tab.dead is None and browser is not None and browser.is_connected()

    def suits(self, kind: Kind) -> bool:
        """Whether an episode of that kind can have it."""
        return self.kind == kind or (self.script is not None and self.kind.mould == kind.mould)

    def handy(self, start: Start) -> bool:
        """Whether it can have it at once: it stands at that start or at an empty page."""
        return (self.kind, self.ready) == start or (self.ready is None and self.suits(start[0]))


class Slots:
    """The contexts of one engine. Used in the engine's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._free: list[Slot] = []
        self._busy: dict[asyncio.Task[None], Start] = {}  # and what comes of it
        self._tidying: set[asyncio.Task[None]] = set()
        self._wanted = 0
        self._recent: deque[Start] = deque(maxlen=RECENT)
        self._all: set[Slot] = set()

    async def acquire(self, kind: Kind, preload: Preload | None = None) -> Slot:
        """A context with an empty page, or one that stands at the page to be preloaded.

        Raises BrowserError, BrowserGone.
        """
        start = _start(kind, preload)
        self._recent.append(start)
        slot = await self._take(start)
        if sum(recent.mould == kind.mould for recent, _ in self._recent) > 1 and self._spares(start) < SPARE:
            again = preload if self._again(start) else None
            self._begin(self._prepare(kind, again), _start(kind, again))
        return slot

    def release(self, slot: Slot, preload: Preload | None = None) -> None:
        """Takes a context back; it is cleaned in the background."""
        slot.proxy.host = SiteHost(None)
        again = preload if self._again(_start(slot.kind, preload)) else None
        self._begin(self._clean(slot, again), _start(slot.kind, again))

    def _again(self, start: Start) -> bool:
        return self._recent.count(start) > 1

    def _spares(self, start: Start) -> int:
        """How many contexts are handy, or soon will be."""
        coming = sum(one == start or (one[1] is None and one[0].mould == start[0].mould) for one in self._busy.values())
        return coming + sum(slot.handy(start) for slot in self._free)

    def _begin(self, work: Coroutine[Any, Any, None], outcome: Start) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._busy[task] = outcome
        task.add_done_callback(self._busy.pop)

    async def _take(self, start: Start) -> Slot:
        while True:
            slot, busy = self._choice(start)
            if slot is not None:
                self._free.remove(slot)
                if slot.alive and await self._fitted(slot, start[0], start[1]):
                    return slot
                await self._discard(slot)
                continue
            if not busy:
                return await self._make(start[0])
            self._wanted += 1
            try:
                await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._wanted -= 1

    def _choice(self, start: Start) -> tuple[Slot | None, list[asyncio.Task[None]]]:
        """A context to take, else what to wait for.

        One that stands at the page already, one that stands at none, one that soon will stand there, any that can be
        had: to take one away from another page takes longer than to wait a moment.
        """
        fitting = [slot for slot in self._free if slot.suits(start[0])]
        exact = [slot for slot in fitting if (slot.kind, slot.ready) == start]
        empty = sorted((slot for slot in fitting if slot.ready is None), key=lambda slot: slot.kind != start[0])
        soon = [task for task, outcome in self._busy.items() if outcome == start]
        if exact or empty or soon:
            return next(iter([*exact, *empty]), None), soon
        return next(iter(fitting), None), [
            task for task, (kind, _) in self._busy.items() if kind.mould == start[0].mould
        ]

    async def _fitted(
        self, slot: Slot, kind: Kind, wanted: tuple[str, float] | None, preload: Preload | None = None
    ) -> bool:
        """Whether a context now stands at an empty page or the wanted one, and its documents begin as the kind says."""
        if slot.kind == kind and slot.ready in (None, wanted):
            return True
        try:
            if slot.kind != kind:
                assert slot.script is not None
                await slot.tab.call(slot.script.__aexit__(None, None, None))
                slot.script = await slot.tab.call(_script(slot.context, kind))
                slot.kind = kind
            if slot.ready is not None:  # that page may have stored something
                await self._wipe(slot, preload)
        except Exception:  # whatever became of it: another one is made
            return False
        return True

    async def _prepare(self, kind: Kind, preload: Preload | None) -> None:
        """One more context for such an episode: one that stands at another page, or a new one."""
        with contextlib.suppress(Exception):
            start = _start(kind, preload)
            await self._lull(start)
            slot = next((slot for slot in self._free if slot.suits(kind) and not slot.handy(start)), None)
            if slot is None:
                slot = await self._make(kind)
                await self._stand(slot, preload)
            else:
                self._free.remove(slot)
                if not (slot.alive and await self._fitted(slot, kind, None, preload)):
                    await self._discard(slot)
                    return
            self._free.append(slot)

    async def _stand(self, slot: Slot, preload: Preload | None) -> None:
        """Opens the start page of the next episode, or an empty one."""
        tab = slot.tab
        if preload is None:
            await tab.goto("about:blank")
            await tab.settle(0)
            await tab.send("Page.resetNavigationHistory")
            return
        slot.proxy.host = preload.host
        slot.origins.add("{0.scheme}://{0.netloc}".format(urlsplit(preload.url)))
        if await tab.goto(preload.url):
            raise RuntimeError("the page cannot be opened")
        await tab.settle(preload.step_ms)
        await tab.send("Page.resetNavigationHistory")
        slot.ready = _start(slot.kind, preload)[1]

    async def _make(self, kind: Kind) -> Slot:
        from playwright.async_api import Error

        browser = await self._engine.browser(kind.image)
        proxy = Proxy()
        address = await proxy.start(self._engine.listen(kind.image))
        try:
            asides: set[str] = set()
            context, tab, script = await _while_alive(browser, _furnished(browser, kind, address, asides))
        except (Error, BrowserGone) as error:
            await proxy.stop()
            self._engine.lost(browser)
            raise BrowserGone(str(error)) from error
        except BaseException:
            await proxy.stop()
            raise
        slot = Slot(kind, context, proxy, tab, script, asides=asides)
        self._all.add(slot)
        return slot

    async def _clean(self, slot: Slot, preload: Preload | None) -> None:
        await self._lull(_start(slot.kind, preload))
        if slot.soiled is None and slot.alive and len(slot.origins) <= 1 and len(self._free) < MAX_FREE:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._wipe(slot, preload), 10.0)
                self._free.append(slot)
                if not self._tidying:  # no more than one at a time; whoever needs a context does not wait for it
                    task = asyncio.get_running_loop().create_task(self._tidy())
                    self._tidying.add(task)
                    task.add_done_callback(self._tidying.discard)
                return
        await self._discard(slot)

    async def _tidy(self) -> None:
        """Empties the contexts that stand at pages which nobody asked for lately, while nobody waits."""
        for slot in list(self._free):
            start = slot.kind, slot.ready
            if slot.ready is None or start in self._recent:
                continue
            await self._lull((slot.kind, None))
            if slot in self._free and (slot.kind, slot.ready) == start:
                self._free.remove(slot)
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self._wipe(slot, None), 10.0)
                    self._free.append(slot)
                    continue
                await self._discard(slot)

    async def _lull(self, start: Start) -> None:
        """Lets callers that wait for an answer go first, unless the next of them would wait for what is cleaned."""
        began = last = time.monotonic()
        while not self._wanted and any(slot.handy(start) for slot in self._free):
            now = time.monotonic()
            if self._engine.waiting:
                last = now
            # Between giving back one session and opening the next a caller waits for nothing, for a moment.
            if now - last > _QUIET_SECONDS or now - began > LULL_SECONDS:
                return
            await asyncio.sleep(0.005)

    async def _wipe(self, slot: Slot, preload: Preload | None) -> None:
        tab = slot.tab
        slot.ready = None
        # The page's timers stand still, so nothing is written behind the wiping.
        await asyncio.gather(
            tab.evaluate("try { sessionStorage.clear(); window.name = ''; } catch {}"),
            tab.call(slot.context.clear_cookies()),
            *(
                tab.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
                for origin in slot.origins
            ),
        )
        slot.origins.clear()
        slot.asides.clear()
        await self._stand(slot, preload)
        tab.downloads.clear()
        if len(slot.context.pages) != 1:
            raise RuntimeError("pages are left over")

    async def _discard(self, slot: Slot) -> None:
        self._all.discard(slot)
        slot.tab.die("given back")
        with contextlib.suppress(Exception):
            await asyncio.wait_for(slot.context.close(), 10.0)
        await slot.proxy.stop()

    async def close(self) -> None:
        """Lets go of them all, used or not: whoever waits for one is told. The contexts end with the browser."""
        busy = [*self._busy, *self._tidying]
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        self._free.clear()
        for slot in self._all:
            slot.tab.die("the browser was ended")
            await slot.proxy.stop()
        self._all.clear()


def _start(kind: Kind, preload: Preload | None) -> Start:
    return kind, (preload.url, preload.step_ms) if preload is not None else None


async def _script(context: BrowserContext, kind: Kind) -> AbstractAsyncContextManager[Any] | None:
    """Has every document of a context begin with our script; gives what takes that back."""
    script = files("pivotgym.envs.browser").joinpath("inpage.js").read_text()
    found: AbstractAsyncContextManager[Any] | None
    found = await context.add_init_script(f"{script}({kind.seed}, {kind.clock});")
    return found


async def _furnished(
    browser: Browser, kind: Kind, proxy: str, asides: set[str]
) -> tuple[BrowserContext, Tab, AbstractAsyncContextManager[Any] | None]:
    """A context with its first tab."""
    context = await browser.new_context(
        viewport={"width": kind.viewport[0], "height": kind.viewport[1]},
        locale=LOCALE,
        timezone_id=TIME_ZONE,
        color_scheme="light",
        reduced_motion="reduce",
        device_scale_factor=1,
        accept_downloads=False,
        service_workers="block",
        ignore_https_errors=False,
        proxy={"server": proxy, "bypass": "<-loopback>"},
    )
    # First: the script takes it away before a page's own scripts run.
    await context.expose_binding("__pivotAside", lambda _, what: asides.add(str(what)[:20]))
    script = await _script(context, kind)
    return context, await Tab.attach(await context.new_page()), script


async def _while_alive(browser: Browser, work: Coroutine[Any, Any, T]) -> T:
    """Awaits what a browser that dies may leave unanswered. Raises BrowserGone where it died, or does not answer."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(_: object) -> None:
        if not ended.done():
            ended.set_result(None)

    browser.on("disconnected", note)
    task = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {task, ended}
    try:
        await asyncio.wait(either, timeout=MAKE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise BrowserGone("the browser ended while a context was made")
        return task.result()
    finally:
        browser.remove_listener("disconnected", note)
        if not task.done():
            task.cancel()
            with contextlib.suppress(BaseException):
                await task


def slots_of(engine: Engine) -> Slots:
    """The contexts of an engine."""
    return engine.part(Slots, Slots)
