"""The benchmark of browsers: its figures are measured, its targets judged, a missing peer is one line."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import needs
import pytest
from rich.console import Console

from pivotgym.harness import bench_browser as module
from pivotgym.harness.bench_browser import OURS, RESET, RESTORE, STEP, TARGETS, bench_browser, memory_of
from pivotgym.harness.bench_browser import print_browser_rows as print_rows
from pivotgym.harness.console import doing
from pivotgym.harness.figures import Figure

needs.require("playwright", "browser")
needs.require("miniwob", "browser")


@pytest.mark.slow
def test_our_side_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    monkeypatch.setattr(module, "TASKS", dict(list(module.TASKS.items())[:2]))
    said: list[str] = []
    told: list[str] = []
    rows = bench_browser(1, Path("/bin/false"), tell=told.append, left_out=said.append)
    assert told[0] == "round 0 of 1 (not counted)" and re.fullmatch(r"round 1 of 1, about \d+ min to go", told[1])
    assert len(said) == 1 and said[0].startswith("BrowserGym does not run: ") and "pip install" in said[0]
    assert {row.backend for row in rows} == {OURS} and len({row.name for row in rows}) == len(rows)
    by_name = {row.name: row for row in rows}
    assert by_name[STEP].repeats == sum(len(moves) for moves in module.TASKS.values())
    assert by_name[RESET].repeats == by_name[RESTORE].repeats == len(module.TASKS)
    assert all(row.median > 0 for row in rows) and by_name[RESTORE].target == TARGETS[(OURS, RESTORE)]
    alone, whole = by_name["memory with one environment, Chromium included"], by_name["memory with 3 environments"]
    each = by_name["memory of each further environment"].median
    assert 0 < each < alone.median < whole.median and each == pytest.approx((whole.median - alone.median) / 2)


def test_rows_are_printed_with_their_targets() -> None:
    rows = [
        Figure(backend=OURS, name=RESTORE, unit="ms", median=61, low=50, high=70, repeats=4, target=60),
        Figure(
            backend=module.RATIO, name=STEP, unit="x", median=16, low=15, high=17, repeats=4, target=15, at_least=True
        ),
    ]
    out = io.StringIO()
    print_rows(rows, Console(file=out, width=160))
    assert "≤ 60 missed" in out.getvalue() and "≥ 15 met" in out.getvalue()
    assert json.loads(rows[0].model_dump_json())["target"] == 60


def test_what_is_done_is_told_on_terminals_and_in_logs() -> None:
    log, screen = io.StringIO(), io.StringIO()
    with doing(Console(file=log, width=20)) as tell:
        tell("round 1 of [5], about 3 min to go")
        tell("done")
    assert log.getvalue() == "round 1 of [5], about 3 min to go\ndone\n"
    with doing(Console(file=screen, force_terminal=True, width=80)) as tell:
        tell("round 1 of [5]")
    assert "round 1 of [5]" in screen.getvalue()


def test_memory_counts_the_processes_below() -> None:
    script = "import sys; held = bytearray(b'x' * 200_000_000); print('up', flush=True); sys.stdin.read()"
    before = memory_of(os.getpid())
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        assert 120 < memory_of(os.getpid()) - before < 400
        assert 190 < memory_of(child.pid) < 400
        child.communicate()
