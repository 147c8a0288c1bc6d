"""The service desk's long conversations: two or three requests of one customer, all of which have to be served.

What holds for every split (restoring, the expert's rules, regeneration, rewards) is tested in ``test_servicedesk``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.servicedesk import ServiceDesk, bundled_trajectories, scenario_of
from pivotgym.envs.tools.servicedesk.long import LEADS, MAX_TURNS, MIN_TURNS, VARIANTS, introductions
from pivotgym.envs.tools.servicedesk.scenario import Scenario
from pivotgym.envs.tools.servicedesk.user import follow
from pivotgym.envs.trajectory import Message, Trajectory

ROWS = bundled_trajectories("long")


@pytest.fixture
def env() -> Iterator[ToolsEnv]:
    env = ToolsEnv(domain="servicedesk", snapshots=SnapshotStore())
    yield env
    env.close()


def about(row: Trajectory) -> Scenario:
    assert row.task is not None
    return scenario_of(row.task)


def parts(row: Trajectory) -> list[list[int]]:
    """The turns in which the expert serves each request, those of the login before the first left out."""
    texts = [request.next_text for request in about(row).requests[1:]]
    found: list[list[int]] = [[]]
    turn, logged_in = 0, False
    for message in row.messages:
        if message.role == "user" and message.text in texts:
            found.append([])
        elif message.role == "tool" and message.text.startswith('{"tier"'):
            logged_in = True
        elif message.role == "assistant":
            if logged_in:
                found[-1].append(turn)
            turn += 1
    return found


def finish(env: ToolsEnv) -> float:
    """Says nothing of use until the user leaves; the reward of the episode."""
    for _ in range(10):
        _, reward, terminated, _, _ = env.step(Message(role="assistant", content="Bye."))
        if terminated:
            return float(reward)
    raise AssertionError("the user stays for ever")


def test_trajectories_have_6_to_12_turns_spread_over_that_range() -> None:
    lengths = Counter(len(row.turns) for row in ROWS)
    assert sorted(lengths) == list(range(MIN_TURNS, MAX_TURNS + 1)) == list(range(6, 13))
    assert min(lengths.values()) >= len(ROWS) / 15
    assert len(ROWS) >= 120
    assert all(introductions(variant) for variant in VARIANTS)
    assert len(VARIANTS) == len(set(VARIANTS))


def test_one_customer_one_login_two_or_three_requests() -> None:
    sizes = Counter(len(about(row).requests) for row in ROWS)
    assert set(sizes) == {2, 3} and min(sizes.values()) >= 50
    for row in ROWS:
        requests = about(row).requests
        assert sum(message.role == "tool" and message.text.startswith('{"tier"') for message in row.messages) == 1
        said = [message.text for message in row.messages if message.role == "user"]
        assert requests[0].text in said[0]
        # The next wish is not known before it is told, and it is told right after an answer of the expert.
        for request in requests[1:]:
            assert said.count(request.next_text) == 1 and request.next_text.startswith(LEADS)
        served = parts(row)
        assert len(served) == len(requests) and all(served)
        assert all(not row.action(turns[-1]).tool_calls for turns in served)
        orders = [request.order for request in requests if request.order]
        assert len(set(orders)) == len(orders), "no two requests are about one order"


def test_the_expert_wastes_no_turn() -> None:
    """Nothing it asks counts as useless for the user, be it confirmed for one request or for another."""
    assert {follow(about(row), row.messages).useless for row in ROWS} == {0}


def test_the_goal_requires_every_request(env: ToolsEnv) -> None:
    for row in ROWS[::3]:
        served = parts(row)
        for turns in served:
            # Everything before this request is served as recorded; then the agent stops.
            env.reset(options={"trajectory": row, "turn": turns[0], "strict": True})
            assert finish(env) == 0.0, (row.id, turns)


def test_the_goal_requires_every_deed(env: ToolsEnv) -> None:
    """One request is answered as recorded but nothing is done for it; all others are served in full."""
    skipped = 0
    for row in ROWS[::3]:
        requests = about(row).requests
        for request, turns in zip(requests, parts(row), strict=True):
            if not request.calls:
                continue  # it only asks for a look, and the answer is what counts
            env.reset(options={"trajectory": row, "turn": turns[0]})
            ended, info = False, {}
            for turn in range(turns[0], len(row.turns)):
                action = row.action(turn)
                if (turn in turns and action.tool_calls) or ended:
                    continue
                _, reward, ended, _, info = env.step(action)
            if not ended:
                reward = finish(env)
                info = {}
            assert reward == 0.0, (row.id, request.kind)
            assert not info or info["verdict"]["evidence"]["state"]
            skipped += 1
    assert skipped > 60


def test_user_comes_back_to_the_request_at_hand(env: ToolsEnv) -> None:
    row = next(row for row in ROWS if len(about(row).requests) == 3)
    second, third = about(row).requests[1:]
    answers = [row.action(turns[-1]) for turns in parts(row)]
    env.reset(options={"trajectory": row, "turn": parts(row)[1][0]})
    assert env.messages[-1].text == second.next_text
    for said, heard in (
        (Message(role="assistant", content="Nice weather."), second.text),
        (answers[1], third.next_text),
    ):
        env.step(said)
        assert env.messages[-1].text == heard


def test_an_early_answer_to_a_later_request_does_not_count(env: ToolsEnv) -> None:
    """All answers at once settle only the request that was made."""
    for row in ROWS[::10]:
        answers = " ".join(row.action(turns[-1]).text for turns in parts(row))
        env.reset(options={"trajectory": row, "turn": parts(row)[0][-1]})
        _, _, terminated, _, _ = env.step(Message(role="assistant", content=answers))
        assert not terminated
        assert finish(env) == 0.0


def test_tasks_of_the_split_are_the_bundled_ones() -> None:
    assert [row.task for row in ROWS] == list(ServiceDesk().tasks("long"))
