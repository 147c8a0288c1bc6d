"""τ²-bench's airline, retail and telecom domains, run by the ``tau2`` package itself.

The package brings databases, tools, policies, tasks and evaluators (extra ``[tau2]``, or any checkout that can be
imported as ``tau2``). This module adds what it lacks: saving and forking the state of a conversation. Tables of
records (airline, retail) are shared copy-on-write, everything else (telecom, the user's phone) is small and pickled.
"""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.util
import os
import pickle
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pivotgym.envs.core import Opening
from pivotgym.envs.errors import BadInput, MissingExtra, NotRestorable
from pivotgym.envs.snapshots import State
from pivotgym.envs.tools.cow import Access, CowTable, Table, diff_tables
from pivotgym.envs.tools.domain import ToolDomain, User
from pivotgym.envs.tools.schema import out_of_bounds
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall
from pivotgym.envs.verdict import Verdict

ENV_ID = "pivotgym/Tools-v0"
STOP = "###STOP###"
USER_STOPS = (STOP, "###TRANSFER###", "###OUT-OF-SCOPE###")
GREETING = "Hello! How can I help you today?"
KITS = ("tools", "user_tools")
# In-memory size of a record over its pickled size, measured on airline flights and users.
_MEMORY_PER_PICKLED_BYTE = 6.5
_DONE = {
    "type": "function",
    "function": {
        "name": "done",
        "description": "Ends the work on the ticket.",
        "parameters": {"type": "object", "properties": {}},
    },
}
# What a harness that injects faults, or a service in front of the tools, writes; tau2's own tools never say it.
_SERVICE_ERROR = re.compile(
    r"service (is )?(temporarily )?(unavailable|down)|temporarily unavailable|internal server error|bad gateway"
    r"|gateway time-?out|timed? ?out|rate limit|too many requests|connection (error|reset|refused|aborted)"
    r"|\b(429|500|502|503|504)\b.*(error|unavailable|gateway|time-?out)|injected",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Saved:
    """A saved state.

    Attributes:
        tables: by kit and field: the frozen table and the keys that may differ from the pristine database.
        rest: everything else of the kits, in one pickle, so that objects they share stay shared.
    """

    tables: dict[tuple[str, str], tuple[Table, frozenset[str]]]
    rest: bytes


@dataclass
class Session:
    """The live state of one conversation: a ``tau2`` environment over tables of its own."""

    environment: Any
    access: Access
    template: Template


@dataclass
class Template:
    """What all sessions of one mode share: a pristine environment that is never run, and what is derived from it."""

    environment: Any
    pristine: Saved
    table_fields: dict[str, tuple[str, ...]]
    schemas: list[JsonObject]
    user_schemas: list[JsonObject]
    read_only: frozenset[str]


class Tau2Domain(ToolDomain):
    """One τ²-bench domain.

    The environment variable ``TAU2_DATA_DIR`` names a data folder of one's own (``tau2/domains/...`` in it).

    A task's ``data`` may have ``definition`` (a task object of a result file; it wins over the package's task of that
    id) and ``mode``: ``"solo"`` is telecom without a user: the agent also holds the user's tools.

    Args:
        name: ``airline``, ``retail`` or ``telecom``, with or without ``tau2/`` in front.

    Raises:
        MissingExtra: no ``tau2`` package.
        BadInput: no such domain, or the package lacks its data.
    """

    errors_in_a_row = False

    def __init__(self, name: str) -> None:
        self.short_name = name.removeprefix("tau2/")
        self.name = f"tau2/{self.short_name}"  # type: ignore[misc]  # one class, three domains
        self._module = import_tau2(f"domains.{self.short_name}.environment")
        self._templates: dict[bool, Template] = {}
        self._tasks: list[Task] | None = None
        self._definitions: dict[str, Any] = {}

    # Tasks ---------------------------------------------------------------------------------------------------

    def tasks(self) -> Sequence[Task]:
        """The package's base tasks."""
        if self._tasks is None:
            self._definitions = {str(task.id): task for task in self._module.get_tasks(None)}
            names = [str(task.id) for task in self._module.get_tasks()]
            self._tasks = [Task(env=ENV_ID, id=name, data={"domain": self.name}) for name in names]
        return self._tasks

    def definition(self, task: Task) -> Any:
        """The ``tau2`` task object. Raises NotRestorable where there is none or it cannot be read."""
        row = task.data.get("definition")
        if row is None:
            self.tasks()
            if task.id not in self._definitions:
                raise NotRestorable("unknown_task", f"{self.name} has no task {task.id!r}")
            return self._definitions[task.id]
        try:
            return import_tau2("data_model.tasks").Task.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise NotRestorable("bad_task", f"task {task.id!r}: {where}: {first['msg']}") from error

    def reference(self, task: Task) -> list[ToolCall]:
        """The agent's calls that the task's criteria name (for benchmarks and experts; never shown to a policy)."""
        criteria = self.definition(task).evaluation_criteria
        actions = [one for one in (criteria and criteria.actions) or [] if one.requestor == "assistant"]
        return [ToolCall(name=one.name, arguments=copy.deepcopy(one.arguments)) for one in actions]

    def user_instructions(self, task: Task) -> str:
        """The scenario that a simulated user plays."""
        return str(self.definition(task).user_scenario)

    def user_tools(self, task: Task) -> list[JsonObject]:
        """Schemas of the tools that the simulated user holds (telecom)."""
        return [] if is_solo(task) else self._template(task).user_schemas

    def user(self, task: Task) -> User | None:
        """None: a user of τ²-bench is played by an LLM or a recording."""
        return None

    def opening(self, task: Task) -> Opening:
        """The policy as system message; then the agent's greeting, or in solo mode the ticket in the policy."""
        template = self._template(task)
        policy = str(template.environment.get_policy())
        if not is_solo(task):
            greeting = Message(role="assistant", content=GREETING)
            history = self._history(task)
            return Opening([Message(role="system", content=policy), *(history or [greeting])], template.schemas)
        ticket = self.definition(task).ticket
        if ticket:
            policy += f"\n\n<ticket>\n{ticket}\n</ticket>"
        return Opening([Message(role="system", content=policy), *self._history(task)], template.schemas)

    def _history(self, task: Task) -> list[Message]:
        initial = self.definition(task).initial_state
        return [from_tau2(message) for message in (initial and initial.message_history) or []]

    # Sessions ------------------------------------------------------------------------------------------------

    def open(self, task: Task) -> Session:
        """A session in the task's initial state: data and actions applied as tau2 does.

        The message history some tasks begin with is part of the conversation: the environment runs its calls.
        """
        definition = self.definition(task)
        template = self._template(task)
        session = self._session(template, template.pristine)
        initial = definition.initial_state
        try:
            session.environment.set_state(
                initialization_data=initial.initialization_data if initial else None,
                initialization_actions=initial.initialization_actions if initial else None,
                message_history=[],
            )
        except Exception as error:
            # Tasks travel with recordings and may be of another version: whatever fails here is about the task.
            raise NotRestorable("initial_state", f"task {task.id!r}: {type(error).__name__}: {error}") from error
        return session

    def call(self, session: Session, call: ToolCall, requestor: str = "assistant") -> str:
        """Executes a call exactly as tau2 does; its errors are the texts tau2 gives."""
        environment = session.environment
        if isinstance(call.arguments, str):
            return f"Error: the arguments of {call.name} are not a JSON object"
        problem = out_of_bounds(call.arguments)
        if problem is not None:
            return f"Error: {problem}"
        if environment.solo_mode and call.name == "done" and requestor == "assistant":
            return STOP
        if call.name == "calculate" and "**" in str(call.arguments.get("expression", "")):
            # tau2 would evaluate 9**9**9 for ever.
            return "Error: Powers are not supported"
        wanted = import_tau2("data_model.message").ToolCall(
            # Tools store what they are given and change it later; the caller's arguments must stay as they are.
            id=call.id or "",
            name=call.name,
            arguments=copy.deepcopy(call.arguments),
            requestor=requestor,
        )
        return str(environment.get_response(wanted).content)

    def save(self, session: Session) -> State:
        """The state; costs what was changed since the last time."""
        tables: dict[tuple[str, str], tuple[Table, frozenset[str]]] = {}
        rest: dict[str, tuple[JsonObject, JsonObject]] = {}
        nbytes = 0.0
        for kit, toolkit in kits(session.environment):
            fields = session.template.table_fields[kit]
            for name in fields:
                table = self._table(session, kit, toolkit.db, name)
                frozen, changed = tables[kit, name] = table.freeze()
                if frozen is not session.template.pristine.tables[kit, name][0]:
                    owned = [frozen[key] for key in changed if key in frozen]
                    nbytes += sys.getsizeof(frozen) + _MEMORY_PER_PICKLED_BYTE * len(pickle.dumps(owned, -1))
            attributes = {key: value for key, value in vars(toolkit).items() if key != "db"}
            rest[kit] = attributes, {key: value for key, value in vars(toolkit.db).items() if key not in fields}
        saved = Saved(tables, pickle.dumps(rest, -1))
        return State(saved, int(nbytes) + len(saved.rest) + 500)

    def load(self, task: Task, state: State) -> Session:
        """A new session in that state."""
        return self._session(self._template(task), state.payload)

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """Changed records of the agent's database, then under ``user/`` of the user's device."""
        return diff_saved(before.payload, after.payload)

    def finished(self, task: Task, action: Message) -> str | None:
        """``agent_stop``: working alone, the agent called ``done`` or wrote the stop token.

        With a user only the user ends the conversation, as with the package's own agents.
        """
        if is_solo(task) and (STOP in action.text or any(call.name == "done" for call in action.tool_calls)):
            return "agent_stop"
        return None

    def cut_off(self, task: Task, termination: str) -> bool:
        """As τ²-bench evaluates: whatever neither the agent nor the user ended."""
        return termination not in ("agent_stop", "user_stop")

    def goal(self, task: Task, session: Session, messages: Sequence[Message]) -> Verdict:
        """τ²-bench's own evaluation of the state and the conversation so far.

        Natural-language assertions need a judge: where the task is judged by them, ``evidence["not_evaluated"]`` says
        so and the reward is that of the other criteria. ``evidence["ended"]`` tells whether agent or user ended the
        conversation. It does not enter here, where a state in the middle may be judged; an episode that ended
        otherwise gets 0 by :meth:`cut_off`.
        """
        from pivotgym.envs.tools.tau2_goal import judge

        return judge(self, task, session, messages)

    def explain(self, action: Message, replayed: Message | None, recorded: Message | None) -> str | None:
        """Known causes of a divergence.

        ``service_error`` (the recording has an error that the tools never give), ``error_text`` (both failed, in other
        words), ``call_fails_now`` and ``call_failed_then`` (only one side failed: another task or database version),
        or None.
        """
        if replayed is None and recorded is not None and _SERVICE_ERROR.search(recorded.text):
            return "service_error"
        if recorded is not None and replayed is not None:
            if _SERVICE_ERROR.search(recorded.text) and not _SERVICE_ERROR.search(replayed.text):
                return "service_error"
            if recorded.text.startswith("Error") and replayed.text.startswith("Error"):
                return "error_text"
            if replayed.text.startswith("Error"):
                return "call_fails_now"
            if recorded.text.startswith("Error"):
                return "call_failed_then"
        return None

    def recorded_only(self, call: ToolCall, recorded: Message) -> bool:
        """A recorded error that no tool of tau2 gives: a service failed in front of the tool."""
        text = recorded.text.strip()
        data = text.startswith(("{", "[")) and not text.lower().startswith('{"error')
        return len(text) <= 1000 and not data and _SERVICE_ERROR.search(text) is not None

    # Inner parts ---------------------------------------------------------------------------------------------

    def fresh(self, session: Session) -> Session:
        """A session of the same mode in the pristine state."""
        return self._session(session.template, session.template.pristine)

    def fork(self, session: Session) -> Session:
        """An independent session in the same state."""
        return self._session(session.template, self.save(session).payload)

    def _session(self, template: Template, saved: Saved) -> Session:
        environment = copy.copy(template.environment)
        access = Access()
        rest = pickle.loads(saved.rest)
        for kit, original in kits(template.environment):
            attributes, fields = rest[kit]
            toolkit = copy.copy(original)
            vars(toolkit).update(attributes)
            tables = {
                name: CowTable(frozen, access, changed)
                for (owner, name), (frozen, changed) in saved.tables.items()
                if owner == kit
            }
            toolkit.db = original.db.model_copy(update={**fields, **tables})
            setattr(environment, kit, toolkit)
        environment.make_tool_call = _sharing(environment.make_tool_call, access, template.read_only)
        return Session(environment, access, template)

    def _table(self, session: Session, kit: str, database: Any, name: str) -> CowTable:
        table = vars(database)[name]
        if isinstance(table, CowTable):
            return table
        # Initialisation data makes a new database; what equals the pristine one is shared again.
        base = session.template.pristine.tables[kit, name][0]
        records = {key: base[key] if key in base and base[key] == value else value for key, value in table.items()}
        changed = frozenset(key for key in records.keys() | base.keys() if records.get(key) is not base.get(key))
        made = vars(database)[name] = CowTable(records, session.access, changed)
        return made

    def _template(self, task: Task) -> Template:
        solo = is_solo(task)
        if solo not in self._templates:
            self._templates[solo] = self._make_template(solo)
        return self._templates[solo]

    def _make_template(self, solo: bool) -> Template:
        try:
            environment = self._module.get_environment(solo_mode=True) if solo else self._module.get_environment()
        except FileNotFoundError as error:
            raise BadInput(f"the data of tau2 are missing ({error}); set TAU2_DATA_DIR to them") from error
        except ValueError as error:
            raise NotRestorable("no_solo_mode", f"{self.name}: {error}") from error
        schemas = [tool.openai_schema for tool in environment.get_tools()]
        user_schemas = [tool.openai_schema for tool in environment.get_user_tools()] if environment.user_tools else []
        own_class = import_tau2("environment.environment").Environment
        # An environment that synchronises its databases after every call changes state in reading calls too.
        synchronises = type(environment).sync_tools is not own_class.sync_tools
        template = Template(
            environment=environment,
            pristine=Saved({}, b""),
            table_fields={},
            schemas=[*schemas, *user_schemas, _DONE] if solo else schemas,
            user_schemas=user_schemas,
            read_only=frozenset() if synchronises else read_tools(environment),
        )
        tables: dict[tuple[str, str], tuple[Table, frozenset[str]]] = {}
        rest: dict[str, tuple[JsonObject, JsonObject]] = {}
        for kit, toolkit in kits(environment):
            _take_class_state(toolkit)
            names = tuple(name for name, value in vars(toolkit.db).items() if _is_table(value))
            template.table_fields[kit] = names
            tables |= {(kit, name): (vars(toolkit.db)[name], frozenset()) for name in names}
            attributes = {key: value for key, value in vars(toolkit).items() if key != "db"}
            rest[kit] = attributes, {key: value for key, value in vars(toolkit.db).items() if key not in names}
        template.pristine = Saved(tables, pickle.dumps(rest, -1))
        return template


def import_tau2(module: str) -> Any:
    """A module of the ``tau2`` package, by its name within it. Raises MissingExtra where the package is absent."""
    full = f"tau2.{module}"
    if full in sys.modules:
        return sys.modules[full]
    if "tau2" not in sys.modules:
        if importlib.util.find_spec("tau2") is None:
            raise MissingExtra("tau2", "tau2")
        if importlib.util.find_spec("loguru") is not None:
            # It logs every tool result. Only its own records, and only where nobody uses it yet: logger.enable("tau2")
            # brings them back.
            importlib.import_module("loguru").logger.disable("tau2")
    try:
        _use_own_data()
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name is not None and (full == error.name or full.startswith(f"{error.name}.")):
            raise BadInput(f"the installed tau2 package has no {full}", field="task.data.domain") from error
        raise MissingExtra(str(error.name), "tau2") from error


def _use_own_data() -> None:
    """Makes ``TAU2_DATA_DIR`` count in releases of the package that only look at the data they bring.

    The domains derive their paths when they are imported, so this must come before them.
    """
    folder = os.environ.get("TAU2_DATA_DIR")
    if folder and not any(name.startswith("tau2.domains.") for name in sys.modules):
        for module in (importlib.import_module("tau2.utils.utils"), importlib.import_module("tau2.utils")):
            module.DATA_DIR = Path(folder)  # type: ignore[attr-defined]


def is_solo(task: Task) -> bool:
    """Whether the agent works without a user."""
    return task.data.get("mode") == "solo"


def kits(environment: Any) -> list[tuple[str, Any]]:
    """The toolkits of a ``tau2`` environment with their attribute names."""
    return [(kit, toolkit) for kit in KITS if (toolkit := getattr(environment, kit, None)) is not None]


def read_tools(environment: Any) -> frozenset[str]:
    """Names of the tools that tau2 declares to change nothing."""
    found = set()
    for _, toolkit in kits(environment):
        found |= {name for name in toolkit.tools if str(toolkit.tool_type(name).value) == "read"}
    return frozenset(found)


def dump_record(record: Any) -> Any:
    """A record as JSON, dates and enums as text."""
    return record.model_dump(mode="json") if isinstance(record, BaseModel) else record


def diff_saved(before: Saved, after: Saved) -> list[JsonObject]:
    """What differs between two saved states of one domain."""
    changes: list[JsonObject] = []
    for (kit, name), (table, _) in sorted(before.tables.items(), key=lambda item: item[0]):
        prefix = f"user/{name}" if kit == "user_tools" else name
        changes += diff_tables(prefix, table, after.tables[kit, name][0], dump_record)
    if before.rest != after.rest:
        old, new = pickle.loads(before.rest), pickle.loads(after.rest)
        for kit in sorted(old):
            prefix = "user" if kit == "user_tools" else ""
            changes += diff_tables(prefix, _records(old[kit][1]), _records(new[kit][1]), dump_record)
    return changes


def _records(fields: Mapping[str, Any]) -> Table:
    """Fields of a small database as records: lists of models by the id of their elements."""
    records: Table = {}
    for name, value in fields.items():
        if isinstance(value, list) and value and all(isinstance(item, BaseModel) for item in value):
            ids = [str(next(iter(vars(item).values()))) for item in value]
            keys = ids if len(set(ids)) == len(ids) else [str(index) for index in range(len(value))]
            records |= {f"{name}/{key}": item for key, item in zip(keys, value, strict=True)}
        else:
            records[name] = value
    return records


def from_tau2(message: Any) -> Message:
    """A message of the ``tau2`` package."""
    calls = [
        ToolCall(id=call.id or None, name=call.name, arguments=call.arguments)
        for call in getattr(message, "tool_calls", None) or []
    ]
    if message.role == "tool":
        return Message(
            role="tool", content=message.content, tool_call_id=message.id or None, requestor=message.requestor
        )
    return Message(role=message.role, content=message.content, tool_calls=calls)


def _sharing(make_tool_call: Callable[..., Any], access: Access, read_only: frozenset[str]) -> Callable[..., Any]:
    """The same, with records shared while a tool runs that changes nothing."""

    # The wrapper keeps the wrapped name, which is part of the error that wrongly named arguments give.
    @functools.wraps(make_tool_call)
    def call(*args: Any, **kwargs: Any) -> Any:
        access.writing = (args[0] if args else kwargs.get("tool_name")) not in read_only
        try:
            return make_tool_call(*args, **kwargs)
        finally:
            access.writing = True

    return call


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(record, BaseModel) for record in value.values())


def _take_class_state(toolkit: Any) -> None:
    """Copies mutable class attributes into the instance: tools change them, and all sessions would see it."""
    for owner in reversed(type(toolkit).__mro__):
        for name, value in vars(owner).items():
            if isinstance(value, BaseModel | list | set | dict) and not name.startswith("__"):
                vars(toolkit).setdefault(name, copy.deepcopy(value))


__all__ = ["Session", "Tau2Domain", "diff_saved", "dump_record", "from_tau2", "import_tau2"]
