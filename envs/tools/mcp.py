"""MCP servers as tool sources: every tool that a server lists becomes a tool of the environment.

The state of a server is out of reach, so a session cannot be saved: restoring and forking start a new session (for a
command: a new process) and replay the conversation in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for

from pivotgym.envs.core import Opening
from pivotgym.envs.errors import BadInput
from pivotgym.envs.snapshots import State
from pivotgym.envs.tools.domain import ToolDomain
from pivotgym.envs.tools.mcp_client import McpServer, McpSession, read_servers
from pivotgym.envs.tools.schema import out_of_bounds
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall, canonical_json, parse_arguments
from pivotgym.envs.verdict import Verdict

CONFIG_VARIABLE = "PIVOTGYM_MCP_CONFIG"
"""Environment variable: path of an ``mcpServers`` file for a domain that is given no servers."""


class McpDomain(ToolDomain):
    """A tool domain whose tools are those of MCP servers.

    A task's ``data`` may hold: ``servers`` (names of those it uses; default all), ``policy`` (system message),
    ``request`` (what the user says first), ``goal`` (a list of checks ``{"tool", "arguments", "equals" | "contains"}``
    that are called when the episode ends) and, for a domain made with ``trust_tasks``, ``mcpServers``.

    Args:
        servers: an ``mcpServers`` mapping or the path of a JSON file; default: the file named by the environment
            variable ``PIVOTGYM_MCP_CONFIG``, else none.
        tasks: the tasks to draw from.
        policy: the system message of tasks that have none of their own.
        trust_tasks: whether a task may bring servers of its own. Tasks come out of trajectory files and a server is a
            command to run, so this is off unless you ask for it.
    """

    name: ClassVar[str] = "mcp"

    def __init__(
        self,
        servers: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        tasks: Sequence[Task] = (),
        *,
        policy: str = "",
        trust_tasks: bool = False,
    ) -> None:
        source = servers if servers is not None else os.environ.get(CONFIG_VARIABLE)
        self.servers: dict[str, McpServer] = read_servers(source) if source is not None else {}
        self.policy, self.trust_tasks = policy, trust_tasks
        self._tasks = list(tasks)
        self._listed: dict[str, list[JsonObject]] = {}
        self._lock = threading.Lock()

    def tasks(self) -> Sequence[Task]:
        """The tasks given to the constructor."""
        return self._tasks

    def servers_of(self, task: Task) -> dict[str, McpServer]:
        """The servers a task uses. Raises BadInput for unknown names, none at all, and untrusted ones of its own."""
        own = task.data.get("mcpServers")
        if own is not None and not self.trust_tasks:
            raise BadInput(
                f"task {task.id!r} brings MCP servers of its own; running them takes McpDomain(trust_tasks=True)",
                field="task.data.mcpServers",
            )
        known = {**self.servers, **(read_servers(own) if own is not None else {})}
        names = task.data.get("servers", list(known))
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            problem = f"unknown MCP servers {unknown}" if unknown else f"no MCP server configured ({CONFIG_VARIABLE})"
            raise BadInput(f"task {task.id!r}: {problem}", field="task.data.servers")
        return {name: known[name] for name in names}

    def opening(self, task: Task) -> Opening:
        """The policy text, the user's request, and the tools the servers list."""
        messages = []
        policy = str(task.data.get("policy", self.policy))
        if policy:
            messages.append(Message(role="system", content=policy))
        if task.data.get("request"):
            messages.append(Message(role="user", content=str(task.data["request"])))
        return Opening(messages, self._tools(task))

    def open(self, task: Task) -> McpSession:
        """Connects to the task's servers. Raises ToolServerError where that fails."""
        session = McpSession(self.servers_of(task))
        with self._lock:
            self._listed[self._key(task)] = session.tools
        return session

    def call(self, session: McpSession, call: ToolCall, requestor: str = "assistant") -> str:
        """Validates the arguments and calls the server; what the tool reports as an error is text for the agent."""
        schema = session.schema(call.name)
        if schema is None:
            return f"Error: unknown tool {call.name!r}"
        if isinstance(call.arguments, str):
            return f"Error: the arguments of {call.name} are no JSON object"
        problem = out_of_bounds(call.arguments) or _invalid(schema, call.arguments)
        if problem is not None:
            return f"Error: invalid arguments for {call.name}: {problem}"
        answer = session.call(call.name, call.arguments)
        return f"Error: {answer.text}" if answer.is_error else answer.text

    def save(self, session: McpSession) -> State | None:
        """None: what a server knows cannot be read out."""
        return None

    def load(self, task: Task, state: State) -> McpSession:
        """Never called, as nothing is saved."""
        raise BadInput("the state of an MCP server cannot be loaded", field="state")

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """Never called, as nothing is saved."""
        raise BadInput("the states of an MCP server cannot be compared", field="state")

    def goal(self, task: Task, session: McpSession, messages: Sequence[Message]) -> Verdict:
        """Calls the tools the task's ``goal`` names and compares what they say; reward 1 when all agree.

        Raises:
            BadInput: the task names no goal.
        """
        checks = task.data.get("goal")
        if not checks:
            raise BadInput(f"task {task.id!r} names no goal", field="task.data.goal")
        failed = []
        for check in checks:
            text = self.call(session, ToolCall(name=check["tool"], arguments=check.get("arguments", {})))
            if not _agrees(text, check):
                failed.append({"check": check, "found": text[:2000]})
        reason = f"{len(checks) - len(failed)} of {len(checks)} checks hold"
        return Verdict(reward=float(not failed), rule="goal", reason=reason, evidence={"failed": failed})

    def close(self, session: McpSession) -> None:
        """Disconnects, and ends the servers that were started for the session."""
        session.close()

    def _key(self, task: Task) -> str:
        return canonical_json({name: server.model_dump() for name, server in self.servers_of(task).items()})

    def _tools(self, task: Task) -> list[JsonObject]:
        key = self._key(task)
        with self._lock:
            tools = self._listed.get(key)
        if tools is None:
            session = self.open(task)
            tools = session.tools
            session.close()
        return tools


def _invalid(schema: JsonObject, arguments: JsonObject) -> str | None:
    validator = validator_for(schema, default=Draft202012Validator)(schema)
    error = best_match(validator.iter_errors(arguments))
    if error is None:
        return None
    where = ".".join(map(str, error.absolute_path))
    return f"{where}: {error.message}" if where else str(error.message)


def _agrees(text: str, check: JsonObject) -> bool:
    if "contains" in check:
        return str(check["contains"]) in text
    wanted = check.get("equals")
    return text == wanted or parse_arguments(f'{{"value": {text}}}') == {"value": wanted}
