"""One tab: its page over the DevTools protocol, until it has settled, and what it looks like then."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pivotgym.envs.browser.engine import BrowserError, BrowserGone
from pivotgym.envs.browser.tree import Line, PageMoved, read_snapshot, tree_lines
from pivotgym.envs.trajectory import JsonObject

if TYPE_CHECKING:
    from playwright.async_api import CDPSession, Page

CALL_SECONDS = 15.0
"""How long a page may take to answer one call before it counts as stuck."""
SETTLE_SECONDS = 20.0
"""How long a page may take to settle after an action."""
MAX_LOADS = 8
"""Documents loaded one after the other by one action before the page counts as restless."""
MAX_ELEMENTS = 30_000
MAX_TEXT = 5_000_000
"""Characters of text in a page an agent can be shown."""
_REQUEST_SECONDS = 1.0
_RESPONSE_SECONDS = 3.0
_DEBT_SECONDS = 60.0
_GONE = ("has been closed", "crashed", "Connection closed", "disconnected", "Browser closed", "Session closed")
_MOVED = ("context was destroyed", "Cannot find context", "navigated or closed", "Cannot find execution context")


class PageFault(Exception):
    """The page cannot be used any more, by its own doing: the episode ends.

    Attributes:
        kind: ``page_stuck``, ``page_restless``, ``page_too_large``, ``page_broken``, ``page_crashed`` …
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Moved(Exception):
    """The document was replaced while it was asked."""


class ScriptError(Exception):
    """JavaScript of ours or of a task raised."""


