"""Playwright scripts: read, run in the environment with Playwright's own locators, and restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from codegen_scripts import (
    EVERYTHING_PAGE,
    EVERYTHING_PYTHON,
    LIBRARY_JAVASCRIPT,
    OTHER_PAGE,
    SHOP_ASYNC,
    SHOP_PYTHON,
    TRACKER_JAVASCRIPT,
)
from web_pages import BrowserEnv, pages_task

from pivotgym.envs.browser.apps.generate import KINDS
from pivotgym.envs.browser.skeleton import record
from pivotgym.envs.errors import BadInput, NotRestorable
from pivotgym.envs.formats import detect, load_trajectories, save_trajectories
from pivotgym.envs.trajectory import Task, Trajectory

MakeEnv = Callable[..., BrowserEnv]


def load(tmp_path: Path, text: str, name: str = "script.py") -> Trajectory:
    path = tmp_path / name
    path.write_text(text)
    assert detect(path) == "playwright"
    (row,) = load_trajectories(path)
    return row


def application_task(name: str, seed: int = 0) -> Task:
    tasks, kind = KINDS[name]
    return tasks.make(kind, seed)


def assert_restores(env: BrowserEnv, row: Trajectory, path: Path, *, every: bool = True) -> None:
    """Written, read again, and restored at every turn or the last; the last action then does what it did."""
    save_trajectories(path, [row])
    (read,) = load_trajectories(path)
    assert read == row
    env.snapshots.clear()
    for turn in range(0 if every else len(row.turns) - 1, len(row.turns)):
        _, info = env.reset(options={"trajectory": row, "turn": turn, "strict": True})
        assert info["restore"].fidelity == 1.0 and len(info["restore"].checks) >= turn
    last = len(row.turns) - 1
    _, reward, terminated, _, _ = env.step(row.action(last))
    assert (reward if terminated else None) == row.outcome.reward
    if not terminated:
        assert env.messages[-1].text == row.answer(last)[-1].text


def test_a_script_buys_in_our_shop(tmp_path: Path, make_env: MakeEnv) -> None:
    skeleton = load(tmp_path, SHOP_PYTHON)
    assert skeleton.task is None and skeleton.source["viewport"] == [1024, 768]
    assert skeleton.source["url"] == "http://localhost:5000/"
    env = make_env()
    moved = {"http://localhost:5000": "http://shop.test"}
    row = record(skeleton, env, application_task("shop.buy_article"), origins=moved, closing="It is ordered.")
    assert row.outcome.reward == 1.0 and row.outcome.termination == "answered"
    done = [call.name for turn in range(len(row.turns)) for call in row.action(turn).tool_calls]
    assert done == [
        *("click", "fill", "press", "click", "select_option", "select_option", "fill"),
        *("click", "click", "click", "click", "click"),
    ]
    noted = row.action(4).source["playwright"]
    assert noted["notes"] == ['expect(page.get_by_role("heading", name="Tundra candle holder")).to_be_visible()']
    assert noted["line"] == 15 and noted["text"] == 'page.get_by_label("Colour").select_option("Grey")'
    assert_restores(env, row, tmp_path / "rows.jsonl")


@pytest.mark.slow
def test_a_script_in_javascript_closes_a_ticket(tmp_path: Path, make_env: MakeEnv) -> None:
    skeleton = load(tmp_path, TRACKER_JAVASCRIPT, "close.spec.ts")
    assert skeleton.id == "close"
    env = make_env()
    row = record(skeleton, env, application_task("tracker.close_duplicate"), closing="Closed as a duplicate.")
    assert row.outcome.reward == 1.0
    notes = row.action(3).source["playwright"]["notes"]
    assert len(notes) == 1 and notes[0].startswith("await expect") and "it's; one }" in notes[0]
    assert "dialog.dismiss()" in row.action(4).source["playwright"]["notes"][0]
    assert_restores(env, row, tmp_path / "rows.jsonl")


@pytest.mark.slow
def test_an_asynchronous_script(tmp_path: Path, make_env: MakeEnv) -> None:
    text = SHOP_ASYNC.replace('    await page.get_by_placeholder("").nth(0).click()\n', "")
    row = record(load(tmp_path, text), make_env(), application_task("shop.buy_article"))
    assert row.outcome.reward is None
    assert [row.action(turn).tool_calls[0].name for turn in range(3)] == ["click", "noop", "go_back"]
    assert "URL: http://shop.test/products?category=kitchen\n" in row.answer(0)[0].text


def everything() -> Task:
    return pages_task(EVERYTHING_PAGE, more={"/other": OTHER_PAGE}, files={"notes.txt": "some notes"})


def test_every_kind_of_statement(tmp_path: Path, make_env: MakeEnv) -> None:
    env = make_env()
    row = record(load(tmp_path, EVERYTHING_PYTHON), env, everything())
    noted = "first; two; over three; shift; A; Ad; Ada; Hello; box true; other false; m,l; blue; notes.txt; dropped; "
    noted += "inside; water; shadow; reset;"
    answers = [row.answer(turn)[-1].text for turn in range(len(row.turns))]
    assert any(noted in answer for answer in answers), answers[-8]
    assert row.source["notes"] == ['page.wait_for_load_state("networkidle")']
    assert "Title: Other+" in "".join(answers) and "value='Grace'" in answers[-1]
    names = [call.name for turn in range(len(row.turns)) for call in row.action(turn).tool_calls]
    assert names.count("tab_focus") == 2 and names[-1] == "tab_close"
    assert_restores(env, row, tmp_path / "rows.jsonl", every=False)


@pytest.mark.slow
def test_a_script_for_the_library(tmp_path: Path, make_env: MakeEnv) -> None:
    skeleton = load(tmp_path, LIBRARY_JAVASCRIPT, "library.js")
    assert skeleton.source["viewport"] == [800, 600]
    env = make_env()
    row = record(skeleton, env, everything())
    seen = row.answer(len(row.turns) - 1)[-1].text
    assert "value='it\\'s é \"x\"'" in seen or 'it\'s é "x"' in seen
    assert "first; " in seen and "URL: http://pages.test/\n" in seen
    assert_restores(env, row, tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('page.get_by_role("button", name="None").click()', r"line 4 \(.*\): 0 elements are found, not one"),
        ('page.locator("li").click()', "3 elements are found, not one"),
        ('page.locator("li:nope(").click()', "nope"),
        ('page.get_by_label("Colour").fill("x")', "is a <select>"),
        ('page.get_by_label("Colour").select_option(index=9)', "there is no option 9"),
        ('page2 = context.new_page()\n    page3 = context.new_page()\n    page3.locator("p").click()', "0 elements"),
    ],
)
def test_pages_that_are_not_those_of_the_script(line: str, problem: str, tmp_path: Path, make_env: MakeEnv) -> None:
    text = f"from playwright.sync_api import Page\n\ndef test_it(page: Page):\n    {line}\n"
    skeleton = load(tmp_path, text)
    with pytest.raises(NotRestorable, match=problem):
        record(skeleton, make_env(), everything())
    with pytest.raises(NotRestorable, match="names no task"):
        record(skeleton, make_env())


PYTHON = "from playwright.sync_api import Page\ndef test_it(page: Page):\n    page.goto('http://a.test/')\n    {}\n"
SCRIPT = "import { test } from '@playwright/test';\ntest('x', async ({ page }) => {\n  await page.goto('http://a/');\n%s\n});\n"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (PYTHON.format("page.explode()"), 4, r"unknown call .explode\(\)"),
        (PYTHON.format("for one in range(3): page.go_back()"), 4, "no statement a recorder writes"),
        (PYTHON.format("page.get_by_role('button').fill(secret)"), 4, r"\.fill\(\) does not take"),
        (PYTHON.format("page.get_by_magic('button').click()"), 4, "unknown locator .get_by_magic"),
        (PYTHON.format("page.locator('a', colour='red').click()"), 4, "no option 'colour'"),
        (PYTHON.format("page.locator('a').click(position={'x': 1})"), 4, "no option 'position'"),
        (PYTHON.format("other.locator('a').click()"), 4, "no statement a recorder writes"),
        (PYTHON.format("page.locator('a').nth('one').click()"), 4, r"\.nth\(\) does not take 'one'"),
        (PYTHON.format("page.goto(5)"), 4, "url cannot be 5"),
        (PYTHON.format("x = page.locator('a').click()"), 4, "result of an action"),
        (PYTHON.format("import os; os.system('true')"), 4, "no statement a recorder writes"),
        (PYTHON.format("page.locator('a'"), 4, "not Python"),
        ("import playwright\n", None, "the script does nothing"),
        (SCRIPT % "  await page.explode();", 4, r"unknown call .explode\(\)"),
        (SCRIPT % "  for (const one of [1]) { await page.goBack(); }", 4, "no statement a recorder writes"),
        (SCRIPT % "  await page.locator(`a${1}`).click();", 4, "a text with values in it"),
        (SCRIPT % "  await page.locator('a').click()", 4, "closing bracket too many"),
        (SCRIPT % "  await page.locator('a).click();", 4, "a text without an end"),
        (SCRIPT % "  await page.locator('a').fill(value);", 4, r"\.fill\(\) does not take"),
        (SCRIPT % "  require('fs').rmSync('/');", 4, "no statement a recorder writes"),
        ("import { test } from '@playwright/test';\ntest('x', async ({ page }) => {\n", 2, "without an end"),
    ],
)
def test_bad_scripts(text: str, line: int | None, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text(text)
    with pytest.raises(BadInput, match=problem) as raised:
        list(load_trajectories(path))
    assert raised.value.file == path and raised.value.line == line
    errors: list[Any] = []
    assert list(load_trajectories(path, on_error="skip", errors=errors)) == [] and len(errors) == 1


@pytest.mark.parametrize(
    "text",
    [
        PYTHON.format(
            "with page.expect_download() as download_info:\n        page.get_by_role('link').click()\n"
            "    download = download_info.value\n    download.save_as('x')\n    page.locator('a').hover()"
        ),
        SCRIPT % "  const downloadPromise = page.waitForEvent('download');\n  await page.getByRole('link').click();\n"
        "  const download = await downloadPromise;\n  await download.saveAs('x');\n  await page.locator('a').hover();",
    ],
)
def test_downloads_are_noted(text: str, tmp_path: Path) -> None:
    row = load(tmp_path, text)
    assert [row.action(turn).tool_calls[0].name for turn in range(len(row.turns))] == ["goto", "click", "hover"]
    notes = row.action(1).source["playwright"].get("notes", []) + row.action(2).source["playwright"]["notes"]
    assert len(notes) == 3 and any("ownload" in note for note in notes)


def test_several_tests_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "flows.py"
    path.write_text(PYTHON.format("pass") + "\n\ndef test_more(page: Page):\n    page.goto('http://b.test/')\n")
    assert [row.id for row in load_trajectories(path)] == ["flows.test_it", "flows.test_more"]
