"""What one episode leaves to the next, and one document to a fork; and what is the server's doing, not the agent's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from web_pages import Agent, PagesSite, PagesTasks, pages_task

from pivotgym.envs.browser import proxy
from pivotgym.envs.browser.engine import BrowserError
from pivotgym.envs.browser.tasks import Answer, Request
from pivotgym.envs.errors import InfrastructureError
from pivotgym.verifiers import make, verify_completion
from pivotgym.verifiers.browser_pairs import as_message

COUNTER = """<script>onmessage = (event) => {
  if (event.data === 'add') localStorage.n = +(localStorage.n || 0) + 1;
  parent.postMessage('count ' + (localStorage.n || 0), '*');
};</script>"""
PARENT = """<title>{0}</title><button onclick="f.contentWindow.postMessage('add', '*')">Add</button>
<button onclick="f.contentWindow.postMessage('say', '*')">Ask</button><a href=/two>Two</a><p id=p></p>
<iframe id=f src=http://other.test/f></iframe>
<script>onmessage = (event) => {{ p.textContent = event.data; }};</script>"""
"""A frame of another origin is not shown to agents: it says what it stores to the page around it."""


class ManySites(PagesSite):
    """A second origin, a response that may be kept, and answers that fail or take their time."""

    asked_for: ClassVar[list[str]] = []
    fails: ClassVar[bool] = False
    seconds: ClassVar[float] = 0.0
    held: ClassVar[threading.Event | None] = None
    """What its answer waits for."""

    def handle(self, request: Request) -> Answer | None:
        self.asked_for.append(request.path)
        if request.host == "other.test":
            return Answer(200, [("Content-Type", "text/html")], COUNTER.encode())
        if request.path == "/kept":
            kept = [("Content-Type", "text/plain"), ("Cache-Control", "max-age=3600")]
            return Answer(200, kept, str(self.asked_for.count("/kept")).encode())
        if request.path == "/w":
            if self.fails:
                raise OSError(28, "No space left on device")
            time.sleep(self.seconds)
            if self.held is not None:
                self.held.wait()
        return super().handle(request)


@pytest.fixture(autouse=True)
def sites(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[ManySites]]:
    monkeypatch.setattr(PagesTasks, "open", lambda self, task, spec: ManySites(spec.definition["pages"]))
    # Answered in threads from the beginning, as sites are that were slow before.
    monkeypatch.setitem(proxy._pace, ManySites, 1.0)
    for name, value in (("fails", False), ("seconds", 0.0), ("asked_for", [])):
        monkeypatch.setattr(ManySites, name, value)
    yield ManySites


def count_of(agent: Agent) -> str:
    return next(line.split("'")[1] for line in agent.seen.splitlines() if "count " in line)


def test_a_frame_of_another_origin_finds_nothing_of_an_earlier_episode(agent: Agent) -> None:
    seen = []
    for _ in range(3):
        agent.open(PARENT.format("One"), more={"/two": PARENT.format("Two")})
        agent.click("'Ask'")
        seen.append(count_of(agent))
        agent.click("'Add'")
    assert seen == ["count 0"] * 3


def test_a_fork_keeps_what_a_frame_of_another_origin_stored(agent: Agent, make_env: Any) -> None:
    agent.open(PARENT.format("One"), more={"/two": PARENT.format("Two")})
    agent.click("'Add'")
    agent.click("'Two'")
    agent.do("noop")
    fork = Agent(agent.env.fork())
    for one in (fork, agent):
        one.click("'Ask'")
        assert count_of(one) == "count 1"
    fork.env.close()


def test_responses_are_not_kept_for_the_next_episode(agent: Agent, sites: type[ManySites]) -> None:
    page = """<button onclick="fetch('/kept').then(r => r.text()).then(t => { document.title = 'got ' + t })">
    Go</button>"""
    for number in (1, 2, 3):
        agent.open(page)
        agent.click("'Go'")
        agent.click("'Go'")  # within an episode it may be kept
        assert f"Title: got {number}\n" in agent.seen


def test_a_fork_stands_at_the_same_entry_of_the_history(agent: Agent) -> None:
    start = """<title>A</title><button onclick="history.replaceState({n: 5}, '')">Save</button><a href=/b>B</a>
    <button onclick="document.title = 'state ' + JSON.stringify(history.state)">Show</button>"""
    agent.open(start, more={"/b": "<title>B</title>"})
    agent.click("'Save'")
    agent.click("'B'")
    agent.do("go_back")
    fork = Agent(agent.env.fork())
    for one in (fork, agent):
        one.click("'Show'")
        assert 'Title: state {"n":5}' in one.seen
    fork.env.close()


def test_scrolling_is_over_when_it_is_looked_at(agent: Agent) -> None:
    """Chromium tells listeners and observers of it with the next frame."""
    page = """<title>S</title><div style=height:4000px></div><p id=q>end</p><script>
    onscroll = () => { document.title += ' scrolled'; };
    const watch = (all) => { if (all.some((one) => one.isIntersecting)) document.title += ' seen'; };
    new IntersectionObserver(watch).observe(q);
    </script>"""
    for _ in range(5):
        agent.open(page)
        agent.do("scroll", delta_x=0, delta_y=9000)
        assert "Title: S scrolled seen\n" in agent.seen


def test_what_lies_under_the_mouse_is_scrolled(agent: Agent) -> None:
    agent.open("""<style>html, body, #d { height: 100%; margin: 0; overflow: hidden } #d { overflow: auto }</style>
    <div id=d><button>Top</button><div style=height:3000px></div><button>End</button></div>""")
    agent.do("hover", bid=agent.id_of("'Top'"))
    assert "visible" not in next(line for line in agent.seen.splitlines() if "'End'" in line)
    agent.do("scroll", delta_x=0, delta_y=5000)
    assert "visible" in next(line for line in agent.seen.splitlines() if "'End'" in line)


def judged(agent: Agent, action: str) -> float:
    agent.env.reset(options={"trajectory": agent.recording(), "turn": 0})
    return verify_completion(make("browser_effects"), agent.env, as_message(action)).reward


def test_a_download_is_an_effect(agent: Agent) -> None:
    agent.open("<a href=/file.zip download>Invoice</a><a href=/x>Other</a>", more={"/x": "<title>X</title>"})
    bid = agent.id_of("'Invoice'")
    agent.click("'Invoice'")
    recorded = agent.recording()
    for action, reward in ((f"focus('{bid}')", 0.0), (f"press('{bid}', 'Enter')", 1.0)):
        agent.env.reset(options={"trajectory": recorded, "turn": 0})
        assert verify_completion(make("browser_effects"), agent.env, as_message(action)).reward == reward


def test_long_values_in_a_store_differ_at_their_ends(agent: Agent) -> None:
    page = """<button onclick="localStorage.x = 'x'.repeat(20000) + 'a'">A</button>
    <button onclick="localStorage.x = 'x'.repeat(20000) + 'b'">B</button>"""
    agent.open(page)
    other = agent.id_of("'B'")
    agent.click("'A'")
    assert judged(agent, f"click('{other}')") == 0.0


def test_a_site_that_fails_is_no_result(agent: Agent, sites: type[ManySites], monkeypatch: pytest.MonkeyPatch) -> None:
    agent.open("<a href=/w>W</a>", more={"/w": "<title>won</title>"})
    agent.click("'W'")
    recorded = agent.recording()
    agent.env.reset(options={"trajectory": recorded, "turn": 0})
    monkeypatch.setattr(sites, "fails", True)
    with pytest.raises(InfrastructureError, match="the site raised OSError"):
        verify_completion(make("browser_effects"), agent.env, as_message("goto('http://pages.test/w?')"))
    monkeypatch.setattr(sites, "fails", False)
    agent.env.reset(options={"task": pages_task("<a href=/w>W</a>", more={"/w": "<title>won</title>"})})
    agent.click("'W'")
    assert agent.last[0] == 1.0


@pytest.mark.parametrize("how", ["document", "fetch"])
def test_a_slow_site_is_waited_for(
    agent: Agent, sites: type[ManySites], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """More time than a page gets for itself, as it is not the page that takes it."""
    monkeypatch.setattr("pivotgym.envs.browser.tab.SETTLE_SECONDS", 2.0)
    fetch = "fetch('/w').then(r => r.text()).then(() => { document.title = 'won' })"
    agent.open(f'<a href=/w>W</a><button onclick="{fetch}">F</button>', more={"/w": "<title>won</title>"})
    monkeypatch.setattr(sites, "seconds", 3.5)
    agent.click("'W'" if how == "document" else "'F'")
    assert agent.last[0] == 1.0, agent.last


@pytest.mark.parametrize("how", ["document", "fetch", "synchronous"])
def test_a_site_that_never_answers_is_no_result(
    agent: Agent, sites: type[ManySites], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    # Enough for the request to arrive on a machine that pauses: until then it is the page that takes its time.
    monkeypatch.setattr("pivotgym.envs.browser.tab.SETTLE_SECONDS", 5.0)
    monkeypatch.setattr("pivotgym.envs.browser.tab.CALL_SECONDS", 5.0)
    monkeypatch.setattr("pivotgym.envs.browser.tab._DEBT_SECONDS", 1.0)
    click = "const one = new XMLHttpRequest(); one.open('GET', '/w', false); one.send()"
    page = f"""<a href=/w>W</a><button onclick="fetch('/w')">F</button><button onclick="{click}">X</button>"""
    agent.open(page, more={"/w": "<title>won</title>"})
    held = threading.Event()
    monkeypatch.setattr(sites, "held", held)
    try:
        with pytest.raises(BrowserError, match="does not answer"):
            agent.click({"document": "'W'", "fetch": "'F'", "synchronous": "'X'"}[how])
        agent.env.close()  # does not wait for it
    finally:
        held.set()


def test_a_page_that_waits_for_a_slow_site_is_waited_for(
    agent: Agent, sites: type[ManySites], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers nobody meanwhile, which is not its own doing."""
    monkeypatch.setattr("pivotgym.envs.browser.tab.CALL_SECONDS", 3.0)
    click = "const one = new XMLHttpRequest(); one.open('GET', '/w', false); one.send(); document.title = 'won'"
    agent.open(f'<button onclick="{click}">X</button>', more={"/w": ""})
    monkeypatch.setattr(sites, "seconds", 5.0)
    agent.click("'X'")
    assert agent.last[0] == 1.0, agent.last
