"""One episode's browser: its tabs, what is done in them, and what they look like. Lives in the engine's thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pivotgym.envs.browser.contexts import Kind, Preload, Said, Slot
from pivotgym.envs.browser.engine import BrowserGone
from pivotgym.envs.browser.landing import Landing, Shallow, order, requested
from pivotgym.envs.browser.perform import ActionError, perform
from pivotgym.envs.browser.proxy import SiteHost, request_of
from pivotgym.envs.browser.slots import Slots
from pivotgym.envs.browser.tab import Moved, PageFault, ScriptError, Tab
from pivotgym.envs.browser.tasks import BrowserTask, PageView
from pivotgym.envs.trajectory import JsonObject

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

MAX_TABS = 8
"""Tabs an episode may have; further ones are closed as they open."""
_TAB_SECONDS = 3.0
_HOLDING = ("keyboard_down", "mouse_down")
"""What leaves a key or button pressed: no page loaded anew knows of it."""
Call = tuple[str, JsonObject]


@dataclass(frozen=True)
class Done:
    """What an action's calls brought.

    Attributes:
        errors: for each call why it could not be carried out, or None.
        view: what the browser looks like now.
    """

    errors: list[str | None]
    view: PageView


class Session:
    """A context of the shared browser, with one site behind it.

    Attributes:
        landing: how the document shown could be loaded again on its own, where it was loaded by the last turn and can.
    """

    def __init__(
        self,
        slots: Slots,
        spec: BrowserTask,
        host: SiteHost,
        *,
        setup: str | None = None,
        probe: str | None = None,
        preload: Preload | None = None,
        image: str = "",
        ahead: bool = False,
    ) -> None:
        self._ahead = ahead
        self._slots, self._spec, self._host = slots, spec, host
        self._setup, self._probe, self._preload, self._image = setup, probe, preload, image
        self._slot: Slot | None = None
        self._attaching: set[asyncio.Task[None]] = set()
        self._refused_tabs = 0
        self._opening = 0
        self._change = asyncio.Event()
        self.tabs: list[Tab] = []
        self.active: Tab
        self.clipboard = ""
        self.mouse: tuple[float, float] = (0.0, 0.0)
        self.told: list[str] = []
        self.landing: Landing | None = None
        self.answer: Any = None
        self._asides: set[str] = set()
        self._said = Said()
        self._shallow = self._held = False
        self._turns = 0
        self._passed = 0.0

    @property
    def files(self) -> dict[str, str]:
        """What may be uploaded, by name."""
        return self._spec.files

    @property
    def alive(self) -> bool:
        """Whether its browser and its first page are still there."""
        return self._slot is not None and self._slot.alive

    async def open(self) -> None:
        """Goes to the task's first page. Raises as :meth:`Tab.settle` does."""
        spec, slot = self._spec, await self._acquire()
        if getattr(self._host.site, "intercepts", False):
            slot.soiled = "intercepted"
            await self.active.call(slot.context.route("**/*", self._intercept))
        if slot.ready is None or slot.ready != (spec.url, float(spec.step_ms)):
            failed = await self.active.goto(spec.url)
            if failed:
                self._host.refuse(failed)
            await self._settle(spec.step_ms)
            cleared = asyncio.ensure_future(self.active.send("Page.resetNavigationHistory"))
        else:
            cleared = None
        slot.ready = None
        self._note_origin()
        try:
            if self._setup:
                await self._settle(spec.step_ms, self._setup)
        finally:
            if cleared is not None:
                await cleared

    async def resume(self, landing: Landing) -> None:
        """Loads the document of a landing; the server's state is the caller's.

        Raises as :meth:`Tab.settle` does, and Shallow where the document asks for what came before it.
        """
        slot = await self._acquire()
        tab = slot.tab
        slot.ready, self._shallow = None, True
        if landing.cookies:
            await tab.call(slot.context.add_cookies(landing.cookies))
        script = landing.storage_script()
        added = await tab.send("Page.addScriptToEvaluateOnNewDocument", {"source": script}) if script else None
        self.mouse, self.clipboard, self.told = landing.mouse, landing.clipboard, list(landing.told)
        failed = await tab.goto(landing.url, landing.referrer)
        if failed:
            self._host.refuse(failed)
        await self._settle(landing.step_ms)
        if added is not None:
            await tab.send("Page.removeScriptToEvaluateOnNewDocument", added)
        self._turns = landing.turns
        self._require_depth()

    async def _acquire(self) -> Slot:
        spec = self._spec
        kind = Kind(spec.viewport, spec.page_seed, spec.clock, self._image)
        self._slot = slot = await self._slots.acquire(kind, self._preload, ahead=self._ahead)
        self._asides, self._said = slot.asides, slot.said
        slot.proxy.host = self._host
        slot.context.on("page", self._appeared)
        self.tabs, self.active = [slot.tab], slot.tab
        slot.tab.on_window, slot.tab.on_socket, slot.tab.owed = self._window, self._host.refuse_socket, self._owes
        return slot

    def _owes(self) -> bool:
        return self._host.overdue

    def past(self) -> None:
        """Somebody asks for the pages before. Raises Shallow where this session did not go through them."""
        self._asides.add("history")
        self._require_depth()

    def _require_depth(self) -> None:
        if self._shallow and "history" in self._asides:
            raise Shallow

    async def replay(self, turns: Sequence[Sequence[Call]]) -> None:
        """Does the calls of earlier turns, without looking in between."""
        for calls in turns:
            self._said.clear()
            for name, arguments in calls:
                await self._act(name, arguments)
            self._turns += 1
            self._require_depth()

    async def turn(self, calls: Sequence[Call]) -> Done:
        """Carries out one turn's calls and looks."""
        self._said.clear()
        errors = [await self._act(name, arguments) for name, arguments in calls]
        self._turns += 1
        view = await self.view(next((error for error in reversed(errors) if error), None))
        self._require_depth()
        return Done(errors, view)

    async def close(self) -> None:
        """Gives the context back."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        slot.tab.on_window = slot.tab.on_socket = None
        slot.tab.owed = lambda: False
        with contextlib.suppress(Exception):
            slot.context.remove_listener("page", self._appeared)
        for task in list(self._attaching):
            task.cancel()
        if len(self.tabs) != 1 or self.tabs[0] is not slot.tab or self._attaching or self._refused_tabs:
            slot.soiled = "tabs"
        if self._held:
            slot.soiled = "held"  # keys and buttons are the tab's, whatever document it shows
        self._slots.release(slot)

    def soil(self, why: str) -> None:
        """The context must not be used by another episode."""
        if self._slot is not None:
            self._slot.soiled = why

    async def screenshot(self, full_page: bool) -> bytes:
        """The active tab as PNG."""
        shot: bytes = await self.active.call(
            self.active.page.screenshot(full_page=full_page, animations="disabled", caret="hide", scale="css")
        )
        return shot

    async def _intercept(self, route: Route) -> None:
        """Answers a request of a page inside the browser."""
        request = route.request
        with contextlib.suppress(Exception):  # the page may be gone by now
            posted = request.post_data_buffer or b""
            asked = request_of(request.method, request.url, request.headers, posted)
            answer = await self._host.answered(asked, request.url)
            headers: dict[str, str] = {}
            for name, value in answer.headers:  # Playwright takes cookies as lines of one header
                known = next((one for one in headers if one.lower() == name.lower()), None)
                joint = "\n" if name.lower() == "set-cookie" else ", "
                headers[known or name] = value if known is None else headers[known] + joint + value
            await route.fulfill(status=answer.status, headers=headers, body=answer.body)

    # Tabs ------------------------------------------------------------------------------------------------------

    def _window(self) -> None:
        self._opening += 1

    def _appeared(self, page: Page) -> None:
        self._opening = max(0, self._opening - 1)
        self._change.set()
        if len(self.tabs) + len(self._attaching) >= MAX_TABS:
            self._refused_tabs += 1
            task = asyncio.get_running_loop().create_task(_close(page))
        else:
            task = asyncio.get_running_loop().create_task(self._attach(page))
        self._attaching.add(task)
        task.add_done_callback(self._attaching.discard)

    async def _attach(self, page: Page) -> None:
        with contextlib.suppress(Exception):
            tab = await Tab.attach(page)
            tab.on_window, tab.on_socket, tab.owed = self._window, self._host.refuse_socket, self._owes
            self.tabs.append(tab)
            self.active = tab

    async def new_tab(self) -> None:
        """Opens an empty tab and shows it."""
        if len(self.tabs) >= MAX_TABS:
            raise ActionError(f"there can be no more than {MAX_TABS} tabs")
        self._opening += 1
        await self.active.call(self.active.page.context.new_page())
        await self._attached()

    async def _attached(self) -> None:
        """Waits for tabs that are being opened: the page says so first, the tab itself comes later."""
        while self._opening:
            self._change.clear()
            try:
                await asyncio.wait_for(self._change.wait(), _TAB_SECONDS)
            except TimeoutError:  # blocked, or gone again
                self._opening = 0
        while self._attaching:
            await asyncio.wait(set(self._attaching), timeout=10.0)

    async def show(self, tab: Tab) -> None:
        """Makes ``tab`` the active one."""
        self.active = tab
        await tab.call(tab.page.bring_to_front())

    async def close_tab(self) -> None:
        """Closes the active tab; the one opened before it is shown, or an empty one."""
        await self.active.call(self.active.page.close())
        await self._prune()

    async def _prune(self) -> None:
        """Forgets closed tabs."""
        slot = self._slot
        if slot is None or not any(tab.closed for tab in self.tabs):
            return
        browser = slot.context.browser
        if browser is None or not browser.is_connected():
            raise BrowserGone("the browser is gone")
        position = self.tabs.index(self.active)
        self.tabs = [tab for tab in self.tabs if not tab.closed]
        if not self.tabs:
            with contextlib.suppress(Exception):  # a dying browser closes its pages first
                self._opening += 1
                await asyncio.wait_for(slot.context.new_page(), _TAB_SECONDS)
                await self._attached()
        if not self.tabs:
            raise BrowserGone("no tab can be opened")
        if self.active.closed:
            await self.show(self.tabs[min(max(position - 1, 0), len(self.tabs) - 1)])

    # Actions ---------------------------------------------------------------------------------------------------

    async def _act(self, name: str, arguments: JsonObject) -> str | None:
        from playwright.async_api import Error

        passing: float | None = None
        error: str | None = None
        self._held |= name in _HOLDING
        if self._slot is not None:
            self._slot.bare = False
        try:
            passing = await perform(self, name, arguments)
        except ActionError as refused:
            error = str(refused)
        except Moved:
            pass  # the page went elsewhere while the action was under way: settling waits for it
        except (Error, ScriptError) as failed:
            error = str(failed).splitlines()[0]
        except BrowserGone:
            if not self.active.closed:
                raise
        await self._settle(self._spec.step_ms if passing is None else passing)
        return error

    async def _settle(self, milliseconds: float, first: str | None = None) -> None:
        self._passed = milliseconds
        for _ in range(MAX_TABS + 1):
            shown = self.active
            try:
                await shown.settle(milliseconds, first=first)
            except BrowserGone:
                if not shown.closed:
                    raise
            await self._attached()
            await self._prune()
            if self.active is shown:
                break
            first = None
        self.clipboard = self.active.clipboard
        self._note_origin()
        self._host.check()

    def _note_origin(self) -> None:
        slot = self._slot
        if slot is not None:
            slot.origins.update(*(tab.visited for tab in self.tabs))
        if slot is not None and "://" in self.active.url:
            parts = urlsplit(self.active.url)
            if parts.scheme not in ("http", "https", "chrome-error"):
                raise PageFault("page_forbidden", f"the page went to {self.active.url[:200]}")
            slot.origins.add(f"{parts.scheme}://{parts.netloc}")
        elif slot is not None:
            slot.origins.add("about:")  # what the site keeps cannot be seen from there

    # What it looks like ----------------------------------------------------------------------------------------

    async def view(self, error: str | None = None, *, asked: str | None = None) -> PageView:
        """The active tab now; ``error`` is the last action's; the value of ``asked`` is kept in :attr:`answer`."""
        tab = self.active
        (report, lines), cookies = await asyncio.gather(
            tab.look(self._probe, asked=asked, generic=self._spec.tree == "full"),
            tab.call(tab.page.context.cookies()),
        )
        self.answer = report["asked"]
        slot = self._slot
        if slot is not None and self._preload is not None and self.tabs == [slot.tab]:
            # Sites without a state set no cookies, and what their pages do is seen here.
            stored = cookies or report["local"] or report["session"] or report["name"] or "stores" in self._asides
            slot.bare = not stored and len(slot.origins) == 1
        url, title = report["url"] or tab.url, report["title"]
        tab.url, tab.title = url, title
        self.landing = self._landing(report["born"], cookies)
        active = self.tabs.index(tab)
        said, said_in_all = list(self._said.lines), self._said.in_all
        state: JsonObject = {
            "url": url,
            "title": title,
            "tabs": [[one.url, one.title] for one in self.tabs],
            "active": active,
            "tree": [line.plain for line in lines],
            "fields": report["fields"],
            "focus": report["focus"],
            "scroll": report["scroll"],
            "selection": report["selection"],
            "storage": {"local": report["local"], "session": report["session"]},
            "cookies": sorted(
                [cookie["domain"], cookie["path"], cookie["name"], cookie["value"], cookie["expires"] == -1]
                for cookie in cookies
            ),
            "clipboard": self.clipboard,
            "mouse": list(self.mouse),
            "now": report["now"],
            "dom": report["dom"],
            "told": list(self.told),
            "dialogs": [[list(one) for one in said], said_in_all],
            "downloads": [name for one in self.tabs for name in one.downloads],
            "task": report["task"],
        }
        head = [f"URL: {url}", f"Title: {title}"]
        if len(self.tabs) > 1:
            shown = [
                f"  {index}: {one.title!r} {one.url}{' (active)' if index == active else ''}"
                for index, one in enumerate(self.tabs)
            ]
            head += ["Tabs:", *shown]
        if report["focus"] is not None:
            head.append(f"Focused: [{report['focus']}]")
        for kind, message in said:
            head.append(f"Dialog: {kind} {message!r}" + (" (accepted)" if kind != "print" else ""))
        if said_in_all > len(said):
            head.append(f"Dialogs: {said_in_all} in all")
        if self._refused_tabs:
            head.append(f"Pop-ups refused: {self._refused_tabs}")
        if tab.downloads:
            head.append(f"Downloads refused: {', '.join(tab.downloads[-5:])}")
        if error:
            head.append(f"Error: {error}")
        return PageView(url, title, "\n".join([*head, "", *(line.text for line in lines)]), state)

    def _landing(self, born: JsonObject | None, cookies: Sequence[Any]) -> Landing | None:
        """How to load the document shown again, where nothing was done in it yet and nothing else is open."""
        slot = self._slot
        if born is None or slot is None or self.tabs != [slot.tab] or len(slot.origins) > 1:
            return None
        if self._refused_tabs or slot.tab.downloads or self._held or "stores" in self._asides:
            return None
        if self._preload is not None or (self._setup and not self._turns):
            return None
        request = requested(born, self._host.documents, cookies)
        if request is None:
            return None
        return Landing(
            self._turns,
            str(born["url"]),
            str(born["referrer"]),
            self._passed,
            order(cookies),
            born["local"],
            born["session"],
            request,
            self.mouse,
            self.clipboard,
            list(self.told),
        )


async def _close(page: Page) -> None:
    with contextlib.suppress(Exception):
        await asyncio.wait_for(page.close(), 5.0)


def differing(one: Any, other: Any) -> list[str]:
    """The keys under which two states differ."""
    keys = sorted({*one, *other})
    return [key for key in keys if one.get(key) != other.get(key) and _text(one.get(key)) != _text(other.get(key))]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
