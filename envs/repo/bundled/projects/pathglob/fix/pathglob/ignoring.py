"""Many rules together."""

from __future__ import annotations

from collections.abc import Iterable

from .rules import Rule, read_rules


class SkipRules:
    """The rules that hold in a directory."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = list(rules)

    @classmethod
    def from_text(cls, text: str, base: str = "") -> SkipRules:
        return cls(read_rules(text, base))

    def __len__(self) -> int:
        return len(self.rules)

    def deciding(self, path: str, directory: bool = False) -> Rule | None:
        """The rule that decides about a path (the last that matches), or None."""
        decided = None
        for rule in self.rules:
            if rule.matches(path, directory):
                decided = rule
        return decided

    def skips(self, path: str, directory: bool = False) -> bool:
        """Whether a path is left out."""
        rule = self.deciding(path, directory)
        return rule is not None and not rule.negated
