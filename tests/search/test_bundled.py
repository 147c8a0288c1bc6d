"""The shipped corpus, its questions and its experts."""

from __future__ import annotations

import gzip
from contextlib import closing
from importlib.resources import files

import gymnasium as gym
import pytest

from pivotgym.envs.check import check_env_laws
from pivotgym.envs.errors import BadInput
from pivotgym.envs.search.bundled import bundled_trajectories, corpus, questions, tasks
from pivotgym.envs.search.bundled import generate as generator
from pivotgym.envs.search.bundled.asking import STEPS, hidden, names, solutions
from pivotgym.envs.search.bundled.generate import Made, make
from pivotgym.envs.search.env import SearchEnv
from pivotgym.envs.search.grading import matches
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import Message, Trajectory


@pytest.fixture(scope="module")
def made() -> Made:
    return make(0)


@pytest.fixture(scope="module")
def recorded() -> list[Trajectory]:
    return bundled_trajectories()


def fresh() -> SearchEnv:
    env = gym.make("pivotgym/Search-v0", disable_env_checker=True, snapshots=SnapshotStore()).unwrapped
    assert isinstance(env, SearchEnv)
    return env


def test_the_generator_makes_the_shipped_files_again() -> None:
    for name, lines in generator.files(0).items():
        packed = files("pivotgym.envs.search.bundled").joinpath(name).read_bytes()
        assert gzip.decompress(packed).decode().splitlines() == lines, name


def test_another_seed_makes_another_world_with_as_many_questions(made: Made) -> None:
    other = make(7)
    assert len(other.questions) == len(made.questions)
    assert not {one.question for one in other.questions} & {one.question for one in made.questions}


def test_sizes_and_splits() -> None:
    assert len(corpus()) >= 250
    assert len(questions()) == 66 and len(questions("train")) == 44 and len(questions("heldout")) == 22
    assert len(tasks()) == 66 and len({task.id for task in tasks()}) == 66
    hops = [one.metadata["hops"] for one in questions()]
    assert set(hops) == {2, 3, 4} and min(hops.count(number) for number in (2, 3, 4)) >= 10
    for split in ("train", "heldout"):
        assert {one.metadata["hops"] for one in questions(split)} == {2, 3, 4}
    with pytest.raises(BadInput, match="no split 'test'"):
        questions("test")


def test_documents_differ_in_more_than_their_names() -> None:
    texts = [one.text for one in corpus().documents.values()]
    assert len(set(texts)) == len(texts)
    openings = {" ".join(text.split()[:3]) for text in texts}
    assert len(openings) > 150
    linked = sum("See also: [" in text for text in texts)
    assert linked > 80
    ids = set(corpus().documents)
    for text in texts:
        for part in text.split("See also: ")[1:]:
            for link in part.split("; "):
                assert link.strip()[1:].split("]")[0] in ids


def test_every_question_has_one_answer(made: Made) -> None:
    """Walked again with every subject of an inverse step, from the anchor's kind and the relations alone."""
    for asked in made.asked:
        kinds = ["ship"] if made.world.inverse("ship", asked.anchor) else []
        kinds += [entity.kind for entity in made.world.entities.values() if entity.name == asked.anchor]
        found = []
        for kind in kinds:
            path, here = [], kind
            for relation in asked.signature[:-1]:
                step = next((one for one in STEPS if one.kind == here and one.relation == relation), None)
                if step is None:
                    break
                path.append(STEPS.index(step))
                here = step.to
            else:
                found += [solutions(made.world, asked.anchor, kind, tuple(path), asked.signature[-1])]
        assert len(found) == 1 and {made.world.said(value) for value in found[0]} == {asked.answer}, asked.text


def test_answers_and_anchors_are_shared_by_no_two_questions() -> None:
    found = questions()
    for position, one in enumerate(found):
        for other in found[position + 1 :]:
            assert not any(matches(mine, theirs) for mine in one.answers for theirs in other.answers)


def test_no_document_gives_an_answer_away(made: Made) -> None:
    texts = {name: f"{one.title}\n{one.text}" for name, one in corpus().documents.items()}
    for asked, question in zip(made.asked, made.questions, strict=True):
        assert hidden(made.world, made.library, texts, asked)
        both = set.intersection(*(set(step.documents) for step in question.support))
        assert not both, asked.text
        assert not any(names(text, asked.answer) and names(text, asked.anchor) for text in texts.values())


def test_the_facts_stand_where_the_support_says() -> None:
    for question in questions():
        assert question.support[-1].states in question.answers
        for step in question.support:
            for name in step.documents:
                assert names(corpus().documents[name].text, step.states), (question.id, name, step.states)


