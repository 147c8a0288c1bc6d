"""MiniWoB++ under its own seeds and rewards."""

from __future__ import annotations

import json
import re
from pathlib import Path

import needs
import pytest

needs.require("miniwob", "browser")

from web_pages import Agent  # noqa: E402

from pivotgym.envs.browser.actions import parse_calls  # noqa: E402
from pivotgym.envs.browser.env import BrowserEnv  # noqa: E402
from pivotgym.envs.browser.miniwob import (  # noqa: E402
    MiniWobTasks,
    browsergym_seed,
    miniwob_task,
    page_names,
)
from pivotgym.envs.errors import BadInput  # noqa: E402

EPISODES = [("click-checkboxes", 20), ("click-dialog", 14)]
A_FEW = ["click-test-2", "enter-text", "email-inbox-reply", "use-slider", "click-pie", "unicode-test"]


@pytest.mark.parametrize(("name", "seed"), EPISODES)
def test_recorded_episodes(agent: Agent, shared_data: Path, name: str, seed: int) -> None:
    """The trees are those that BrowserGym saw, to the letter; the clicks earn the recorded reward."""
    recorded = json.loads((shared_data / "agentlab_miniwob" / f"{name}_{seed}.json").read_text())
    agent.env.reset(options={"task": miniwob_task(name, browsergym_seed(seed), tree="browsergym")})
    assert agent.seen.startswith(recorded["steps"][0]["obs"]["goal"])
    reward = 0.0
    for step in recorded["steps"]:
        _, _, shown = agent.seen.partition("RootWebArea")
        assert "RootWebArea" + shown == step["obs"]["axtree_txt"]
        assert f"Focused: [{step['obs']['focused_element_bid']}]" in agent.seen
        assert reward == step["reward"]
        if step["action"]:
            calls = [call.chat() for call in parse_calls(step["action"])]
            _, reward, terminated, _, _ = agent.env.step({"role": "assistant", "tool_calls": calls})
    assert terminated and reward == recorded["summary"]["cum_reward"] == 1.0


def play(agent: Agent, name: str, seed: int) -> str:
    """Resets a task, does something, and checks what can be known of every task; gives what was shown first."""
    agent.env.reset(options={"task": miniwob_task(name, seed)})
    first = agent.seen
    goal, _, page = first.partition("\n\n")
    assert len(goal) > 5 and page.startswith(f"URL: http://miniwob.test/miniwob/{name}.html"), name
    agent.do("noop", wait_ms=100)
    found = agent.env.browser.view.state["task"] if agent.env.browser.view is not None else None
    assert found is not None and found["ready"] and not found["done"], name
    assert agent.env.score().reward == 0.0
    assert agent.env.browser.missing == [], name
    return first


@pytest.mark.parametrize("name", A_FEW)
def test_a_few_pages(agent: Agent, name: str) -> None:
    first = play(agent, name, 7)
    assert play(agent, name, 7) == first, "the same seed gives the same page"
    assert any(play(agent, name, seed) != first for seed in (8, 9, 10)) or name in ("click-test-2", "unicode-test")


@pytest.mark.slow
def test_all_pages(agent: Agent) -> None:
    assert len(page_names()) >= 125
    for name in page_names():
        first = play(agent, name, 1)
        assert play(agent, name, 1) == first, name
        # The page's own end, brought about from inside: its reward is the environment's.
        agent.env.reset(options={"task": miniwob_task(name, 1)})
        session = agent.env.browser.session
        from pivotgym.envs.browser.engine import engine

        engine().run(session.active.evaluate("core.endEpisode(0.75, false, 'told')"), 10)
        agent.do("noop", wait_ms=0)
        assert agent.last[:2] == (0.75, True), name


def test_a_wrong_answer_earns_nothing(agent: Agent) -> None:
    agent.env.reset(options={"task": miniwob_task("click-test-2", 0)})
    agent.click("button 'TWO'")
    reward, terminated, _, info = agent.last
    assert (reward, terminated, info["termination"]) == (0.0, True, "done")
    assert info["verdict"]["evidence"]["raw"] < 0


def test_entering_text(agent: Agent) -> None:
    for seed in range(3):
        agent.env.reset(options={"task": miniwob_task("enter-text", seed)})
        wanted = re.search('"(.*?)"', agent.seen)
        assert wanted is not None
        agent.do("fill", bid=agent.id_of("textbox"), value=wanted.group(1))
        agent.click("button 'Submit'")
        assert agent.last[:2] == (1.0, True)


def test_time_runs_by_the_page_clock(agent: Agent) -> None:
    """``button-delay`` wants a wait of a second between two clicks: it is waited for, but not by us."""
    rewards = []
    for wait in (0, 500):
        agent.env.reset(options={"task": miniwob_task("button-delay", 1)})
        agent.click("button 'ONE'")
        agent.do("noop", wait_ms=wait)
        agent.click("button 'TWO'")
        assert agent.last[1]
        rewards.append(agent.last[0])
    assert 0 <= rewards[0] < rewards[1] <= 1


def test_an_episode_outlasts_the_pages_own_limit(agent: Agent) -> None:
    """The page would end it after ten seconds; here it may last as long as in BrowserGym."""
    agent.env.reset(options={"task": miniwob_task("enter-text", 1)})
    for _ in range(2):
        agent.do("noop", wait_ms=60_000)
    assert agent.last[1:3] == (False, False)
    for _ in range(15):
        agent.do("noop", wait_ms=60_000)
    assert agent.last[:2] == (0.0, True) and agent.last[3]["verdict"]["reason"] == "timed out"


def test_links_within_the_page_are_no_way_out(agent: Agent) -> None:
    agent.env.reset(options={"task": miniwob_task("click-test-2", 0)})
    agent.do("goto", url="http://miniwob.test/miniwob/click-test-2.html#")
    assert agent.last[1] is False
    agent.click("button 'ONE'")
    assert agent.last[:2] == (1.0, True)


def test_leaving_the_page_ends_the_episode(agent: Agent) -> None:
    agent.env.reset(options={"task": miniwob_task("click-test-2", 0)})
    agent.do("goto", url="http://miniwob.test/miniwob/click-test.html")
    assert agent.last[:2] == (0.0, True) and agent.last[3]["termination"] == "left_the_page"


def test_tasks(agent: Agent) -> None:
    tasks = MiniWobTasks().tasks()
    assert len({task.id for task in tasks}) == len(tasks) >= 300
    assert BrowserEnv().tasks() == tasks
    with pytest.raises(BadInput, match="no page"):
        miniwob_task("no-such-page", 0)
    assert browsergym_seed(20) == 879066
