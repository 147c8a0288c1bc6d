"""Kept environment states: shared by equal prefixes, bounded, least recently used first, never one in use."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class State:
    """One saved environment state.

    Attributes:
        payload: whatever the domain needs to load it again; must never be changed after saving.
        nbytes: its approximate size in bytes, counted against the store's budget.
        dispose: called once when the state is dropped, by whoever owns it: the store, once it was handed over with
            ``put``, even where it refuses the state (to delete files on disk, for example).
    """

    payload: Any
    nbytes: int
    dispose: Callable[[], None] | None = None


@dataclass
class _Entry:
    state: State
    note: Any
    nbytes: int
    users: int = 0


class Lease:
    """A hold on a kept state: as long as it is not released, the state is not evicted."""

    def __init__(self, store: SnapshotStore, key: str, entry: _Entry) -> None:
        self._store, self._key, self._entry = store, key, entry
        self._released = False

    @property
    def state(self) -> State:
        """The kept state."""
        return self._entry.state

    @property
    def note(self) -> Any:
        """What was stored beside the state (the observation checks that led to it)."""
        return self._entry.note

    def again(self) -> Lease:
        """A second, independent hold on the same state (for a fork)."""
        with self._store._lock:
            if self._released:
                raise RuntimeError("this hold was given back; the state may be gone")
            self._entry.users += 1
        return Lease(self._store, self._key, self._entry)

    def release(self) -> None:
        """Gives the hold back; further calls do nothing."""
        with self._store._lock:
            if not self._released:
                self._released = True
                self._store._give_back(self._entry)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


@dataclass
class SnapshotStats:
    """Counters of one store."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    refused: int = 0


@dataclass(eq=False)
class SnapshotStore:
    """States by key, at most ``max_bytes`` in all.

    When the budget is exceeded the least recently used state that nobody holds is dropped. States in use are never
    dropped, so the budget may be exceeded while many are held; a state larger than the whole budget is refused.
    Safe to use from several threads.
    """

    max_bytes: int = 512 * 1024 * 1024
    stats: SnapshotStats = field(default_factory=SnapshotStats)
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict, repr=False)
    _bytes: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        _STORES.add(self)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def put(self, key: str, state: State, note: Any = None, *, note_bytes: int = 0) -> bool:
        """Keeps ``state`` under ``key``; an equal key keeps the older one. Returns whether it is kept.

        ``note_bytes``, the size of ``note``, counts against the budget too.

        The store owns the state from here on and disposes of it, at once where it does not keep it.
        """
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                if state.dispose is not None and state is not self._entries[key].state:
                    state.dispose()
                return True
            nbytes = state.nbytes + note_bytes
            if nbytes > self.max_bytes:
                self.stats.refused += 1
                if state.dispose is not None:
                    state.dispose()
                return False
            self._entries[key] = _Entry(state, note, nbytes)
            self._bytes += nbytes
            self._shrink()
            return key in self._entries

    def acquire(self, key: str) -> Lease | None:
        """A hold on the state under ``key``, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.stats.misses += 1
                return None
            self.stats.hits += 1
            self._entries.move_to_end(key)
            entry.users += 1
            return Lease(self, key, entry)

    def clear(self) -> None:
        """Drops every state that nobody holds."""
        with self._lock:
            self._shrink(limit=-1)

    def _give_back(self, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            self._shrink()

    def _shrink(self, limit: int | None = None) -> None:
        limit = self.max_bytes if limit is None else limit
        while self._bytes > limit:
            key = next((key for key, entry in self._entries.items() if entry.users == 0), None)
            if key is None:
                return
            entry = self._entries.pop(key)
            self._bytes -= entry.nbytes
            self.stats.evictions += 1
            if entry.state.dispose is not None:
                entry.state.dispose()

    def __getstate__(self) -> dict[str, Any]:
        # A worker process (asynchronous vector environments) starts with an empty store of the same size.
        return {"max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(max_bytes=state["max_bytes"])  # type: ignore[misc]

    def _forget(self) -> None:
        """Empties the store of a forked process without disposing: the files behind the states are the parent's."""
        self.__init__(max_bytes=self.max_bytes)  # type: ignore[misc]


_STORES: weakref.WeakSet[SnapshotStore] = weakref.WeakSet()


def _forget_all() -> None:
    for store in list(_STORES):
        store._forget()


os.register_at_fork(after_in_child=_forget_all)
