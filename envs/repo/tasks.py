"""What a repository task is: the repository, the issue, how the agent works on it, and the tests that decide."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.errors import BadInput
from pivotgym.envs.terminal.tasks import Final, Setup, TaskSet, TerminalTask
from pivotgym.envs.trajectory import Task
from pivotgym.envs.verdict import Verdict

ENV_ID = "pivotgym/Repo-v0"

Interface = Literal["tools", "bash", "swe-agent", "openhands"]
"""Which tools are on offer and how results are shown.

``tools``: ``bash``, ``str_replace_editor``, ``submit``. ``bash``: a shell only, and a first output line that hands in.
``swe-agent``: its windowed commands (``open``, ``edit`` …) beside ``bash``. ``openhands``: ``execute_bash``,
``str_replace_editor``, ``think``, ``finish``.
"""


class Repository(BaseModel):
    """Where the repository comes from. It stands in ``TerminalTask.workdir``.

    Attributes:
        kind: ``image``: the task's image has it there already; ``clone``: fetched from ``source`` at ``commit``;
            ``archive``: ``TerminalTask.setup`` brings it.
        source: a folder or URL that git can fetch from.
        commit: the commit the agent starts at; nothing later is in the sandbox.
        install: bash source, run as root in the repository before the first turn (``pip install -e .``).
        patch: a unified diff that brings the bug (SWE-smith's ``patch``), applied at ``commit``; the result is the only
            commit of the repository, because the one before it is the solution.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["image", "clone", "archive"] = "archive"
    source: str = ""
    commit: str = ""
    install: str = ""
    patch: str = ""


class Tests(BaseModel):
    """The tests that decide, and how they run. Never in the sandbox while the agent is there.

    Attributes:
        files: test files by path in the repository, whole; they replace what stands there when the agent is done.
        patch: a unified diff that brings them, in place of ``files`` or after them (SWE-bench's ``test_patch``).
        fail_to_pass: names of tests that fail before the reference patch and must pass.
        pass_to_pass: names of tests that pass before and must go on passing.
        runner: ``pytest``: our runner, names are node ids; ``command``: ``command`` runs and ``parser`` reads its log.
        command: bash source, run in the repository.
        parser: name of a log parser.
        python: the interpreter that runs the tests, as a command in the sandbox.
        prepare: bash source, run as root in the repository after the agent's change is in and before the tests are.
        timeout: seconds all tests together may take.
    """

    __test__ = False  # no pytest class

    model_config = ConfigDict(extra="forbid")

    files: dict[str, str] = Field(default_factory=dict)
    patch: str = ""
    fail_to_pass: list[str] = Field(default_factory=list)
    pass_to_pass: list[str] = Field(default_factory=list)
    runner: Literal["pytest", "command"] = "pytest"
    command: str = ""
    parser: str = ""
    python: str = "python3"
    prepare: str = ""
    timeout: float = Field(default=300.0, gt=0)


class RepoTask(TerminalTask):
    """The data of a ``pivotgym/Repo-v0`` task (``Task.data``): a terminal task with a repository and tests.

    Attributes:
        repository: where it comes from; its folder is ``workdir``.
        interface: the tools.
        tests: what decides; None for a recording whose tests are not known.
        reference: a patch that solves it; for people and for our own checks, never shown.
        pytest: bring pytest from the running environment where the image's Python has none, for the agent to use.
    """

    workdir: str = "/testbed"
    repository: Repository = Repository()
    interface: Interface = "tools"
    tests: Tests | None = None
    reference: str = ""
    pytest: bool = False

    @property
    def has_setup(self) -> bool:
        """Always: a repository has to be there, and its future has not."""
        return True

    def full_setup(self) -> Setup:
        """The repository, and whatever else ``setup`` does. Raises NotRestorable where it cannot be had."""
        from pivotgym.envs.repo.repository import setup_of  # needs this class

        setup = setup_of(self)
        if not self.pytest:
            return setup
        from pivotgym.envs.repo.agent_pytest import with_pytest  # needs pytest

        return with_pytest(setup, self.tests.python if self.tests is not None else "python3")

    def task(self, name: str) -> Task:
        """As a task; fields that have their default are left out."""
        return Task(env=ENV_ID, id=name, data=self.model_dump(mode="json", exclude_defaults=True))


class RepoTaskSet(TaskSet):
    """A set whose tasks only :class:`pivotgym.envs.repo.env.RepoEnv` can judge."""

    def goal(self, task: Task, final: Final) -> Verdict:
        """Hidden tests decide, and they run where the agent was never. Raises BadInput, saying where."""
        raise BadInput(f"task {task.id} is judged by its tests: it is played in {ENV_ID}", field="env")
