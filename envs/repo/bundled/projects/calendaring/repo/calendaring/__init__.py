"""Recurring dates."""

from .diary import Diary
from .reader import RuleError, read_rule
from .rules import DailyRule, MonthlyRule, Recurrence, WeeklyRule, YearlyRule

__all__ = [
    "DailyRule",
    "Diary",
    "MonthlyRule",
    "Recurrence",
    "RuleError",
    "WeeklyRule",
    "YearlyRule",
    "read_rule",
]
