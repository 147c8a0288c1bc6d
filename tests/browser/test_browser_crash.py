"""Chromium dies: the episode goes on, and nothing is scored for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import needs
import pytest
from chromium import descendants, kill
from web_pages import Agent

from pivotgym.envs.browser import steady, tab
from pivotgym.envs.browser.engine import CHROMIUM, BrowserError, engine
from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.browser.slots import slots_of
from pivotgym.harness.bench_browser import PeerMissing, _Peer

PAGE = """<title>Boxes</title><input type=checkbox aria-label=one><input type=checkbox aria-label=two>
<button onclick="fetch('/count').then((r) => r.text()).then((t) => { document.title = t; })">Count</button>
<button onclick="document.title = 'won'">Win</button>"""


@pytest.mark.parametrize("which", ["browser", "renderer", "driver"])
def test_a_killed_browser_is_replaced_and_the_episode_goes_on(agent: Agent, which: str) -> None:
    agent.open(PAGE)
    agent.click("'one'")
    agent.click("button 'Count'")
    seen = agent.seen
    assert "Title: <p>Count 1</p>" in seen
    kill(which)
    after = agent.click("'two'")
    assert "checkbox 'one', clickable, visible, checked='true'" in after
    assert "checkbox 'two', clickable, visible, focused, checked='true'" in after
    assert "Title: <p>Count 1</p>" in after, "the site's state was rebuilt, not counted twice"
    assert agent.env.browser.revivals >= 1
    agent.click("button 'Win'")
    assert agent.last[:2] == (1.0, True)


def test_a_dead_driver_is_noticed_by_whoever_asks_for_the_browser(agent: Agent) -> None:
    agent.open(PAGE)
    running = engine()
    before = running.run(running.browser(), 60.0)
    kill("driver")
    deadline = time.monotonic() + 30
    while (now := running.run(running.browser(), 60.0)) is before:
        assert time.monotonic() < deadline, "a browser that nobody can talk to any more was given out"
        time.sleep(0.05)
    assert now.is_connected() and "Title: Boxes" in agent.open(PAGE)


@pytest.mark.slow
def test_every_environment_of_a_killed_browser_goes_on(make_env: Callable[..., BrowserEnv]) -> None:
    agents = [Agent(make_env()) for _ in range(3)]
    for position, one in enumerate(agents):
        one.open(PAGE)
        for _ in range(position):
            one.click("button 'Count'")
    fork = agents[2].env.fork()
    kill("browser")
    for position, one in enumerate(agents):
        assert f"Count {position + 1}" in one.click("button 'Count'")
    try:
        assert "Count 3" in Agent(fork).click("button 'Count'")
    finally:
        fork.close()
    assert agents[0].env.screenshot().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_browser_that_dies_during_a_restore_is_replaced(agent: Agent) -> None:
    agent.open(PAGE)
    agent.click("'one'")
    agent.click("'two'")
    recording = agent.recording()
    agent.env.reset(options={"trajectory": recording, "turn": 1})
    kill("browser")
    _, info = agent.env.reset(options={"trajectory": recording, "turn": 1})
    assert info["restore"].fidelity == 1.0
    kill("driver")
    assert agent.env.effect(recording.action(1)).changes


@pytest.mark.slow
def test_a_browser_that_dies_every_time_is_an_error_and_no_reward(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.open(PAGE)
    turn = steady.Session.turn

    async def deadly(self: steady.Session, calls: object) -> object:
        kill("browser")
        return await turn(self, calls)  # type: ignore[arg-type]

    monkeypatch.setattr(steady.Session, "turn", deadly)
    with pytest.raises(BrowserError, match="failed 4 times"):
        agent.click("button 'Win'")
    assert agent.env.episode.termination == "infrastructure_error"
    monkeypatch.undo()
    agent.open(PAGE)
    agent.click("button 'Win'")
    assert agent.last[0] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2.5, 6.0])
def test_a_machine_that_gives_no_time_is_not_the_pages_fault(
    make_env: Callable[..., BrowserEnv], monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """All of Chromium is halted for longer than a page may take, once or twice over."""
    agent, *others = (Agent(make_env()) for _ in range(3))
    for one in (agent, *others):
        one.open(PAGE)
    for other in others:
        other.env.close()
    # With spare contexts a second attempt begins at once, and is held up in the page like the first.
    deadline = time.monotonic() + 60
    while len(slots_of(engine())._free) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    agent.click("'one'")
    monkeypatch.setattr(tab, "CALL_SECONDS", 1.0)
    monkeypatch.setattr(tab, "SETTLE_SECONDS", 1.5)
    halted = [number for number, line in descendants(os.getpid()).items() if "chrom" in line and "node" not in line]
    assert len(halted) > 2

    def all_get(what: signal.Signals) -> None:
        for number in halted:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, what)

    all_get(signal.SIGSTOP)
    going_on = threading.Timer(seconds, all_get, [signal.SIGCONT])
    going_on.start()
    try:
        after = agent.click("'two'")
    finally:
        going_on.join()
    assert after.count("checked='true'") == 2 and agent.env.episode.termination is None
    agent.click("button 'Win'")
    assert agent.last[0] == 1.0


@pytest.mark.slow
def test_a_browser_that_does_not_start_is_said_so(monkeypatch: pytest.MonkeyPatch, agent: Agent) -> None:
    from pivotgym.envs.browser.engine import shutdown

    shutdown()
    monkeypatch.setenv(CHROMIUM, "/bin/false")
    with pytest.raises(BrowserError, match="Chromium does not start"):
        agent.open(PAGE)
    monkeypatch.delenv(CHROMIUM)
    shutdown()
    assert "Title: Boxes" in agent.open(PAGE)


RUN = """
import os, sys, time
sys.path[:0] = {path!r}
from web_pages import Agent
from pivotgym.envs.browser.env import BrowserEnv
agent = Agent(BrowserEnv())
agent.open("<p>Here</p>")
if {forked} and not os.fork():
    time.sleep(600)  # a child that lives on: it holds copies of the pipes
