"""docs/paper.md: every claim has a status, what is called measured is there, and its figures are the files'."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from compare_pages import forgetting_page, paper_page

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """The cells of every row of a table that ends with a status."""
    found: list[list[str]] = []
    status = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            status = False
        elif cells[-1] == "Status":
            status = True
        elif status and not set(line) <= set("|- "):
            found.append(cells)
    return found


def test_every_claim_is_marked_measured_or_not() -> None:
    assert len(rows()) > 20
    for cells in rows():
        assert re.match(r"(measured: |not measured)", cells[-1]), cells


def test_what_is_measured_is_there() -> None:
    measured = [cells[-1] for cells in rows() if cells[-1].startswith("measured")]
    assert len(measured) >= 5
    for status in measured:
        links = re.findall(r"\]\((results/[^)]+)\)", status)
        tests = re.findall(r"`(tests/[^`]+)`", status)
        assert links or tests, status
        assert all((ROOT / "docs" / link).is_file() for link in links), status
        assert all((ROOT / test).is_file() for test in tests), status


def test_no_row_waits_for_a_result() -> None:
    assert not [cells for cells in rows() if cells[-1] == "not measured yet"]


def test_the_demo_s_figures_are_its_file_s() -> None:
    demo: dict[str, Any] = json.loads((ROOT / "docs" / "results" / "demo.json").read_text(encoding="utf-8"))
    lost = [
        f"{100 * (one['filter']['always_wrong'] + one['filter']['always_right']) / one['filter']['candidates']:.0f}"
        for one in demo.values()
    ]
    assert f"{lost[0]}, {lost[1]} and {lost[2]} % (three seeds, 112 turns each)" in PAGE
    gains = [one["train"]["gain"] for one in demo.values()]
    told = ", ".join(f"{gain['mean']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]" for gain in gains)
    assert f"mean reward {told}" in PAGE
    turns = [{stage["name"]: stage["rollout_turns"] for stage in one["cost"]["stages"]} for one in demo.values()]
    assert {(int(one["Profiling"]), int(one["Training on pivots"])) for one in turns} == {(896, 768)}


def test_the_other_figures_are_their_files() -> None:
    found: dict[str, Any] = json.loads((ROOT / "docs" / "results" / "compare.json").read_text(encoding="utf-8"))
    assert len(re.findall(r"<!-- compare.json: \S+ \S+ -->", PAGE)) >= 6
    rewards: dict[str, Any] = json.loads((ROOT / "docs" / "results" / "compare_rewards.json").read_text("utf-8"))
    forgotten: dict[str, Any] = json.loads((ROOT / "docs" / "results" / "forgetting.json").read_text(encoding="utf-8"))
    assert len(re.findall(r"<!-- compare_rewards.json: \S+ \S+ -->", PAGE)) >= 2
    assert paper_page(PAGE, found, rewards, forgotten) == PAGE, "python tests/support/compare_pages.py was forgotten"


def test_the_page_on_forgetting_has_the_table_of_its_file() -> None:
    forgotten: dict[str, Any] = json.loads((ROOT / "docs" / "results" / "forgetting.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "forgetting.md").read_text(encoding="utf-8")
    assert forgetting_page(page, forgotten) == page
    assert page.count("warm_start") > 1 and len(forgotten["metrics"]) > 8
