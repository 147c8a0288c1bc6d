"""What runs on a cluster's nodes: a process that holds environments and does what it is asked. And what it needs."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from pydantic import ValidationError

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, PivotGymError
from pivotgym.envs.trajectory import JsonObject, Message, Task, canonical_json, digest
from pivotgym.harness.seats import LocalSeat, make_env

Call: TypeAlias = tuple[str, dict[str, Any]]
"""A method of :class:`LocalSeat` and its arguments."""
_MEMORY = "memory"


@dataclass(frozen=True)
class Needs:
    """What a host reserves on its node.

    Attributes:
        cpus: logical CPUs.
        memory: bytes.
        resources: Ray's custom resources by name, sorted.
    """

    cpus: float = 1.0
    memory: int = 0
    resources: tuple[tuple[str, float], ...] = ()

    def options(self) -> dict[str, Any]:
        """As options of a Ray actor."""
        memory = {"memory": self.memory} if self.memory else {}
        return {"num_cpus": self.cpus, "resources": dict(self.resources), **memory}

    def amounts(self) -> dict[str, float]:
        """By the names that Ray's nodes have for them."""
        return {"CPU": self.cpus, _MEMORY: float(self.memory), **dict(self.resources)}

    def fit(self, offered: dict[str, float]) -> int:
        """How many times a node that offers so much has them."""
        return int(min(offered.get(name, 0.0) / amount for name, amount in self.amounts().items() if amount > 0))


def needs_of(env_id: str, options: JsonObject | None = None) -> Needs:
    """What an environment of that id, made with these options, needs of a node.

    The configuration's ``placement()`` returns ``{"docker": 1}``, ``{"sandbox": 1, "memory": bytes, "CPU": 2}`` or
    the like; one without such a method needs a CPU and nothing else.

    Raises:
        BadInput: there is no such environment, or it does not take the options.
    """
    try:
        creator: Any = load_env_creator(str(gym.spec(env_id).entry_point))
        config = creator.Config(**(options or {})) if issubclass(creator, AgentEnv) else None
    except (gym.error.Error, TypeError) as error:
        raise BadInput(f"no environment {env_id!r}: {error}", field="task.env") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(first["msg"], field="env_options." + ".".join(map(str, first["loc"]))) from error
    asked = dict(getattr(config, "placement", dict)())
    cpus, memory = float(asked.pop("CPU", 1.0)), int(asked.pop(_MEMORY, 0))
    return Needs(cpus, memory, tuple(sorted(asked.items())))


@dataclass(frozen=True)
class Request:
    """One call on one environment.

    Attributes:
        key: of the environment.
        env_id: its Gymnasium id.
        options: keyword arguments of ``gym.make``.
        place: how many calls brought it where it is.
        call: what to do.
        keep: whether the call changes the state, so that it belongs to those calls.
        journal: the calls before, for a host that does not know the environment; None while it should.
    """

    key: str
    env_id: str
    options: JsonObject
    place: int
    call: Call
    keep: bool
    journal: Sequence[Call] | None = None


@dataclass(frozen=True)
class View:
    """What a seat shows between calls."""

    conversation: list[Message] = field(default_factory=list)
    transcript: list[Message] = field(default_factory=list)
    tools: list[JsonObject] = field(default_factory=list)
    task: Task | None = None

    @classmethod
    def of(cls, seat: LocalSeat) -> View:
        """What that seat shows."""
        if not seat.has_episode:
            return cls()
        return cls(list(seat.conversation), list(seat.transcript), list(seat.tools), seat.task)

    @property
    def digest(self) -> str:
        """Of the messages, whatever else is attached to them."""
        return digest(canonical_json([message.chat() for message in self.transcript]))


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        unknown: the host does not have the environment where it should be; nothing was done.
        value: what the call returned.
        error: what it raised, of the errors that are raised on purpose.
        view: what the seat shows now.
        before: digest of what it showed when the journal had been repeated.
    """

    unknown: bool = False
    value: Any = None
    error: PivotGymError | None = None
    view: View | None = None
    before: str | None = None


class Host:
    """Holds environments on one node: the class of the Ray actors. It does one thing at a time.

    Args:
        modules: imported first, for what they register.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        for module in ("pivotgym.envs", *modules):
            importlib.import_module(module)
        self._seats: dict[str, tuple[LocalSeat, int]] = {}
        self._judges = cache(pickle.loads)

    def node(self) -> str:
        """On which node it runs."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def work(self, request: Request) -> Answer:
        """Does what is asked; errors raised on purpose are part of the answer."""
        seat, place = self._seats.get(request.key, (None, 0))
        before = None
        # A reset goes from anywhere; it may use what the environment has at hand.
        if seat is None or (place != request.place and request.call[0] != "reset"):
            if request.place and request.journal is None:
                return Answer(unknown=True)
            self.drop(request.key)
            try:
                seat = LocalSeat(make_env(request.env_id, request.options))
                self._seats[request.key] = (seat, 0)
                for call in request.journal or ():
                    self._do(seat, call)
            except PivotGymError as error:
                self.drop(request.key)
                return Answer(error=error)
            before = View.of(seat).digest
        try:
            value = self._do(seat, request.call)
        except PivotGymError as error:
            return Answer(error=error, view=View.of(seat), before=before)
        self._seats[request.key] = (seat, request.place + request.keep)
        return Answer(value=value, view=View.of(seat) if request.keep else None, before=before)

    def _do(self, seat: LocalSeat, call: Call) -> Any:
        name, arguments = call
        if name == "judge":
            arguments = {**arguments, "judge": self._judges(arguments["judge"])}
        return getattr(seat, name)(**arguments)

    def drop(self, key: str) -> None:
        """Closes one environment."""
        seat, _ = self._seats.pop(key, (None, 0))
        if seat is not None:
            seat.close()

    def clear(self) -> None:
        """Closes all environments."""
        for key in list(self._seats):
            self.drop(key)

    def leave(self) -> None:
        """Closes all environments and ends the process, after all that it was asked before."""
        import ray

        end: Any = ray.actor.exit_actor  # it has no types
        try:
            self.clear()
        finally:
            end()
