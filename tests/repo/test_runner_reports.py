"""What a test process may say, and what is made of one that says anything else."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pivotgym.envs.repo.runner.inside import supervisor
from pivotgym.envs.repo.runner.protocol import read

KEY = "7" * 32
ROW = {"start": "s0", "ends": ["e0"], "wrong": ["w0"], "right": [], "plain": True, "xfail": False}
TABLES = {"test_x.py": {"test_a": ROW, "test_b": ROW | {"start": "s1", "ends": ["e1"], "wrong": ["w1"]}}}
NAMES = {"0": "test_x.py::test_a", "1": "test_x.py::test_b"}


def phase(name: str, when: str, outcome: str = "passed", marks: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"kind": "phase", "name": name, "when": when, "outcome": outcome, "xfail": False, "detail": "",
            "marks": list(marks)}  # fmt: skip


def message(letter: str) -> dict[str, Any]:
    """The message a letter stands for; those of a test are followed by its number."""
    name = NAMES.get(letter[1:], "")
    return {
        "b": {"kind": "broken", "name": "test_y.py", "detail": "no"},
        "c": {"kind": "collected", "names": [*NAMES.values()]},
        "s": {"kind": "start", "name": name},
        "u": phase(name, "setup"),
        "k": phase(name, "call", marks=(f"s{letter[1:]}",)),
        "t": phase(name, "teardown"),
        "f": {"kind": "finished", "name": name, "marks": []},
        "v": {"kind": "violation", "detail": "looked at a frame"},
        "e": {"kind": "session", "status": 0},
        "d": {"kind": "done", "status": 0},
    }[letter[0]]


def raw(messages: list[Any], ended: str = "exit 0", **more: Any) -> dict[str, Any]:
    """What the supervisor hands over."""
    lines = [f"seal {json.dumps([number, one])}" for number, one in enumerate(messages)]
    return {"number": 0, "ended": ended, "seconds": 1.0, "tail": "", "tables": TABLES, "lines": lines, "rest": 0,
            "foreign": "", "left": [], **more}  # fmt: skip


RIGHT = ["c", "s0", "u0", "k0", "t0", "f0", "s1", "u1", "k1", "t1", "f1", "e", "d"]
_TEST = r"s(\d)(?:u\1(?:k\1)*(?:t\1)?)?f\1"
_GRAMMAR = re.compile(rf"b*(?:c(?:{_TEST})?(?:{_TEST.replace('1', '2')})?)?e?d")


def in_order(letters: list[str]) -> bool:
    """The same rule as a regular expression: of a process that ended by itself and tried nothing."""
    text = "".join(letters)
    tests = [letter for letter in letters if letter[0] == "s"]
    return bool(_GRAMMAR.fullmatch(text)) and len(tests) == len(set(tests))


def test_the_right_order() -> None:
    run = read(raw([message(letter) for letter in RIGHT]))
    assert not run.violations and run.collected == [*NAMES.values()]
    assert {name: case.outcome() for name, case in run.cases.items()} == dict.fromkeys(NAMES.values(), "passed")
    assert run.cases[NAMES["1"]].order == ["s1"]


def test_any_other_order_is_a_violation() -> None:
    draw = random.Random(7)
    alphabet = sorted({*RIGHT, "b"})
    counts = {True: 0, False: 0}
    for _ in range(4000):
        letters = list(RIGHT)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(letters))
            match draw.randrange(4):
                case 0:
                    del letters[at]
                case 1:
                    letters.insert(at, draw.choice(alphabet))
                case 2:
                    letters[at] = draw.choice(alphabet)
                case _:
                    other = draw.randrange(len(letters))
                    letters[at], letters[other] = letters[other], letters[at]
        # A test that was begun and not ended before the session was is in order too, and has not passed.
        run = read(raw([message(letter) for letter in letters]))
        right = in_order(letters)
        counts[right] += 1
        if right:
            assert not run.violations, letters
        elif not run.violations:
            begun = [letter for letter in letters if letter[0] == "s"][-1]
            ended = [*letters[: letters.index(begun)], *letters[letters.index("e" if "e" in letters else "d") :]]
            assert f"f{begun[1]}" not in letters and in_order(ended), letters
            assert run.cases[NAMES[begun[1]]].outcome() != "passed"
    assert min(counts.values()) > 200, counts


@pytest.mark.parametrize("letters", [["v", "d"], ["c", "v", "s0", "v", "u0", "k0", "v", "f0", "v", "e", "d"]])
def test_a_violation_is_heard_wherever_it_is_said(letters: list[str]) -> None:
    run = read(raw([message(letter) for letter in letters]))
    assert run.violations == ["looked at a frame"] * letters.count("v")


@pytest.mark.parametrize(
    "wrong",
    [
        "no list", {}, [0], [0, {}, 1], {"kind": "done"}, {"kind": "done", "status": "0"},
        {"kind": "done", "status": True}, {"kind": "done", "status": 0, "more": 1}, {"kind": "other"},
        {"kind": ["done"], "status": 0}, {"kind": "collected", "names": [1]}, {"kind": "collected", "names": "ab"},
        phase(NAMES["0"], "call") | {"xfail": 1}, None,
    ],
)  # fmt: skip
def test_a_message_of_another_shape_is_a_violation(wrong: Any) -> None:
    ahead = ["c", "s0", "u0"]
    run = read(raw([*map(message, ahead), wrong, message("d")]))
    assert len(run.violations) == 1 and run.violations[0].startswith("a report that is not the runner's")
    assert run.cases[NAMES["0"]].outcome() == "missing"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (phase(NAMES["0"], "call", marks=("zzz",)), "a mark that is nowhere"),
        (phase(NAMES["0"], "between"), "no phase of a test"),
        (phase(NAMES["0"], "call", outcome="splendid"), "no phase of a test"),
        (phase(NAMES["0"], "setup"), "setup twice"),
    ],
)
def test_a_phase_that_is_none(changed: dict[str, Any], why: str) -> None:
    run = read(raw([*map(message, ["c", "s0", "u0"]), changed, message("d")]))
    assert len(run.violations) == 1 and why in run.violations[0]


def rerun(*attempts: str) -> list[Any]:
    """A test that a plug-in runs several times: its ``call`` in each."""
    name = NAMES["0"]
    runs = [[phase(name, "setup"), phase(name, "call", outcome), phase(name, "teardown")] for outcome in attempts]
    return [*map(message, ["c", "s0"]), *(one for run in runs for one in run), *map(message, ["f0", "e", "d"])]


def test_the_last_time_counts_where_a_plugin_runs_a_test_again() -> None:
    outcomes = {("rerun", "passed"): "passed", ("rerun", "rerun", "passed"): "passed", ("rerun", "failed"): "failed",
                ("rerun",): "missing"}  # fmt: skip
    for attempts, outcome in outcomes.items():
        run = read(raw(rerun(*attempts)))
        assert not run.violations and run.cases[NAMES["0"]].outcome() == outcome, attempts
    # Without a rerun before it a test does not begin again.
    assert read(raw(rerun("passed", "passed"))).violations and read(raw(rerun("rerun", "passed", "passed"))).violations
    unset = [*map(message, ["c", "s0"]), phase(NAMES["0"], "setup", "rerun"), phase(NAMES["0"], "teardown")]
    assert not read(raw([*unset, *rerun("passed")[2:]])).violations


@pytest.mark.parametrize("status", [0, 3, 4])
def test_what_pytest_ended_with(status: int) -> None:
    assert read(raw([message("e"), message("d") | {"status": status}])).status == status


@pytest.mark.parametrize("ended", ["exit 1", "exit 98", "signal 9", "signal 11"])
def test_an_end_that_does_not_fit(ended: str) -> None:
    """A process that says it has come to its end has; one that ended by itself has said so."""
    whole = read(raw([message(letter) for letter in RIGHT], ended))
    assert len(whole.violations) == 1 and f"an end with {ended}" in whole.violations[0]
    broken_off = read(raw([message(letter) for letter in RIGHT[:4]], ended))
    assert bool(broken_off.violations) == ended.startswith("exit")
    assert broken_off.cases[NAMES["0"]].outcome() == "missing"


def test_a_process_that_was_killed_keeps_what_it_had_shown() -> None:
    run = read(raw([message(letter) for letter in RIGHT[:8]], "timeout", rest=12))
    assert not run.violations
    assert [run.cases[name].outcome() for name in NAMES.values()] == ["passed", "missing"]
    assert read(raw([message("d")], "exit 0", rest=12)).violations == ["a report that is not the runner's"]
    assert read(raw([message("d")], "exit 99")).violations == ["something that ends the process"]
    assert read(raw([message("d")], foreign="a report without end")).violations == ["a report without end"]
    assert read(raw([message("d")], left=["shm"])).violations == ["System V objects left behind: shm"]


# --------------------------------------------------------------------------------------- the supervisor's side


def sealed(number: int, letter: str = "b", key: str = KEY) -> bytes:
    text = json.dumps([number, message(letter)]).encode()
    return hmac.new(key.encode(), text, hashlib.sha256).hexdigest().encode() + b" " + text + b"\n"


class Hostile(supervisor.Worker):  # type: ignore[misc]
    """A real worker process that writes what a test wants it to instead of running tests."""

    says: Callable[[int], None]

    def serve(self, work: int, results: int, output: int, root: str, import_path: list[str]) -> None:
        os.read(work, 1 << 16)
        type(self).says(results)
        os._exit(0)


def perform(folder: Path, says: Callable[[int], None], seconds: float = 20.0) -> dict[str, Any]:
    kind = type("Worker", (Hostile,), {"says": staticmethod(says)})
    worker = kind(0, None, str(folder), [], str(folder))
    done: dict[str, Any] = worker.perform({"key": KEY}, seconds)
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)
    return done


def write(channel: int, data: bytes) -> None:
    while data:
        data = data[os.write(channel, data) :]


@pytest.mark.parametrize(
    ("lines", "accepted", "foreign"),
    [
        ([sealed(0), sealed(1)], 2, ""),
        ([sealed(0), sealed(0)], 1, "a report out of order"),
        ([sealed(0), sealed(2), sealed(1)], 1, "a report out of order"),
        ([sealed(1)], 0, "a report out of order"),
        ([sealed(0), sealed(1, key="8" * 32)], 1, "a report that is not the runner's"),
        ([sealed(0), b"\n"], 1, "a report that is not the runner's"),
        ([sealed(0)[:70] + sealed(0)[71:]], 0, "a report that is not the runner's"),
        ([sealed(0), b"\xff\xfe \x00\n", sealed(1)], 1, "a report that is not the runner's"),
    ],
)
def test_lines_are_sealed_and_numbered(lines: list[bytes], accepted: int, foreign: str, tmp_path: Path) -> None:
    done = perform(tmp_path, lambda channel: write(channel, b"".join(lines)))
    assert (len(done["lines"]), done["foreign"]) == (accepted, foreign)
    assert done["ended"] == "exit 0" or foreign


def test_a_report_without_end(tmp_path: Path) -> None:
    def all_in_order(channel: int) -> None:
        for number in range(supervisor._LINES + 10):
            write(channel, sealed(number))

    done = perform(tmp_path, all_in_order, 120.0)
    assert done["foreign"] == "a report without end"
    # One line that never ends costs no more memory than the messages may.
    (tmp_path / "long").mkdir()
    done = perform(tmp_path / "long", lambda channel: write(channel, b"x" * (4 * supervisor._MESSAGES)), 60.0)
    assert done["foreign"] == "a report without end" and not done["lines"] and done["rest"] == 0


def test_half_a_line_is_not_taken(tmp_path: Path) -> None:
    done = perform(tmp_path, lambda channel: write(channel, sealed(0) + sealed(1)[:-1]))
    assert len(done["lines"]) == 1 and done["rest"] == len(sealed(1)) - 1


def test_who_holds_the_pipe_open_is_not_waited_for(tmp_path: Path) -> None:
    def leave_a_child(channel: int) -> None:
        write(channel, sealed(0))
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)

    begun = time.monotonic()
    done = perform(tmp_path, leave_a_child, 30.0)
    assert (done["ended"], len(done["lines"])) == ("exit 0", 1)
    assert time.monotonic() - begun < 20


def test_ends_are_told_apart(tmp_path: Path) -> None:
    ends: dict[str, Callable[[int], Any]] = {
        "exit 7": lambda _: os._exit(7),
        "signal 9": lambda _: os.kill(os.getpid(), signal.SIGKILL),
        "signal 11": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
        "timeout": lambda _: time.sleep(60),
    }
    for number, (ended, says) in enumerate(ends.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert perform(folder, says, 2.0 if ended == "timeout" else 20.0)["ended"] == ended


def test_only_twins_are_limited_by_what_another_run_took() -> None:
    assert [supervisor.time_for(number, 120, None) for number in range(4)] == [120] * 4
    # A twin that ended early says nothing of the genuine run.
    assert [supervisor.time_for(number, 120, 0.1) for number in range(4)] == [120, 120, 10, 10]
    assert [supervisor.time_for(number, 120, genuine) for number, genuine in ((2, 20), (3, 50))] == [80, 120]
    assert supervisor.time_for(2, 5, 0.1) == 5
