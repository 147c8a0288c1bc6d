import unittest

from retrykit import Constant, Exponential, GaveUp, Policy, Schedule


class PolicyTest(unittest.TestCase):
    def test_schedule(self):
        schedule = Schedule(1, 5)
        self.assertEqual([schedule.seconds(n) for n in (1, 2, 3)], [1, 5, 5])

    def test_cap(self):
        backoff = Exponential(1, factor=3).capped(10)
        self.assertEqual([backoff.seconds(n) for n in (1, 2, 3, 4)], [1, 3, 9, 10])

    def test_pauses(self):
        self.assertEqual(list(Policy(attempts=2, backoff=Constant(1.5)).pauses()), [1.5, 1.5])

    def test_spent(self):
        policy = Policy(attempts=2)
        self.assertEqual([policy.spent(made) for made in (1, 2)], [False, True])

    def test_bad_values(self):
        with self.assertRaises(ValueError):
            Policy(attempts=0)
        with self.assertRaises(ValueError):
            Policy(limit=-1)

    def test_message(self):
        self.assertEqual(str(GaveUp(1, ValueError("no"))), "gave up after 1 call: no")


if __name__ == "__main__":
    unittest.main()
