"""Rules written as text, such as `every 2 weeks from 2024-01-01 on mon,thu`."""

from datetime import date

from .rules import DailyRule, MonthlyRule, WeeklyRule, YearlyRule

KINDS = {kind.unit: kind for kind in (DailyRule, WeeklyRule, MonthlyRule, YearlyRule)}
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class RuleError(ValueError):
    """A text is no rule."""


def _day(text):
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise RuleError(f"not a date: {text!r}") from None


def _number(text):
    if not text.isdigit() or int(text) < 1:
        raise RuleError(f"not a number from 1: {text!r}")
    return int(text)


def _weekday(text):
    if text not in WEEKDAYS:
        raise RuleError(f"not a weekday: {text!r}")
    return WEEKDAYS.index(text)


CLAUSES = {
    "until": ("until", _day),
    "count": ("count", _number),
    "on": ("weekdays", lambda text: [_weekday(part) for part in text.split(",")]),
    "except": ("exceptions", lambda text: [_day(part) for part in text.split(",")]),
}


def read_rule(text):
    """Turn a text into a rule.

    Raises:
        RuleError: The text does not follow the grammar of the README.
    """
    words = text.split()
    if len(words) < 5 or words[0] != "every" or words[3] != "from":
        raise RuleError("a rule starts with: every N UNIT from DATE")
    kind = KINDS.get(words[2])
    if kind is None:
        raise RuleError(f"not a unit: {words[2]!r}")
    options = {}
    rest = words[5:]
    if len(rest) % 2:
        raise RuleError(f"{rest[-1]!r} lacks its value")
    for word, value in zip(rest[::2], rest[1::2]):
        if word not in CLAUSES:
            raise RuleError(f"not a clause: {word!r}")
        name, read = CLAUSES[word]
        if name == "weekdays" and kind is not WeeklyRule:
            raise RuleError("only week rules have weekdays")
        options[name] = read(value)
    try:
        return kind(_day(words[4]), _number(words[1]), **options)
    except RuleError:
        raise
    except ValueError as problem:
        raise RuleError(str(problem)) from None
