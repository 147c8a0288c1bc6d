"""``pivotgym/Terminal-v0``: an agent at a Linux terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from pivotgym.envs.core import AgentEnv, EnvConfig, Opening, Response
from pivotgym.envs.errors import InfrastructureError
from pivotgym.envs.sandbox import Backend, CommandResult, Sandbox, SandboxError, Snapshot, get_backend
from pivotgym.envs.sandbox.base import Limits
from pivotgym.envs.sandbox.shell_state import differences
from pivotgym.envs.snapshots import State
from pivotgym.envs.terminal import prompts
from pivotgym.envs.terminal.canonical import canonical_rows
from pivotgym.envs.terminal.causes import cause_of
from pivotgym.envs.terminal.judging import bugs_named
from pivotgym.envs.terminal.normalise import normalise
from pivotgym.envs.terminal.prepare import prepare
from pivotgym.envs.terminal.render import render, submission
from pivotgym.envs.terminal.screen import Screen
from pivotgym.envs.terminal.sources import open_task_set
from pivotgym.envs.terminal.tasks import Final, TaskSet, TerminalTask, get_task_set
from pivotgym.envs.tools.schema import ArgumentError, validate_arguments
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall
from pivotgym.envs.verdict import Verdict

RECORDED = "recorded"
"""The task set of recordings whose goal is not known."""
SUBMITTED = "submitted"
"""Key of ``Message.source``: this result ended the episode, and what was handed in."""
COMMAND_TOOLS = ("bash", "execute_bash", "terminal", "shell")
"""Names under which recordings know a shell."""
_COMMAND_ARGUMENTS = ("command", "cmd", "keystrokes")
_KEYS_ARGUMENTS = ("keys", "keystrokes")


class NoGoal(InfrastructureError):
    """An episode of a task without a known goal cannot be judged: that says nothing about the policy."""


@dataclass(frozen=True)
class Kept:
    """What a saved state holds.

    Attributes:
        snapshot: the sandbox.
        tools: what the tools of a derived environment remember beside it.
    """

    snapshot: Snapshot
    tools: Any = None


class TerminalConfig(EnvConfig):
    """Options of ``pivotgym/Terminal-v0``.

    Attributes:
        tasks: where tasks are drawn from when a reset names none: a task set's name, or a file or folder of
            AgentBench, InterCode or Terminal-Bench tasks. A task says itself what it needs.
        backend: what the sandboxes run in.
        image: for tasks that name none, see :class:`pivotgym.envs.sandbox.SandboxConfig`; with Docker ``host`` means
            that backend's own image.
        screen: the agent sends keys and reads a screen, instead of running commands.
        idle_timeout: seconds without output after which a command is killed.
    """

    tasks: str = "bundled"
    backend: Literal["bubblewrap", "docker"] = "bubblewrap"
    image: str = "host"
    screen: bool = False
    idle_timeout: float | None = Field(default=None, gt=0)

    def placement(self) -> dict[str, float]:
        """What a node must have for such an environment (see :mod:`pivotgym.harness.cluster`)."""
        kind = "docker" if self.backend == "docker" else "sandbox"
        return {kind: 1, "memory": float(Limits().memory_bytes)}


class TerminalEnv(AgentEnv):
    """Tasks at a terminal, in a sandbox whose every state can be kept."""

    Config: ClassVar[type[EnvConfig]] = TerminalConfig
    config: TerminalConfig
    default_verifier: ClassVar[str] = "terminal_effects"

    def __init__(self, config: EnvConfig | None = None, *, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(config, render_mode=render_mode, **options)
        self._set: TaskSet | None = None
        self._sandbox: Sandbox | None = None
        self._screen: Screen | None = None
        self._spec = TerminalTask()

    @property
    def sandbox(self) -> Sandbox:
        """The running sandbox of the episode."""
        if self._sandbox is None:
            raise SandboxError("the sandbox is stopped")
        return self._sandbox

    @property
    def backend(self) -> Backend:
        """What runs the sandboxes."""
        return get_backend(self.config.backend)

    @property
    def image(self) -> str:
        """What a task is started from that names no image."""
        if self.config.backend == "docker" and self.config.image == "host":
            from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE

            return str(DEFAULT_IMAGE)
        return self.config.image

    @property
    def fingerprint(self) -> str:
        """Tasks carry what they need, so only where and how they run is told apart."""
        config = self.config
        how = "screen" if config.screen else "commands"
        return f"{type(self).__name__} {config.backend} {self.image!r} {how} {config.idle_timeout}"

    def tasks(self) -> Sequence[Task]:
        """The configured set's tasks."""
        if self._set is None:
            self._set = open_task_set(self.config.tasks)
        return self._set.tasks()

    def start(self, task: Task) -> Opening:
        """A fresh sandbox with the task's set-up done."""
        self.stop()
        self._spec = spec = self._read_spec(task)
        self._sandbox = prepare(self.backend, spec, self.image, store=self.snapshots, key=self._setup_key(task))
        if self.config.screen:
            self._screen = Screen(self._sandbox)
            self._screen.start()
        system = self._system() if spec.system is None else spec.system
        messages = [Message(role="system", content=system)] if system else []
        if spec.instruction:
            messages.append(Message(role="user", content=spec.instruction))
        return Opening(messages, self._tools_on_offer())

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        """Executes the action's calls in order; a message without calls ends the episode."""
        results = [message for message in recorded or () if message.role == "tool"]
        said = [message for message in recorded or () if message.role != "tool"]
        if not action.tool_calls:
            return Response(said, done=not said, termination=None if said else "answered")
        answers: list[Message] = []
        submitted = False
        for position, call in enumerate(action.tool_calls):
            if submitted:
                answer = self._answer(call, "Error: not executed: the task was handed in before")
            else:
                answer = self._call(call, results[position] if position < len(results) else None)
                submitted = SUBMITTED in answer.source
            answers.append(answer)
        return Response([*answers, *said], done=submitted, termination="submitted" if submitted else None)

    def save(self) -> State | None:
        """The sandbox now; None where something runs in it, which no snapshot holds."""
        if self._screen is not None:
            return None
        snapshot, backend = self.sandbox.snapshot(), self.backend
        if snapshot is None:
            return None
        return State(Kept(snapshot, self._memory()), max(snapshot.nbytes, 4096), lambda: backend.close(snapshot))

    def load(self, state: State) -> None:
        """A new sandbox in that state."""
        self.stop()
        kept: Kept = state.payload
        self._spec = self._read_spec(self.task)
        self._sandbox = self.backend.load(kept.snapshot)
        self._remember(kept.tools)

    def diff(self, before: State, after: State) -> list[JsonObject]:
        """Paths that differ, git repositories that do, then what differs between the shells."""
        one, two = before.payload.snapshot, after.payload.snapshot
        rows = canonical_rows(self.backend, one, two, self.backend.changes(one, two))
        if self._spec.shell is None:  # else no command sees a shell but its own
            rows += differences(one.shell, two.shell)
        return rows

    def score(self) -> Verdict:
        """The task set's judgement of the final state and the answer.

        Raises:
            NoGoal: nobody knows this task's goal.
            VerifierBug: the judge raised what it should not.
        """
        if self._spec.set == RECORDED:
            raise NoGoal(f"task {self.task.id} comes from a recording, which does not say what its goal is")
        messages, held = self.messages, list[Snapshot]()

        @contextmanager
        def fork() -> Iterator[Sandbox]:
            if not held:
                held.append(self._final_snapshot())
            box = self.backend.load(held[0], fresh_shell=True)
            try:
                yield box
            finally:
                box.stop()

        final = Final(fork, _answer_of(messages), messages, self.episode.termination)
        try:
            with bugs_named(final):
                return self._judge(final, held)
        finally:
            for snapshot in held:
                self.backend.close(snapshot)

    def _judge(self, final: Final, held: list[Snapshot]) -> Verdict:
        """The goal's verdict on the final state; a snapshot put into ``held`` is freed afterwards."""
        return get_task_set(self._spec.set).goal(self.task, final)

    def stop(self) -> None:
        """Stops the sandbox."""
        self._screen = None
        if self._sandbox is not None:
            sandbox, self._sandbox = self._sandbox, None
            sandbox.stop()

    def normalise(self, text: str) -> str:
        """Without times, process ids, temporary names and host names."""
        return normalise(text, hostname=self._spec.hostname)

    def explain(self, action: Message, replayed: Message | None, recorded: Message | None) -> str | None:
        """What the task set knows, else what the two texts tell."""
        if recorded is None:
            return "not_recorded"  # a recording that ends with a call has no result to compare
        if replayed is None:
            return None
        call = next((call for call in action.tool_calls if call.id == recorded.tool_call_id), None)
        command = self._command(call) if call is not None else None
        if command is None:
            command = "\n".join(self._command(call) or "" for call in action.tool_calls)
        if replayed.source.get("refused"):
            return str(replayed.source["refused"])
        if self._spec.set != RECORDED:
            kind = get_task_set(self._spec.set).explain(self.task, action, replayed.text, recorded.text)
            if kind is not None:
                return kind
        return cause_of(command, self.normalise(replayed.text), self.normalise(recorded.text))

    def restore_note(self) -> str | None:
        """Why the state just restored could not be kept."""
        if self._screen is not None:
            return "not kept: a live terminal (tmux); forks and restores replay"
        if self._sandbox is not None and self._sandbox.incomplete:
            return f"not kept: {self._sandbox.incomplete}; forks and restores replay"
        return None

    def faults(self) -> Sequence[tuple[object, str]]:
        """Running a command in the sandbox."""
        return [(self.sandbox, "run")]

    # What a derived environment adds ---------------------------------------------------------------------------

    def _tools_on_offer(self) -> list[JsonObject]:
        """The tools of a fresh episode."""
        return [prompts.KEYSTROKES_TOOL if self.config.screen else prompts.BASH_TOOL]

    def _read_spec(self, task: Task) -> TerminalTask:
        """What the task says. Raises NotRestorable."""
        return TerminalTask.of(task)

    def _memory(self) -> Any:
        """What the tools remember beside the sandbox; never changed after it was given away."""
        return None

    def _remember(self, memory: Any) -> None:
        """Goes back to what :meth:`_memory` gave."""

    # Inner parts ----------------------------------------------------------------------------------------------

    def _setup_key(self, task: Task) -> str:
        """Under which the files every episode of a task begins with are kept."""
        return f"{self.fingerprint} set up {task.key}"

    def _system(self) -> str:
        if self.config.screen:
            return prompts.SCREEN
        return prompts.COMMANDS if self._spec.shell is None else prompts.COMMANDS_APART

    def _answer(self, call: ToolCall, text: str, **source: Any) -> Message:
        return Message(role="tool", content=text, tool_call_id=call.id, name=call.name, source=source)

    def _call(self, call: ToolCall, recorded: Message | None) -> Message:
        tool = self._tool(call.name)
        if tool is None or self._argument(tool) is None:
            names = ", ".join(str(tool.get("function", tool).get("name")) for tool in self.episode.shared_tools)
            return self._answer(call, f"Error: unknown tool {call.name!r}; there is: {names}", refused="unknown_tool")
        try:
            arguments = validate_arguments(tool, call.arguments)
        except ArgumentError as error:
            return self._answer(call, f"Error: {error}", refused="bad_arguments")
        value = arguments.get(str(self._argument(tool)), "")
        if self._screen is not None:
            return self._answer(call, self._press(value, arguments.get("wait", 1.0), recorded))
        command = value if isinstance(value, str) else shlex.join(map(str, value))
        spec = self._spec
        result = self.sandbox.run(
            command, timeout=spec.timeout, idle_timeout=self.config.idle_timeout, shell=spec.shell
        )
        text = self._show(result, command)
        handed_in = submission(result, spec.finish_marker)
        return self._answer(call, text, **({} if handed_in is None else {SUBMITTED: handed_in}))

    def _show(self, result: CommandResult, command: str) -> str:
        """A command's result as the agent reads it."""
        return render(result, self._spec, self.config.idle_timeout, command=command)

    def _press(self, keys: str | Sequence[str], wait: float, recorded: Message | None) -> str:
        assert self._screen is not None
        until = None
        if recorded is not None:
            wanted = self.normalise(recorded.text)

            def until(shown: str) -> bool:
                return self.normalise(shown) == wanted

        return self._screen.press([keys] if isinstance(keys, str) else keys, float(wait), until)

    def _tool(self, name: str) -> JsonObject | None:
        for tool in self.episode.shared_tools:
            if tool.get("function", tool).get("name") == name:
                return tool
        return None

    def _argument(self, tool: JsonObject) -> str | None:
        """The argument that is the command, or in screen mode the keys; None for a tool that is no terminal."""
        function = tool.get("function", tool)
        known = function.get("parameters", {}).get("properties", {})
        if self.config.screen:
            return next((name for name in _KEYS_ARGUMENTS if name in known), None)
        if function.get("name") not in COMMAND_TOOLS:
            return None
        return next((name for name in _COMMAND_ARGUMENTS if name in known), None)

    def _command(self, call: ToolCall) -> str | None:
        tool = self._tool(call.name)
        name = self._argument(tool) if tool is not None else None
        if name is None or not isinstance(call.arguments, dict):
            return None
        value = call.arguments.get(name)
        return value if isinstance(value, str) else None

    def _final_snapshot(self) -> Snapshot:
        """Files as they are now, whatever runs. That ends what runs, so in the middle of an episode a fork is taken."""
        snapshot = self.sandbox.snapshot()
        if snapshot is not None:
            return snapshot
        if self.episode.done:
            return live_snapshot(self.sandbox)
        with closing(self.fork()) as twin:
            return live_snapshot(twin.sandbox)


def live_snapshot(sandbox: Sandbox) -> Snapshot:
    """The files as they are now; what still runs is ended. Raises SandboxError."""
    snapshot = sandbox.snapshot(live=True)
    if snapshot is None:
        raise SandboxError(f"the final state cannot be read: {sandbox.incomplete}")
    return snapshot


def _answer_of(messages: Sequence[Message]) -> str | None:
    """What was handed in, or the text that ended the episode."""
    for message in reversed(messages):
        if SUBMITTED in message.source:
            return str(message.source[SUBMITTED])
        if message.role == "assistant":
            return None if message.tool_calls else message.text
    return None
