"""The quick part: the laws on a MiniWoB page and on the shop, and one expert restored at every turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from web_pages import Agent, BrowserEnv

from pivotgym.envs.browser.apps.taskset import bundled_trajectories
from pivotgym.envs.browser.miniwob import miniwob_task
from pivotgym.envs.check import check_env_laws
from pivotgym.envs.trajectory import Trajectory

# "nothing left" is among the exhaustive ones: what the engine keeps ready in idle moments opens files meanwhile.
LAWS = ["fidelity", "determinism", "honest reward"]
EXPERT = "bundled-shop.cancel_order-1"


def expert() -> Trajectory:
    return next(row for row in bundled_trajectories(None) if row.id == EXPERT)


def miniwob(agent: Agent) -> Trajectory:
    agent.env.reset(options={"task": miniwob_task("click-checkboxes", 3)})
    agent.click("checkbox")
    agent.click("button 'Submit'")
    return agent.recording()


@pytest.mark.parametrize("law", LAWS)
def test_laws(agent: Agent, law: str) -> None:
    recordings = [miniwob(agent), expert()]
    report = check_env_laws(
        "pivotgym/Browser-v0", recordings, laws=[law], max_turns_checked=2, horizon=1, resets=2, seconds_of_resets=3
    )
    assert report.passed, report.results


def test_an_expert_restores_at_every_turn_and_is_right(make_env: Callable[..., BrowserEnv]) -> None:
    env, row = make_env(), expert()
    for turn in range(len(row.turns)):
        report = env.reset(options={"trajectory": row, "turn": turn, "strict": True})[1]["restore"]
        assert report.fidelity == 1.0 and len(report.checks) == turn
    _, reward, terminated, _, info = env.step(row.action(len(row.turns) - 1))
    assert terminated and reward == 1.0, info
