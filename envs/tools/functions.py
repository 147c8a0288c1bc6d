"""Domains written as typed Python functions over a pydantic model or a SQLite database.

A domain of one's own::

    class Library(FunctionDomain):
        name = "library"
        policy = "You lend books. Lend one book at a time."
        functions = (find_book, lend_book)                 # def lend_book(db: Books, book: str) -> str

        def tasks(self): ...                               # Task(env="pivotgym/Tools-v0", data={"domain": "library"})
        def initial(self, task): return Books(...)         # or memory_database(SCHEMA)
        def first_message(self, task): return "Hello, I want ..."
        def reference(self, task): return [ToolCall(name="lend_book", arguments={"book": "B1"})]
        def facts(self, task): return ["B1"]

and ``register_domain("library", Library)``, or an entry point of the group ``pivotgym.tool_domains``.
"""

from __future__ import annotations

import pickle
import re
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from pivotgym.envs.core import Opening
from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.snapshots import State
from pivotgym.envs.tools.domain import ToolDomain
from pivotgym.envs.tools.schema import ArgumentError, Signature, ToolError, ToolFunction, signature_of, tool_schema
from pivotgym.envs.tools.schema import validate_arguments as validate_arguments
from pivotgym.envs.tools.sqlite_state import SqliteState, memory_database
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall, canonical_json
from pivotgym.envs.verdict import Verdict

__all__ = [
    "ArgumentError",
    "Fact",
    "FunctionDomain",
    "FunctionSession",
    "ModelState",
    "SqliteState",
    "ToolBug",
    "ToolError",
    "memory_database",
    "missing_facts",
    "serialise",
    "tool_schema",
    "validate_arguments",
]

Fact = str | Sequence[str]
"""What the user has to be told: a word, id, date or amount; a sequence means any one of them."""


class ToolBug(InfrastructureError):
    """A tool function raised something other than ToolError: a bug in the domain, which says nothing about a policy."""


class StateKind(Protocol):
    """How one kind of live state is saved, loaded, compared and guarded."""

    def save(self, live: Any) -> State:
        """A copy that later calls do not touch."""
        ...

    def load(self, state: State) -> Any:
        """A new live state."""
        ...

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """What differs, in canonical order."""
        ...

    def guard(self, live: Any) -> AbstractContextManager[Any]:
        """Yields the state for one call; when the call raises, nothing it did remains."""
        ...

    def close(self, live: Any) -> None:
        """Frees it."""
        ...


class ModelState:
    """A pydantic model as domain state: saved by pickling, compared by dotted path."""

    def save(self, live: BaseModel) -> State:
        """A pickled copy."""
        payload = pickle.dumps(live, protocol=pickle.HIGHEST_PROTOCOL)
        return State(payload, len(payload))

    def load(self, state: State) -> BaseModel:
        """A new model."""
        model: BaseModel = pickle.loads(state.payload)
        return model

    def close(self, live: BaseModel) -> None:
        """Nothing to free."""

    @contextmanager
    def guard(self, live: BaseModel) -> Iterator[BaseModel]:
        """Puts every field back as it was when the call raises."""
        before = pickle.dumps(live, protocol=pickle.HIGHEST_PROTOCOL)
        try:
            yield live
        except BaseException:
            # The model object stays the same one: the session and the tool both hold it.
            live.__setstate__(pickle.loads(before).__getstate__())
            raise

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """``{"path", "before", "after"}`` for every leaf that differs; an absent side is left out."""
        if before.payload == after.payload:
            return []
        old, new = (dict(_leaves(self.load(state).model_dump(mode="json"))) for state in (before, after))
        changes: list[JsonObject] = []
        for path in sorted(old.keys() | new.keys()):
            if path in old and path in new and old[path] == new[path]:
                continue
            change: JsonObject = {"path": path}
            if path in old:
                change["before"] = old[path]
            if path in new:
                change["after"] = new[path]
            changes.append(change)
        return changes


@dataclass
class FunctionSession:
    """The live state of one episode and how it is handled."""

    live: Any
    kind: StateKind


