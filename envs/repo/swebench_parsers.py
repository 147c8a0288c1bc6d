"""Logs of the runners that projects in SWE-bench have of their own, and the ``swebench`` package's parsers by name.

Django's and SymPy's are read here, so that those need no other package.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pivotgym.envs.errors import MissingExtra
from pivotgym.envs.repo.log_parsers import LogParser, register_log_parser
from pivotgym.envs.repo.swebench_specs import swebench_parser, swebench_parsers

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DJANGO = re.compile(r"(?P<name>\S.*?) \.\.\. (?P<rest>.*)")
_VERDICT = re.compile(r"(?P<word>ok|OK|FAIL|ERROR|skipped|expected failure|unexpected success)(?P<more>\b.*)?")
_LATER = re.compile(r"(FAIL|ERROR): (?P<name>\w+ \([\w.]+\))(?: .*)?")
_DJANGO_OUTCOMES = {
    "ok": "passed",
    "OK": "passed",
    "FAIL": "failed",
    "ERROR": "error",
    "skipped": "skipped",
    "expected failure": "xfailed",
    "unexpected success": "failed",
}
_SYMPY = re.compile(r"(?P<name>test_\w+) (?P<word>ok|F|E|f|s|X)(?: .*)?")
_SYMPY_TITLE = re.compile(r"_{3,} \S*?:(?P<name>test_\w+) _{3,}")
_SYMPY_OUTCOMES = {"ok": "passed", "F": "failed", "E": "error", "f": "xfailed", "X": "xpassed", "s": "skipped"}
_PACKAGE = {"PASSED": "passed", "FAILED": "failed", "ERROR": "error", "SKIPPED": "skipped", "XFAIL": "xfailed"}
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
        if later is not None:
            _worse(found, later["name"], _DJANGO_OUTCOMES[later[1]])
            waiting = None
            continue
        match = _DJANGO.fullmatch(line)
        rest = line if match is None else match["rest"].strip()
        if match is not None:
            waiting = match["name"]
        verdict = _VERDICT.fullmatch(rest)
        if waiting is not None and verdict is not None and (match is not None or verdict["word"] != "OK"):
            _worse(found, waiting, _DJANGO_OUTCOMES[verdict["word"]])
            waiting = None
    return found


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


def _of_package(name: str) -> LogParser:
    parse: Callable[[str], dict[str, str]] = swebench_parser(name)

    def read(log: str) -> dict[str, str]:
        return {test: _PACKAGE.get(status, "error") for test, status in parse(log).items()}

    return read


def _register() -> None:
    try:
        names = swebench_parsers()
    except MissingExtra:
        names = []
    for name in names:
        register_log_parser(name, _of_package(name))
    register_log_parser("parse_log_django", parse_django)
    register_log_parser("parse_log_sympy", parse_sympy)


_register()
