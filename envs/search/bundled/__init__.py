"""The corpus, the questions and the expert trajectories that ship with the package.

An invented world of towns, people, companies, expeditions, works and events in 346 documents (articles, register
entries, obituaries, letters, notices, pamphlets, reports, surveys, rolls), and 66 questions that take two to four facts
from different documents: 44 in the split ``train``, 22 in ``heldout``. No two questions share their answer or what
they name; that every answer is the only one, and that no document gives it away, is checked when they are made
(:mod:`pivotgym.envs.search.bundled.asking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import as_file, files

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.packed import unpack
from pivotgym.envs.search.corpus import Corpus, load_corpus
from pivotgym.envs.search.questions import Question, load_questions
from pivotgym.envs.trajectory import Task, Trajectory

SPLITS = ("train", "heldout")


@lru_cache
def corpus() -> Corpus:
    """The documents."""
    with as_file(files(__package__).joinpath("corpus.jsonl.gz")) as path:
        return load_corpus(path)


@lru_cache
def _questions() -> tuple[Question, ...]:
    with as_file(files(__package__).joinpath("questions.jsonl.gz")) as path:
        return tuple(load_questions(path))


def questions(split: str | None = None) -> list[Question]:
    """The questions of a split, or all. Raises BadInput for a split that does not exist."""
    if split is not None and split not in SPLITS:
        raise BadInput(f"no split {split!r}; there are {', '.join(SPLITS)}", field="split")
    return [one for one in _questions() if split is None or one.metadata["split"] == split]


@lru_cache
def tasks(split: str | None = None) -> Sequence[Task]:
    """Their tasks."""
    return tuple(one.task() for one in questions(split))


def bundled_trajectories(split: str | None = None) -> list[Trajectory]:
    """The experts' recorded episodes, one a question of the split (default: of all). Raises BadInput as above."""
    wanted = {one.id for one in questions(split)}
    packed = files(__package__).joinpath("trajectories.jsonl.gz").read_bytes()
    rows = unpack(packed)
    return [row for row in rows if row.task is not None and row.task.id in wanted]
