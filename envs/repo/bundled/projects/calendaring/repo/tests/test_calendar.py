import unittest
from datetime import date

from calendaring import Diary, MonthlyRule, RuleError, read_rule
from calendaring.months import add_months, month_length


def days(text, limit=10):
    found = []
    for day in read_rule(text).occurrences():
        if len(found) == limit:
            break
        found.append(str(day))
    return found


class MonthTest(unittest.TestCase):
    def test_length(self):
        self.assertEqual([month_length(2024, 2), month_length(2023, 2)], [29, 28])

    def test_short_month_takes_its_last_day(self):
        self.assertEqual(add_months(date(2024, 1, 31), 1), date(2024, 2, 29))
        self.assertEqual(add_months(date(2024, 12, 31), 2), date(2025, 2, 28))


class RuleTest(unittest.TestCase):
    def test_days(self):
        self.assertEqual(days("every 10 days from 2024-02-20 count 3"), ["2024-02-20", "2024-03-01", "2024-03-11"])

    def test_weeks_with_weekdays(self):
        self.assertEqual(
            days("every 2 weeks from 2024-01-03 on mon,wed count 4"),
            ["2024-01-03", "2024-01-15", "2024-01-17", "2024-01-29"],
        )

    def test_months(self):
        self.assertEqual(
            days("every 2 months from 2024-11-15 until 2025-05-15"),
            ["2024-11-15", "2025-01-15", "2025-03-15", "2025-05-15"],
        )

    def test_month_end(self):
        self.assertEqual(days("every 1 months from 2024-01-31 count 2"), ["2024-01-31", "2024-02-29"])

    def test_years(self):
        self.assertEqual(days("every 5 years from 2020-03-01 count 2"), ["2020-03-01", "2025-03-01"])

    def test_exceptions_count(self):
        self.assertEqual(days("every 1 days from 2024-01-01 count 3 except 2024-01-02"), ["2024-01-01", "2024-01-03"])

    def test_next_after(self):
        rule = MonthlyRule(date(2024, 1, 5), until=date(2024, 2, 5))
        self.assertEqual(rule.next_after(date(2024, 1, 5)), date(2024, 2, 5))
        self.assertIsNone(rule.next_after(date(2024, 2, 5)))


class ReaderTest(unittest.TestCase):
    def test_errors(self):
        for text in ("", "every 0 days from 2024-01-01", "every 1 moons from 2024-01-01", "every 1 days from today"):
            with self.assertRaises(RuleError):
                read_rule(text)

    def test_two_ends(self):
        with self.assertRaises(RuleError):
            read_rule("every 1 days from 2024-01-01 until 2024-02-01 count 3")


class DiaryTest(unittest.TestCase):
    def test_agenda(self):
        diary = Diary()
        diary.add("rent", "every 1 months from 2024-01-01")
        diary.add("bins", "every 2 weeks from 2024-01-04")
        self.assertEqual(
            diary.agenda(date(2024, 1, 15), date(2024, 2, 1)),
            [(date(2024, 1, 18), "bins"), (date(2024, 2, 1), "bins"), (date(2024, 2, 1), "rent")],
        )
        self.assertEqual(diary.on(date(2024, 2, 1)), ["bins", "rent"])
