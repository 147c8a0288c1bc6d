"""Every error this package raises on purpose.

The split that matters is between statements about the *input or the policy* and failures of the
*infrastructure*. Law 5 (honest reward): an :class:`InfrastructureError` is retried, then excluded and counted;
it never becomes a reward.
"""

from __future__ import annotations

from pathlib import Path


class PivotGymError(Exception):
    """Base class of every error raised on purpose."""


class BadInput(PivotGymError):
    """Input that cannot be used, located as exactly as possible.

    Attributes:
        file: the file read, or ``None`` for input that came from memory.
        line: 1-based line number, or ``None``.
        field: dotted path of the offending field (``messages.3.tool_calls.0.name``), or ``None``.
    """

    def __init__(
        self, problem: str, *, file: str | Path | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        self.problem, self.file, self.line, self.field = problem, file, line, field
        where = ":".join(str(part) for part in (file, line) if part is not None)
        parts = [part for part in (where, f"field {field}" if field else "", problem) if part]
        super().__init__(": ".join(parts))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not pickle by default, and this one crosses process borders.
        return (_rebuild_bad_input, (self.problem, self.file, self.line, self.field))


def _rebuild_bad_input(problem: str, file: str | Path | None, line: int | None, field: str | None) -> BadInput:
    return BadInput(problem, file=file, line=line, field=field)


class MissingExtra(PivotGymError):
    """An optional part is used that is not installed; the message says what to install."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'pivotgym[{extra}]'")
        self.package, self.extra = package, extra

    def __reduce__(self) -> tuple[object, ...]:
        return (MissingExtra, (self.package, self.extra))


class RestoreDiverged(PivotGymError):
    """A strict restore met an observation that differs from the recorded one."""


class NotRestorable(PivotGymError):
    """A recorded state cannot be rebuilt at all (no such task, no environment, empty trajectory).

    Attributes:
        kind: a short machine-readable reason (``unknown_task``, ``no_messages``, ``no_environment`` …).
    """

    def __init__(self, kind: str, problem: str) -> None:
        super().__init__(f"{kind}: {problem}")
        self.kind, self.problem = kind, problem

    def __reduce__(self) -> tuple[object, ...]:
        return (NotRestorable, (self.kind, self.problem))


class InfrastructureError(PivotGymError):
    """Something outside the policy failed: a sandbox, a browser, an endpoint, a tool server."""


class EndpointError(InfrastructureError):
    """An LLM endpoint (policy, judge or simulated user) did not answer usably after retries."""


class ToolServerError(InfrastructureError):
    """A tool server (MCP) is down or broke its protocol; not an error the tool itself reported."""


class VerifierBug(InfrastructureError):
    """A verifier or a domain raised something unexpected on a sampled action: a bug there says nothing of the action.

    Attributes:
        kind: name of the exception.
        action: the sampled action, as text.
        trace: the original traceback.
    """

    def __init__(self, kind: str, action: str, trace: str) -> None:
        super().__init__(f"{kind} on the action {action[:1000]!r}\n{trace}")
        self.kind, self.action, self.trace = kind, action, trace

    def __reduce__(self) -> tuple[object, ...]:
        return (VerifierBug, (self.kind, self.action, self.trace))
