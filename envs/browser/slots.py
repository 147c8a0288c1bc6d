"""Browser contexts, one an environment, kept between episodes where nothing of an episode can stay in them."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

from pivotgym.envs.browser.engine import BrowserGone, Engine
from pivotgym.envs.browser.proxy import Proxy, SiteHost
from pivotgym.envs.browser.tab import Tab
from pivotgym.envs.trajectory import JsonObject

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

MAX_FREE = 8
"""Contexts kept for later, all kinds together."""
LOCALE, TIME_ZONE = "en-US", "UTC"


@dataclass(frozen=True)
class Kind:
    """What a context is made with and cannot be changed later."""

    viewport: tuple[int, int]
    seed: int
    clock: int


@dataclass(eq=False)
class Slot:
    """A context with its proxy and its first tab.

    Attributes:
        origins: the origins whose pages were open in it in this episode.
        soiled: why it must not be used again.
    """

    kind: Kind
    context: BrowserContext
    proxy: Proxy
    tab: Tab
    start: int
    origins: set[str] = field(default_factory=set)
    soiled: str | None = None

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
        self._cleaning: dict[asyncio.Task[None], Kind] = {}

    async def acquire(self, kind: Kind) -> Slot:
        """A context with an empty page. Raises BrowserError, BrowserGone."""
        while True:
            for slot in self._free:
                if slot.kind == kind:
                    self._free.remove(slot)
                    if slot.alive:
                        return slot
                    await self._discard(slot)
                    break
            else:
                cleaning = [task for task, other in self._cleaning.items() if other == kind]
                if not cleaning:
                    return await self._make(kind)
                await asyncio.wait(cleaning, return_when=asyncio.FIRST_COMPLETED)

    def release(self, slot: Slot) -> None:
        """Takes a context back; it is cleaned in the background."""
        slot.proxy.host = SiteHost(None)
        task = asyncio.get_running_loop().create_task(self._clean(slot))
        self._cleaning[task] = slot.kind
        task.add_done_callback(lambda done: self._cleaning.pop(done, None) and None)

    async def _make(self, kind: Kind) -> Slot:
        from playwright.async_api import Error

        browser = await self._engine.browser()
        proxy = Proxy()
        address = await proxy.start()
        try:
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
                proxy={"server": address, "bypass": "<-loopback>"},
            )
            script = files("pivotgym.envs.browser").joinpath("inpage.js").read_text()
            await context.add_init_script(f"{script}({kind.seed}, {kind.clock});")
            tab = await Tab.attach(await context.new_page())
        except (Error, BrowserGone) as error:
            await proxy.stop()
            self._engine.lost(browser)
            raise BrowserGone(str(error)) from error
        except BaseException:
            await proxy.stop()
            raise
        return Slot(kind, context, proxy, tab, self._engine.starts)

    async def _clean(self, slot: Slot) -> None:
        if slot.soiled is None and slot.alive and len(slot.origins) <= 1 and len(self._free) < MAX_FREE:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._wipe(slot), 5.0)
                self._free.append(slot)
                return
        await self._discard(slot)

    async def _wipe(self, slot: Slot) -> None:
        tab = slot.tab
        await tab.evaluate("try { sessionStorage.clear(); window.name = ''; } catch {}")
        wipe: JsonObject = {"storageTypes": "all"}
        for origin in slot.origins:
            await tab.send("Storage.clearDataForOrigin", {"origin": origin, **wipe})
        slot.origins.clear()
        await tab.call(slot.context.clear_cookies())
        await tab.goto("about:blank")
        await tab.settle(0)
        await tab.send("Page.resetNavigationHistory")
        tab.downloads.clear()
        if len(slot.context.pages) != 1:
            raise RuntimeError("pages are left over")

    async def _discard(self, slot: Slot) -> None:
        slot.tab.dead = slot.tab.dead or "given back"
        with contextlib.suppress(Exception):
            await asyncio.wait_for(slot.context.close(), 10.0)
        await slot.proxy.stop()

    async def close(self) -> None:
        """Discards all that are free."""
        free, self._free = self._free, []
        for slot in free:
            await self._discard(slot)


_OF: weakref.WeakKeyDictionary[Engine, Slots] = weakref.WeakKeyDictionary()


def slots_of(engine: Engine) -> Slots:
    """The contexts of an engine."""
    if engine not in _OF:
        _OF[engine] = Slots(engine)
    return _OF[engine]
