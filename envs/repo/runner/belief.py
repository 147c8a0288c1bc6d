"""Reads what the test processes said, and decides what of it is believed."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotgym.envs.repo.runner.results import DETAIL_CHARS, Outcome, TestResult

_VIOLATION_STATUS = "exit 99"


@dataclass
class Case:
    """One test in one run.

    Attributes:
        phases: outcome by phase, as pytest reports it; the worst where a phase is reported several times.
        xfail: a failure was expected.
        detail: of the failure.
        marks: tokens of the marks that were passed.
        finished: whether the runner saw its end.
    """

    phases: dict[str, str] = field(default_factory=dict)
    xfail: bool = False
    detail: str = ""
    marks: set[str] = field(default_factory=set)
    finished: bool = False

    def outcome(self) -> Outcome:
        """All phases together."""
        if "failed" in (self.phases.get("setup"), self.phases.get("teardown")):
            return "error"
        if self.phases.get("call") == "failed":
            return "failed"
        if "skipped" in self.phases.values():
            return "skipped"
        if not self.finished or self.phases.get("call") != "passed":
            return "missing"
        return "passed"


@dataclass
class Run:
    """One test process.

    Attributes:
        twin: whether errors were planted.
        ended: how: ``exit N``, ``signal N``, ``timeout``.
        cases: by node id.
        tables: where the marks stand: file, test function, its row.
        broken: files that could not be collected, and why.
        collected: node ids in the order they run.
        violations: what it did that it may not.
        seconds: wall-clock time.
        tail: its last output.
    """

    twin: bool
    ended: str
    seconds: float
    tail: str
    cases: dict[str, Case] = field(default_factory=dict)
    tables: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    collected: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


_WORSE = {"passed": 0, "skipped": 1, "failed": 2}
_WORST: tuple[Outcome, ...] = ("passed", "skipped", "unbelieved", "failed", "error", "timeout", "missing")
"""Outcomes from good to bad: of several tests under one name, the last of these counts."""


def read(raw: Mapping[str, Any], key: str) -> Run:
    """One process's messages. A line without the right seal in the right order was written by somebody else."""
    run = Run(raw["number"] != 0, raw["ended"], float(raw["seconds"]), str(raw["tail"]))
    for number, line in enumerate(raw["lines"]):
        seal, _, text = line.partition(" ")
        right = hmac.new(key.encode(), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(seal.encode("utf-8", "replace"), right.encode()):
            run.violations.append("a report that is not the runner's")
            break
        index, message = json.loads(text)
        if index != number:
            run.violations.append("a report out of order")
            break
        _take(run, message)
    if raw["rest"] and run.ended != "timeout":
        run.violations.append("a report that is not the runner's")
    if run.ended == _VIOLATION_STATUS and not run.violations:
        run.violations.append("something that ends the process")
    run.violations += [f"System V objects left behind: {kind}" for kind in raw["left"]]
    return run


def _take(run: Run, message: dict[str, Any]) -> None:
    kind = message["kind"]
    if kind == "table":
        run.tables = message["tables"]
    elif kind == "collected":
        run.collected = list(message["names"])
    elif kind == "broken":
        run.broken[message["name"].split("::")[0]] = message["detail"]
    elif kind == "violation":
        run.violations.append(str(message["detail"]))
    elif kind in ("phase", "finished"):
        case = run.cases.setdefault(message["name"], Case())
        if kind == "finished":
            case.finished = True
            case.marks |= set(message["marks"])
            return
        before = case.phases.get(message["when"], "passed")
        case.phases[message["when"]] = max(before, message["outcome"], key=lambda name: _WORSE.get(name, 2))
        case.xfail = case.xfail or message["xfail"]
        case.detail = case.detail or message["detail"]


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
        # Its code is in no test file (a text file's doctest, a library's test class): nothing can be planted.
        return ""
    row = genuine.tables[place[0]][place[1]]
    if row["start"] not in case.marks:
        return "reported as passed, but its code did not run"
    if row["plain"] and row["ends"] and not case.marks & set(row["ends"]):
        return "reported as passed, but the end of its code was not reached"
    shown = False
    for twin in twins:
        other = twin.cases.get(_counterpart(nodeid, genuine, twin), Case())
        wrong = twin.tables.get(place[0], {}).get(place[1])
        if wrong is None:
            return "a twin has no such test"
        if other.marks & set(wrong["wrong"]):
            return "a planted error passed for right"
        outcome = other.outcome()
        if outcome == "passed" and row["plain"]:
            return "passed with planted errors too"
        shown = shown or (outcome in ("failed", "error") and wrong["start"] in other.marks)
    if not shown and row["plain"]:
        return "no twin of it ran to a planted error"
    return ""


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