def test_experts_take_four_to_ten_turns_and_use_every_tool(recorded: list[Trajectory]) -> None:
    assert len(recorded) == 66
    assert all(4 <= len(one.turns) <= 10 for one in recorded)
    used = [call.name for one in recorded for message in one.messages for call in message.tool_calls]
    assert {name: used.count(name) >= 15 for name in ("search", "open", "find", "answer")} == dict.fromkeys(
        ("search", "open", "find", "answer"), True
    )


def test_every_expert_restores_at_every_turn_and_earns_1(recorded: list[Trajectory]) -> None:
    with closing(fresh()) as env:
        for one in recorded:
            for turn in range(len(one.turns)):
                _, info = env.reset(options={"trajectory": one, "turn": turn})
                assert info["restore"].fidelity == 1.0 and info["restore"].faithful
            _, reward, terminated, _, found = env.step(one.action(turn))
            assert (reward, terminated, found["termination"]) == (1.0, True, "answered")


def test_every_expert_replayed_from_the_start_shows_what_was_recorded(recorded: list[Trajectory]) -> None:
    with closing(fresh()) as env:
        for one in recorded[::3]:
            env.reset(options={"task": one.task})
            for turn in range(len(one.turns)):
                env.step(one.action(turn))
            assert [message.chat() for message in env.messages] == [message.chat() for message in one.messages]


def test_wrong_answers_and_doing_nothing_earn_0(recorded: list[Trajectory]) -> None:
    others = [one.answers[0] for one in questions()]
    with closing(fresh()) as env:
        for position, one in enumerate(recorded):
            last = len(one.turns) - 1
            for text in (others[(position + 1) % len(others)], "I do not know", "unknown"):
                env.reset(options={"trajectory": one, "turn": last})
                action = Message.model_validate(
                    {"role": "assistant", "tool_calls": [{"name": "answer", "arguments": {"text": text}}]}
                )
                assert env.step(action)[1:3] == (0.0, True)
            env.reset(options={"task": one.task})
            done, rewards = False, []
            while not done:  # an empty message is malformed; three in a row end the episode
                _, reward, terminated, truncated, _ = env.step("")
                done, rewards = terminated or truncated, [*rewards, reward]
            assert set(rewards) == {0.0}


def test_an_episode_without_an_answer_is_cut_off_with_0(recorded: list[Trajectory]) -> None:
    env = gym.make("pivotgym/Search-v0", disable_env_checker=True, max_turns=2).unwrapped
    with closing(env):
        env.reset(options={"task": recorded[0].task})
        env.step(recorded[0].action(0))
        _, reward, terminated, truncated, info = env.step(recorded[0].action(1))
        assert (reward, terminated, truncated, info["termination"]) == (0.0, False, True, "max_turns")


def test_no_answer_is_in_a_prompt_nor_anything_of_the_task_beside_the_question(recorded: list[Trajectory]) -> None:
    with closing(fresh()) as env:
        for one, question in zip(recorded, questions(), strict=True):
            observation, info = env.reset(options={"task": one.task})
            assert question.question in observation
            shown = observation + repr(env.tools) + repr(info)
            assert not any(names(shown, answer) for answer in question.answers)
            assert not any(name in shown for step in question.support for name in step.documents)


def test_tools_show_only_what_documents_say(recorded: list[Trajectory]) -> None:
    """Every line of a search result's snippet and of a page is text of the corpus."""
    whole = {name: " ".join(one.text.split()) for name, one in corpus().documents.items()}
    for one in recorded[::5]:
        for message in one.messages:
            if message.role == "tool" and message.text.startswith("1. ["):
                rows = message.text.split("\n")
                for head, snippet in zip(rows[::2], rows[1::2], strict=True):
                    name = head.split("[")[1].split("]")[0]
                    assert snippet.strip(" …") in whole[name]
            elif message.role == "tool" and message.text.startswith("["):
                name = message.text[1:].split("]")[0]
                for paragraph in message.text.split("\n\n")[1:]:
                    assert " ".join(paragraph.split()) in whole[name]


def test_the_laws_hold_on_the_experts(recorded: list[Trajectory]) -> None:
    report = check_env_laws("pivotgym/Search-v0", recorded[::7], max_turns_checked=8, resets=10)
    assert [(one.law, one.detail) for one in report.results if not one.passed] == []
    assert report.result("fidelity").checked >= 20


def test_the_laws_hold_on_random_actions() -> None:
    report = check_env_laws("pivotgym/Search-v0", seed=3, max_turns_checked=6, resets=5)
    assert [(one.law, one.detail) for one in report.results if not one.passed] == []
