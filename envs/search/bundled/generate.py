"""Makes what ships with the package: the corpus, the questions, and the experts' trajectories.

``python -m pivotgym.envs.search.bundled.generate`` writes the three files, which the same seed makes again;
``--seed 7 --out FOLDER`` makes another world with its own questions.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tyro

from pivotgym.envs.errors import PivotGymError
from pivotgym.envs.formats.packed import pack_lines
from pivotgym.envs.search.bundled.asking import HELDOUT, Asked, ask
from pivotgym.envs.search.bundled.expert import play
from pivotgym.envs.search.bundled.world import World, build
from pivotgym.envs.search.bundled.writing import Library, write
from pivotgym.envs.search.corpus import PAGE_CHARS, Corpus
from pivotgym.envs.search.domain import SearchDomain
from pivotgym.envs.search.engine import LocalEngine
from pivotgym.envs.search.env import SearchEnv
from pivotgym.envs.search.questions import Question, Support
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import JsonObject, Message, Outcome, Trajectory

GENERATOR = 1
"""Raised whenever the same seed makes other files."""
CORPUS, QUESTIONS, TRAJECTORIES = "corpus.jsonl.gz", "questions.jsonl.gz", "trajectories.jsonl.gz"


@dataclass
class Options:
    """What to make."""

    seed: int = 0
    """Seeds everything that is drawn."""
    out: Path = Path(__file__).parent
    """A folder."""


@dataclass(frozen=True)
class Made:
    """A world, its documents and its questions."""

    world: World
    library: Library
    asked: list[Asked]
    questions: list[Question]

    def corpus(self) -> Corpus:
        """The documents."""
        return Corpus(one.document for one in self.library.written.values())


def make(seed: int = 0) -> Made:
    """Everything but the trajectories."""
    world = build(seed)
    library = write(world, seed)
    asked = ask(world, library, seed)
    heldout = {round(index * len(asked) / HELDOUT) for index in range(HELDOUT)}
    questions = []
    for index, one in enumerate(asked):
        split = "heldout" if index in heldout else "train"
        aliases = [one.answer[4:]] if one.answer.startswith("the ") else []
        questions.append(
            Question(
                id=f"world-{seed}-{split}-{index:02d}",
                question=one.text,
                answers=(one.answer, *aliases),
                metadata={"split": split, "hops": len(one.facts), "relations": list(one.signature)},
                support=_support(world, library, one),
            )
        )
    return Made(world, library, asked, questions)


def _support(world: World, library: Library, asked: Asked) -> tuple[Support, ...]:
    steps = []
    for fact, learned in zip(asked.facts, asked.learned, strict=True):
        steps.append(Support(documents=tuple(library.holders(fact)), states=re.sub("^the ", "", learned)))
    return tuple(steps)


def experts(made: Made, seed: int = 0) -> Iterable[Trajectory]:
    """One trajectory a question, recorded in ``pivotgym/Search-v0`` over these documents.

    Raises:
        PivotGymError: an expert did not earn 1.
    """
    engine = LocalEngine(made.corpus(), page_chars=PAGE_CHARS)
    domain = SearchDomain(engine, [question.task() for question in made.questions])
    env = SearchEnv(snapshots=SnapshotStore(max_bytes=0))
    env.__dict__.update(engine=engine, domain=domain)  # the cached properties: this corpus, not the shipped one
    try:
        for asked, question in zip(made.asked, made.questions, strict=True):
            yield record(env, question, play(domain, made.world, made.library, asked, seed), seed)
    finally:
        env.close()


def record(env: SearchEnv, question: Question, actions: list[Message], seed: int) -> Trajectory:
    """One expert episode. Raises PivotGymError where it does not earn 1."""
    task = question.task()
    env.reset(options={"task": task})
    reward, terminated, info = 0.0, False, JsonObject()
    for action in actions:
        _, reward, terminated, _, info = env.step(action)
    if not terminated or reward != 1.0:
        raise PivotGymError(f"task {task.id}: the expert failed: {info}")
    return Trajectory(
        id=f"search-{task.id}",
        task=task,
        tools=env.tools,
        messages=env.messages,
        outcome=Outcome(reward=reward, termination=info["termination"]),
        source={"made_by": "pivotgym.envs.search.bundled.generate", "generator": GENERATOR, "seed": seed},
    )


def files(seed: int = 0) -> dict[str, list[str]]:
    """The lines of each file, by name."""
    made = make(seed)
    documents = made.corpus().documents.values()
    return {
        CORPUS: [json.dumps({"id": one.id, "title": one.title, "text": one.text}) for one in documents],
        QUESTIONS: [
            json.dumps(
                {
                    "id": one.id,
                    "problem": one.question,
                    "answers": list(one.answers),
                    "metadata": one.metadata,
                    "support": [step.model_dump(mode="json") for step in one.support],
                },
                ensure_ascii=False,
            )
            for one in made.questions
        ],
        TRAJECTORIES: [one.model_dump_json(exclude_defaults=True) for one in experts(made, seed)],
    }


def main(options: Options) -> None:
    """Writes the files."""
    options.out.mkdir(parents=True, exist_ok=True)
    for name, lines in files(options.seed).items():
        packed = pack_lines(lines)
        (options.out / name).write_bytes(packed)
        sys.stdout.write(f"{len(lines)} rows, {len(packed)} bytes: {options.out / name}\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
