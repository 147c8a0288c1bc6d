"""The loop that calls, pauses and calls again."""

import functools
import time
from collections.abc import Callable
from typing import Any

from retrykit.errors import GaveUp
from retrykit.policy import Policy


class Retrier:
    """Calls functions as a policy says.

    Args:
        policy: when to call again.
        sleep: pauses for some seconds.
        clock: the time in seconds; only differences matter.
        on_failure: told the number and the failure of every failed call that the policy covers.
    """

    def __init__(
        self,
        policy: Policy,
        sleep: Callable[[float], Any] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        on_failure: Callable[[int, Exception], Any] | None = None,
    ) -> None:
        self.policy = policy
        self.sleep = sleep
        self.clock = clock
        self.on_failure = on_failure

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what ``function`` returns, after as many calls as it takes.

        Raises:
            GaveUp: the last call that the policy allows has failed.
        """
        begin = self.clock()
        for attempt, pause in enumerate(self.policy.pauses(), start=1):
            try:
                return function(*args, **kwargs)
            except Exception as failure:
                if not self.policy.covers(failure):
                    raise
                self._tell(attempt, failure)
                if self.policy.spent(attempt) or self.policy.too_late(self.clock() - begin, pause):
                    raise GaveUp(attempt, failure) from failure
            self.sleep(pause)

    def map(self, function: Callable[[Any], Any], values: Any) -> list[Any]:
        """Return the results for each of ``values``; each has all attempts for itself."""
        return [self.call(function, value) for value in values]

    def _tell(self, attempt: int, failure: Exception) -> None:
        if self.on_failure is not None:
            self.on_failure(attempt, failure)


def retrying(policy: Policy, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: the function is called by ``Retrier(policy, **options)``."""
    retrier = Retrier(policy, **options)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return retrier.call(function, *args, **kwargs)

        return wrapper

    return decorate
