"""What the retrier raises itself."""


class GaveUp(Exception):
    """Every call that the policy allows has failed.

    Attributes:
        attempts: how many calls were made.
        last: the failure of the last one.
    """

    def __init__(self, attempts: int, last: BaseException) -> None:
        calls = "call" if attempts == 1 else "calls"
        super().__init__(f"gave up after {attempts} {calls}: {last}")
        self.attempts = attempts
        self.last = last
