"""Whether a task's own solution is rewarded: what to know of a task before agents play it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.grading import run_names
from pivotgym.envs.repo.patches import patched
from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.sandbox import Backend, Snapshot


@dataclass(frozen=True)
class Validation:
    """What a task's own solution earns.

    Attributes:
        problems: tests that must pass and do not with the solution, or that should fail without it and do not, each
            with the reason; ``""`` for what concerns them all.
        left_out: paths of the solution that no change may bring, each with the reason.
    """

    problems: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether an agent that does what the solution does is rewarded, and one that does nothing is not."""
        return not self.problems


def validate(backend: Backend, spec: RepoTask, pristine: Snapshot) -> Validation:
    """Grades the task's own solution, and the state before.

    Args:
        backend: of the snapshot.
        spec: the task.
        pristine: its state before the first turn.

    Raises:
        NoGoal: the task has no tests.
        BadInput: it has no solution, or see :func:`pivotgym.envs.repo.grading.grade`.
        SandboxError: a sandbox broke.
    """
    if not spec.reference:
        raise BadInput("the task has no solution to check it with", field="reference")
    solved = patched(backend, pristine, spec.reference, spec.workdir)
    try:
        run = run_names(backend, spec, pristine, solved)
    finally:
        backend.close(solved)
    before = run_names(backend, spec, pristine, pristine)
    problems = {}
    if run.problem or run.violations:
        problems[""] = run.problem or f"the solution itself is taken for a cheat: {run.violations[0]}"
    for name, result in run.results.items():
        if result.outcome != "passed":
            problems[name] = f"{result.outcome} with the solution: {result.detail}"
    assert spec.tests is not None
    for name in spec.tests.fail_to_pass:
        if before.passed(name):
            problems.setdefault(name, "passes without the solution")
    return Validation(problems, dict(run.change.left_out))
