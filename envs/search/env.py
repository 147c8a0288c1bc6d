"""``pivotgym/Search-v0``: an agent that answers questions by searching and reading documents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from pivotgym.envs.core import EnvConfig, Response
from pivotgym.envs.errors import BadInput
from pivotgym.envs.search.corpus import PAGE_CHARS
from pivotgym.envs.search.domain import Grader, SearchDomain
from pivotgym.envs.search.engine import Engine, local_engine
from pivotgym.envs.search.live import LiveApi, live_engine
from pivotgym.envs.search.questions import load_questions
from pivotgym.envs.search.view import Shown
from pivotgym.envs.tools.env import ToolsConfig, ToolsEnv
from pivotgym.envs.trajectory import Message, Task
from pivotgym.envs.verdict import Verdict


class SearchConfig(ToolsConfig):
    """Options of ``pivotgym/Search-v0``.

    Attributes:
        corpus: a folder or JSONL file of documents (see :func:`pivotgym.envs.search.corpus.load_corpus`); default: the
            corpus that ships with the package.
        questions: a file of questions (see :func:`pivotgym.envs.search.questions.load_questions`); default: those that
            ship with the package.
        split: only these of the shipped questions.
        page_chars: length of a page.
        ranker: ``bm25``, or ``embeddings`` with an encoder.
        encoder: a transformers model (name or folder), or with ``encoder_url`` a model of that endpoint.
        encoder_url: an OpenAI-compatible endpoint for embeddings.
        live: search this API instead of a corpus.
        record: with ``live``, JSONL file of requests and answers; default: kept in memory.
        offline: with ``live``, never ask the API: what the record lacks is an error.
        grader: ``match``, or ``judge``: a model decides where the normalised match does not already say yes.
        judge_url: OpenAI-compatible endpoint of the judge; default: ``PIVOTGYM_JUDGE_URL``.
        judge_model: default: ``PIVOTGYM_JUDGE_MODEL``.
        judge_cache: SQLite file that keeps the judge's answers.
    """

    domain: Literal["search"] = "search"
    user: Literal["none"] = "none"
    corpus: Path | None = None
    questions: Path | None = None
    split: Literal["train", "heldout"] | None = None
    page_chars: int = Field(default=PAGE_CHARS, ge=200)
    ranker: Literal["bm25", "embeddings"] = "bm25"
    encoder: str | None = None
    encoder_url: str | None = None
    live: LiveApi | None = None
    record: Path | None = None
    offline: bool = False
    grader: Literal["match", "judge"] = "match"
    judge_url: str | None = None
    judge_model: str | None = None
    judge_cache: Path | None = None


class SearchEnv(ToolsEnv):
    """Questions over a corpus or a live search API.

    An episode ends with the tool ``answer``, or with a text without calls, which is then the answer.
    """

    Config: ClassVar[type[EnvConfig]] = SearchConfig
    default_verifier: ClassVar[str] = "search_effects"
    config: SearchConfig

    @cached_property
    def engine(self) -> Engine:
        """What is searched; shared by all environments of the process with the same options."""
        config = self.config
        if config.live is not None:
            path = str(config.record.resolve()) if config.record is not None else None
            return live_engine(config.live.model_dump_json(), path, config.offline, config.page_chars)
        if config.record is not None or config.offline:
            raise BadInput(
                "belongs to a live search API: give live too", field="record" if config.record else "offline"
            )
        corpus = config.corpus.resolve() if config.corpus is not None else None
        return local_engine(corpus, config.ranker, config.encoder, config.encoder_url, config.page_chars)

    @cached_property
    def domain(self) -> SearchDomain:  # computed once: it depends on the options only
        """The tools over the engine."""
        return SearchDomain(self.engine, self.tasks(), self._grader())

    @property
    def fingerprint(self) -> str:
        """Of the engine: everything else that the state depends on is in the task."""
        return f"SearchEnv {self.engine.fingerprint}"

    def tasks(self) -> Sequence[Task]:
        """The questions of the file, or those that ship with the package."""
        if self.config.questions is not None:
            return _tasks_of(self.config.questions.resolve())
        from pivotgym.envs.search.bundled import tasks

        return tasks(self.config.split)

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        """Executes the calls; while a recording is replayed, a live engine answers from its record alone."""
        self.session.shown = Shown()
        self.session.replaying = any(message.role == "tool" for message in recorded or ())
        try:
            return super().respond(action, recorded)
        finally:
            self.session.replaying = False

    # Inner parts ----------------------------------------------------------------------------------------------

    def _grader(self) -> Grader | None:
        if self.config.grader == "match":
            return None
        config = self.config

        def judged(question: str, given: str, expected: Sequence[str]) -> Verdict:
            from pivotgym.envs.search.judging import answer_judge  # brings the endpoint's client with it

            judge = answer_judge(config.judge_url, config.judge_model, config.judge_cache)
            return judge.grade(question, given, expected)

        return judged


@lru_cache(maxsize=8)
def _tasks_of(path: Path) -> tuple[Task, ...]:
    return tuple(question.task() for question in load_questions(path))
