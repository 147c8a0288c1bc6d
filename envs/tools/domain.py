"""What a tool-calling domain is: state, tools, policy text, simulated user, goal.

Authors usually derive from :class:`pivotgym.envs.tools.functions.FunctionDomain` (typed Python functions over a
pydantic model or a SQLite database). This is the wider interface underneath, for domains that bring a machinery of
their own (τ²-bench, MCP servers).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol

from pivotgym.envs.core import Opening
from pivotgym.envs.errors import BadInput
from pivotgym.envs.snapshots import State
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall, digest
from pivotgym.envs.verdict import Verdict

CUT_OFF = frozenset({"max_turns", "context", "user_loop", "too_many_errors", "max_errors", "malformed"})
"""Reasons that stop an episode from outside: neither the agent nor the user ended it."""


class User(Protocol):
    """The other side of the conversation. Stateless: everything it knows is the task and the messages so far."""

    def reply(self, task: Task, messages: Sequence[Message]) -> Message | None:
        """The user's next message to the agent's last one; None when the user is done and leaves.

        Raises:
            EndpointError: an LLM behind the user failed; never a reward.
        """
        ...


class ToolDomain(ABC):
    """A domain. One instance serves many environments at once, so it holds no per-episode state.

    A *session* is the live state of one episode (a database connection, a model object …): made by ``open``, changed
    by ``call``, saved and loaded by ``save`` and ``load``, freed by ``close``.
    """

    name: ClassVar[str] = ""
    errors_in_a_row: ClassVar[bool] = True
    """Whether ``max_errors`` counts failed calls of the agent in a row, or all failed calls of an episode."""

    @abstractmethod
    def tasks(self) -> Sequence[Task]:
        """All tasks of the domain."""

    @abstractmethod
    def opening(self, task: Task) -> Opening:
        """Policy text as system message, then what the user says first (if the user begins), and the tools."""

    @abstractmethod
    def open(self, task: Task) -> Any:
        """A fresh session in the task's initial state. Raises NotRestorable where the task is unknown."""

    @abstractmethod
    def call(self, session: Any, call: ToolCall, requestor: str = "assistant") -> str:
        """Executes one call and returns what the tool message says.

        Unknown tools, invalid arguments and errors the tool itself reports are texts for the agent; the infrastructure
        failing (a tool server that is down) is an :class:`InfrastructureError`.
        """

    @abstractmethod
    def save(self, session: Any) -> State | None:
        """The session's state, independent of later calls; None where it cannot be saved (replay then rebuilds it)."""

    @abstractmethod
    def load(self, task: Task, state: State) -> Any:
        """A new session in that state."""

    @abstractmethod
    def diff(self, before: State, after: State) -> list[JsonObject]:
        """What differs, in canonical order."""

    @abstractmethod
    def goal(self, task: Task, session: Any, messages: Sequence[Message]) -> Verdict:
        """Judges an episode by the task's own check."""

    def close(self, session: Any) -> None:  # noqa: B027 (most domains hold nothing that needs it)
        """Frees a session."""

    def user(self, task: Task) -> User | None:
        """The domain's own simulated user for a task, or None where it has none."""
        return None

    def finished(self, task: Task, action: Message) -> str | None:
        """Why this action of the agent ends the episode (a final tool, say), or None."""
        return None

    def cut_off(self, task: Task, termination: str) -> bool:
        """Whether an episode that ended for this reason was cut off: then its reward is 0, whatever its state.

        By default: the reasons in :data:`CUT_OFF`, and a missing user (``no_user``) where the domain has one of its
        own. A domain without a user ends with the agent's last text, so there ``no_user`` is a proper end.
        """
        return termination in CUT_OFF or (termination == "no_user" and self.user(task) is not None)

    def normalise(self, text: str) -> str:
        """Removes from a tool result what may differ between two runs."""
        return text

    def explain(self, action: Message, replayed: Message | None, recorded: Message | None) -> str | None:
        """A known cause of a divergence, or None."""
        return None

    def recorded_only(self, call: ToolCall, recorded: Message) -> bool:
        """Whether a recorded result shows that the call never ran (an injected service error): then replay skips it."""
        return False


DomainFactory = Callable[[], ToolDomain]
_FACTORIES: dict[str, DomainFactory] = {}
_LOADED: dict[str, ToolDomain] = {}
_GENERATIONS: dict[str, int] = {}


def register_domain(name: str, factory: DomainFactory) -> None:
    """Makes a domain known under ``name``. Packages may instead declare a ``pivotgym.tool_domains`` entry point."""
    _FACTORIES[name] = factory
    _GENERATIONS[name] = _GENERATIONS.get(name, 0) + 1
    _LOADED.pop(name, None)


def registrations() -> str:
    """Tells apart what names meant before and after a :func:`register_domain`; empty where nothing was registered.

    Kept states of a name that was registered anew belong to the old domain and must not be found again.
    """
    known = [
        (name, count, getattr(_FACTORIES[name], "__module__", ""), getattr(_FACTORIES[name], "__qualname__", ""))
        for name, count in sorted(_GENERATIONS.items())
    ]
    return digest(repr(known)) if known else ""


def domain_names() -> list[str]:
    """Every domain that can be asked for: built in, registered, and of installed packages."""
    return sorted({*_BUILT_IN, *_FACTORIES, *(point.name for point in entry_points(group="pivotgym.tool_domains"))})


def get_domain(name: str) -> ToolDomain:
    """The domain of that name, made on first use and shared. Raises BadInput for an unknown one."""
    if name not in _LOADED:
        _LOADED[name] = _factory(name)()
    return _LOADED[name]


def _factory(name: str) -> DomainFactory:
    if name in _FACTORIES:
        return _FACTORIES[name]
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    for point in entry_points(group="pivotgym.tool_domains"):
        if point.name == name:
            factory: DomainFactory = point.load()
            return factory
    raise BadInput(f"unknown tool domain {name!r}; known: {', '.join(domain_names())}", field="task.data.domain")


def _service_desk() -> ToolDomain:
    from pivotgym.envs.tools.servicedesk import ServiceDesk

    return ServiceDesk()


def _tau2(name: str) -> DomainFactory:
    def make() -> ToolDomain:
        from pivotgym.envs.tools.tau2 import Tau2Domain

        return Tau2Domain(name)

    return make


def _mcp() -> ToolDomain:
    from pivotgym.envs.tools.mcp import McpDomain

    return McpDomain()


_BUILT_IN: dict[str, DomainFactory] = {
    "mcp": _mcp,
    "servicedesk": _service_desk,
    "tau2/airline": _tau2("airline"),
    "tau2/retail": _tau2("retail"),
    "tau2/telecom": _tau2("telecom"),
}
