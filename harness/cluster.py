"""Environments on the nodes of a Ray cluster.

:class:`RayPlace` gives out seats (:mod:`pivotgym.harness.seats`) whose environments live in *hosts*: Ray actors, each
on a node that has what the environment needs. The policy stays in the calling process.

A seat remembers the calls that brought its environment where it is. When its host is lost (the node died, the process
was killed), the next call finds another host, repeats them there, makes sure that the same messages came out, and goes
on: with deterministic environments nothing of it can be seen in the results. Where the messages differ, or no host can
be had, :class:`NodeLost` says so, and what it means is decided where every failure of the infrastructure is.

What an environment needs is what the ``placement()`` of its configuration says (:func:`needs_of`): Ray's custom
resources ``sandbox``, ``docker`` and ``browser``, one unit for one environment at work, and memory. A node offers them
when it was started with ``ray start --resources='{"sandbox": 8, "docker": 4}'``.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from pivotgym.envs.errors import BadInput, InfrastructureError, MissingExtra
from pivotgym.envs.restore import RestoreReport
from pivotgym.envs.trajectory import JsonObject, Message, Task
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.cluster_host import Answer, Call, Host, Needs, Request, View, needs_of
from pivotgym.harness.policies.base import Completion
from pivotgym.harness.seats import Here, Judge, Judged, Place, Stepped

_SUSPECT = 30.0
"""Seconds for which a node that lost a host gets no new one."""
_UP = 20.0
"""Seconds for which a host may take to come up where another would do, or where nobody waits for it any more."""
_CROWDED = 300.0
"""Seconds without another try after a host did not come up beside others: each try makes somebody wait."""
_ROUND = 5.0
"""Seconds for a host to come up in the room there is, before other hosts have to leave for it."""
_UNUSED = 30.0
"""Seconds without seats after which a host leaves for the second host of another kind."""


class NodeLost(InfrastructureError):
    """A node of the cluster died, and its work could not be done again as it was."""


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray") from error
    return ray


class _Hosted:
    """A host as its users see it."""

    def __init__(self, actor: Any) -> None:
        self.actor, self.seats, self.calls, self.lost = actor, 0, 0, False
        self.started = actor.node.remote()
        self.ready, self.node = False, ""
        self.since = time.monotonic()  # when it was started, or had a seat last


@dataclass
class _Kind:
    """The hosts with the same needs, and the threads that wait for one."""

    hosts: list[_Hosted] = field(default_factory=list)
    waiting: int = 0
    crowded: float = 0.0  # no host is started beside others before
    next_round: float = 0.0  # no host of another kind has to leave before


class RayPlace:
    """The nodes of a Ray cluster as a place for environments.

    Hosts are started when they are needed, one for each environment in use as far as the cluster has room; beyond
    that environments share hosts. Where the room is taken by hosts with other needs, those without environments leave;
    then, for needs that have no host at all, those at which no call is running: their environments are brought
    where they were on another host when they are next used. Safe to use from several threads.

    Args:
        address: of the cluster, as ``ray.init`` takes it: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``; ``local``
            starts one on this machine. Where this process is connected already, that connection is used.
        hosts: at most so many hosts; None is as many as the cluster has room for.
        modules: imported by every host first: what registers environments or tool domains that no installed package
            declares.
        patience: seconds to wait for a host, or for a node that has what is needed to come back.
        redo: how often the work of one call is done again on another host.

    Attributes:
        redone: how often work was done again because a host was lost.

    Raises:
        MissingExtra: Ray is not installed.
        BadInput: there is no cluster at that address.
    """

    def __init__(
        self,
        address: str,
        *,
        hosts: int | None = None,
        modules: Sequence[str] = (),
        patience: float = 60.0,
        redo: int = 5,
    ) -> None:
        self._ray = _ray()
        self._own = not self._ray.is_initialized()
        if self._own:
            _connect(self._ray, address)
        self._most, self._modules, self._patience, self._redo = hosts, tuple(modules), patience, redo
        self._kinds: dict[Needs, _Kind] = {}
        self._judges: dict[int, tuple[Judge, bytes]] = {}
        self._lock = threading.Lock()
        self._keys = itertools.count()
        self._leaving: list[Any] = []
        self._suspects: dict[str, float] = {}
        self.redone = 0
        errors = self._ray.exceptions
        self._losses: Any = (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        )

    def width(self, workers: int) -> int:
        """As many threads as there may be hosts, and at least ``workers``."""
        room = int(self._ray.cluster_resources().get("CPU", 1))
        return max(workers, room if self._most is None else min(room, self._most), 1)

    def seat(self, env_id: str, options: JsonObject) -> RaySeat:
        """A fresh environment of that Gymnasium id on some node.

        Raises:
            BadInput: no such environment, or no node of the cluster has what it needs.
        """
        return RaySeat(self, f"{os.getpid()}-{next(self._keys)}", env_id, options, needs_of(env_id, options))

    def close(self) -> None:
        """Ends all hosts, and the cluster where this place started it."""
        for hosted in itertools.chain(*(kind.hosts for kind in self._kinds.values())):
            if not hosted.lost:
                with suppress(self._ray.exceptions.RayError):
                    self._ray.get(hosted.actor.clear.remote(), timeout=10)
                self._ray.kill(hosted.actor)
        if self._leaving:
            self._ray.wait(self._leaving, num_returns=len(self._leaving), timeout=10)
        self._kinds, self._leaving = {}, []
        if self._own:
            self._ray.shutdown()

    def __enter__(self) -> RayPlace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Hosts ----------------------------------------------------------------------------------------------------

    def take(self, needs: Needs) -> _Hosted:
        """A running host with these needs, the least used one; its ``seats`` counts the new one.

        Raises:
            BadInput: no node has what is needed.
            NodeLost: there is room, but no host came up in time.
        """
        until, late = time.monotonic() + self._patience, False
        with self._lock:
            kind = self._kinds.setdefault(needs, _Kind())
            kind.waiting += 1
        try:
            while True:
                late = time.monotonic() > until
                with self._lock:
                    if chosen := self._choose(needs, kind, late):
                        chosen.seats += 1
                        return chosen
                    nowhere = not kind.hosts and self._room(needs) == 0
                if late and nowhere:
                    raise BadInput(f"no node of the cluster offers {needs.options()}", field="--ray")
                if late:
                    what = f"on a node with {needs.options()}"
                    raise NodeLost(f"no host came up within {self._patience:.0f} seconds {what}")
                time.sleep(0.1)
        finally:
            with self._lock:
                kind.waiting -= 1
                self._give_up(kind, 0.0 if late else min(self._patience, _UP))

    def give_back(self, hosted: _Hosted) -> None:
        """One seat less on a host."""
        with self._lock:
            hosted.seats, hosted.since = hosted.seats - 1, time.monotonic()
            for kind in self._kinds.values():
                self._give_up(kind, _UP)

    def lose(self, hosted: _Hosted) -> None:
        """Counts a host out."""
        with self._lock:
            if hosted.lost:
                return
            hosted.lost = True
            self._suspects[hosted.node] = time.monotonic()
        self._ray.kill(hosted.actor)  # where only the connection was lost, two must not go on with one work

    def ask(self, hosted: _Hosted, request: Request) -> Answer | None:
        """The host's answer; None where it is lost."""
        with self._lock:
            if hosted.lost:
                return None
            hosted.calls += 1
        try:
            answer: Answer = self._ray.get(hosted.actor.work.remote(request))
        except self._losses:
            self.lose(hosted)
            return None
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        finally:
            with self._lock:
                hosted.calls -= 1
        return answer

    def packed(self, judge: Judge) -> bytes:
        """A judge for sending: the same bytes each time, so that hosts unpack it once."""
        with self._lock:
            if id(judge) not in self._judges:
                self._judges[id(judge)] = judge, self._ray.cloudpickle.dumps(judge)
            return self._judges[id(judge)][1]

    # All below is called with the lock held.

    def _choose(self, needs: Needs, kind: _Kind, late: bool) -> _Hosted | None:
        """The least used host that runs; None while a better one may come up."""
        for hosted in kind.hosts:
            self._look(hosted)
        kind.hosts = [hosted for hosted in kind.hosts if not hosted.lost]
        self._give_up(kind, min(self._patience, _UP))
        ready = [hosted for hosted in kind.hosts if hosted.ready]
        if all(hosted.seats for hosted in ready) and not late:
            self._grow(needs, kind)
            if len(kind.hosts) > len(ready):
                return None
        return min(ready, key=lambda hosted: hosted.seats, default=None)

    def _grow(self, needs: Needs, kind: _Kind) -> None:
        """Starts a host if there is room for one; makes room where the kind has none, or where others do not use it."""
        now = time.monotonic()
        coming = sum(not hosted.ready for hosted in kind.hosts)
        beside = len(kind.hosts) > coming
        may = len(kind.hosts) < self._room(needs) and coming < kind.waiting and not (beside and now < kind.crowded)
        if may and self._free(needs):
            if not coming:
                kind.next_round = now + _ROUND
            kind.hosts.append(self._start(needs))
        elif beside:
            if may and not coming and self._make_room(needs, unused=_UNUSED):
                kind.hosts.append(self._start(needs))
        elif coming and now >= kind.next_round:
            self._make_room(needs, used=True)
            kind.next_round = now + _ROUND
        elif may and not coming:
            # Started first: what becomes free is for whoever stands in the cluster's queue.
            kind.hosts.append(self._start(needs))
            self._make_room(needs)
            kind.next_round = now + _ROUND

    def _make_room(self, needs: Needs, *, unused: float = 0.0, used: bool = False) -> bool:
        """Lets one host with other needs leave a node that offers these; whether there was one.

        Args:
            needs: what the room is for.
            unused: seconds for which it had no seats.
            used: whether, where there is none without seats, it may be one with seats but no call under way.
        """
        now = time.monotonic()
        nodes = {"", *(node["NodeID"] for node in self._nodes() if needs.fit(node["Resources"]))}  # "": not placed yet
        found: list[tuple[tuple[bool, bool, int, str], int, _Kind, _Hosted]] = []
        for kind in (kind for asked, kind in self._kinds.items() if asked != needs):
            for hosted in kind.hosts:
                # One without seats that somebody waits for is about to be taken.
                idle = not hosted.seats and not kind.waiting and now - hosted.since >= unused
                if hosted.node in nodes and (idle or (used and hosted.seats and not hosted.calls)):
                    # Seats can go on elsewhere sooner where their kind has another host. Of one node after the other,
                    # for needs that are more than one host gives up.
                    rank = (not idle, len(kind.hosts) == 1 and not idle, hosted.seats, hosted.node)
                    found.append((rank, len(found), kind, hosted))
        if found:
            _, _, kind, hosted = min(found)
            self._end(kind, hosted)
        return bool(found)

    def _give_up(self, kind: _Kind, after: float) -> None:
        """Ends hosts that did not come up in time, where others would do or nobody waits."""
        if kind.waiting and not any(hosted.ready for hosted in kind.hosts):
            return
        now = time.monotonic()
        for hosted in [hosted for hosted in kind.hosts if not hosted.ready and now - hosted.since >= after]:
            self._end(kind, hosted)
            kind.crowded = now + _CROWDED

    def _end(self, kind: _Kind, hosted: _Hosted) -> None:
        hosted.lost = True
        kind.hosts.remove(hosted)
        if hosted.ready:
            # Killed, it would leave containers and sandboxes behind.
            self._leaving.append(hosted.actor.leave.remote())
        else:
            self._ray.kill(hosted.actor)

    def _start(self, needs: Needs) -> _Hosted:
        options = {**needs.options(), "scheduling_strategy": "SPREAD", "max_restarts": 0}
        return _Hosted(self._ray.remote(Host).options(**options).remote(self._modules))

    def _free(self, needs: Needs) -> bool:
        """Whether the cluster has room for one more now, whoever uses the rest of it."""
        left = dict(self._ray.available_resources())
        # Some of those that come up have their share already: counted twice, they delay the next one a little.
        for asked, kind in self._kinds.items():
            coming = sum(not hosted.ready for hosted in kind.hosts)
            for name, amount in asked.amounts().items():
                left[name] = left.get(name, 0.0) - coming * amount
        return needs.fit(left) > 0

    def _room(self, needs: Needs) -> int:
        """How many hosts the nodes would hold if nothing else used them."""
        room = sum(needs.fit(node["Resources"]) for node in self._nodes())
        return room if self._most is None else min(room, self._most)

    def _nodes(self) -> list[dict[str, Any]]:
        # The cluster notices a dead node after a while; until then nothing new is sent where something was lost.
        recent = {node for node, when in self._suspects.items() if time.monotonic() < when + _SUSPECT}
        return [node for node in self._ray.nodes() if node["Alive"] and node["NodeID"] not in recent]

    def _look(self, hosted: _Hosted) -> None:
        """Whether a host runs by now."""
        if hosted.ready or hosted.lost:
            return
        try:
            hosted.node = self._ray.get(hosted.started, timeout=0)
            hosted.ready = True
        except self._ray.exceptions.GetTimeoutError:
            pass
        except self._losses:
            hosted.lost = True
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error


