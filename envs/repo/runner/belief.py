"""Decides what is believed of what the test processes said."""

from __future__ import annotations

from collections.abc import Sequence

from pivotgym.envs.repo.runner.protocol import Case, Run, read
from pivotgym.envs.repo.runner.results import DETAIL_CHARS, Outcome, TestResult

__all__ = ["Case", "Run", "is_cut", "judge", "matches", "read"]

_WORST: tuple[Outcome, ...] = ("passed", "skipped", "unbelieved", "failed", "error", "timeout", "missing")
"""Outcomes from good to bad: of several tests under one name, the last of these counts."""


def is_cut(name: str) -> bool:
    """Whether a node id ends within its parameters, as the names of data sets do that were cut at the first space."""
    test = name.partition("::")[2]
    return test.count("[") > test.count("]")


def matches(name: str, collected: Sequence[str]) -> list[str]:
    """The node ids a name stands for: itself, the cases of a parametrized test, what is in a file or a class.

    A name cut at a space (``test_x.py::test_y[log(photon``) stands for what goes on with one
    (``test_x.py::test_y[log(photon flux)]``) and nothing else.
    """
    if name in collected:
        return [name]
    heads = (f"{name} ",) if is_cut(name) else (f"{name}::", f"{name}[")
    return [nodeid for nodeid in collected if nodeid.startswith(heads)]


def judge(name: str, genuine: Run, twins: Sequence[Run], *, untrusted: bool = False) -> TestResult:
    """What is believed of one name.

    Args:
        name: as it was asked for.
        genuine: the run without planted errors.
        twins: those with.
        untrusted: the test's own file is the agent's.
    """
    path = name.split("::")[0]
    ids = matches(name, genuine.collected)
    if not ids:
        if path in genuine.broken:
            return _result(name, "error", genuine.broken[path])
        outcome: Outcome = "timeout" if genuine.ended == "timeout" else "missing"
        return _result(name, outcome, f"not collected; the process ended with {genuine.ended}\n{genuine.tail[-300:]}")
    worst = _result(name, "passed", "")
    for nodeid in ids:
        result = _judge_one(nodeid, genuine, twins, untrusted)
        if _WORST.index(result.outcome) > _WORST.index(worst.outcome):
            worst = _result(name, result.outcome, result.detail if nodeid == name else f"{nodeid}: {result.detail}")
    return worst


def _judge_one(nodeid: str, genuine: Run, twins: Sequence[Run], untrusted: bool) -> TestResult:
    case = genuine.cases.get(nodeid, Case())
    outcome = case.outcome()
    place = _place(nodeid, genuine, case.marks)
    row = genuine.tables[place[0]][place[1]] if place else None
    if outcome == "skipped" and case.xfail and row and row["xfail"]:
        return _result(nodeid, "passed", "")
    if outcome == "missing":
        if genuine.ended == "timeout":
            return _result(nodeid, "timeout", "the time was over")
        return _result(nodeid, "missing", f"the process ended with {genuine.ended}\n{genuine.tail[-300:]}")
    if outcome != "passed":
        return _result(nodeid, outcome, case.detail)
    doubt = _doubt(nodeid, case, genuine, place, twins)
    if untrusted and not doubt:
        doubt = "its file is not the original one"
    return _result(nodeid, "unbelieved", doubt) if doubt else _result(nodeid, "passed", "")


def _doubt(nodeid: str, case: Case, genuine: Run, place: tuple[str, str] | None, twins: Sequence[Run]) -> str:
    """Why a reported pass is not believed; empty where it is."""
    if not twins:
        return "no twin ran"
    if place is None:
        # Of a test in no hidden file (a text file's doctest) nothing is known, and nothing can be planted.
        return "reported as passed, but no code of its file ran" if nodeid.split("::")[0] in genuine.tables else ""
    row = genuine.tables[place[0]][place[1]]
    if row["start"] not in case.marks:
        return "reported as passed, but its code did not run"
    begun = case.order.index(row["start"])
    if case.marks & set(row["before"]):
        return "an assertion failed, and its failure went nowhere"
    if row["ends"] and not set(case.order[begun:]) & set(row["ends"]):
        if row["plain"]:
            return "reported as passed, but the end of its code was not reached"
        if set(row["must"]) - case.marks:
            return "reported as passed, but not every assertion was reached"
    if case.marks & _odd(genuine):
        return "a value claims to equal others too"
    shown = False
    for twin in twins:
        other = twin.cases.get(_counterpart(nodeid, genuine, twin), Case())
        wrong = twin.tables.get(place[0], {}).get(place[1])
        if wrong is None:
            return "a twin has no such test"
        if other.marks & set(wrong["wrong"]):
            return "a planted error passed for right"
        if other.marks & _odd(twin):
            return "a value claims to equal others too"
        outcome = other.outcome()
        if outcome == "passed" and row["plain"]:
            return "passed with planted errors too"
        shown = shown or (outcome in ("failed", "error") and wrong["start"] in other.marks)
    if not shown and row["plain"]:
        return "no twin of it ran to a planted error"
    return ""


def _odd(run: Run) -> set[str]:
    """The marks that say of a value that it claims to equal others too."""
    return {mark for table in run.tables.values() for row in table.values() for mark in row["odd"]}


def _counterpart(nodeid: str, genuine: Run, twin: Run) -> str:
    """The same test in a twin. Names made of a time or an address differ; then the place in the order tells."""
    if nodeid in twin.collected or len(genuine.collected) != len(twin.collected):
        return nodeid
    other = twin.collected[genuine.collected.index(nodeid)]
    return other if other.partition("[")[0] == nodeid.partition("[")[0] else nodeid


def _place(nodeid: str, run: Run, marks: set[str]) -> tuple[str, str] | None:
    """File and name of the function behind a node id, None where no test file holds it.

    A method that a class inherits and a test that a decorator has made stand under another name: the marks they passed
    tell which they are.
    """
    path, *names = nodeid.split("::")
    if not names:
        return None
    names[-1] = names[-1].split("[")[0]
    if ".".join(names) in run.tables.get(path, {}):
        return path, ".".join(names)
    for other, table in run.tables.items():
        for known, row in table.items():
            if row["start"] in marks:
                return other, known
    return None


def _result(name: str, outcome: Outcome, detail: str) -> TestResult:
    return TestResult(name, outcome, detail[:DETAIL_CHARS])
