"""Reads what a test process said. Anything but the one right order of well-formed messages is a violation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pivotgym.envs.repo.runner.results import Outcome

_VIOLATION_STATUS = "exit 99"


@dataclass
class Case:
    """One test in one run.

    Attributes:
        phases: outcome by phase, as pytest reports it; the worst where a phase is reported several times.
        xfail: a failure was expected.
        detail: of the failure.
        marks: tokens of the marks that were passed.
        order: the same, as they came.
        finished: whether the runner saw its end.
    """

    phases: dict[str, str] = field(default_factory=dict)
    xfail: bool = False
    detail: str = ""
    marks: set[str] = field(default_factory=set)
    order: list[str] = field(default_factory=list)
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
        status: what pytest ended with, None where it did not come to its end.
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
    status: int | None = None


_WORSE = {"passed": 0, "skipped": 1, "failed": 2}


_SHAPES: dict[str, dict[str, type]] = {
    "collected": {"names": list},
    "broken": {"name": str, "detail": str},
    "start": {"name": str},
    "phase": {"name": str, "when": str, "outcome": str, "xfail": bool, "detail": str, "marks": list},
    "finished": {"name": str, "marks": list},
    "violation": {"detail": str},
    "session": {"status": int},
    "done": {"status": int},
}
_WHEN = ("setup", "call", "teardown")


class Disorder(Exception):
    """A message that the runner would not have sent."""


def read(raw: Mapping[str, Any]) -> Run:
    """One process's messages, whose seals and numbers the supervisor has checked."""
    run = Run(raw["number"] != 0, raw["ended"], float(raw["seconds"]), str(raw["tail"]), tables=raw["tables"])
    reader = _Reader(run)
    try:
        for line in raw["lines"]:
            reader.take(_message(line))
        reader.end()
    except Disorder as error:
        run.violations.append(f"a report that is not the runner's: {error}")
    if raw["foreign"]:
        run.violations.append(raw["foreign"])
    elif raw["rest"] and run.ended != "timeout":
        run.violations.append("a report that is not the runner's")
    if run.ended == _VIOLATION_STATUS and not run.violations:
        run.violations.append("something that ends the process")
    run.violations += [f"System V objects left behind: {kind}" for kind in raw["left"]]
    return run


def _message(line: str) -> dict[str, Any]:
    try:
        parts = json.loads(line.partition(" ")[2])
    except (ValueError, RecursionError):
        raise Disorder("no message") from None
    message = parts[1] if isinstance(parts, list) and len(parts) == 2 else None
    shape = _SHAPES.get(str(message.get("kind"))) if isinstance(message, dict) else None
    if not isinstance(message, dict) or shape is None or message.keys() != {"kind", *shape}:
        raise Disorder("no message")
    for key, kind in shape.items():
        value = message[key]
        if type(value) is not kind or (kind is list and not all(type(item) is str for item in message[key])):
            raise Disorder(f"{message['kind']} with a wrong {key}")
    return message


class _Reader:
    """Takes the messages of one process in the one order there is."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.left: dict[str, int] | None = None
        self.item = ""
        self.last = ""
        self.again = False
        self.rows = {row["start"]: (path, name) for path, table in run.tables.items() for name, row in table.items()}
        self.known: set[str] = set(self.rows)
        for table in run.tables.values():
            for row in table.values():
                for kind in ("ends", "wrong", "right", "before", "odd"):
                    self.known.update(row.get(kind, ()))

    def take(self, message: dict[str, Any]) -> None:
        """The next message.

        Raises:
            Disorder: it cannot come here.
        """
        kind, run = message["kind"], self.run
        if self.last == "done":
            raise Disorder(f"{kind} after the end")
        if kind == "violation":
            run.violations.append(message["detail"])
            return
        if self.last == "session" and kind != "done":
            raise Disorder(f"{kind} after the session")
        if kind == "broken" and self.left is None:
            run.broken[message["name"].split("::")[0]] = message["detail"]
        elif kind == "collected" and self.left is None:
            run.collected = list(message["names"])
            self.left = {name: run.collected.count(name) for name in dict.fromkeys(run.collected)}
        elif kind == "start" and not self.item and (self.left or {}).get(message["name"]):
            assert self.left is not None
            self.item = message["name"]
            self.left[self.item] -= 1
            run.cases.setdefault(self.item, Case())
        elif kind in ("phase", "finished") and self.item and message["name"] == self.item:
            self._case(kind, message)
        elif kind in ("session", "done"):
            if kind == "done" and run.ended != "timeout" and run.ended not in ("exit 0", _VIOLATION_STATUS):
                raise Disorder(f"an end with {run.ended}")
            if kind == "done":
                run.status = message["status"]
        else:
            raise Disorder(f"{kind} after {self.last or 'nothing'}")
        self.last = kind

    def end(self) -> None:
        """No more comes.

        Raises:
            Disorder: the process ended by itself, but not in order.
        """
        if self.run.ended.startswith("exit") and self.last != "done" and not self.run.violations:
            raise Disorder(f"the process ended with {self.run.ended} before its tests did")

    def _case(self, kind: str, message: dict[str, Any]) -> None:
        case = self.run.cases[self.item]
        for mark in message["marks"]:
            if mark not in self.known:
                raise Disorder("a mark that is nowhere")
        case.order += message["marks"]
        case.marks |= set(message["marks"])
        if kind == "finished":
            # After a rerun that did not come nothing was passed.
            case.finished, self.item, self.again = not self.again, "", False
            return
        when = message["when"]
        if when not in _WHEN or message["outcome"] not in ("passed", "failed", "skipped", "rerun"):
            raise Disorder("no phase of a test")
        if message["outcome"] == "rerun":
            # A plug-in of the project's runs it again: what counts is the last time, and marks of every time.
            self.again = True
            case.phases.setdefault(when, "passed")
            return
        if self.again and when == "setup":
            self.again = False
            case.phases.clear()
            case.detail, case.xfail = "", False
        before = [name for name in _WHEN if name in case.phases]
        # Subtests report more than once, the worst counts.
        if (not before and when != "setup") or (before and _WHEN.index(when) < _WHEN.index(before[-1])):
            raise Disorder(f"{when} out of order")
        if before and when == before[-1] and when != "call":
            raise Disorder(f"{when} twice")
        case.phases[when] = max(case.phases.get(when, "passed"), message["outcome"], key=lambda name: _WORSE[name])
        case.xfail = case.xfail or message["xfail"]
        case.detail = case.detail or message["detail"]
