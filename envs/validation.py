"""Whether a task can be won at all: what to know of a set of tasks before agents play it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


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


@runtime_checkable
class Validating(Protocol):
    """An environment whose tasks bring their solution."""

    def validate(self) -> Validation:
        """Grades the running episode's task with its own solution, and without it. Nothing in the episode changes.

        Raises:
            BadInput: the task has no solution or cannot be judged.
            InfrastructureError: a sandbox broke; that says nothing of the task.
        """
        ...
