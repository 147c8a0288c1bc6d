"""Browser contexts: how one is made, and how what an episode left in it is taken away again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pivotgym.envs.browser.cookies import LASTING_SECONDS
from pivotgym.envs.browser.engine import BrowserGone, Engine
from pivotgym.envs.browser.proxy import Proxy, SiteHost
from pivotgym.envs.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

T = TypeVar("T")
MAKE_SECONDS = 60.0
"""How long a context may take to be made."""
_FIT_SECONDS = 10.0
SHOWN_DIALOGS = 5
"""So many of a turn's dialogs are kept with their text."""
LOCALE, TIME_ZONE = "en-US", "UTC"


@dataclass
class Said:
    """The dialogs of a turn: the first ones as kind and text, and how many more there were."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    more: int = 0

    def add(self, kind: str, text: str) -> None:
        """One more."""
        if len(self.lines) < SHOWN_DIALOGS:
            self.lines.append((kind, text[:500]))
        else:
            self.more += 1

    def clear(self) -> None:
        """A new turn begins."""
        self.lines.clear()
        self.more = 0

    @property
    def in_all(self) -> int:
        """How many there were."""
        return len(self.lines) + self.more


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
        script: takes away the script that its documents begin with; None where an older Playwright cannot.
        origins: the origins whose pages were open in it in this episode.
        soiled: why it must not be used again.
        asides: what its documents did beside their own state: ``history`` was asked, ``stores`` were written.
        said: the dialogs that they and their frames raised in this turn.
        ready: the start page it stands at already, if any.
        used: an episode had it, and nothing was taken away of what that left.
        bare: it was seen that its episode stored nothing, and nothing was done since.
        left: when the last one left it, by the monotonic clock.
    """

    kind: Kind
    context: BrowserContext
    proxy: Proxy
    tab: Tab
    script: AbstractAsyncContextManager[Any] | None
    origins: set[str] = field(default_factory=set)
    soiled: str | None = None
    asides: set[str] = field(default_factory=set)
    said: Said = field(default_factory=Said)
    ready: tuple[str, float] | None = None
    used: bool = False
    bare: bool = False
    left: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether its browser and its page are still there."""
        browser = self.context.browser
        return self.tab.dead is None and browser is not None and browser.is_connected()

    def suits(self, kind: Kind) -> bool:
        """Whether an episode of that kind can have it."""
        return self.kind == kind or (self.script is not None and self.kind.mould == kind.mould)

    @property
    def clean(self) -> bool:
        """Whether it stands at an empty page."""
        return not self.used and self.ready is None

    def at(self, start: Start) -> bool:
        """Whether it stands at that start."""
        return not self.used and (self.kind, self.ready) == start

    async def fit(self, kind: Kind, preload: Preload | None) -> bool:
        """Makes it stand at an empty page, or at the one to be preloaded, with documents that begin as the kind says.

        Whether it does: what an episode left in it can be a reason that it must not be used again.
        """
        start = start_of(kind, preload)
        if self.at(start):
            return self.alive
        self.origins |= self.tab.visited
        if self.soiled is not None or not self.alive or len(self.origins) > 1:
            return False
        try:
            async with asyncio.timeout(_FIT_SECONDS):
                if self.kind != kind:
                    assert self.script is not None
                    await self.tab.call(self.script.__aexit__(None, None, None))
                    self.script = await self.tab.call(_script(self.context, kind))
                    self.kind = kind
                if not self.clean:
                    await self._wipe()
                    await self._stand(preload)
                elif preload is not None:
                    await self._stand(preload)
                if len(self.context.pages) != 1:
                    raise RuntimeError("pages are left over")
        except Exception:  # whatever became of it: another one is made
            return False
        return True

    async def discard(self) -> None:
        """Ends it."""
        self.tab.die("given back")
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.context.close(), _FIT_SECONDS)
        await self.proxy.stop()

    async def _wipe(self) -> None:
        """Takes away what pages stored. Their timers stand still, so nothing is written behind it."""
        tab = self.tab
        self.ready, self.used = None, True
        if not self.bare:
            await asyncio.gather(
                tab.evaluate("try { sessionStorage.clear(); window.name = ''; } catch {}"),
                tab.call(self.context.clear_cookies()),
                tab.send("Network.clearBrowserCache"),
                *(
                    tab.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
                    for origin in self.origins
                ),
            )
        self.bare = False
        self.origins.clear()
        tab.visited.clear()
        self.asides.clear()
        self.said.clear()

    async def _stand(self, preload: Preload | None) -> None:
        tab = self.tab
        if preload is None:
            await tab.goto("about:blank")
            await tab.settle(0)
        else:
            self.used = True
            self.proxy.host = preload.host
            self.origins.add("{0.scheme}://{0.netloc}".format(urlsplit(preload.url)))
            if await tab.goto(preload.url):
                raise RuntimeError("the page cannot be opened")
            await tab.settle(preload.step_ms)
        await tab.send("Page.resetNavigationHistory")
        tab.downloads.clear()
        if preload is None:  # what a page said while it was left is no later episode's
            self.asides.clear()
            self.said.clear()
        self.ready, self.used = start_of(self.kind, preload)[1], False


def start_of(kind: Kind, preload: Preload | None) -> Start:
    """How an episode of that kind begins."""
    return kind, (preload.url, preload.step_ms) if preload is not None else None


async def make(engine: Engine, kind: Kind) -> Slot:
    """A new context. Raises BrowserError, BrowserGone."""
    from playwright.async_api import Error

    browser = await engine.browser(kind.image)
    proxy = Proxy()
    address = await proxy.start(engine.listen(kind.image))
    try:
        asides, said = set[str](), Said()
        context, tab, script = await _while_alive(browser, _furnished(browser, kind, address, asides, said))
    except (Error, BrowserGone) as error:
        await proxy.stop()
        engine.lost(browser)
        raise BrowserGone(str(error)) from error
    except BaseException:
        await proxy.stop()
        raise
    return Slot(kind, context, proxy, tab, script, asides=asides, said=said)


async def _script(context: BrowserContext, kind: Kind) -> AbstractAsyncContextManager[Any] | None:
    """Has every document of a context begin with our script; gives what takes that back."""
    page, times = (files("pivotgym.envs.browser").joinpath(name).read_text() for name in ("inpage.js", "times.js"))
    found: AbstractAsyncContextManager[Any] | None
    found = await context.add_init_script(f"{page}({kind.seed}, {kind.clock});\n{times}({LASTING_SECONDS});")
    return found


async def _furnished(
    browser: Browser, kind: Kind, proxy: str, asides: set[str], said: Said
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

    def told(_: object, what: object) -> None:
        match what:  # the page may have sent it itself, and anything
            case ["history" | "stores" as aside]:
                asides.add(aside)
            case ["dialog", "alert" | "confirm" | "prompt" | "print" as kind, str(text)]:
                said.add(kind, text)
            case ["dialogs", str(count)] if count.isdecimal():
                said.more += int(count[:9])

    # First: the script takes it away before a page's own scripts run.
    await context.expose_binding("__pivotTell", told)
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