print("ready", flush=True)
{end}
"""
ENDS = {"killed": "time.sleep(600)", "exit": "sys.exit(0)", "error": "raise ValueError"}


@pytest.mark.parametrize("end", ["forked", *(pytest.param(end, marks=pytest.mark.slow) for end in ENDS)])
def test_nothing_is_left_running(end: str) -> None:
    ends = {**ENDS, "forked": "time.sleep(600)"}
    path = [str(Path(__file__).parent), *sys.path]
    program = RUN.format(path=path, end=ends[end], forked=end == "forked")
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    below: dict[int, str] = {}
    try:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        if end in ("killed", "forked"):
            below = descendants(child.pid)
            assert any("chrom" in line for line in below.values())
    finally:
        if end in ("killed", "forked"):
            child.kill()
        child.wait(60)
    forked = [number for number, line in below.items() if "web_pages" in line]
    assert len(forked) == (end == "forked")
    below = {number: line for number, line in below.items() if number not in forked}
    deadline = time.monotonic() + 60
    while any(_alive(number) for number in below):
        assert time.monotonic() < deadline, "Chromium outlived its parent"
        time.sleep(0.1)
    for number in forked:
        assert _alive(number)
        os.kill(number, signal.SIGKILL)


def _alive(number: int) -> bool:
    try:
        return (Path("/proc") / str(number) / "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@pytest.mark.slow
def test_one_browser_serves_all(make_env: Callable[..., BrowserEnv]) -> None:
    for env in [make_env() for _ in range(4)]:
        Agent(env).open(PAGE)
    started = engine().starts
    roots = [line for line in descendants(os.getpid()).values() if "chrom" in line and "--type=" not in line]
    assert len([line for line in roots if "remote-debugging-pipe" in line and "sh " not in line]) == 1
    Agent(make_env()).open(PAGE)
    assert engine().starts == started


TALKATIVE = """#!{python}
import sys, time
for number in range(20_000):
    print(f"page {{number}} was loaded", file=sys.stderr)
for line in sys.stdin:
    if "hello" not in line:
        time.sleep(600)
    print('{{"seconds": 0.25, "error": ""}}', flush=True)
"""


def test_a_peer_that_prints_a_lot_is_measured_and_one_that_hangs_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.require("miniwob", "browser")
    monkeypatch.setenv(CHROMIUM, "/bin/false")  # this peer opens none
    program = tmp_path / "python"
    program.write_text(TALKATIVE.format(python=sys.executable))
    program.chmod(0o755)
    with closing(_Peer(program)) as peer:
        assert peer._ask({"do": "hello"}) == 250.0
        monkeypatch.setattr(_Peer, "seconds", 0.5)
        with pytest.raises(PeerMissing, match=r"reset.* within 0\.5 s; it printed last: page 19999 was loaded"):
            peer.round("click-test", [], 1)