class Tab:
    """A page and its DevTools session."""

    def __init__(self, page: Page, session: CDPSession) -> None:
        self.page, self.session = page, session
        self.dead: str | None = None
        self._death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.downloads: list[str] = []
        self.on_window: Callable[[], None] | None = None
        self.on_socket: Callable[[str], None] | None = None
        self.owed: Callable[[], bool] = lambda: False
        """Whether this process has long owed an answer to something that a page of it asked for."""
        self._excused = 0.0
        self._loading: set[str] = set()
        self._requested: dict[str, float] = {}
        self._requests: set[str] = set()
        self._changed = asyncio.Event()
        self._frame = ""
        self._stops = 0
        self._begun = self._awaited = 0  # downloads
        self._saves = (0, 0)
        self._documents = self._first_document = 0
        self._step = 0
        self.closed = False
        self.url, self.title, self.clipboard = "about:blank", "", ""
        self.born: JsonObject | None = None
        self.visited: set[str] = set()
        """Origins that its documents came from, those of frames and of pages that only led on to others too."""

    @classmethod
    async def attach(cls, page: Page) -> Tab:
        """Takes hold of a page."""
        tab = cls(page, await page.context.new_cdp_session(page))
        tab._listen()
        enabled = (tab.send(f"{domain}.enable") for domain in ("Page", "Network", "Accessibility", "DOM"))
        await asyncio.gather(*enabled)
        tab._frame = (await tab.send("Page.getFrameTree"))["frameTree"]["frame"]["id"]
        return tab

    def _listen(self) -> None:
        def on(event: str, what: Callable[[JsonObject], Any]) -> None:
            def note(found: JsonObject) -> None:
                what(found)
                self._changed.set()

            self.session.on(event, note)

        def started(found: JsonObject) -> None:
            self._requested.pop(found["frameId"], None)
            self._loading.add(found["frameId"])

        def stopped(found: JsonObject) -> None:
            self._requested.pop(found["frameId"], None)
            self._loading.discard(found["frameId"])
            self._stops += found["frameId"] == self._frame

        def replaced(found: JsonObject) -> None:
            self._documents += "parentId" not in found["frame"]
            parts = urlsplit(str(found["frame"].get("url", "")))
            if parts.scheme in ("http", "https"):
                self.visited.add(f"{parts.scheme}://{parts.netloc}")

        def requested(found: JsonObject) -> None:
            if found.get("disposition", "currentTab") == "currentTab" and found.get("delay", 0) < 1:
                self._requested[found["frameId"]] = time.monotonic()

        def downloading(found: JsonObject) -> None:
            self.downloads.append(str(found.get("suggestedFilename", "")))
            self._begun += 1

        on("Page.frameStartedLoading", started)
        on("Page.frameStoppedLoading", stopped)
        on("Page.frameNavigated", replaced)
        on("Page.frameDetached", stopped)
        on("Page.frameRequestedNavigation", requested)
        on("Page.frameScheduledNavigation", requested)
        on("Page.navigatedWithinDocument", lambda found: self._requested.pop(found["frameId"], None))
        on("Page.windowOpen", lambda found: self.on_window() if self.on_window is not None else None)
        on("Page.downloadWillBegin", downloading)
        on("Network.requestWillBeSent", self._request)
        on("Network.webSocketCreated", lambda found: self.on_socket(str(found["url"])) if self.on_socket else None)
        on("Network.loadingFinished", lambda found: self._requests.discard(found["requestId"]))
        on("Network.loadingFailed", lambda found: self._requests.discard(found["requestId"]))
        on("Inspector.targetCrashed", lambda found: self.die("the page's process crashed"))
        self.page.on("crash", lambda page: self.die("the page's process crashed"))
        self.page.on("close", lambda page: self._close())

    def _request(self, found: JsonObject) -> None:
        if found.get("type") not in ("EventSource", "WebSocket", "Ping", "Document"):
            self._requests.add(found["requestId"])

    def _close(self) -> None:
        self.closed = True
        self.die("the page was closed")

    def die(self, why: str) -> None:
        """The page is not there any more: whoever waits for it is told why."""
        self.dead = self.dead or why
        self._changed.set()
        if not self._death.done():
            self._death.set_result(None)

    # Calls -----------------------------------------------------------------------------------------------------

    async def send(self, method: str, params: JsonObject | None = None, seconds: float | None = None) -> JsonObject:
        """One DevTools call.

        Raises:
            BrowserGone: the page or the browser is not there any more.
            PageFault: it did not answer in time.
            BrowserError: nor did the site that it waits for.
        """
        found: JsonObject = await self.call(self.session.send(method, params), seconds)
        return found

    async def call(self, work: Any, seconds: float | None = None) -> Any:
        """Awaits a call of Playwright's and translates what it raises, as :meth:`send` does."""
        from playwright.async_api import Error

        seconds = CALL_SECONDS if seconds is None else seconds
        task = asyncio.ensure_future(work)
        deadline, patience = time.monotonic() + seconds, seconds
        try:
            while True:
                ends = {task, self._death}
                done, _ = await asyncio.wait(ends, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if task in done:
                    return task.result()
                if self._death in done:
                    raise BrowserGone(self.dead)
                # A page that asks a server and waits answers nobody, nor do some that are about to be replaced.
                if self._late(deadline, seconds):
                    raise PageFault("page_stuck", f"the page did not answer within {seconds:.0f} s")
                patience = 0.25
        except Error as error:
            said = str(error)
            if any(mark in said for mark in _GONE):
                raise BrowserGone(said) from error
            if any(mark in said for mark in _MOVED):
                raise Moved(said) from error
            raise
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(BaseException):
                    await task

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def evaluate(self, expression: str, seconds: float | None = None) -> Any:
        """The value of a JavaScript expression in the page, promises awaited. Raises also ScriptError."""
        parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = await self.send("Runtime.evaluate", parameters, seconds)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            thrown = details.get("exception", {})
            raise ScriptError(str(thrown.get("description") or thrown.get("value") or details.get("text")))
        return found["result"].get("value")

    # Time ------------------------------------------------------------------------------------------------------

    async def settle(self, milliseconds: float, deadline: float | None = None, *, first: str | None = None) -> None:
        """Lets time pass for the page, and waits until nothing is loading any more.

        ``milliseconds`` are the page's own, it does not take that long; a document loaded meanwhile gets as many.
        ``first`` is an expression that the present document evaluates before that.

        Raises:
            PageFault: the page is stuck, loads without end, or is larger than an agent can be shown.
            BrowserGone: it is not there any more.
        """
        deadline = time.monotonic() + SETTLE_SECONDS if deadline is None else deadline
        self._first_document = self._documents
        unfinished: float | None = None
        self._step += 1
        while True:
            await self._wait_for_loads(deadline)
            found = None
            try:
                # A document that is written to and never closed is never complete.
                anyway = unfinished is not None and time.monotonic() - unfinished > _REQUEST_SECONDS
                asked = _SETTLE.format(milliseconds, self._step, str(anyway).lower())
                if first is not None:
                    first, asked = None, f"Promise.resolve({first}).then(() => {asked})"
                found = await self.evaluate(asked)
            except Moved:
                pass
            except ScriptError as error:
                raise PageFault("page_broken", f"the page broke what scripts rest on ({error})") from error
            if found is None or found[0] == "loading":
                unfinished = unfinished or time.monotonic()
                await asyncio.sleep(0.01)
            elif found[0] == "leaving" or self._loading or self._requested:
                pass
            elif self._requests:
                await self._wait_for_requests(deadline)
            else:
                if found[1] > MAX_ELEMENTS or found[2] > MAX_TEXT:
                    raise PageFault("page_too_large", f"the page has {found[1]} elements and {found[2]} characters")
                self.clipboard, self.url, self.title, saves = found[3:]
                await self._wait_for_download(saves)
                return
            if self._late(deadline, SETTLE_SECONDS):
                raise PageFault("page_restless", "the page did not settle in time")

    async def _wait_for_loads(self, deadline: float) -> None:
        """Waits until no document is being loaded any more."""
        while self._loading or self._requested:
            if self._documents - self._first_document > MAX_LOADS:
                await self._stop_loading()
                raise PageFault("page_restless", f"the page loaded {MAX_LOADS} documents one after the other")
            if self.dead is not None:
                raise BrowserGone(self.dead)
            late, now = self._late(deadline, SETTLE_SECONDS), time.monotonic()
            for frame, since in list(self._requested.items()):
                if now - since > _REQUEST_SECONDS:  # cancelled: nothing says so
                    del self._requested[frame]
            if late:
                await self._stop_loading()
                raise PageFault("page_restless", "the page went on loading")
            if self._loading or self._requested:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._change(), 0.25)

    def _late(self, deadline: float, more: float) -> bool:
        """Whether the page's time is up. A slow server of ours is not its fault: that is waited for, and the page gets
        ``more`` seconds from then on.

        Raises:
            BrowserError: it takes too long.
        """
        now = time.monotonic()
        if now > deadline and self.owed():
            if now > deadline + _DEBT_SECONDS:
                raise BrowserError("the site does not answer")
            self._excused = now
            return False
        return now > max(deadline, self._excused + more)

    async def _stop_loading(self) -> None:
        with contextlib.suppress(Exception):
            await self.send("Page.stopLoading", seconds=1.0)

    async def _wait_for_download(self, saves: int) -> None:
        """Waits until the download has begun that was asked for since the last time, in the document's ``saves``."""
        key = self._documents, saves
        deadline = time.monotonic() + _REQUEST_SECONDS
        while saves and key != self._saves and self._begun == self._awaited and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._change(), 0.25)
        self._saves, self._awaited = key, self._begun

    async def _wait_for_requests(self, deadline: float) -> None:
        deadline = min(deadline, time.monotonic() + _RESPONSE_SECONDS)
        while self._requests and not self._loading and not self._requested:
            if self.dead is not None:
                raise BrowserGone(self.dead)
            if self._late(deadline, 0.0):
                self._requests.clear()  # one whose end nobody tells
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._change(), 0.25)

    async def goto(self, url: str, referrer: str = "") -> str | None:
        """Opens an address; why it could not be opened, or None. Settle afterwards."""
        stops = self._stops
        try:
            found = await self.send("Page.navigate", {"url": url, "referrer": referrer}, SETTLE_SECONDS)
        except Moved:
            return None
        if found.get("loaderId"):
            self.expect_load(stops)
        if found.get("errorText") and not found.get("isDownload"):
            return f"{found['errorText']} at {url}"
        return None

    def expect_load(self, stops: int | None = None) -> None:
        """Something that loads a document was just begun; ``stops`` is :attr:`stops` from before, where known."""
        if self._frame not in self._loading and (stops is None or self._stops == stops):
            self._requested[self._frame] = time.monotonic()

    @property
    def stops(self) -> int:
        """How many loads of the page's main frame have ended."""
        return self._stops

    # What it looks like ----------------------------------------------------------------------------------------

    async def look(
        self, probe: str | None, *, asked: str | None = None, generic: bool = True
    ) -> tuple[JsonObject, list[Line]]:
        """The page's own report, with the values of two expressions as ``task`` and ``asked``, and its tree.

        Raises:
            PageFault: it never holds still.
        """
        task = f"(() => {{ try {{ return ({probe}); }} catch {{ return null; }} }})()" if probe else "null"
        more = f"{{task: {task}, asked: {asked or 'null'}}}"
        expression = f"globalThis.__pivot ? Object.assign(__pivot.report(), {more}) : {json.dumps(_BLANK)}"
        for _ in range(5):
            try:
                report, accessible, snapshot = await asyncio.gather(
                    self.evaluate(expression),
                    self.send("Accessibility.getFullAXTree"),
                    self.send("DOMSnapshot.captureSnapshot", {"computedStyles": []}),
                )
                view = (float(report["view"][0]), float(report["view"][1]))
                document = read_snapshot(snapshot, report["ids"], view)
                trees: dict[str | None, list[JsonObject]] = {None: accessible["nodes"]}
                for frame in document.frames.values():
                    trees[frame] = (await self.send("Accessibility.getFullAXTree", {"frameId": frame}))["nodes"]
                self.born = report["born"]
                return report, tree_lines(trees, document, generic=generic)
            except ScriptError as error:
                raise PageFault("page_broken", f"the page broke what scripts rest on ({error})") from error
            except (Moved, PageMoved):
                await self.settle(0)
        raise PageFault("page_restless", "the page changes all the time")


_SETTLE = """(globalThis.__pivot
? __pivot.advance({}, {}, {}).then((state) => [state, ...__pivot.size()])
: ["", 0, 0, "", location.href, document.title, 0])"""
_BLANK: JsonObject = {
    "ids": [],
    "url": "",
    "title": "",
    "focus": None,
    "fields": {},
    "scroll": {},
    "local": {},
    "session": {},
    "selection": "",
    "now": 0,
    "dom": "",
    "view": [1, 1],
    "name": "",
    "born": None,
    "task": None,
    "asked": None,
}
"""What a document without our script (an error page) is taken to say."""
