"""``pivotgym/Repo-v0``: an agent that patches a git repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pivotgym.envs.core import EnvConfig
from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo import prompts
from pivotgym.envs.repo.grading import grade, run_names
from pivotgym.envs.repo.normalise import normalise
from pivotgym.envs.repo.sources import open_repo_tasks
from pivotgym.envs.repo.tasks import Interface, RepoTask
from pivotgym.envs.repo.tools import EditorState, Toolbox, cause_in_repository, show_command, show_tool
from pivotgym.envs.repo.validation import validate
from pivotgym.envs.sandbox import CommandResult, Snapshot
from pivotgym.envs.terminal.env import SUBMITTED, NoGoal, TerminalConfig, TerminalEnv, live_snapshot
from pivotgym.envs.terminal.prepare import built
from pivotgym.envs.terminal.prompts import BASH_TOOL
from pivotgym.envs.terminal.tasks import Final, TerminalTask
from pivotgym.envs.tools.schema import ArgumentError, validate_arguments
from pivotgym.envs.trajectory import JsonObject, Message, Task, ToolCall
from pivotgym.envs.validation import Validation
from pivotgym.envs.verdict import Verdict


@dataclass(frozen=True)
class Passing:
    """Which of a task's tests pass in a state.

    Attributes:
        names: those that do and are believed.
        violations: what the state's code tried against the tests' run.
        left_out: paths of the state's change that no test run is allowed to see, each with the reason.
        seconds: what finding out took, by step.
    """

    names: tuple[str, ...]
    violations: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


class RepoConfig(TerminalConfig):
    """Options of ``pivotgym/Repo-v0``, beside those of ``pivotgym/Terminal-v0``.

    Attributes:
        tasks: where tasks are drawn from: ``bundled``, a registered task set, a JSON, JSONL or Parquet file of
            SWE-bench rows, or the name of a Hugging Face dataset of such rows.
        repositories: a folder of local clones (``owner__name``, ``owner/name`` or ``name``), or the beginning of a
            git URL that ``owner/name`` completes; None takes each row's ready image.
        tables: SWE-bench rows that say nothing themselves are installed by the ``swebench`` package's tables, which
            needs a network while an image is built.
        interface: which tools are on offer, instead of what a task says.
    """

    tasks: str = "bundled"
    repositories: str | None = None
    tables: bool = False
    interface: Interface | None = None


class RepoEnv(TerminalEnv):
    """Repositories with an issue, in a sandbox whose every state can be kept; hidden tests decide."""

    Config: ClassVar[type[EnvConfig]] = RepoConfig
    config: RepoConfig
    default_verifier: ClassVar[str] = "repo_effects"

    def __init__(self, config: EnvConfig | None = None, *, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(config, render_mode=render_mode, **options)
        self._spec = RepoTask()
        self._editor = EditorState()

    @property
    def spec_of_task(self) -> RepoTask:
        """What the running episode's task says."""
        assert isinstance(self._spec, RepoTask)
        return self._spec

    @property
    def interface(self) -> Interface:
        """Which tools this episode has."""
        return self.config.interface or self.spec_of_task.interface

    @property
    def fingerprint(self) -> str:
        """As a terminal's, and the interface."""
        return f"{super().fingerprint} {self.config.interface}"

    def tasks(self) -> Sequence[Task]:
        """The configured set's tasks."""
        if self._set is None:
            self._set = open_repo_tasks(
                self.config.tasks, repositories=self.config.repositories, tables=self.config.tables
            )
        return self._set.tasks()

    def _read_spec(self, task: Task) -> TerminalTask:
        spec = RepoTask.of(task)
        interface = self.config.interface or spec.interface
        if interface == "bash" and spec.finish_marker is None:
            spec = spec.model_copy(update={"finish_marker": prompts.MARKER})
        self._editor = EditorState.of(spec)
        return spec

    def normalise(self, text: str) -> str:
        """As at a terminal; without durations of test runs and ids of the agent's own commits."""
        return normalise(text, hostname=self._spec.hostname)

    def passing(self, action: Message | None = None, names: Sequence[str] | None = None) -> Passing:
        """Which tests pass in the state as it is now, or after ``action``; a fork is judged, nothing changes here.

        Args:
            action: executed in the fork first.
            names: of the tests to run; None for all that decide the task.

        Raises:
            NoGoal: the task's tests are not known.
            SandboxError: the sandbox broke.
        """
        with closing(self.fork()) as child:
            if action is not None:
                child.respond(action, recorded=())
            state = live_snapshot(child.sandbox)
            try:
                with self._naming_the_task(), self._pristine() as pristine:
                    run = run_names(self.backend, self.spec_of_task, pristine, state, names)
            finally:
                self.backend.close(state)
        names_passed = tuple(name for name in run.results if run.passed(name))
        return Passing(names_passed, tuple(run.violations), run.change.left_out, run.parts)

    def validate(self) -> Validation:
        """What this episode's task gives its own solution: :func:`pivotgym.envs.repo.validation.validate`."""
        with self._naming_the_task(), self._pristine() as pristine:
            return validate(self.backend, self.spec_of_task, pristine)

    def explain(self, action: Message, replayed: Message | None, recorded: Message | None) -> str | None:
        """What the repository has to do with it, else as at a terminal."""
        if replayed is not None and recorded is not None and not replayed.source.get("refused"):
            command = "\n".join(self._command(call) or "" for call in action.tool_calls)
            kind = cause_in_repository(command, self.normalise(replayed.text), self.normalise(recorded.text))
            if kind is not None:
                return kind
        return super().explain(action, replayed, recorded)

    # What this domain adds to a terminal ----------------------------------------------------------------------

    def _judge(self, final: Final, held: list[Snapshot]) -> Verdict:
        if self.spec_of_task.tests is None:
            raise NoGoal(f"task {self.task.id}: the tests that decide are not known")
        if not held:
            held.append(self._final_snapshot())
        with self._naming_the_task(), self._pristine() as pristine:
            return grade(self.backend, self.spec_of_task, pristine, held[0])

    def _pristine(self) -> AbstractContextManager[Snapshot]:
        """The state every episode of this task begins with."""
        return built(self.backend, self._spec, self.image, store=self.snapshots, key=self._setup_key(self.task))

    @contextmanager
    def _naming_the_task(self) -> Iterator[None]:
        """Tasks come in files of thousands; a field's name alone says little."""
        try:
            yield
        except BadInput as error:
            if error.file is not None:
                raise
            raise BadInput(f"task {self.task.id}: {error.problem}", field=error.field) from error

    def _tools_on_offer(self) -> list[JsonObject]:
        tools = Toolbox(self.interface).definitions()
        if self.interface == "openhands":
            function = {**BASH_TOOL["function"], "name": "execute_bash"}
            return [{**BASH_TOOL, "function": function}, *tools]
        return [BASH_TOOL, *tools]

    def _system(self) -> str:
        return prompts.SYSTEM[self.interface].format(marker=self._spec.finish_marker)

    def _memory(self) -> EditorState:
        return self._editor

    def _remember(self, memory: Any) -> None:
        self._editor = memory

    def _call(self, call: ToolCall, recorded: Message | None) -> Message:
        toolbox = Toolbox(self.interface)
        if not toolbox.knows(call.name):
            return super()._call(call, recorded)
        tool = self._tool(call.name)
        if tool is None:
            names = ", ".join(str(tool.get("function", tool).get("name")) for tool in self.episode.shared_tools)
            return self._answer(call, f"Error: unknown tool {call.name!r}; there is: {names}", refused="unknown_tool")
        try:
            arguments = validate_arguments(tool, call.arguments)
        except ArgumentError as error:
            return self._answer(call, f"Error: {error}", refused="bad_arguments")
        result = toolbox.call(
            self.sandbox, self._editor, call.name, arguments, workdir=self._spec.workdir, run=self._run
        )
        self._editor = result.state
        text = show_tool(result.text, self.spec_of_task, self._editor, self.sandbox.shell.cwd)
        if result.refused is not None:
            return self._answer(call, text, refused=result.refused)
        return self._answer(call, text, **({} if result.submitted is None else {SUBMITTED: result.submitted}))

    def _show(self, result: CommandResult, command: str) -> str:
        return show_command(result, self.spec_of_task, self._editor, self.config.idle_timeout, command=command)

    def _run(self, command: str) -> CommandResult:
        return self.sandbox.run(command, timeout=self._spec.timeout, idle_timeout=self.config.idle_timeout)