class FunctionDomain(ToolDomain):
    """A domain of typed functions.

    Authors set ``name``, ``policy`` and ``functions`` and write ``tasks`` and ``initial``; the goal check needs
    ``reference`` and ``facts``, a conversation needs ``first_message`` and ``user``.

    Attributes:
        policy: the system message: the rules the agent works by.
        functions: the agent's tools, ``function(state, ...) -> result``.
        user_functions: tools the simulated user has.
    """

    policy: ClassVar[str] = ""
    functions: ClassVar[Sequence[ToolFunction]] = ()
    user_functions: ClassVar[Sequence[ToolFunction]] = ()

    # What an author writes ------------------------------------------------------------------------------------

    @abstractmethod
    def initial(self, task: Task) -> BaseModel | sqlite3.Connection:
        """A new initial state. Raises NotRestorable where the task is unknown."""

    def first_message(self, task: Task) -> str | None:
        """What the user says first; None where the agent begins."""
        return None

    def reference(self, task: Task) -> Sequence[ToolCall]:
        """Calls that bring a fresh state to the state the task asks for (looking up needs no call)."""
        return ()

    def facts(self, task: Task) -> Sequence[Fact]:
        """What the user has to be told in the end."""
        return ()

    def untold(self, task: Task, messages: Sequence[Message]) -> Sequence[Fact]:
        """Which facts the user was not told. By default those missing from the agent's final messages."""
        return missing_facts(self.facts(task), messages)

    # ToolDomain -----------------------------------------------------------------------------------------------

    def opening(self, task: Task) -> Opening:
        """The policy text, the user's first message, the tools' schemas."""
        messages = [Message(role="system", content=self.policy)] if self.policy else []
        said = self.first_message(task)
        if said is not None:
            messages.append(Message(role="user", content=said))
        return Opening(messages, [tool_schema(function) for function in self.functions])

    def open(self, task: Task) -> FunctionSession:
        """A fresh session."""
        live = self.initial(task)
        return FunctionSession(live, _kind_of(live))

    def close(self, session: FunctionSession) -> None:
        """Frees a session."""
        session.kind.close(session.live)

    def save(self, session: FunctionSession) -> State:
        """The session's state; the kind of state travels with it."""
        state = session.kind.save(session.live)
        return State((type(session.kind), state), state.nbytes)

    def load(self, task: Task, state: State) -> FunctionSession:
        """A new session in that state."""
        kind = state.payload[0]()
        return FunctionSession(kind.load(state.payload[1]), kind)

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """What differs between two states: rows for SQLite, dotted paths for models."""
        changes: list[JsonObject] = before.payload[0]().diff(before.payload[1], after.payload[1])
        return changes

    def call(self, session: FunctionSession, call: ToolCall, requestor: str = "assistant") -> str:
        """Runs one tool; a call that fails leaves the state as it was.

        Raises:
            ToolBug: the function raised something other than :class:`ToolError`.
        """
        signature = self._signatures(requestor).get(call.name)
        if signature is None:
            return f"Error: unknown tool {call.name}"
        try:
            arguments = validate_arguments(signature.function, call.arguments)
            with session.kind.guard(session.live) as live:
                return serialise(signature.function(live, **arguments))
        except ToolError as error:
            return f"Error: {error}"
        except InfrastructureError:
            raise
        except Exception as error:
            raise ToolBug(f"tool {call.name} of domain {self.name!r}: {type(error).__name__}: {error}") from error

    def goal(self, task: Task, session: FunctionSession, messages: Sequence[Message]) -> Verdict:
        """1 if the state equals the one the reference calls produce and every fact was told, else 0.

        The evidence holds what differs (``before`` = as it should be, ``after`` = as it is) and the facts not told.

        Raises:
            BadInput: the task has neither reference calls nor facts, so nothing says what is right.
        """
        if not self.reference(task) and not self.facts(task) and type(self).untold is FunctionDomain.untold:
            # Every state but the initial one would be wrong, and doing nothing right.
            raise BadInput(f"task {task.id!r} names no goal: {self.name!r} gives neither reference nor facts for it")
        wrong = self.diff(self._reference_state(task), self.save(session))
        untold = self.untold(task, messages)
        evidence: JsonObject = {
            "state": wrong,
            "untold": [fact if isinstance(fact, str) else list(fact) for fact in untold],
        }
        problems = []
        if wrong:
            problems.append(f"{len(wrong)} differences from the state asked for")
        if untold:
            problems.append(f"{len(untold)} facts not told")
        return Verdict(
            reward=0.0 if problems else 1.0,
            rule="goal",
            reason="; ".join(problems) or "state as asked for, all facts told",
            evidence=evidence,
        )

    # Inner parts ----------------------------------------------------------------------------------------------

    def _reference_state(self, task: Task) -> State:
        session = self.open(task)
        try:
            for call in self.reference(task):
                text = self.call(session, call)
                if text.startswith("Error: "):
                    raise ToolBug(f"reference call {call.name} of task {task.id} failed: {text}")
            return self.save(session)
        finally:
            self.close(session)

    def _signatures(self, requestor: str) -> dict[str, Signature]:
        functions = self.functions if requestor == "assistant" else self.user_functions
        return {function.__name__: signature_of(function) for function in functions}


def serialise(result: Any) -> str:
    """A tool's result as text: a string as it is, None as ``ok``, everything else as canonical JSON."""
    if isinstance(result, str):
        return result
    if result is None:
        return "ok"
    return canonical_json(to_jsonable_python(result))


def missing_facts(facts: Sequence[Fact], messages: Sequence[Message]) -> list[Fact]:
    """The facts the agent did not tell in its final messages: those after its last tool call.

    Words are found as whole words in any case, numbers by value (``40`` in ``$40.00``, not in ``140``).
    """
    said: list[str] = []
    for message in messages:
        if message.role == "assistant":
            said = [] if message.tool_calls else [*said, message.text]
    text = "\n".join(said)
    return [
        fact for fact in facts if not any(_told(word, text) for word in ([fact] if isinstance(fact, str) else fact))
    ]


_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?!\w)")


def _told(fact: str, text: str) -> bool:
    try:
        value = float(fact)
    except ValueError:
        return re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", text, re.IGNORECASE) is not None
    return any(float(number.replace(",", "")) == value for number in _NUMBER.findall(text))


def _kind_of(live: Any) -> StateKind:
    kinds: list[tuple[type, Callable[[], StateKind]]] = [(sqlite3.Connection, SqliteState), (BaseModel, ModelState)]
    for base, kind in kinds:
        if isinstance(live, base):
            return kind()
    raise BadInput(f"a domain's state is a pydantic model or a sqlite3 connection, not {type(live).__name__}")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    if isinstance(value, dict | list):
        # A container is a leaf of its kind, so that filling an empty one is one change and not two.
        yield path, type(value)()
    else:
        yield path, value
    for key, item in items:
        yield from _leaves(item, f"{path}.{key}" if path else str(key))
