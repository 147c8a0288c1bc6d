"""What a supervised run of tests brought."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pivotgym.envs.errors import PivotGymError

Outcome = Literal["passed", "failed", "error", "skipped", "missing", "timeout", "unbelieved"]
"""``error``: its file, its fixtures or its process broke. ``missing``: nothing was reported. ``timeout``: it ran when
the time was over, or would have run then. ``unbelieved``: reported as passed, but so it was with planted errors, or the
way through its code was not seen."""

DETAIL_CHARS = 500


@dataclass(frozen=True)
class TestResult:
    """How one test went.

    Attributes:
        name: as it was asked for.
        outcome: only ``passed`` counts for anything.
        detail: why not; at most 500 characters.
        expected: node ids of tests in it whose failure the test's own mark expects. They count as passed here, but
            the code under test may have had a say (``pytest.xfail()``, a condition): see who asked.
    """

    __test__ = False  # no pytest class

    name: str
    outcome: Outcome
    detail: str = ""
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What was seen of a run and its twins.

    Attributes:
        results: one for every name that was asked for.
        violations: what code of changed files did that no solution needs. With any, no result is ``passed``.
        seconds: wall-clock time of everything.
        parts: seconds by part: ``upload``, ``import`` (pytest), ``fork``, ``tests`` (all runs), ``genuine`` and
            ``twins`` (of it), ``rest``.
        notes: what protection was not to be had in this sandbox (another user, audit hooks).
        tail: the last output of the genuine run, for people.
        failure: why pytest or the runner could not do its work, None where they did. The task's or the
            infrastructure's failure where it happens without any change too, else the change's.
    """

    results: dict[str, TestResult]
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tail: str = ""
    failure: PivotGymError | None = None

    def passed(self, name: str) -> bool:
        """Whether that test passed and is believed."""
        result = self.results.get(name)
        return result is not None and result.outcome == "passed"
