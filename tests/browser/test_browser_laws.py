"""The laws, on MiniWoB++ and on pages with a server behind them; restores and what their reports say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from web_pages import Agent

from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.browser.miniwob import miniwob_task
from pivotgym.envs.check import check_env_laws
from pivotgym.envs.laws import LAWS
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import Trajectory

FORM = """<title>Shop</title><form action="/cookie"><input name=q aria-label=Search><button>Find</button></form>
<button onclick="fetch('/count').then((r) => r.text()).then((t) => { document.getElementById('n').innerHTML = t; });
localStorage.clicks = (+localStorage.clicks || 0) + 1">Count</button><div id=n></div>
<a href="/second" target=_blank>Second</a>"""


def on_a_form(agent: Agent) -> Trajectory:
    agent.open(FORM, more={"/second": "<title>Second</title><input type=checkbox aria-label=box>"})
    agent.click("button 'Count'")
    agent.do("fill", bid=agent.id_of("textbox"), value="red shoes")
    agent.click("link 'Second'")
    agent.click("'box'")
    agent.do("tab_focus", index=0)
    agent.click("button 'Find'")
    agent.do("go_back")
    return agent.recording()


def on_miniwob(agent: Agent) -> Trajectory:
    agent.env.reset(options={"task": miniwob_task("click-checkboxes", 3)})
    agent.click("checkbox")
    agent.do("press", bid=agent.id_of("checkbox"), key_comb="Tab")
    agent.do("keyboard_press", key="Space")
    agent.do("click", bid="nothing")
    agent.click("button 'Submit'")
    return agent.recording()


@pytest.mark.parametrize("law", [pytest.param(law, marks=pytest.mark.slow) for law in LAWS])
def test_laws(agent: Agent, law: str) -> None:
    recordings = [on_a_form(agent), on_miniwob(agent)]
    report = check_env_laws(
        "pivotgym/Browser-v0", recordings, laws=[law], max_turns_checked=6, horizon=3, resets=8, seconds_of_resets=30
    )
    assert report.passed, report.results


@pytest.mark.parametrize("record", [on_a_form, on_miniwob])
def test_every_turn_restores_and_forks_go_apart(
    agent: Agent, make_env: Callable[..., BrowserEnv], record: Callable[[Agent], Trajectory]
) -> None:
    recording = record(agent)
    kept = SnapshotStore()
    for turn in range(len(recording.turns)):
        for store in (kept, kept, SnapshotStore()):
            env = make_env(snapshots=store)
            _, info = env.reset(options={"trajectory": recording, "turn": turn, "strict": True})
            assert info["restore"].fidelity == 1.0
            checks = env.check_answer(
                recording.action(turn), env.advance(recording.action(turn)).messages, recording.answer(turn)
            )
            assert [check.status for check in checks] == ["exact"], checks
            env.close()


def test_effects_show_what_changed_and_the_parent_stays(agent: Agent) -> None:
    recording = on_a_form(agent)
    env = agent.env
    env.reset(options={"trajectory": recording, "turn": 0})
    effect = env.effect(recording.action(0))
    rows = {(row["part"], row.get("path")): row for row in effect.changes}
    assert rows[("site", "count")] == {"part": "site", "path": "count", "before": 0, "after": 1}
    assert rows[("storage", "local.clicks")]["after"] == "1"
    assert any("Count 1" in line for line in rows[("tree", None)]["added"])
    assert env.effect(recording.action(0)).changes == effect.changes
    assert env.effect(recording.action(1)).changes != effect.changes


def test_a_state_that_cannot_be_reached_again_is_an_error(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    from web_pages import PagesSite

    from pivotgym.envs.browser.engine import BrowserError

    recording = on_a_form(agent)
    agent.env.reset(options={"trajectory": recording, "turn": 1})
    count = iter(range(10, 100))
    monkeypatch.setattr(PagesSite, "count", property(lambda self: next(count), lambda self, value: None), raising=False)
    with pytest.raises(BrowserError, match="did not do the same twice"):
        agent.env.fork()
