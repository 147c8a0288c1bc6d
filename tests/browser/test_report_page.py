"""The page of a run on the shop: pictures of turns, and a person who clicks through all of it in a real Chromium."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotgym.envs.formats import load_trajectories
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import Message, ToolCall
from pivotgym.harness.commands import bundled_file
from pivotgym.harness.pivots import FilterConfig, filter_file
from pivotgym.harness.policies.base import Conversation
from pivotgym.harness.policies.scripted import Demonstration, ScriptedPolicy
from pivotgym.harness.profiling import ProfileConfig, profile
from pivotgym.harness.report import build_report
from pivotgym.harness.restoring import restore_trajectories
from pivotgym.harness.runs import write_json

TASK = "shop.buy_article"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile by execution of the first turns of a recording; a policy that is right half of the time."""
    out = tmp_path_factory.mktemp("run")
    recording = next(
        one
        for one in load_trajectories(bundled_file(Path("bundled:browser")))
        if one.task is not None and one.task.id.startswith(TASK)
    )
    write_json(out / "restore.json", restore_trajectories([recording]).model_dump(mode="json"))
    expert = Demonstration([recording])

    def act(conversation: Conversation, rng: random.Random) -> Message:
        if rng.random() < 0.5:
            return expert.action(conversation)
        return Message(role="assistant", tool_calls=[ToolCall(name="scroll", arguments={"delta_x": 0, "delta_y": 300})])

    config = ProfileConfig(rollouts=8, limit=3, seed=1)
    profile([recording], ScriptedPolicy(act), config, out / "profile.jsonl")
    report = filter_file(out / "profile.jsonl", out / "pivots.jsonl", FilterConfig(max_mean=0.99, heldout=0))
    write_json(out / "pivots.filter.json", report.row())
    build_report(out)
    return out


@pytest.fixture
def page(run: Path) -> Iterator[Any]:
    """The report in a Chromium of its own; whatever it asks for beside itself is written down."""
    from playwright.sync_api import sync_playwright

    names = ("/usr/lib/chromium/chromium", "chromium", "google-chrome", "chromium-browser")
    chromium = next(filter(None, map(shutil.which, names)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto((run / "report.html").as_uri())
        yield page
        browser.close()


def test_a_person_clicks_through_the_report(page: Any, run: Path) -> None:
    links = page.locator("nav a")
    assert links.count() >= 8
    for index in range(links.count()):
        links.nth(index).click()
        name = links.nth(index).get_attribute("href").removeprefix("#")
        top = page.locator(f"[id='{name}']").bounding_box()["y"]
        # At the top of the window, or as far as the end of the page lets it come.
        at_end = page.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 2")
        assert -2 <= top < 60 or (at_end and top < 800), name
        assert page.url.endswith(f"#{name}")
    details = page.locator("details")
    assert details.count() >= 3
    for index in range(details.count()):
        inside = details.nth(index).locator(":scope > :not(summary)").first
        assert not inside.is_visible()
        details.nth(index).locator("summary").first.click()
        assert inside.is_visible()
    # Nothing is wider than the window, nothing was fetched, nothing complained.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [url for url in page.asked if not url.startswith("data:image/png")] == [(run / "report.html").as_uri()]
    assert page.said == []
    assert all(figure.bounding_box()["width"] > 100 for figure in page.locator("figure svg").all())


def test_pictures_of_before_and_after(page: Any, run: Path) -> None:
    pivots = [row for row in read_rows(run / "profile.jsonl") if row["var"]]
    assert pivots
    articles = page.locator("article.example")
    assert articles.count() == len(pivots)
    for article in articles.all():
        for summary in article.locator("details.picture summary").all():
            summary.click()
        pictures = article.locator("img").all()
        # The state before, after the demonstration, after the commonest right and wrong action.
        assert len(pictures) == 4
        sizes = [tuple(image.evaluate("i => [i.naturalWidth, i.naturalHeight]")) for image in pictures]
        assert min(min(size) for size in sizes) > 200, sizes
        before, shown, right, _ = (image.get_attribute("src") for image in pictures)
        # The right action is the demonstrated one, and it changes what is seen.
        assert shown == right != before


def test_a_report_made_again_needs_no_browser(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (run / "report.html").read_text()
    assert "data:image/png" in text and "img-src data:" in text

    def refuse(*_: object) -> None:
        raise AssertionError("an environment was made")

    monkeypatch.setattr("pivotgym.harness.report.pictures.make_env", refuse)
    build_report(run)
    assert (run / "report.html").read_text() == text
    kept = {file: file.read_bytes() for file in (run / "pictures").iterdir()}
    for file in kept:
        file.unlink()
    build_report(run, pictures=False)
    assert "<img" not in (run / "report.html").read_text()
    for file, data in kept.items():
        file.write_bytes(data)
