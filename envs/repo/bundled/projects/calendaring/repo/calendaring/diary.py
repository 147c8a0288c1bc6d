"""Named rules, asked together."""

from .reader import read_rule


class Diary:
    """A set of named rules."""

    def __init__(self):
        self._rules = {}

    def add(self, name, rule):
        """Add a rule, or the text of one, under a new name."""
        if name in self._rules:
            raise KeyError(f"{name!r} is in the diary already")
        self._rules[name] = read_rule(rule) if isinstance(rule, str) else rule

    def on(self, day):
        """The names of what falls on a day, in alphabetical order."""
        return sorted(name for name, rule in self._rules.items() if rule.between(day, day))

    def agenda(self, start, end):
        """Pairs of day and name from `start` to `end`, both included, in order."""
        found = [(day, name) for name, rule in self._rules.items() for day in rule.between(start, end)]
        return sorted(found)
