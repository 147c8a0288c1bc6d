"""What every test of browsers starts from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import needs
import pytest

from pivotgym.envs.snapshots import SnapshotStore

WITHOUT_BROWSER = {"test_apps_pages.py", "test_apps_tasks.py"}
MEASURED = {
    "test_browser_between.py",
    "test_browser_brief.py",
    "test_browser_crash.py",
    "test_browser_har.py",
    "test_browser_hostile.py",
    "test_browser_restoring.py",
    "test_importers_agentlab.py",
    "test_importers_har.py",
    "test_importers_scripts.py",
    "test_miniwob.py",
    "test_miniwob_solvers.py",
    "test_page.py",
    "test_page_settled.py",
    "test_report_page.py",
}
"""What drives Chromium and says for each test whether it is exhaustive; all the other files are."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The quick tests are a part that was chosen by what it takes."""
    for item in items:
        if item.path.parent.name == "browser" and item.path.name not in WITHOUT_BROWSER | MEASURED:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _parts(request: pytest.FixtureRequest) -> None:
    needs.require("werkzeug", "browser")
    if request.path.name not in WITHOUT_BROWSER:
        needs.require("playwright", "browser")
        needs.require("h11", "browser")
        if not any(map(shutil.which, ("/usr/lib/chromium/chromium", "chromium", "google-chrome", "chromium-browser"))):
            needs.missing("Chromium is not installed: apt-get install chromium")


@pytest.fixture
def make_env() -> Iterator[Callable[..., Any]]:
    """Makes environments, and closes them."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        from pivotgym.envs.browser.env import BrowserEnv

        env = BrowserEnv(**{"snapshots": SnapshotStore(), **options})
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()


@pytest.fixture
def agent(make_env: Callable[..., Any]) -> Any:
    """An agent in an environment of its own."""
    from web_pages import Agent

    return Agent(make_env())
