"""Sessions that stand at a state already: one that was restored again and again is going to be restored once more.

A pivot's samples all start from one state. While nobody waits for the browser, one more session is brought there, by
the same way as any restore; whoever restores the state next takes it and compares it with what is kept, as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from pivotgym.envs.browser.engine import Engine
from pivotgym.envs.browser.proxy import SiteHost
from pivotgym.envs.browser.session import Session
from pivotgym.envs.browser.slots import slots_of

RECENT = 8
"""Of so many restores, two of the same state mean that there will be more."""
MAX_READY = 2
"""Sessions that stand by, all states together."""
_QUIET_SECONDS = 0.03
_PATIENCE_SECONDS = 2.0
"""How long to wait for a moment in which nobody waits for the browser; after that there is no use in it."""
_PREPARE_SECONDS = 30.0
LINGER_SECONDS = 30.0
"""How long a session stands by for a state that nobody restores: its pivot may be done with."""

Ready = tuple[Session, SiteHost]


class Standby:
    """The sessions of one engine that stand by."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._recent: deque[Hashable] = deque(maxlen=RECENT)
        self._ready: OrderedDict[Hashable, Ready] = OrderedDict()
        self._coming: set[Hashable] = set()
        self._work: set[asyncio.Task[None]] = set()  # of the engine's thread only
        self._closed = False

    def take(self, key: Hashable) -> Ready | None:
        """A session that stands at the state, or None; it is the caller's."""
        with self._lock:
            ready = self._ready.pop(key, None)
        if ready is not None and not ready[0].alive:
            self._let_go(ready)
            return None
        return ready

    def restored(self, key: Hashable, prepare: Callable[[], Coroutine[Any, Any, Ready]]) -> None:
        """Notes that a state was restored; ``prepare`` brings another session there."""
        with self._lock:
            self._recent.append(key)
            if self._closed or self._recent.count(key) < 2 or key in self._ready or key in self._coming:
                return
            self._coming.add(key)
        self._start(lambda: self._prepare(key, prepare))

    async def close(self) -> None:
        """Lets go of all of them, and of those that are being prepared. In the engine's thread."""
        with self._lock:
            self._closed = True
            ready = list(self._ready.values())
            self._ready.clear()
        work = list(self._work)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for session, host in ready:
            await give_back(session, host)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begins work in the engine's thread, from any thread; none is begun once the engine ends."""

        def begin() -> None:
            if not self._closed:
                task = self._engine.loop.create_task(work())
                self._work.add(task)
                task.add_done_callback(self._work.discard)

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._engine.loop.call_soon_threadsafe(begin)

    def _let_go(self, ready: Ready) -> None:
        work = give_back(*ready)
        try:
            asyncio.run_coroutine_threadsafe(work, self._engine.loop)
        except RuntimeError:  # the loop is closed
            work.close()
            ready[1].close()

    async def _linger(self, key: Hashable, ready: Ready) -> None:
        await asyncio.sleep(LINGER_SECONDS)
        with self._lock:
            if self._ready.get(key) is not ready:  # taken, and perhaps another one since
                return
            del self._ready[key]
        await give_back(*ready)

    async def _prepare(self, key: Hashable, prepare: Callable[[], Coroutine[Any, Any, Ready]]) -> None:
        try:
            if not await self._quiet():
                return
            with contextlib.suppress(Exception):
                ready = await asyncio.wait_for(prepare(), _PREPARE_SECONDS)
                with self._lock:
                    self._ready[key] = ready
                    surplus = [self._ready.popitem(last=False)[1] for _ in range(len(self._ready) - MAX_READY)]
                self._start(lambda: self._linger(key, ready))
                for one in surplus:
                    self._let_go(one)
        finally:
            with self._lock:
                self._coming.discard(key)

    async def _quiet(self) -> bool:
        began = last = time.monotonic()
        while time.monotonic() - last < _QUIET_SECONDS:
            await asyncio.sleep(0.005)
            if self._engine.waiting:
                last = time.monotonic()
                if last - began > _PATIENCE_SECONDS:
                    return False
        return True


async def give_back(session: Session, host: SiteHost) -> None:
    """Ends a session and its site."""
    with contextlib.suppress(Exception):
        await session.close()
    host.close()


def standby_of(engine: Engine) -> Standby:
    """What stands by for an engine."""
    slots_of(engine)  # made first: it ends last, and sessions give their contexts back to it
    return engine.part(Standby, Standby)
