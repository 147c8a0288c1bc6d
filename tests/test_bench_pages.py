"""The tables of the benchmarks in docs/ are those of the committed result files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_pages import PAGES, PLACES, training_plot

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_holds_the_figures_of_the_file(name: str) -> None:
    rows = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    page = (DOCS / PLACES[name]).read_text(encoding="utf-8")
    assert PAGES[name](page, rows) == page, "python tests/support/bench_pages.py was forgotten"
    assert PAGES[name](page, [{**row, "median": row["median"] * 2} for row in rows]) != page


@pytest.mark.parametrize("name", PAGES)
def test_targets_were_met_where_the_page_says_so(name: str) -> None:
    rows = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    held = [row for row in rows if row["target"] is not None]
    assert held
    for row in held:
        assert row["median"] >= row["target"] if row["at_least"] else row["median"] <= row["target"], row


def test_what_the_page_says_of_one_chromium_on_both_sides() -> None:
    rows = json.loads((DOCS / "results" / "browser_headless_shell.json").read_text(encoding="utf-8"))
    found = {(row["backend"], row["name"]): row["median"] for row in rows}
    reset, step = (found["browsergym", name] for name in ("reset", "step with a fresh tree"))
    over = found["browsergym over pivotgym", "reset"]
    page = " ".join((DOCS / "browser.md").read_text(encoding="utf-8").split())
    assert f"its reset took {reset:.0f} ms, ours was {over:.0f} times as fast, and its step {step:.0f} ms" in page


def test_the_training_plot_is_drawn_from_the_file() -> None:
    rows = json.loads((DOCS / "results" / "train.json").read_text(encoding="utf-8"))
    committed = (DOCS / "results" / "train.svg").read_text(encoding="utf-8")
    assert committed.count("<path") == training_plot(rows).count("<path") > 10
    assert "results/train.svg" in (DOCS / "training.md").read_text(encoding="utf-8")
