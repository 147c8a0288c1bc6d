import unittest

from retrykit import Constant, Exponential, GaveUp, Policy, Retrier, retrying
from tests.fakes import FakeTime, Flaky


class RetrierTest(unittest.TestCase):
    def setUp(self):
        self.time = FakeTime()

    def retrier(self, **policy):
        return Retrier(Policy(**policy), sleep=self.time.sleep, clock=self.time.clock)

    def test_no_failure(self):
        self.assertEqual(self.retrier().call(Flaky(), 7), 7)
        self.assertEqual(self.time.slept, [])

    def test_second_call_succeeds(self):
        job = Flaky(ValueError("once"))
        self.assertEqual(self.retrier(backoff=Constant(2)).call(job), "done")
        self.assertEqual((job.calls, self.time.slept), (2, [2]))

    def test_pauses_grow(self):
        job = Flaky(ValueError("1"), ValueError("2"), ValueError("3"))
        self.assertEqual(self.retrier(attempts=5, backoff=Exponential(0.5)).call(job), "done")
        self.assertEqual(self.time.slept, [0.5, 1.0, 2.0])

    def test_other_failures_are_raised(self):
        job = Flaky(KeyError("x"))
        with self.assertRaises(KeyError):
            self.retrier(only=(ValueError,)).call(job)
        self.assertEqual(job.calls, 1)

    def test_limit(self):
        job = Flaky(*[ValueError("slow")] * 9)
        with self.assertRaises(GaveUp):
            self.retrier(attempts=9, backoff=Constant(4), limit=10).call(job)
        self.assertEqual((job.calls, self.time.slept), (3, [4, 4]))

    def test_gives_up(self):
        job = Flaky(*[ValueError("down")] * 9)
        with self.assertRaises(GaveUp) as caught:
            self.retrier(attempts=3, backoff=Constant(5)).call(job)
        self.assertEqual((job.calls, self.time.slept, caught.exception.attempts), (3, [5, 5], 3))

    def test_map(self):
        job = Flaky(ValueError("once"))
        self.assertEqual(self.retrier().map(job, [1, 2]), [1, 2])

    def test_decorator(self):
        @retrying(Policy(), sleep=self.time.sleep, clock=self.time.clock)
        def double(value):
            """Twice the value."""
            return 2 * value

        self.assertEqual((double(4), double.__doc__), (8, "Twice the value."))


if __name__ == "__main__":
    unittest.main()
