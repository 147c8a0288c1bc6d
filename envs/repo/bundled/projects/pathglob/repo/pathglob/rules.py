"""Single rules, and files of them."""

from __future__ import annotations

from dataclasses import dataclass

from .patterns import compile_glob


@dataclass(frozen=True)
class Rule:
    """One line of a rule file.

    Attributes:
        text: The line as written.
        base: The directory of the file, relative to the top; empty at the top itself.
        glob: The pattern for paths below `base`.
        negated: Whether the rule takes paths back in.
        directories: Whether it is for directories only.
    """

    text: str
    base: str
    glob: str
    negated: bool
    directories: bool

    def matches(self, path: str, directory: bool = False) -> bool:
        """Whether the rule is about a path (relative to the top)."""
        if self.directories and not directory:
            return False
        if self.base:
            if not path.startswith(self.base + "/"):
                return False
            path = path[len(self.base) + 1 :]
        return compile_glob(self.glob).fullmatch(path) is not None


def read_rule(line: str, base: str = "") -> Rule | None:
    """The rule of a line, or None where it says nothing."""
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    pattern = text[1:] if negated else text
    directories = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    glob = pattern.lstrip("/") if "/" in pattern else f"**/{pattern}"
    compile_glob(glob)
    return Rule(text, base, glob, negated, directories)


def read_rules(text: str, base: str = "") -> list[Rule]:
    """The rules of a file in order."""
    found = (read_rule(line, base) for line in text.splitlines())
    return [rule for rule in found if rule is not None]
