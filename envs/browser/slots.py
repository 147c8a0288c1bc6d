"""Browser contexts, one an environment, kept between episodes where nothing of an episode can stay in them.

What will be asked for next is prepared by one worker, in the moments in which nobody waits for the browser.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque

from pivotgym.envs.browser.contexts import Kind, Preload, Slot, Start, make, start_of
from pivotgym.envs.browser.engine import BrowserGone, Engine
from pivotgym.envs.browser.proxy import SiteHost

RECENT = 6
"""Of so many episodes that began last, two with the same start page mean that there will be more."""
SPARE = 2
"""Contexts that stand at that page ready for them."""
LULL_SECONDS = 0.5
"""How long preparing and cleaning wait for a moment in which nobody waits for the browser."""
MAX_FREE = 8
"""Contexts kept for later, all kinds together."""
_QUIET_SECONDS = 0.03
_POLL_SECONDS = 0.005
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Job = tuple[Slot | None, Kind, Preload | None]
"""A context, or a new one, and what it is to be made to stand at."""


class Slots:
    """The contexts of one engine. Used in the engine's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._free: list[Slot] = []
        self._used: list[Slot] = []  # given back, and not cleaned yet
        self._recent: deque[Start] = deque(maxlen=RECENT)
        self._last: tuple[Kind, Preload | None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._coming: tuple[Start, asyncio.Task[bool]] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._all: set[Slot] = set()
        self._closed = False

    async def acquire(self, kind: Kind, preload: Preload | None = None, *, ahead: bool = False) -> Slot:
        """A context with an empty page, or one that stands at the page to be preloaded.

        ``ahead``: nobody asked for it yet, so it says nothing about what will be asked for next.

        Raises BrowserError, BrowserGone.
        """
        if not ahead or self._last is None:
            self._last = kind, preload
            self._recent.append(start_of(kind, preload))
        slot = await self._take(kind, preload)
        slot.used, slot.bare = True, False
        self._keep()
        return slot

    def release(self, slot: Slot) -> None:
        """Takes a context back; it is cleaned in the background."""
        if slot.soiled is None and slot.alive:
            slot.proxy.host = SiteHost(None)
            slot.ready, slot.left = None, time.monotonic()
            self._used.append(slot)
        else:
            self._end(slot)
        self._keep()

    # Who needs one now ------------------------------------------------------------------------------------------

    async def _take(self, kind: Kind, preload: Preload | None) -> Slot:
        """One that stands there already, one that soon will, the one that was used last, a new one.

        The last one's process has its scripts compiled and its memory at hand: a page opens there in half the time.
        """
        start = start_of(kind, preload)
        waited = False
        while True:
            if self._closed:
                raise BrowserGone("the browser was ended")
            suiting = sorted(
                (slot for slot in (*self._free, *self._used) if slot.suits(kind)), key=lambda slot: -slot.left
            )
            exact = [slot for slot in suiting if slot.at(start)]
            if not exact and self._coming is not None and not waited:
                coming, task = self._coming
                if coming == start or (not suiting and coming[0].mould == kind.mould):
                    await asyncio.wait({task})
                    waited = True
                    continue
            bare = [slot for slot in suiting if slot.ready is None]
            slot = next(iter([*exact, *bare, *suiting]), None)
            if slot is None:
                return await self._make(kind)
            (self._used if slot.used else self._free).remove(slot)
            try:
                fits = await slot.fit(kind, preload if slot.at(start) or not slot.clean else None)
            except BaseException:
                self._end(slot)
                raise
            if fits:
                return slot
            self._end(slot)

    async def _make(self, kind: Kind) -> Slot:
        if self._closed:
            raise BrowserGone("the browser was ended")
        slot = await make(self._engine, kind)
        self._all.add(slot)
        return slot

    # What is prepared meanwhile -----------------------------------------------------------------------------------

    def _keep(self) -> None:
        if not self._closed and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.get_running_loop().create_task(self._prepare())

    async def _prepare(self) -> None:
        """Does what there is to do, one after the other."""
        while await self._lull():
            job = self._job()
            if job is None:
                return
            slot, kind, preload = job
            if slot is not None:
                (self._used if slot.used else self._free).remove(slot)
            task = asyncio.get_running_loop().create_task(self._do(slot, kind, preload))
            self._coming = start_of(kind, preload), task
            try:
                if not await task:
                    return  # the browser may be gone; whoever asks next begins anew
            finally:
                self._coming = None

    async def _do(self, slot: Slot | None, kind: Kind, preload: Preload | None) -> bool:
        """Has a context stand there; False where none can be made."""
        if slot is None:
            try:
                slot = await self._make(kind)
            except Exception:
                return False
        if not await slot.fit(kind, preload):
            self._end(slot)
            return preload is None  # a page that cannot be opened is not tried again and again
        self._free.append(slot)
        while len(self._free) > MAX_FREE:
            oldest = min(self._free, key=lambda one: ((one.kind, one.ready) in self._recent, one.left))
            self._free.remove(oldest)
            self._end(oldest)
        return True

    def _job(self) -> Job | None:
        """What is lacking for another episode like the last; else what is to be tidied up."""
        assert self._last is not None
        kind, preload = self._last
        start = start_of(kind, preload)
        lacking = SPARE - sum(slot.at(start) for slot in self._free)
        if preload is not None and self._recent.count(start) > 1 and lacking > 0:
            other = [slot for slot in (*self._used, *self._free) if slot.suits(kind) and not slot.at(start)]
            return max(other, key=lambda slot: slot.left, default=None), kind, preload
        if self._used:
            return self._used[0], self._used[0].kind, None
        stale = (slot for slot in self._free if slot.ready is not None and (slot.kind, slot.ready) not in self._recent)
        return next(((slot, slot.kind, None) for slot in stale), None)

    async def _lull(self) -> bool:
        """Waits for something to do, and for a moment in which nobody waits for the browser; False: nothing to do.

        Between giving back one session and opening the next a caller waits for nothing, for a moment.
        """
        began = last = time.monotonic()
        while (job := self._job()) is not None:
            now = time.monotonic()
            if self._engine.waiting:
                last = now
            # With cores to spare the next page is opened beside this one; with few, both would take twice the time.
            beside = job[2] is not None and _CORES > 2
            if beside or now - last > _QUIET_SECONDS or now - began > LULL_SECONDS:
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    # How they end -------------------------------------------------------------------------------------------------

    def _end(self, slot: Slot) -> None:
        task = asyncio.get_running_loop().create_task(self._discard(slot))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _discard(self, slot: Slot) -> None:
        await slot.discard()
        self._all.discard(slot)

    async def close(self) -> None:
        """Lets go of them all, used or not: whoever waits for one is told. The contexts end with the browser."""
        self._closed = True
        busy: list[asyncio.Task[None] | asyncio.Task[bool]] = [*self._ending]
        busy += [self._keeper] if self._keeper is not None else []
        busy += [self._coming[1]] if self._coming is not None else []
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        self._free.clear()
        self._used.clear()
        for slot in self._all:
            slot.tab.die("the browser was ended")
            await slot.proxy.stop()
        self._all.clear()


def slots_of(engine: Engine) -> Slots:
    """The contexts of an engine."""
    return engine.part(Slots, Slots)
