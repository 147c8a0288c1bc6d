"""What a terminal task is, and where tasks come from."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.sandbox import Limits, Sandbox, SandboxConfig
from pivotgym.envs.tasksets import TaskSets
from pivotgym.envs.trajectory import JsonObject, Message, Task
from pivotgym.envs.verdict import Verdict

ENV_ID = "pivotgym/Terminal-v0"


class Setup(BaseModel):
    """What happens in a fresh sandbox before the first turn, in this order, as root and unseen by the agent.

    Attributes:
        archives: tar archives (any compression) as base64 text, unpacked at ``/`` one after the other.
        files: text files by absolute path.
        script: bash source, run in a shell of its own in ``/``; a status other than 0 means the task cannot be built.
        start: bash source run as the agent's user in the agent's session before the first turn (starts a background
            process, exports a variable).
    """

    model_config = ConfigDict(extra="forbid")

    archives: list[str] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict)
    script: str = ""
    start: str = ""

    def archive_bytes(self) -> list[bytes]:
        """The archives, decoded. Raises BadInput."""
        try:
            return [base64.b64decode(text, validate=True) for text in self.archives]
        except ValueError as error:
            raise BadInput(f"no base64 text: {error}", field="setup.archives") from error


class TerminalTask(BaseModel):
    """The data of a ``pivotgym/Terminal-v0`` task (``Task.data``), JSON all the way.

    Attributes:
        set: the :class:`TaskSet` it belongs to, which judges the episode; ``recorded`` for a recording whose goal is
            not known (its episodes cannot be scored, its turns can be restored and compared).
        instruction: what the user asks; the first user message.
        system: the system message; None takes the environment's own.
        image: what the sandbox is started from, see :class:`SandboxConfig`; None takes the environment's option.
        user: who the agent is inside.
        workdir: where its shell starts.
        env: environment variables.
        hostname: inside.
        limits: what it may use.
        setup: what happens first.
        shell: run every command by this program in a process of its own (``["bash", "-c"]``), as mini-swe-agent does;
            None keeps one shell over all turns.
        timeout: seconds a command may take.
        observation: how a result is shown: ``plain`` (output, a last line for a status other than 0), ``raw`` (output
            only), ``template`` (``observation_template``).
        observation_template: Jinja, over ``output``, ``returncode``, ``exception_info``, ``command``, ``cwd``.
        finish_marker: an output whose first line is this ends the episode; the rest of it is the answer.
        definition: whatever the task set needs to judge it; never shown.
    """

    model_config = ConfigDict(extra="forbid")

    set: str = "recorded"
    instruction: str = ""
    system: str | None = None
    image: str | None = None
    user: str | int = "root"
    workdir: str = "/root"
    env: dict[str, str] = Field(default_factory=dict)
    hostname: str = "sandbox"
    limits: Limits = Limits()
    setup: Setup = Setup()
    shell: list[str] | None = None
    timeout: float = 60.0
    observation: Literal["plain", "raw", "template"] = "plain"
    observation_template: str | None = None
    finish_marker: str | None = None
    definition: JsonObject = Field(default_factory=dict)

    @classmethod
    def of(cls, task: Task) -> Self:
        """Reads a task's data. Raises NotRestorable where it is none of a terminal task."""
        try:
            return cls.model_validate(task.data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            said = f"task {task.id} of {task.env}, field data.{where}: {first['msg']}"
            raise NotRestorable("bad_task", said) from error

    def task(self, name: str) -> Task:
        """As a task; fields that have their default are left out."""
        return Task(env=ENV_ID, id=name, data=self.model_dump(mode="json", exclude_defaults=True))

    @property
    def has_setup(self) -> bool:
        """Whether anything has to be done before the agent's session starts."""
        return bool(self.setup.archives or self.setup.files or self.setup.script)

    def full_setup(self) -> Setup:
        """All that has to be done in a fresh sandbox, also what the task only refers to."""
        return self.setup

    def sandbox(self, image: str) -> SandboxConfig:
        """What its sandbox is started from; ``image`` is used where the task names none."""
        return SandboxConfig(
            image=self.image or image,
            user=self.user,
            workdir=self.workdir,
            env=self.env,
            hostname=self.hostname,
            limits=self.limits,
        )


@dataclass(frozen=True)
class Final:
    """The end of an episode, as its judge gets it.

    Attributes:
        fork: gives a sandbox in the final state with a fresh shell (nothing the agent defined or exported is in it),
            stopped on leaving: ``with final.fork() as box: box.read_file(...)``. What is done in it stays there.
        answer: the text that ended the episode, or what was submitted; None where it was cut off.
        messages: the whole conversation.
        termination: why it ended; None where a verifier asks about a state in the middle.
    """

    fork: Callable[[], AbstractContextManager[Sandbox]]
    answer: str | None
    messages: Sequence[Message] = field(default_factory=tuple)
    termination: str | None = None


class TaskSet(ABC):
    """A family of tasks with one way of judging them. Stateless; one instance serves the process."""

    name: ClassVar[str] = ""

    @abstractmethod
    def tasks(self) -> Sequence[Task]:
        """All tasks, always in the same order."""

    @abstractmethod
    def goal(self, task: Task, final: Final) -> Verdict:
        """Judges an episode.

        What the agent left behind must not be able to decide: read files through ``final.fork()``, do not believe
        programs the agent could replace. A check that cannot be made because the infrastructure fails raises.
        """

    def explain(self, task: Task, action: Message, replayed: str, recorded: str) -> str | None:
        """A short kind for a known cause why a replayed observation differs (``host_name`` …), else None."""
        return None


_OWN = {
    "agentbench": "pivotgym.envs.terminal.agentbench:AgentBenchTasks",
    "bundled": "pivotgym.envs.terminal.bundled:BundledTasks",
    "bundled-repos": "pivotgym.envs.repo.bundled:BundledRepos",
    "intercode": "pivotgym.envs.terminal.intercode:InterCodeTasks",
    "swe-bench": "pivotgym.envs.repo.swebench:SweBenchTasks",
    "terminal-bench": "pivotgym.envs.terminal.terminal_bench:TerminalBenchTasks",
}
"""Sets of this package, imported when first asked for. Made without a path they have no tasks, and judge all."""
_SETS: TaskSets[TaskSet] = TaskSets("terminal", _OWN)


def register_task_set(name: str, make: Callable[[], TaskSet]) -> None:
    """Makes a task set known: ``gym.make("pivotgym/Terminal-v0", tasks=name)``."""
    _SETS.register(name, make)


def task_set_names() -> list[str]:
    """Every known name, sorted."""
    return _SETS.names()


def get_task_set(name: str) -> TaskSet:
    """The task set of that name. Raises BadInput for an unknown one."""
    return _SETS.get(name)


def verdict(reached: bool, reason: str, **evidence: Any) -> Verdict:
    """A goal verdict of 1 or 0."""
    return Verdict(reward=1.0 if reached else 0.0, rule="goal", reason=reason, evidence=evidence)
