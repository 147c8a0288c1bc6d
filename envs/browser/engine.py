"""The Chromium of this process (and one for each image that is asked for), and the thread that talks to it.

Playwright's objects belong to one event loop, so a thread of their own runs that loop and everything else hands it
coroutines. A browser that died is started again by whoever asks next. It dies with this process, however that ends:
Playwright's driver reads a pipe that closes then, and Chromium one of the driver's.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pivotgym.envs.browser.fonts import warn_of_fonts
from pivotgym.envs.errors import InfrastructureError, MissingExtra

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

    from pivotgym.envs.browser.container import Container

T = TypeVar("T")
CHROMIUM = "PIVOTGYM_CHROMIUM"
"""Environment variable: the Chromium to run. Default: the system's, else the one Playwright downloaded."""
# The shell is Chromium without windows, tabs and profiles around its pages: opening a page takes it half the work.
# Debian's binaries come first: the scripts around them add switches and extensions of the machine.
_NAMES = (
    "/usr/lib/chromium/chromium-headless-shell",
    "chrome-headless-shell",
    "/usr/lib/chromium/chromium",
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
)
# Chromium takes the last list it is given, so this one holds Playwright's too.
_FEATURES_OFF = (
    "AimEnabled",
    "AutofillServerCommunication",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DeferRendererTasksAfterInput",  # after a click everything would wait for the next frame
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
)
_ARGUMENTS = (
    f"--disable-features={','.join(_FEATURES_OFF)}",
    "--disable-gpu",
    "--disable-site-isolation-trials",  # frames of other origins in the same process: one session reads them all
    "--dns-prefetch-disable",
    "--no-pings",
    "--disable-quic",
    # Pages reach this process's own proxies and nothing else, also by ways that go past a proxy.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
    "--force-device-scale-factor=1",
    "--disable-auto-reload",  # of pages that failed, after some seconds
    "--disable-partial-raster",  # edges drawn over what was there before differ in the last bit of their colour
    "--hide-scrollbars",
    "--mute-audio",
)
START_SECONDS = 60.0
"""How long Chromium may take to start."""


class BrowserError(InfrastructureError):
    """The browser could not be started, or died again and again."""


class BrowserGone(Exception):
    """The browser, or the page's process, is not there any more. Whoever holds state in it builds it anew."""


class Part(Protocol):
    """What belongs to one engine and ends with it."""

    async def close(self) -> None:
        """Gives back what it holds, in the engine's thread."""


P = TypeVar("P", bound=Part)


@dataclass
class _Running:
    browser: Browser | None = None
    playwright: Playwright | None = None
    driver: asyncio.subprocess.Process | None = None
    container: Container | None = None

    def alive(self) -> bool:
        """Whether it can be asked for pages. Playwright calls a browser connected whose driver has died."""
        if self.browser is None or not self.browser.is_connected():
            return False
        return self.driver is None or self.driver.returncode is None


def _driver(manager: Any) -> asyncio.subprocess.Process | None:
    """The process that Playwright started for ``manager``; None where a version of it keeps it elsewhere."""
    for holder in ("_client", "_connection"):  # since 1.65, before
        transport = getattr(getattr(manager, holder, None), "_transport", None)
        process = getattr(transport, "_proc", None)
        if isinstance(process, asyncio.subprocess.Process):
            return process
    return None


