"""Stand-ins for the clock and for something that fails."""


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0
        self.slept = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class Flaky:
    """Fails with the given failures, then returns its argument."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.calls = 0

    def __call__(self, value="done"):
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return value
