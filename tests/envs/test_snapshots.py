"""The snapshot store: sharing, budget, order, holds, disposal, threads, forked processes."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import threading
from collections import Counter

import pytest

from pivotgym.envs.snapshots import SnapshotStore, State


def state(name: str = "", nbytes: int = 10, disposed: list[str] | None = None) -> State:
    return State(name, nbytes, None if disposed is None else lambda: disposed.append(name))


def test_hits_misses_and_the_first_state_stays() -> None:
    store, disposed = SnapshotStore(100), list[str]()
    assert store.acquire("a") is None
    assert store.put("a", state("old", 10, disposed), note="how")
    assert store.put("a", state("new", 10, disposed))
    assert disposed == ["new"] and store.nbytes == 10 and len(store) == 1 and "a" in store
    with store.acquire("a") as lease:  # type: ignore[union-attr]
        assert lease.state.payload == "old" and lease.note == "how"
    assert (store.stats.hits, store.stats.misses) == (1, 1)


def test_least_recently_used_goes_first_and_the_budget_holds() -> None:
    store, disposed = SnapshotStore(30), list[str]()
    for name in "abc":
        store.put(name, state(name, 10, disposed))
    store.acquire("a").release()  # type: ignore[union-attr]
    store.put("d", state("d", 10, disposed))
    assert disposed == ["b"] and store.nbytes == 30
    store.put("c", state("c2", 10))  # putting again counts as use
    store.put("e", state("e", 10, disposed))
    assert disposed == ["b", "a"] and sorted(k for k in "abcde" if k in store) == ["c", "d", "e"]
    assert store.stats.evictions == 2


def test_one_in_use_never_goes() -> None:
    store, disposed = SnapshotStore(20), list[str]()
    store.put("a", state("a", 20, disposed))
    lease = store.acquire("a")
    assert lease is not None
    assert not store.put("b", state("b", 20, disposed))  # nothing else can go, so b itself does
    second = lease.again()
    lease.release()
    lease.release()
    store.clear()
    assert "a" in store and disposed == ["b"]
    with pytest.raises(RuntimeError):
        lease.again()
    second.release()
    store.clear()
    assert disposed == ["b", "a"] and store.nbytes == 0


def test_what_does_not_fit_is_refused_and_disposed_of() -> None:
    store, disposed = SnapshotStore(5), list[str]()
    assert not store.put("a", state("a", 6, disposed))
    assert disposed == ["a"] and store.stats.refused == 1 and len(store) == 0


def test_clear_drops_states_of_no_size_too() -> None:
    store, disposed = SnapshotStore(5), list[str]()
    store.put("a", state("a", 0, disposed))
    store.clear()
    assert len(store) == 0 and disposed == ["a"]


def test_many_threads() -> None:
    store, lock, count = SnapshotStore(50), threading.Lock(), Counter[str]()
    made: list[str] = []
    wrong: list[str] = []

    def dispose(name: str) -> None:
        with lock:
            count[name] += 1

    def work(worker: int) -> None:
        rng = random.Random(worker)
        for step in range(400):
            key = f"k{rng.randrange(12)}"
            lease = store.acquire(key)
            if lease is None:
                name = f"{key}/{worker}/{step}"
                with lock:
                    made.append(name)
                store.put(key, State(name, 10, lambda name=name: dispose(name)))  # type: ignore[misc]
                continue
            twin = lease.again()
            lease.release()
            with lock:
                if count[twin.state.payload] or not twin.state.payload.startswith(key + "/"):
                    wrong.append(twin.state.payload)
            twin.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.nbytes <= 50 and store.nbytes == 10 * len(store)
    store.clear()
    assert sorted(count) == sorted(made) and set(count.values()) == {1}, "each is disposed of exactly once"


def test_a_worker_begins_with_an_empty_store_and_disposes_of_nothing() -> None:
    store, disposed = SnapshotStore(10), list[str]()
    store.put("a", state("a", 10, disposed))
    again = pickle.loads(pickle.dumps(store))
    assert again.max_bytes == 10 and len(again) == 0

    def child(found: multiprocessing.Queue[tuple[int, list[str]]]) -> None:
        length = len(store)
        store.put("b", state("b", 10))
        found.put((length, disposed))

    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[tuple[int, list[str]]] = context.Queue()
    process = context.Process(target=child, args=(found,))
    process.start()
    assert found.get(timeout=60) == (0, [])
    process.join()
    assert "a" in store
