import unittest

from retrykit import Constant, Exponential, GaveUp, Policy, Retrier, Schedule, retrying


class Trial:
    """A retrier with a clock that only sleeping moves, and a job that fails ``failures`` times."""

    def __init__(self, failures, **policy):
        self.now, self.slept, self.heard, self.calls, self.failures = 0.0, [], [], 0, failures
        self.policy = Policy(**policy)
        self.options = {
            "sleep": self.sleep,
            "clock": lambda: self.now,
            "on_failure": lambda n, failure: self.heard.append((n, str(failure))),
        }
        self.retrier = Retrier(self.policy, **self.options)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def job(self, value="done"):
        self.calls += 1
        if self.calls <= self.failures:
            raise ValueError(f"failure {self.calls}")
        return value


class GivingUpTest(unittest.TestCase):
    def test_gives_up_after_the_last_call(self):
        trial = Trial(9, attempts=3, backoff=Constant(5))
        with self.assertRaises(GaveUp) as caught:
            trial.retrier.call(trial.job)
        self.assertEqual((trial.calls, caught.exception.attempts), (3, 3))
        self.assertEqual(str(caught.exception), "gave up after 3 calls: failure 3")

    def test_no_pause_after_the_last_call(self):
        trial = Trial(9, attempts=4, backoff=Exponential(1))
        with self.assertRaises(GaveUp):
            trial.retrier.call(trial.job)
        self.assertEqual(trial.slept, [1, 2, 4])

    def test_the_last_failure_is_kept(self):
        trial = Trial(9, attempts=2)
        with self.assertRaises(GaveUp) as caught:
            trial.retrier.call(trial.job)
        self.assertEqual(str(caught.exception.last), "failure 2")
        self.assertIs(caught.exception.__cause__, caught.exception.last)

    def test_single_attempt(self):
        trial = Trial(1, attempts=1, backoff=Constant(3))
        with self.assertRaises(GaveUp) as caught:
            trial.retrier.call(trial.job)
        self.assertEqual((trial.calls, trial.slept, caught.exception.attempts), (1, [], 1))

    def test_success_on_the_last_call(self):
        trial = Trial(2, attempts=3, backoff=Schedule(1, 7))
        self.assertEqual(trial.retrier.call(trial.job, "value"), "value")
        self.assertEqual((trial.calls, trial.slept), (3, [1, 7]))

    def test_attempts_are_told_from_one(self):
        trial = Trial(2, attempts=5)
        trial.retrier.call(trial.job)
        self.assertEqual(trial.heard, [(1, "failure 1"), (2, "failure 2")])

    def test_the_last_failure_is_told(self):
        trial = Trial(9, attempts=2)
        with self.assertRaises(GaveUp):
            trial.retrier.call(trial.job)
        self.assertEqual(trial.heard, [(1, "failure 1"), (2, "failure 2")])

    def test_attempts_when_time_runs_out(self):
        trial = Trial(9, attempts=9, backoff=Constant(4), limit=10)
        with self.assertRaises(GaveUp) as caught:
            trial.retrier.call(trial.job)
        self.assertEqual((caught.exception.attempts, trial.calls, trial.slept), (3, 3, [4, 4]))

    def test_pause_that_ends_at_the_limit(self):
        trial = Trial(2, attempts=9, backoff=Constant(4), limit=8)
        self.assertEqual(trial.retrier.call(trial.job), "done")
        self.assertEqual(trial.slept, [4, 4])

    def test_failures_of_other_types(self):
        trial = Trial(1, attempts=3, only=(KeyError,))
        with self.assertRaises(ValueError):
            trial.retrier.call(trial.job)
        self.assertEqual((trial.calls, trial.heard), (1, []))

    def test_none_is_a_result(self):
        trial = Trial(1, attempts=2)
        self.assertIsNone(trial.retrier.call(trial.job, None))
        self.assertEqual(trial.calls, 2)

    def test_decorated_function_gives_up(self):
        trial = Trial(9, attempts=2)
        with self.assertRaises(GaveUp) as caught:
            retrying(trial.policy, **trial.options)(trial.job)()
        self.assertEqual((trial.calls, caught.exception.attempts), (2, 2))

    def test_each_value_has_all_attempts(self):
        trial = Trial(2, attempts=3)
        self.assertEqual(trial.retrier.map(trial.job, ["a", "b"]), ["a", "b"])
        self.assertEqual(trial.calls, 4)


if __name__ == "__main__":
    unittest.main()
