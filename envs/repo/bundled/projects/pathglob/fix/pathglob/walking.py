"""Walking over a directory with its rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .ignoring import SkipRules
from .rules import read_rules

RULE_FILE = ".skiprules"


def _entered(directory: Path, base: str, above: SkipRules) -> SkipRules:
    """The rules that hold in a directory, given those above it."""
    file = directory / RULE_FILE
    if not file.is_file():
        return above
    own = read_rules(file.read_text(encoding="utf-8"), base)
    return SkipRules(above.rules + own)


def _walk(directory: Path, base: str, above: SkipRules) -> Iterator[str]:
    rules = _entered(directory, base, above)
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        path = f"{base}/{entry.name}" if base else entry.name
        if entry.is_dir():
            if not rules.skips(path, directory=True):
                yield from _walk(entry, path, rules)
        elif not rules.skips(path):
            yield path


def kept_files(top: Path) -> list[str]:
    """The files under `top` that no rule leaves out, as paths relative to it, in order."""
    return list(_walk(Path(top), "", SkipRules()))


def rules_for(top: Path, path: str) -> SkipRules:
    """The rules that hold for a path: those of all directories down to its own."""
    rules = SkipRules()
    base = ""
    for name in path.split("/"):
        rules = _entered(Path(top) / base, base, rules)
        base = f"{base}/{name}" if base else name
    return rules
