"""Logs of test runs: from a command's output to the outcome of each test."""

from __future__ import annotations

import re
from collections.abc import Callable

LogParser = Callable[[str], dict[str, str]]
"""From a log to the outcome (``passed``, ``failed``, ``error``, ``skipped``, ``xfailed``, ``xpassed``) by the test's
name."""

_PARSERS: dict[str, LogParser] = {}
_ORDER = ("passed", "xpassed", "xfailed", "skipped", "failed", "error")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_HEADER = re.compile(r"=+ short test summary info =+")
_LINE = re.compile(r"(PASSED|FAILED|ERROR|XFAIL|XPASS) (.+)")
_OUTCOMES = {"PASSED": "passed", "FAILED": "failed", "ERROR": "error", "XFAIL": "xfailed", "XPASS": "xpassed"}
"""Words of logs, which are also the ``swebench`` package's; others mean themselves."""


def register_log_parser(name: str, parser: LogParser) -> None:
    """Makes a parser known under a name (``Tests.parser``)."""
    _PARSERS[name] = parser


def get_log_parser(name: str) -> LogParser:
    """The parser of that name; one that is not registered is looked for in the ``swebench`` package.

    Raises:
        BadInput: an unknown name.
        MissingExtra: the ``swebench`` package may know it, and is not installed.
    """
    if name in _PARSERS:
        return _PARSERS[name]
    from pivotgym.envs.repo.swebench_specs import swebench_parser  # it may import a large package

    parse = swebench_parser(name)

    def read(log: str) -> dict[str, str]:
        return {test: _OUTCOMES.get(status, str(status).lower()) for test, status in parse(log).items()}

    return read


def parse_pytest(log: str) -> dict[str, str]:
    """The short summary that ``pytest -rA`` prints last. Of two outcomes of one test the worse one counts."""
    lines = [_COLOURS.sub("", line).rstrip("\r") for line in log.split("\n")]
    starts = [number for number, line in enumerate(lines) if _HEADER.fullmatch(line)]
    found: dict[str, str] = {}
    for line in lines[starts[-1] :] if starts else ():
        match = _LINE.fullmatch(line)
        if match is not None:
            name, outcome = _node(match[2]), _OUTCOMES[match[1]]
            found[name] = max(found.get(name, outcome), outcome, key=_ORDER.index)
    return found


def _node(text: str) -> str:
    """The node id that stands before a message. Parameters of a test, in brackets, may hold the separator too."""
    at = text.find(" - ")
    while at >= 0 and text.count("[", 0, at) > text.count("]", 0, at):
        at = text.find(" - ", at + 1)
    return text if at < 0 else text[:at]


register_log_parser("pytest", parse_pytest)
