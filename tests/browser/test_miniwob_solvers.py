"""MiniWoB++ solved by scripts that see what an agent sees; what they did restores at every turn."""

from __future__ import annotations

import miniwob_solvers_click
import miniwob_solvers_forms
import miniwob_solvers_mail
import miniwob_solvers_widgets
import needs
import pytest

needs.require("miniwob", "browser")

from miniwob_solvers import SOLVERS, Page, solve  # noqa: E402
from web_pages import Agent  # noqa: E402

from pivotgym.envs.browser.engine import engine  # noqa: E402
from pivotgym.envs.browser.miniwob import miniwob_task, page_names  # noqa: E402

TOPICS = [miniwob_solvers_click, miniwob_solvers_forms, miniwob_solvers_mail, miniwob_solvers_widgets]
SEEDS = (0, 1)
A_FEW = ["click-checkboxes", "email-inbox-reply", "click-tab-2", "search-engine"]
"""Solvers that are also tried where only the quick tests run."""
MOVED_FROM_INSIDE = ["enter-text", "click-pie", "social-media", "use-slider", "tic-tac-toe", "order-food"]
FEW_PAGES = [*MOVED_FROM_INSIDE, "click-test", "phone-book"]


def check(agent: Agent, name: str, seed: int) -> int:
    """Solves a task, restores each of its turns and takes the last one again; how many turns there were."""
    env = agent.env
    row = solve(env, name, seed)
    assert row.outcome.reward is not None and row.outcome.reward > 0, (name, seed, env.messages[-1].text)
    env.snapshots.clear()
    for turn in range(len(row.turns)):
        _, info = env.reset(options={"trajectory": row, "turn": turn, "strict": True})
        report = info["restore"]
        assert report.fidelity == 1.0 and len(report.checks) >= turn, (name, seed, turn)
    _, reward, terminated, _, _ = env.step(row.action(len(row.turns) - 1))
    assert terminated and reward == row.outcome.reward, (name, seed)
    assert [message.text for message in env.messages][2:] == [message.text for message in row.messages][2:]
    return len(row.turns)


@pytest.mark.parametrize("name", A_FEW)
def test_a_solved_task_restores_at_every_turn(agent: Agent, name: str) -> None:
    assert check(agent, name, 0) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_every_solved_task_restores_at_every_turn(agent: Agent, name: str) -> None:
    for seed in SEEDS:
        check(agent, name, seed)


def test_solvers_are_of_many_pages() -> None:
    assert len(SOLVERS) >= 40 and set(SOLVERS) <= set(page_names())
    assert {make.__module__ for make in SOLVERS.values()} == {topic.__name__ for topic in TOPICS}


def play(agent: Agent, name: str) -> None:
    """Two resets with a seed show the same, a step is taken, and the reward is what the page says it is."""
    env, task = agent.env, miniwob_task(name, 1)
    env.reset(options={"task": task})
    first = [message.text for message in env.messages]
    env.reset(options={"task": task})
    assert [message.text for message in env.messages] == first, name
    assert Page(first[1]).nodes[0].role == "RootWebArea", name
    agent.do("noop", wait_ms=100)
    assert agent.last[:3] == (0.0, False, False), name
    # The page's own scripts end the episode: its reward is the environment's, what it takes off for time aside.
    engine().run(env.browser.session.active.evaluate("core.endEpisode(0.625, true, 'so it ends')"), 30.0)
    agent.do("noop", wait_ms=0)
    reward, terminated, _, info = agent.last
    assert (reward, terminated, info["verdict"]["reason"]) == (0.625, True, "so it ends"), name
    view = env.browser.view
    assert view is not None and 0 < view.state["task"]["reward"] <= 0.625, name


@pytest.mark.parametrize("name", FEW_PAGES)
def test_pages_reset_step_and_reward(agent: Agent, name: str) -> None:
    play(agent, name)


@pytest.mark.slow
def test_over_a_hundred_pages_reset_step_and_reward(agent: Agent) -> None:
    names = page_names()
    assert len(names) >= 100
    for name in names:
        play(agent, name)
