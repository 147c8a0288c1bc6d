"""The verifier of search turns, on labelled actions at the experts' turns, and on recordings without known facts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gymnasium as gym
import pytest

from pivotgym.envs.errors import BadInput
from pivotgym.envs.search.bundled import bundled_trajectories, corpus, questions
from pivotgym.envs.search.env import SearchEnv
from pivotgym.envs.search.questions import Support, support_of
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import Message, Task, Trajectory
from pivotgym.verifiers import make
from pivotgym.verifiers.exact import ExactMatch
from pivotgym.verifiers.search import SearchEffects, next_fact

Calls = list[tuple[str, dict[str, Any]]]


def acting(*calls: tuple[str, dict[str, Any]]) -> Message:
    rows = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return Message.model_validate({"role": "assistant", "tool_calls": rows})


def search(query: str, k: int = 5) -> tuple[str, dict[str, Any]]:
    return "search", {"query": query, "k": k}


def opening(document: str, page: int = 1) -> tuple[str, dict[str, Any]]:
    return "open", {"document": document, "page": page}


def finding(text: str) -> tuple[str, dict[str, Any]]:
    return "find", {"text": text}


def answering(text: str) -> tuple[str, dict[str, Any]]:
    return "answer", {"text": text}


@pytest.fixture(scope="module")
def env() -> Iterator[SearchEnv]:
    made = gym.make("pivotgym/Search-v0", disable_env_checker=True, snapshots=SnapshotStore()).unwrapped
    assert isinstance(made, SearchEnv)
    with closing(made):
        yield made


@pytest.fixture(scope="module")
def recorded() -> list[Trajectory]:
    return bundled_trajectories()


def judged(env: SearchEnv, one: Trajectory, turn: int, action: Message) -> float:
    env.reset(options={"trajectory": one, "turn": turn})
    return SearchEffects().verify(env, action).reward


def first(one: Trajectory, tool: str) -> int:
    return next(t for t in range(len(one.turns)) if one.action(t).tool_calls[0].name == tool)


def arguments_of(one: Trajectory, turn: int) -> dict[str, Any]:
    arguments = one.action(turn).tool_calls[0].arguments
    assert isinstance(arguments, dict)
    return arguments


def starting_with(recorded: list[Trajectory], *tools: str) -> list[Trajectory]:
    return [one for one in recorded if [one.action(t).tool_calls[0].name for t in range(len(tools))] == list(tools)]


def labelled(one: Trajectory) -> list[tuple[str, int, Message, bool]]:
    """(what it is, turn, action, whether it is right), made from what the task knows and the corpus says."""
    assert one.task is not None
    steps = support_of(one.task)
    right = str(one.task.data["expected"]["answers"][0])
    anchor = arguments_of(one, 0)["query"]
    holder = steps[0].documents[0]
    title = corpus().documents[holder].title
    page = next(
        (number for number in range(1, 9) if steps[0].states in _page(holder, number)), 1
    )  # where the fact stands
    last = len(one.turns) - 1
    elsewhere = next(name for name in corpus().documents if not any(name in step.documents for step in steps))
    rows: list[tuple[str, int, Message, bool]] = [
        ("the demonstration", 0, one.action(0), True),
        ("other words for the same", 0, acting(search(f"information about {anchor} please")), True),
        ("the title of a document that holds the fact", 0, acting(search(title, 3)), True),
        ("opening that document at once", 0, acting(opening(holder, page)), True),
        ("something else", 0, acting(search("sheep wool uplands dialect")), False),
        ("nothing that exists", 0, acting(search("qwertz")), False),
        ("another document", 0, acting(opening(elsewhere)), False),
        ("a document that is not there", 0, acting(opening("no-such-document")), False),
        ("find where nothing is open", 0, acting(finding(str(anchor))), False),
        ("a guess", 0, acting(answering(right)), False),
        ("a text", 0, Message(role="assistant", content=right), False),
        ("too many calls", 0, acting(*[search(f"{anchor} {word}") for word in ("a", "b", "c")]), False),
        ("no such tool", 0, acting(("browse", {"query": anchor})), False),
        ("the right answer", last, acting(answering(right)), True),
        ("the right answer as a text", last, Message(role="assistant", content=f"Final answer: **{right}**."), True),
        ("another answer", last, acting(answering("Amsterdam")), False),
        ("more than one answer", last, acting(answering(f"{right} or Amsterdam")), False),
        ("still searching", last, acting(search(right)), False),
        ("no answer", last, acting(answering(" ")), False),
    ]
    return rows


def _page(document: str, number: int) -> str:
    from pivotgym.envs.search.corpus import Paged

    return " ".join(one.text for one in Paged(corpus().documents[document]).page(number))


def test_labelled_actions(env: SearchEnv, recorded: list[Trajectory]) -> None:
    """Every label on six experts; exact match is the baseline that it has to beat."""
    wrong: list[str] = []
    hits = 0
    exact = total = 0
    for one in starting_with(recorded, "search", "open")[::11]:
        for what, turn, action, label in labelled(one):
            env.reset(options={"trajectory": one, "turn": turn})
            verdict = SearchEffects().verify(env, action)
            total += 1
            hits += (verdict.reward == 1.0) == label
            exact += (ExactMatch().verify(env, action).reward == 1.0) == label
            if (verdict.reward == 1.0) != label:
                wrong.append(f"{one.id} turn {turn}: {what}: {verdict.reason}")
    assert wrong == []
    assert total >= 80 and exact < hits == total


def test_every_demonstration_is_right_and_some_other_experts_action_is_not(
    env: SearchEnv, recorded: list[Trajectory]
) -> None:
    lucky = 0
    for one, other in zip(recorded, [*recorded[1:], recorded[0]], strict=True):
        for turn in range(len(one.turns)):
            assert judged(env, one, turn, one.action(turn)) == 1.0, (one.id, turn)
        lucky += judged(env, one, 0, other.action(0)) == 1.0  # its results happen to hold the document
        assert judged(env, one, len(one.turns) - 1, other.action(len(other.turns) - 1)) == 0.0
    assert lucky <= 3


def test_reading_is_right_by_any_tool_that_shows_the_passage(env: SearchEnv, recorded: list[Trajectory]) -> None:
    checked = 0
    for one in recorded:
        found = [t for t in range(len(one.turns)) if one.action(t).tool_calls[0].name == "find"]
        for turn in found:
            env.reset(options={"trajectory": one, "turn": turn})
            fact = next_fact(env)
            document = env.session.view.document
            if fact is None or document not in fact.documents:  # a snippet has told it before
                continue
            paged = env.engine.read(str(document))
            assert paged is not None
            page = next(passage.page for passage in paged.passages if fact.states in passage.text)
            verifier = SearchEffects()
            assert verifier.verify(env, acting(opening(str(document), page))).reward == 1.0
            assert verifier.verify(env, acting(finding(fact.states))).reward == 1.0
            assert verifier.verify(env, acting(finding("zebra"))).reward == 0.0
            assert verifier.verify(env, acting(opening(str(document), env.session.view.page))).reward == 0.0
            checked += 1
    assert checked >= 10


def test_opening_another_document_that_states_the_fact_is_right(env: SearchEnv, recorded: list[Trajectory]) -> None:
    checked = 0
    for one in recorded:
        for turn in range(len(one.turns)):
            if one.action(turn).tool_calls[0].name != "open":
                continue
            env.reset(options={"trajectory": one, "turn": turn})
            fact, wanted = next_fact(env), arguments_of(one, turn)["document"]
            if fact is None or wanted not in fact.documents:
                continue
            for name in fact.documents:
                if name != wanted and fact.states in _page(name, 1):
                    assert SearchEffects().verify(env, acting(opening(name))).reward == 1.0, (one.id, turn, name)
                    checked += 1
            hits = [hit[0] for hit in env.session.view.hits if hit[0] not in fact.documents]
            if hits:
                assert SearchEffects().verify(env, acting(opening(hits[0]))).reward == 0.0
    assert checked >= 3


def test_results_beyond_the_tenth_do_not_count(env: SearchEnv, recorded: list[Trajectory]) -> None:
    checked = 0
    for one in recorded:
        assert one.task is not None
        holders = support_of(one.task)[0].documents
        for query in ("born in the town by the river", "firm company works", "opened plans building", "year"):
            ids = [hit.id for hit in env.engine.search(query, 20)]
            beyond = set(ids[10:]) & set(holders)
            if beyond and not set(ids[:10]) & set(holders):
                assert judged(env, one, 0, acting(search(query, 20))) == 0.0
                checked += 1
    assert checked >= 1


def without_support(one: Trajectory) -> Trajectory:
    assert one.task is not None
    data = {key: value for key, value in one.task.data.items() if key not in ("support", "expected")}
    return one.model_copy(update={"task": Task(env=one.task.env, id=one.task.id, data=data)})


def test_a_recording_without_known_facts_is_judged_by_what_it_opens(env: SearchEnv, recorded: list[Trajectory]) -> None:
    for one in [without_support(one) for one in starting_with(recorded, "search", "open")[::9]]:
        opened = arguments_of(one, 1)["document"]
        if not any(opened == hit.id for hit in env.engine.search(arguments_of(one, 0)["query"], 5)):
            continue
        assert next_fact_at(env, one, 0) is None
        assert judged(env, one, 0, one.action(0)) == 1.0
        assert judged(env, one, 0, acting(search(corpus().documents[opened].title, 2))) == 1.0
        assert judged(env, one, 0, acting(opening(opened))) == 1.0
        assert judged(env, one, 0, acting(search("sheep wool uplands dialect"))) == 0.0
        last = len(one.turns) - 1
        said = arguments_of(one, last)["text"]
        assert judged(env, one, last, acting(answering(f"The answer is {said}."))) == 1.0
        assert judged(env, one, last, acting(answering(said + " Junior"))) == 0.0
        assert judged(env, one, 1, one.action(1)) == 1.0
        assert judged(env, one, 1, acting(search(corpus().documents[opened].title, 2))) == 0.0


def next_fact_at(env: SearchEnv, one: Trajectory, turn: int) -> Support | None:
    env.reset(options={"trajectory": one, "turn": turn})
    return next_fact(env)


def test_a_search_that_leads_nowhere_must_show_the_same_documents(env: SearchEnv, recorded: list[Trajectory]) -> None:
    plain = without_support(recorded[0])
    actions = [
        acting(search("copper kettle chess by post", 3)),
        acting(search("Vannic Ice", 3)),
        acting(answering("x")),
    ]
    task = plain.task
    env.reset(options={"task": task})
    for action in actions:
        env.advance(action)
    one = Trajectory(id="idle", task=task, tools=env.tools, messages=env.messages)
    assert judged(env, one, 0, acting(search("chess by post, copper kettle", 5))) == 1.0
    assert judged(env, one, 0, acting(search("Vannic Ice", 3))) == 0.0
    assert judged(env, one, 0, acting(search("copper kettle chess by post", 1))) == 0.0


def test_the_next_fact_is_the_first_that_nothing_has_shown(env: SearchEnv, recorded: list[Trajectory]) -> None:
    for one, question in zip(recorded, questions(), strict=True):
        steps = list(question.support)
        seen = [next_fact_at(env, one, turn) for turn in range(len(one.turns))]
        assert seen[0] == steps[0] and seen[-1] is None
        order = [steps.index(step) for step in seen if step is not None]
        assert order == sorted(order)


def test_the_verifier_is_the_default_and_changes_nothing(recorded: list[Trajectory]) -> None:
    assert SearchEnv.default_verifier == "search_effects" and isinstance(make("search_effects"), SearchEffects)
    made = gym.make("pivotgym/Search-v0", disable_env_checker=True, verifier="default").unwrapped
    assert isinstance(made, SearchEnv)
    with closing(made):
        made.reset(options={"trajectory": recorded[0], "turn": 2})
        view = made.session.view
        _, reward, terminated, _, info = made.step(recorded[0].action(2))
        assert (reward, terminated, info["verdict"]["rule"]) == (1.0, True, "search_effects")
        assert made.session.view is view


def test_goal_and_continuation_work_here_too(env: SearchEnv, recorded: list[Trajectory]) -> None:
    one = starting_with(recorded, "search", "open")[0]
    assert one.task is not None
    last, right = len(one.turns) - 1, str(one.task.data["expected"]["answers"][0])
    for text, reward in ((right, 1.0), ("Amsterdam", 0.0)):
        env.reset(options={"trajectory": one, "turn": last})
        assert make("goal").verify(env, acting(answering(text))).reward == reward
    env.reset(options={"trajectory": one, "turn": 0})
    assert make("continuation").verify(env, acting(search("something else entirely"))).reward == 1.0
    assert make("continuation").verify(env, acting(answering("Amsterdam"))).reward == 0.0


def test_it_judges_searches_only(recorded: list[Trajectory]) -> None:
    made = gym.make("pivotgym/Tools-v0", disable_env_checker=True).unwrapped
    with closing(made):
        made.reset(seed=0)
        with pytest.raises(BadInput, match="does not search"):
            SearchEffects().verify(made, recorded[0].action(0))  # type: ignore[arg-type]
