"""Whether a repository task's own solution is rewarded: what to know of a task before agents play it."""

from __future__ import annotations

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.grading import run_names
from pivotgym.envs.repo.patches import patched
from pivotgym.envs.repo.tasks import RepoTask
from pivotgym.envs.sandbox import Backend, Snapshot
from pivotgym.envs.validation import Validation


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
