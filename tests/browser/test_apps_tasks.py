"""The applications' tasks, played over plain HTTP: experts reach the goal, wrong ways and doing nothing do not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from apps_client import Client

from pivotgym.envs.browser.apps.shop import ShopTasks
from pivotgym.envs.browser.apps.spec import Step
from pivotgym.envs.browser.apps.taskset import SEEDS, AppTasks
from pivotgym.envs.browser.apps.tracker import TrackerTasks
from pivotgym.envs.browser.tasks import BrowserTask, Final
from pivotgym.envs.verdict import Verdict

SETS: list[AppTasks] = [ShopTasks(), TrackerTasks()]
KINDS = [pytest.param(tasks, kind, id=f"{tasks.name}.{kind}") for tasks in SETS for kind in tasks.builders]


def play(tasks: AppTasks, kind: str, seed: int, steps: Sequence[Step]) -> Verdict:
    task = tasks.make(kind, seed)
    spec = BrowserTask.of(task)
    site = tasks.open(task, spec)
    try:
        client = Client(site, spec.url)
        client.run(steps)
        answer = client.said[-1] if client.said else None
        return tasks.goal(task, Final(view=None, site=site, answer=answer))
    finally:
        site.close()


@pytest.mark.parametrize(("tasks", "kind"), KINDS)
@pytest.mark.parametrize(
    "seed", [*range(SEEDS), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(SEEDS, 25))]
)
def test_expert_reaches_the_goal(tasks: AppTasks, kind: str, seed: int) -> None:
    built, _, _ = tasks.build(kind, seed)
    assert 3 <= len(built.expert) <= 12
    verdict = play(tasks, kind, seed, built.expert)
    assert verdict.reward == 1.0, verdict.reason


@pytest.mark.parametrize(("tasks", "kind"), KINDS)
def test_doing_nothing_or_saying_done_earns_nothing(tasks: AppTasks, kind: str) -> None:
    for seed in range(SEEDS):
        assert play(tasks, kind, seed, []).reward == 0.0
        assert play(tasks, kind, seed, [Step("send_msg_to_user", value="Done.")]).reward == 0.0


@pytest.mark.parametrize(("tasks", "kind"), KINDS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_wrong_ways_earn_nothing(tasks: AppTasks, kind: str, seed: int) -> None:
    built, _, _ = tasks.build(kind, seed)
    assert built.wrong
    for why, steps in built.wrong.items():
        assert play(tasks, kind, seed, steps).reward == 0.0, why
