"""When to call again."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from retrykit.backoff import Backoff, Constant


@dataclass(frozen=True)
class Policy:
    """How often, how long and for which failures.

    Attributes:
        attempts: the greatest number of calls, the first one included.
        backoff: the pauses between them.
        only: the types of failure after which to call again.
        limit: seconds since the first call; None for no limit.
    """

    attempts: int = 3
    backoff: Backoff = field(default_factory=lambda: Constant(0.0))
    only: tuple[type[Exception], ...] = (Exception,)
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, not {self.attempts}")
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit must not be negative: {self.limit}")

    def pauses(self) -> Iterator[float]:
        """Yield the pause after each call, for the last one as well (it shows what would come next)."""
        for failed in range(1, self.attempts + 1):
            yield self.backoff.seconds(failed)

    def covers(self, failure: BaseException) -> bool:
        """Whether to call again after ``failure``."""
        return isinstance(failure, self.only)

    def spent(self, made: int) -> bool:
        """Whether no call is left after ``made`` calls."""
        return made >= self.attempts

    def too_late(self, elapsed: float, pause: float) -> bool:
        """Whether a pause that begins ``elapsed`` seconds after the first call would end too late."""
        return self.limit is not None and elapsed + pause > self.limit