class Engine:
    """Chromium and the event loop around it; one a process, see :func:`engine`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="pivotgym-browser", daemon=True)
        self._running: dict[str, _Running] = {}
        self._dead: list[_Running] = []
        self._starting: asyncio.Lock | None = None
        self._parts: dict[type[Any], Part] = {}
        self._parts_lock = threading.Lock()
        self.starts = 0
        self.waiting = 0  # how many callers wait for something now
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        # Calls that a dying driver leaves unanswered have nobody to tell; those somebody waits for are told.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._loop.run_forever()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop everything of the browser lives in."""
        return self._loop

    def part(self, kind: type[P], make: Callable[[Engine], P]) -> P:
        """The engine's one ``kind``, made by the first who asks; from any thread."""
        with self._parts_lock:
            found = self._parts.get(kind)
            if found is None:
                found = self._parts[kind] = make(self)
        assert isinstance(found, kind)
        return found

    def run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Runs ``work`` in the browser's thread and waits for it.

        Raises:
            BrowserError: it took longer than ``seconds``.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("called from the browser's own thread")
        future = asyncio.run_coroutine_threadsafe(self._foreground(work, seconds), self._loop)
        try:
            return future.result()
        except TimeoutError as error:
            raise BrowserError(f"the browser did not answer within {seconds:.0f} s") from error
        except BaseException:
            future.cancel()
            raise

    async def _foreground(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        self.waiting += 1
        try:
            return await asyncio.wait_for(work, seconds)
        finally:
            self.waiting -= 1

    async def browser(self, image: str = "") -> Browser:
        """The running browser, on this machine or in a container of ``image``, started if there is none.

        Raises:
            BrowserError: it does not start.
            MissingExtra: Playwright is not installed.
        """
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            found = self._running.get(image)
            if found is not None and found.browser is not None and found.alive():
                return found.browser
            if found is not None:
                self._dead.append(self._running.pop(image))
            await self._bury()
            last: Exception | None = None
            for pause in (0.2, 1.0, 0.0):
                begun = _Running()
                try:
                    browser = await asyncio.wait_for(self._start(begun, image), START_SECONDS)
                except Exception as error:
                    self._dead.append(begun)
                    await self._bury()
                    if isinstance(error, MissingExtra | BrowserError):
                        raise
                    last = error
                    await asyncio.sleep(pause)
                else:
                    self._running[image] = begun
                    self.starts += 1
                    return browser
            raise BrowserError(f"Chromium does not start: {last}; install it (apt-get install chromium)") from last

    def listen(self, image: str = "") -> socket.socket:
        """A listening socket that pages of the browser can reach. Raises BrowserError."""
        found = self._running.get(image)
        if found is not None and found.container is not None:
            return found.container.listen()
        return socket.create_server(("127.0.0.1", 0))

    def lost(self, browser: Browser) -> None:
        """``browser`` turned out to be dead, whether or not it was noticed: the next one to ask starts another."""
        for image, found in list(self._running.items()):
            if found.browser is browser:
                self._dead.append(self._running.pop(image))

    async def _start(self, begun: _Running, image: str) -> Browser:
        try:
            from playwright.async_api import async_playwright
        except ImportError:
            raise MissingExtra("playwright", "browser") from None
        path = program()
        if image:
            from pivotgym.envs.browser.container import Container

            begun.container = await asyncio.to_thread(Container, image)
            path = str(begun.container.program)
        else:
            await asyncio.to_thread(warn_of_fonts)
        manager = async_playwright()
        begun.playwright = await manager.start()
        begun.driver = _driver(manager)
        begun.browser = await begun.playwright.chromium.launch(
            executable_path=path,
            headless=True,
            args=list(_ARGUMENTS),
            ignore_default_args=["--disable-popup-blocking"],  # pop-ups only come of the agent's own clicks
            chromium_sandbox=False,
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
        )
        if begun.container is not None:
            await asyncio.to_thread(begun.container.started)
        return begun.browser

    async def _bury(self) -> None:
        dead, self._dead = self._dead, []
        for one in dead:
            ends = (
                one.browser.close() if one.browser else None,
                one.playwright.stop() if one.playwright else None,
                asyncio.to_thread(one.container.close) if one.container else None,
            )
            for end in ends:
                if end is not None:
                    with contextlib.suppress(Exception):
                        await asyncio.wait_for(end, 10.0)

    async def _end(self) -> None:
        with self._parts_lock:
            parts = list(self._parts.values())
        for part in reversed(parts):  # what was made later rests on what was made earlier
            with contextlib.suppress(Exception):
                await asyncio.wait_for(part.close(), 3.0)
        self._dead += self._running.values()
        self._running.clear()
        await self._bury()

    def stop(self) -> None:
        """Ends the browser and the thread."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        if not self._thread.is_alive():
            self._loop.close()

    def _abandon(self) -> None:
        """In a forked child: the browser is the parent's, and must end with it although this process lives on."""
        for one in [*self._running.values(), *self._dead]:
            transport: Any = getattr(one.driver, "_transport", None)
            for number in (0, 1):
                pipe = transport.get_pipe_transport(number) if transport is not None else None
                handle = pipe.get_extra_info("pipe") if pipe is not None else None
                if handle is not None:
                    with contextlib.suppress(OSError, ValueError):
                        os.close(handle.fileno())


def program() -> str | None:
    """The Chromium that is run on this machine; None for the one that Playwright downloaded."""
    return os.environ.get(CHROMIUM) or next(filter(None, map(shutil.which, _NAMES)), None)


_ENGINE: Engine | None = None
_LOCK = threading.Lock()


def engine() -> Engine:
    """This process's engine; the browser itself starts with the first page."""
    global _ENGINE
    with _LOCK:
        if _ENGINE is None:
            _ENGINE = Engine()
        return _ENGINE


def running() -> Engine | None:
    """This process's engine, if it has one."""
    return _ENGINE


def shutdown() -> None:
    """Ends this process's browser, if there is one; the next page starts another."""
    global _ENGINE
    with _LOCK:
        ended, _ENGINE = _ENGINE, None
    if ended is not None:
        ended.stop()


def _after_fork() -> None:
    global _ENGINE, _LOCK
    _LOCK = threading.Lock()
    parents, _ENGINE = _ENGINE, None
    if parents is not None:
        parents._abandon()
        _KEPT.append(parents)


_KEPT: list[Engine] = []
"""Engines of the parent process: never collected here, as that would touch what is the parent's."""

atexit.register(shutdown)
os.register_at_fork(after_in_child=_after_fork)
