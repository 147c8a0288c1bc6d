"""Browser contexts, one an environment, kept between episodes where nothing of an episode can stay in them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

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
    """What a context is made with and cannot be changed later."""

    viewport: tuple[int, int]
    seed: int
    clock: int
    image: str = ""


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


@dataclass(eq=False)
class Slot:
    """A context with its proxy and its first tab.

    Attributes:
        origins: the origins whose pages were open in it in this episode.
        soiled: why it must not be used again.
        asides: what its documents did beside their own state: ``history`` was asked, ``stores`` were written.
        ready: the start page it stands at already, if any.
    """

    kind: Kind
    context: BrowserContext
    proxy: Proxy
    tab: Tab
    origins: set[str] = field(default_factory=set)
    soiled: str | None = None
    asides: set[str] = field(default_factory=set)
    ready: tuple[str, float] | None = None

    @property
    def alive(self) -> bool:
        """Whether its browser and its page are still there."""
        browser = self.context.browser
        return self.tab.dead is None and browser is not None and browser.is_connected()


class Slots:
    """The contexts of one engine. Used in the engine's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._free: list[Slot] = []
        self._busy: dict[asyncio.Task[None], Kind] = {}
        self._wanted = 0
        self._recent: deque[tuple[Kind, str]] = deque(maxlen=RECENT)
        self._all: set[Slot] = set()

    async def acquire(self, kind: Kind, preload: Preload | None = None) -> Slot:
        """A context with an empty page, or one that stands at the page to be preloaded.

        Raises BrowserError, BrowserGone.
        """
        wanted = (preload.url, preload.step_ms) if preload is not None else None
        self._recent.append((kind, preload.url if preload is not None else ""))
        slot = await self._take(kind, wanted)
        if self._again(kind, preload) and self._spares(kind) < SPARE:
            self._start(self._prepare(kind, preload), kind)
        return slot

    def release(self, slot: Slot, preload: Preload | None = None) -> None:
        """Takes a context back; it is cleaned in the background."""
        slot.proxy.host = SiteHost(None)
        self._start(self._clean(slot, preload if self._again(slot.kind, preload) else None), slot.kind)

    def _again(self, kind: Kind, preload: Preload | None) -> bool:
        return self._recent.count((kind, preload.url if preload is not None else "")) > 1

    def _spares(self, kind: Kind) -> int:
        """How many are ready, or soon will be."""
        return sum(slot.kind == kind for slot in self._free) + list(self._busy.values()).count(kind)

    def _start(self, work: Coroutine[Any, Any, None], kind: Kind) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._busy[task] = kind
        task.add_done_callback(self._busy.pop)

    async def _take(self, kind: Kind, wanted: tuple[str, float] | None) -> Slot:
        while True:
            fitting = [slot for slot in self._free if slot.kind == kind]
            if fitting:
                slot = next((slot for slot in fitting if slot.ready == wanted), fitting[0])
                self._free.remove(slot)
                if slot.alive:
                    return slot
                await self._discard(slot)
                continue
            busy = [task for task, other in self._busy.items() if other == kind]
            if not busy:
                return await self._make(kind)
            self._wanted += 1
            try:
                await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._wanted -= 1

    async def _prepare(self, kind: Kind, preload: Preload | None) -> None:
        with contextlib.suppress(Exception):
            await self._lull(kind)
            slot = await self._make(kind)
            await self._stand(slot, preload)
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
        if await tab.goto(preload.url):
            raise RuntimeError("the page cannot be opened")
        await tab.settle(preload.step_ms)
        await tab.send("Page.resetNavigationHistory")
        slot.ready = (preload.url, preload.step_ms)

    async def _make(self, kind: Kind) -> Slot:
        from playwright.async_api import Error

        browser = await self._engine.browser(kind.image)
        proxy = Proxy()
        address = await proxy.start(self._engine.listen(kind.image))
        try:
            asides: set[str] = set()
            context, tab = await _while_alive(browser, _furnished(browser, kind, address, asides))
        except (Error, BrowserGone) as error:
            await proxy.stop()
            self._engine.lost(browser)
            raise BrowserGone(str(error)) from error
        except BaseException:
            await proxy.stop()
            raise
        slot = Slot(kind, context, proxy, tab, asides=asides)
        self._all.add(slot)
        return slot

    async def _clean(self, slot: Slot, preload: Preload | None) -> None:
        await self._lull(slot.kind)
        if slot.soiled is None and slot.alive and len(slot.origins) <= 1 and len(self._free) < MAX_FREE:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._wipe(slot, preload), 10.0)
                self._free.append(slot)
                return
        await self._discard(slot)

    async def _lull(self, kind: Kind) -> None:
        """Lets callers that wait for an answer go first, unless the next of them would wait for what is cleaned."""
        began = last = time.monotonic()
        while not self._wanted and any(slot.kind == kind for slot in self._free):
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
        busy = list(self._busy)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        self._free.clear()
        for slot in self._all:
            slot.tab.die("the browser was ended")
            await slot.proxy.stop()
        self._all.clear()


async def _furnished(browser: Browser, kind: Kind, proxy: str, asides: set[str]) -> tuple[BrowserContext, Tab]:
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
    script = files("pivotgym.envs.browser").joinpath("inpage.js").read_text()
    await context.add_init_script(f"{script}({kind.seed}, {kind.clock});")
    return context, await Tab.attach(await context.new_page())


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
