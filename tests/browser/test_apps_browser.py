"""The applications in a real Chromium: experts, restoring, forks, and what their scripts do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from web_pages import Agent, BrowserEnv

from pivotgym.envs.browser.apps.generate import KINDS, act, play, record
from pivotgym.envs.browser.apps.spec import Step, choose, count, fill, link, press, say, tick
from pivotgym.envs.browser.apps.taskset import SEEDS, bundled_trajectories
from pivotgym.envs.browser.effects import POSITION
from pivotgym.envs.trajectory import Trajectory

SAMPLE = {
    "shop.buy_article": 0,
    "shop.cancel_order": 1,
    "shop.affordable_wishes": 2,
    "tracker.label_component": 0,
    "tracker.close_duplicate": 1,
    "tracker.owner_zone": 2,
}
"""Kinds, and the instance of each, that are also tried where only the quick tests run."""
MakeEnv = Callable[..., BrowserEnv]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Trajectory]:
    return {row.id: row for row in bundled_trajectories(None)}


def start(env: BrowserEnv, name: str, seed: int = 0) -> None:
    tasks, kind = KINDS[name]
    env.reset(options={"task": tasks.make(kind, seed)})


def do(env: BrowserEnv, *steps: Step) -> str:
    play(env, steps)
    return env.messages[-1].text


def restored(env: BrowserEnv, row: Trajectory) -> float:
    """Restores every turn of a recording, compares, then takes its last action: the reward."""
    for turn in range(len(row.turns)):
        _, info = env.reset(options={"trajectory": row, "turn": turn})
        report = info["restore"]
        assert report.fidelity == 1.0, (row.id, turn, report.diverged)
        assert ".test" not in (report.note or "")  # the applications served everything that was asked of them
        assert len(report.checks) == turn
    _, reward, terminated, _, info = env.step(row.action(len(row.turns) - 1))
    assert terminated, info
    return float(reward)


@pytest.mark.parametrize("name", SAMPLE)
def test_expert_is_as_recorded_and_restores_at_every_turn(
    name: str, make_env: MakeEnv, recorded: dict[str, Trajectory]
) -> None:
    env = make_env()
    row = recorded[f"bundled-{name}-{SAMPLE[name]}"]
    tasks, kind = KINDS[name]
    assert record(tasks, kind, SAMPLE[name], env) == row
    env.snapshots.clear()
    assert restored(env, row) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_recording_restores_at_every_turn(name: str, make_env: MakeEnv, recorded: dict[str, Trajectory]) -> None:
    env = make_env()
    for seed in range(SEEDS):
        assert restored(env, recorded[f"bundled-{name}-{seed}"]) == 1.0


@pytest.mark.parametrize("name", SAMPLE)
def test_doing_nothing_earns_nothing(name: str, make_env: MakeEnv) -> None:
    env = make_env()
    start(env, name, SAMPLE[name])
    reward, terminated, info = play(env, [say("Done.")])
    assert terminated and reward == 0.0 and info["termination"] == "answered"


def test_recordings_are_of_both_splits_and_of_a_few_turns(recorded: dict[str, Trajectory]) -> None:
    assert len(recorded) == len(KINDS) * SEEDS
    turns = [len(row.turns) for row in recorded.values()]
    assert min(turns) >= 3 and max(turns) <= 12 and len(set(turns)) > 6
    train, heldout = bundled_trajectories("train"), bundled_trajectories("heldout")
    assert len(train) + len(heldout) == len(recorded) and len(heldout) >= 20
    assert {row.outcome.reward for row in recorded.values()} == {1.0}


def test_sizes_follow_the_colour_and_the_cart_counts_at_once(make_env: MakeEnv) -> None:
    env = make_env()
    start(env, "shop.buy_article")
    tasks, kind = KINDS["shop.buy_article"]
    built, _, _ = tasks.build(kind, 0)
    seen = do(env, *built.expert[:3])
    assert seen.count("option 'Choose a size'") == 1
    sizes = seen.partition("combobox 'Size'")[2].partition("button")[0].count("option ")
    assert sizes == 1  # nothing but the hint before a colour is chosen
    seen = do(env, *built.expert[3:5])
    assert "€" in seen.partition("'Price:'")[2][:200]
    url = env.browser.view.url
    seen = do(env, *built.expert[5:7])
    quantity = built.expert[5].value
    assert "Added to your cart." in seen and f"StaticText '{quantity}'\n\t\t\t\t\tStaticText ')'" in seen
    assert env.browser.view.url == url  # the page stayed
    seen = do(env, count("Quantity", 0), press("Add to cart"))  # refused: the page comes back with the reason
    assert "alert" in seen and "Enter a quantity between 1 and 20." in seen and env.browser.view.url.endswith("/cart")


def test_a_refused_form_says_why(make_env: MakeEnv) -> None:
    env = make_env()
    start(env, "shop.send_gift")
    seen = do(env, link("Cart"), link("Go to checkout"), press("Place order"))
    assert "alert" in seen and "Accept the terms of sale." in seen
    seen = do(env, tick("I accept the terms of sale"), press("Place order"))
    assert "Thank you, your order has been placed." in seen


def test_cancelling_asks_first(make_env: MakeEnv) -> None:
    env = make_env()
    start(env, "shop.cancel_order")
    tasks, kind = KINDS["shop.cancel_order"]
    built, _, _ = tasks.build(kind, 0)
    seen = do(env, *built.expert[:3])
    assert "dialog" in seen and "Yes, cancel the order" in seen
    seen = do(env, press("Keep the order"))
    assert "Yes, cancel the order" not in seen and "'Processing'" in seen
    reward, terminated, _ = play(env, [say("I kept it.")])
    assert terminated and reward == 0.0


def test_deleting_a_comment_asks_first(make_env: MakeEnv) -> None:
    env = make_env()
    start(env, "tracker.correct_comment")
    tasks, kind = KINDS["tracker.correct_comment"]
    built, _, _ = tasks.build(kind, 0)
    seen = do(env, *built.expert[:4], press("Delete comment"))
    assert "dialog 'Delete this comment?'" in seen
    assert "dialog" not in do(env, press("Keep it"))
    seen = do(env, press("Delete comment"), press("Yes, delete it"))
    assert "Your comment has been deleted." in seen and "Seen with version" not in seen


def test_fields_of_a_new_address_appear_with_it(make_env: MakeEnv) -> None:
    env = make_env()
    start(env, "shop.order_to_new_address")
    tasks, kind = KINDS["shop.order_to_new_address"]
    built, _, _ = tasks.build(kind, 0)
    seen = do(env, *built.expert[:2])
    assert "textbox 'Postcode'" not in seen
    assert "textbox 'Postcode'" in do(env, built.expert[2])


def test_components_follow_the_project_and_one_box_selects_all(make_env: MakeEnv) -> None:
    env = make_env()
    start(env, "tracker.new_ticket")
    tasks, kind = KINDS["tracker.new_ticket"]
    built, _, _ = tasks.build(kind, 0)
    before = do(env, built.expert[0])
    assert before.partition("combobox 'Component'")[2].partition("combobox 'Milestone'")[0].count("option ") == 1
    after = do(env, built.expert[1])
    assert after.partition("combobox 'Component'")[2].partition("combobox 'Milestone'")[0].count("option ") == 5
    seen = do(env, link("All tickets"), tick("Select all tickets on this page"))
    assert "12 selected" in seen
    first = next(line for line in seen.splitlines() if "checkbox 'Select " in line)
    name = first.partition("checkbox '")[2].partition("'")[0]
    assert "11 selected" in do(env, tick(name))


def test_a_fork_shops_for_itself(make_env: MakeEnv) -> None:
    env = make_env()
    start(env, "shop.tidy_cart")
    tasks, kind = KINDS["shop.tidy_cart"]
    built, _, _ = tasks.build(kind, 0)
    do(env, *built.expert[:2])
    fork = env.fork()
    try:
        reward, terminated, _ = play(fork, built.expert[2:])
        assert terminated and reward == 1.0
    finally:
        fork.close()
    reward, terminated, _ = play(env, built.expert[2:])
    assert terminated and reward == 1.0


def test_effects_see_the_server_and_not_the_way_there(make_env: MakeEnv) -> None:
    env = make_env()
    start(env, "tracker.resolve")
    tasks, kind = KINDS["tracker.resolve"]
    built, _, _ = tasks.build(kind, 0)
    do(env, *built.expert[:4])
    page = env.messages[-1].text
    watch = press("Watch" if "button 'Watch'" in page else "Stop watching")
    saved, watched = env.effect(act(press("Save details"), page, 0)), env.effect(act(watch, page, 0))
    assert any("status" in str(row) and "Resolved" in str(row) for row in saved.changes)
    assert saved.changes != watched.changes
    start(env, "tracker.resolve")
    do(env, built.expert[0])
    page = env.messages[-1].text
    click = act(press("Search"), page, 0)
    enter = act(Step("click", "searchbox", "Search tickets"), page, 0)
    enter.tool_calls[0].name, enter.tool_calls[0].arguments = (
        "press",
        {
            **dict(enter.tool_calls[0].arguments),  # type: ignore[arg-type]
            "key_comb": "Enter",
        },
    )
    one, two = ([row for row in env.effect(way).changes if row["part"] not in POSITION] for way in (click, enter))
    assert one == two and any(row["part"] == "url" for row in one)


def test_signing_in_by_hand(agent: Agent) -> None:
    env = agent.env
    start(env, "tracker.go_away")
    assert "Sign in" in agent.seen and "New ticket" not in agent.seen
    tasks, kind = KINDS["tracker.go_away"]
    built, _, _ = tasks.build(kind, 0)
    assert "New ticket" in do(env, *built.expert[:3])
    seen = do(env, fill("Search tickets", "nothing has these words", "searchbox"), press("Search"))
    assert "0 tickets found" in seen
    seen = do(env, press("Sign out"))
    assert "You are signed out." in seen
    assert "Sign in" in agent.do("goto", url="http://tracker.test/settings")


def test_choosing_from_a_list_by_value_works_too(make_env: MakeEnv) -> None:
    env = make_env()
    start(env, "shop.cheapest_rated")
    seen = do(env, link("All products"), choose("Sort by", "Price: high to low"), press("Apply filters"))
    assert "45 products found" in seen and "Page 1 of 5" in seen
    assert "Page 2 of 5" in do(env, link("Next page"))
