from datetime import date
from itertools import islice

from calendaring import Diary, MonthlyRule, WeeklyRule, YearlyRule, read_rule


def first_days(rule, number):
    return [day.isoformat() for day in islice(rule.occurrences(), number)]


def test_the_31st_comes_back_after_february():
    assert first_days(MonthlyRule(date(2024, 1, 31)), 6) == [
        "2024-01-31",
        "2024-02-29",
        "2024-03-31",
        "2024-04-30",
        "2024-05-31",
        "2024-06-30",
    ]


def test_the_30th_comes_back_after_february():
    rule = read_rule("every 1 months from 2022-12-30 until 2023-04-30")
    assert first_days(rule, 9) == ["2022-12-30", "2023-01-30", "2023-02-28", "2023-03-30", "2023-04-30"]


def test_months_with_an_interval():
    rule = read_rule("every 3 months from 2023-08-31 count 5")
    assert first_days(rule, 9) == ["2023-08-31", "2023-11-30", "2024-02-29", "2024-05-31", "2024-08-31"]


def test_leap_day_comes_back_every_fourth_year():
    rule = YearlyRule(date(2020, 2, 29))
    assert first_days(rule, 5) == ["2020-02-29", "2021-02-28", "2022-02-28", "2023-02-28", "2024-02-29"]


def test_leap_day_with_an_interval():
    rule = read_rule("every 2 years from 2096-02-29 count 5")
    assert first_days(rule, 9) == ["2096-02-29", "2098-02-28", "2100-02-28", "2102-02-28", "2104-02-29"]


def test_days_that_every_month_has():
    assert first_days(MonthlyRule(date(2024, 11, 28), 1), 4) == ["2024-11-28", "2024-12-28", "2025-01-28", "2025-02-28"]


def test_exceptions_do_not_move_the_others():
    rule = read_rule("every 1 months from 2024-01-31 count 4 except 2024-01-31,2024-02-29")
    assert first_days(rule, 9) == ["2024-03-31", "2024-04-30"]


def test_count_is_before_exceptions_for_months():
    rule = read_rule("every 1 months from 2024-01-10 count 3 except 2024-02-10")
    assert first_days(rule, 9) == ["2024-01-10", "2024-03-10"]


def test_asking_twice_gives_the_same():
    rule = MonthlyRule(date(2024, 5, 31), count=3)
    assert first_days(rule, 9) == ["2024-05-31", "2024-06-30", "2024-07-31"]
    assert first_days(rule, 9) == ["2024-05-31", "2024-06-30", "2024-07-31"]


def test_next_after_and_between():
    rule = MonthlyRule(date(2023, 10, 31))
    assert rule.next_after(date(2024, 2, 29)) == date(2024, 3, 31)
    assert rule.between(date(2024, 4, 1), date(2024, 5, 30)) == [date(2024, 4, 30)]


def test_endless_rules_stop_at_the_end_of_the_calendar():
    assert first_days(MonthlyRule(date(9999, 10, 31)), 9) == ["9999-10-31", "9999-11-30", "9999-12-31"]
    assert first_days(YearlyRule(date(9998, 5, 5)), 9) == ["9998-05-05", "9999-05-05"]
    assert first_days(WeeklyRule(date(9999, 12, 20)), 9) == ["9999-12-20", "9999-12-27"]


def test_weeks_start_at_the_anchor():
    rule = WeeklyRule(date(2024, 1, 3), every=2, weekdays=[4, 0], count=4)
    assert first_days(rule, 9) == ["2024-01-05", "2024-01-15", "2024-01-19", "2024-01-29"]


def test_diary_at_the_month_end():
    diary = Diary()
    diary.add("invoices", "every 1 months from 2024-01-31")
    diary.add("audit", "every 1 years from 2020-02-29")
    assert diary.on(date(2024, 3, 31)) == ["invoices"]
    assert diary.on(date(2024, 2, 29)) == ["audit", "invoices"]
    assert diary.agenda(date(2024, 3, 1), date(2024, 3, 30)) == []
