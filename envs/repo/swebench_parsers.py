"""Logs of the runners that Django and SymPy have of their own, so that SWE-bench's rows need no other package."""

from __future__ import annotations

import re

from pivotgym.envs.repo.log_parsers import register_log_parser

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DOTS = " ... "
_LATER = re.compile(r"(FAIL|ERROR): (?P<name>\w+ \([\w.]+\))(?: .*)?")
_DJANGO_OUTCOMES = {
    "ok": "passed",
    "FAIL": "failed",
    "ERROR": "error",
    "skipped": "skipped",
    "expected failure": "xfailed",
    "unexpected success": "failed",
}
_SYMPY = re.compile(r"(?P<name>test_\w+) (?P<word>ok|F|E|f|s|X)(?: .*)?")
_SYMPY_TITLE = re.compile(r"_{3,} \S*?:(?P<name>test_\w+) _{3,}")
_SYMPY_OUTCOMES = {"ok": "passed", "F": "failed", "E": "error", "f": "xfailed", "X": "xpassed", "s": "skipped"}
_WORSE = ("passed", "xpassed", "xfailed", "skipped", "failed", "error")


def parse_django(log: str) -> dict[str, str]:
    """``tests/runtests.py --verbosity 2``: a test's name, or the first line of its description, and its outcome.

    What a test prints may stand between the dots and the outcome, which then begins a later line. Of two outcomes of
    one name the worse one counts; tests with the same description share a name.
    """
    found: dict[str, str] = {}
    waiting = None
    for line in _COLOURS.sub("", log).splitlines():
        later = _LATER.fullmatch(line)
        name, outcome = _django_line(line)
        if later is not None:
            _worse(found, later["name"], _DJANGO_OUTCOMES[later[1]])
            waiting = None
        elif name and outcome:
            _worse(found, name, outcome)
            waiting = None
        elif name:
            waiting = name
        elif waiting is not None and outcome:
            _worse(found, waiting, outcome)
            waiting = None
    return found


def _django_line(line: str) -> tuple[str, str]:
    """The name that a line begins with, and the outcome that it ends with; either may be empty."""
    parts = line.split(_DOTS)
    for at in range(len(parts)):
        outcome = _outcome(_DOTS.join(parts[at:]).strip())
        if outcome:
            return _DOTS.join(parts[:at]), outcome
    return (parts[0], "") if len(parts) > 1 else ("", "")


def _outcome(text: str) -> str:
    return "skipped" if text.startswith("skipped ") else _DJANGO_OUTCOMES.get(text, "")


def parse_sympy(log: str) -> dict[str, str]:
    """``bin/test --verbose``: a line per test, then a title for each that failed."""
    found: dict[str, str] = {}
    for line in _COLOURS.sub("", log).splitlines():
        match = _SYMPY.fullmatch(line.strip())
        if match is not None:
            _worse(found, match["name"], _SYMPY_OUTCOMES[match["word"]])
            continue
        title = _SYMPY_TITLE.fullmatch(line.strip())
        if title is not None:
            _worse(found, title["name"], "failed")
    return found


def _worse(found: dict[str, str], name: str, outcome: str) -> None:
    found[name] = max(found.get(name, outcome), outcome, key=_WORSE.index)


def register() -> None:
    """Makes them known under the names that the ``swebench`` package has for its own (``parse_log_django``)."""
    register_log_parser("parse_log_django", parse_django)
    register_log_parser("parse_log_sympy", parse_sympy)
