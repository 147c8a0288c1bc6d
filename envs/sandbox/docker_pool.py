"""Containers started ahead: the next sandbox of the most used image does not wait for one."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable

from pivotgym.envs.sandbox.base import SandboxError
from pivotgym.envs.sandbox.docker_container import Container, Shape

_REMEMBERED = 32
"""Starts that decide what is used most."""


class WarmPool:
    """Keeps up to ``size`` unused containers of the shape that was asked for most often lately.

    Args:
        make: starts one.
        size: 0 for none.
    """

    def __init__(self, make: Callable[[Shape], Container], size: int) -> None:
        self._make, self._size = make, size
        self._changed = threading.Condition()
        self._asked: collections.deque[Shape] = collections.deque(maxlen=_REMEMBERED)
        self._ready: list[Container] = []
        self._closed = False
        self._thread: threading.Thread | None = None

    def take(self, shape: Shape) -> Container | None:
        """A started container of that shape; None where none is ready. The pool is filled again behind."""
        if self._size == 0:
            return None
        with self._changed:
            self._asked.append(shape)
            found = next((each for each in self._ready if each.shape == shape), None)
            if found is not None:
                self._ready.remove(found)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._fill, name="pivotgym-docker-pool", daemon=True)
                self._thread.start()
            self._changed.notify()
        return found

    def close(self) -> None:
        """Removes what is ready and starts nothing more."""
        with self._changed:
            self._closed = True
            ready, self._ready = self._ready, []
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(30)
        for container in ready:
            with contextlib.suppress(SandboxError):
                container.remove()

    def _wanted(self) -> Shape | None:
        """What to start one more of; None while nothing is missing. A single use is no sign of another one."""
        counted = collections.Counter(self._asked).most_common(1)
        if not counted or counted[0][1] < 2:
            return None
        shape = counted[0][0]
        return shape if sum(each.shape == shape for each in self._ready) < self._size else None

    def _fill(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (shape := self._wanted()) is None:
                    self._changed.wait()
                if self._closed:
                    return
                assert shape is not None
                stale = [each for each in self._ready if each.shape != shape]
                self._ready = [each for each in self._ready if each.shape == shape]
            made = None
            try:
                for container in stale:
                    container.remove()
                made = self._make(shape)
            except SandboxError:
                # Whoever needs one meets the same error and says it; here it must not spin.
                with self._changed:
                    self._asked.clear()
                continue
            finally:
                with self._changed:
                    if made is not None and not self._closed:
                        self._ready.append(made)
                        made = None
                if made is not None:
                    with contextlib.suppress(SandboxError):
                        made.remove()