class RaySeat:
    """An environment on some node of a cluster; see :class:`~pivotgym.harness.seats.Seat`.

    Args:
        place: it is of.
        key: tells it from all others.
        env_id: Gymnasium id.
        options: keyword arguments of ``gym.make``.
        needs: of its host.
    """

    def __init__(self, place: RayPlace, key: str, env_id: str, options: JsonObject, needs: Needs) -> None:
        self._place, self._key, self._env_id, self._options, self._needs = place, key, env_id, options, needs
        self._hosted: _Hosted | None = None
        self._journal: list[Call] = []
        self._view = View()

    @property
    def conversation(self) -> list[Message]:
        """The messages the agent sees."""
        return self._view.conversation

    @property
    def transcript(self) -> list[Message]:
        """All messages, malformed actions included."""
        return self._view.transcript

    @property
    def tools(self) -> list[JsonObject]:
        """The tools on offer."""
        return self._view.tools

    @property
    def task(self) -> Task:
        """The episode's task. Raises :class:`gymnasium.error.ResetNeeded` before there is one."""
        if self._view.task is None:
            raise gym.error.ResetNeeded("call reset() first")
        return self._view.task

    @property
    def has_episode(self) -> bool:
        """Whether an episode was begun and not closed."""
        return self._view.task is not None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> RestoreReport | None:
        """As :meth:`AgentEnv.reset`; returns the report of a restore."""
        self._journal = []  # a reset makes all that came before unnecessary
        report: RestoreReport | None = self._do("reset", {"seed": seed, "options": options}, keep=True)
        return report

    def step(self, action: str | Message) -> Stepped:
        """As :meth:`AgentEnv.step`."""
        stepped: Stepped = self._do("step", {"action": action}, keep=True)
        return stepped

    def cut_off(self, termination: str) -> Verdict:
        """Ends the episode from outside and scores it."""
        verdict: Verdict = self._do("cut_off", {"termination": termination}, keep=True)
        return verdict

    def judge(self, judge: Judge, completions: Sequence[Completion]) -> Judged:
        """Verdicts on actions at this state, which stays as it is."""
        judged: Judged = self._do("judge", {"judge": self._place.packed(judge), "completions": list(completions)})
        return judged

    def close(self) -> None:
        """Closes the environment, without waiting for it."""
        if self._hosted is not None:
            if not self._hosted.lost:
                self._hosted.actor.drop.remote(self._key)
            self._place.give_back(self._hosted)
            self._hosted = None
        self._journal, self._view = [], View()

    def _do(self, name: str, arguments: dict[str, Any], *, keep: bool = False) -> Any:
        call: Call = (name, arguments)
        for again in range(self._place._redo + 1):
            if again:
                self._place.redone += 1
            if self._hosted is None:
                self._hosted = self._place.take(self._needs)
            request = Request(self._key, self._env_id, self._options, len(self._journal), call, keep)
            answer = self._place.ask(self._hosted, request)
            if answer is not None and answer.unknown:
                request = Request(
                    self._key, self._env_id, self._options, len(self._journal), call, keep, tuple(self._journal)
                )
                answer = self._place.ask(self._hosted, request)
            if answer is None:  # the host is lost
                self._place.give_back(self._hosted)
                self._hosted = None
                continue
            if self._journal and answer.before not in (None, self._view.digest):
                self.close()
                raise NodeLost("a node was lost, and what it had done came out differently when it was done again")
            if answer.view is not None:
                self._view = answer.view
            if answer.error is not None:
                raise answer.error
            if keep:
                self._journal.append(call)
            return answer.value
        raise NodeLost(f"{self._place._redo + 1} hosts in turn were lost at work on {name}")


def _connect(ray: Any, address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        count = os.cpu_count() or 1
        # One machine has what this process itself would use.
        offered = {name: float(count) for name in ("sandbox", "browser", "docker")}
        store = 100 * 2**20  # messages only
        quiet |= {"include_dashboard": False, "resources": offered, "object_store_memory": store}
    _reach(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInput(f"no Ray cluster at {address!r}: {error}", field="--ray") from error


def _reach(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there, and may end the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # a word of Ray's: auto, local
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise BadInput(f"no Ray cluster at {address!r}: {error}", field="--ray") from error


@contextmanager
def place_at(address: str | None, **options: Any) -> Iterator[Place]:
    """The place that ``--ray ADDRESS`` names, for a ``with`` block; this process where there is no address."""
    if address is None:
        yield Here()
        return
    with RayPlace(address, **options) as place:
        yield place
