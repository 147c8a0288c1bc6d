"""Search engines: one interface over a local corpus and over a live search API (:mod:`pivotgym.envs.search.live`)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pivotgym.envs.errors import BadInput, ToolServerError
from pivotgym.envs.search.corpus import PAGE_CHARS, Corpus, Paged, Passage, load_corpus
from pivotgym.envs.search.ranking import (
    Bm25,
    Embeddings,
    Encoder,
    EndpointEncoder,
    Ranker,
    TransformersEncoder,
    best,
    words,
)
from pivotgym.envs.trajectory import canonical_json, digest

SNIPPET_CHARS = 220
"""Longest piece of a passage shown with a search result."""


class NotRecorded(ToolServerError):
    """A request that the record of a live session does not have, where only the record may be asked."""


class Unreadable(Exception):
    """A document that was found but cannot be read (gone, no text); the agent is told why."""


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes:
        id: what ``open`` takes.
        title: one line.
        url: the document's address, or empty.
        snippet: the piece that fits the query best.
        page: where the snippet stands (1-based), 0 where nobody knows.
        pages: how many pages the document has, 0 where nobody knows.
    """

    id: str
    title: str
    url: str = ""
    snippet: str = ""
    page: int = 0
    pages: int = 0


class Engine(ABC):
    """Finds documents and reads them. One instance serves many episodes."""

    fingerprint: str = ""
    """Equal for engines that give the same answers."""
    needs_hits: bool = False
    """Whether only documents that a search has shown may be opened (a live engine must not fetch what it is told)."""

    @abstractmethod
    def search(self, query: str, k: int, *, recorded_only: bool = False) -> list[Hit]:
        """The ``k`` best documents, best first.

        Args:
            query: words.
            k: at most so many.
            recorded_only: answer from the record alone; without meaning for a local corpus.

        Raises:
            NotRecorded: only the record may be asked, and it does not have this request.
            InfrastructureError: the engine failed.
        """

    @abstractmethod
    def read(self, name: str, url: str = "", *, recorded_only: bool = False) -> Paged | None:
        """A document by the id (or, local, the address) ``name``; None where there is none. Errors as ``search``.

        Raises:
            Unreadable: it is there, but has no text.
        """


class LocalEngine(Engine):
    """A corpus and a ranker.

    Args:
        corpus: what is searched.
        ranker: default BM25.
        page_chars: length of a page.
        label: tells rankers apart in the fingerprint.
    """

    def __init__(
        self, corpus: Corpus, ranker: Ranker | None = None, page_chars: int = PAGE_CHARS, label: str = "bm25"
    ) -> None:
        self.corpus, self._page_chars = corpus, page_chars
        self._ranker = ranker or Bm25(corpus)
        self._ids = list(corpus.documents)
        self._paged: dict[str, Paged] = {}
        self._words: dict[str, list[frozenset[str]]] = {}
        self.fingerprint = digest(canonical_json([corpus.digest, label, page_chars]))

    def search(self, query: str, k: int, *, recorded_only: bool = False) -> list[Hit]:
        """The best documents with their best passages."""
        return [self._hit(self._ids[index], query) for index in best(self._ranker, query, k)]

    def read(self, name: str, url: str = "", *, recorded_only: bool = False) -> Paged | None:
        """A document by id or address."""
        if name not in self.corpus.documents:
            name = self.corpus.addresses.get(name, "")
        if name not in self.corpus.documents:
            return None
        if name not in self._paged:
            self._paged[name] = Paged(self.corpus.documents[name], self._page_chars)
        return self._paged[name]

    def _hit(self, name: str, query: str) -> Hit:
        paged = self.read(name)
        assert paged is not None
        passage = self._best_passage(paged, query)
        snippet = cut_around(passage.text, query) if passage is not None else ""
        page = passage.page if passage is not None else 1
        return Hit(name, paged.document.title, paged.document.url, snippet, page, paged.count)

    def _best_passage(self, paged: Paged, query: str) -> Passage | None:
        """The passage with most different words of the query, the first of several."""
        name = paged.document.id
        if name not in self._words:
            self._words[name] = [frozenset(words(passage.text)) for passage in paged.passages]
        wanted = set(words(query))
        counts = [len(wanted & known) for known in self._words[name]]
        return paged.passages[counts.index(max(counts))] if counts else None


def cut_around(text: str, query: str, limit: int = SNIPPET_CHARS) -> str:
    """At most ``limit`` characters of whole words from where most different words of the query stand together."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    wanted = set(words(query))
    tokens = [(found.start(), found.end(), word) for found in re.finditer(r"\S+", text) for word in words(found[0])]
    places = [token for token in tokens if token[2] in wanted]
    sentences = {0, *(found.end() for found in re.finditer(r"[.!?]\s+", text))}
    starts = sorted(sentences | {begin for begin, _, _ in places})

    def told(start: int) -> tuple[int, bool, int]:
        held = {word for begin, end, word in places if begin >= start and end <= start + limit}
        return len(held), start in sentences, -start

    start = max(starts, key=told)
    end = len(text) if start + limit >= len(text) else text.rfind(" ", start, start + limit)
    end = end if end > start else start + limit
    return ("… " if start else "") + text[start:end].strip() + (" …" if end < len(text) else "")


@lru_cache(maxsize=8)
def local_engine(path: Path | None, ranker: str, encoder: str | None, encoder_url: str | None, chars: int) -> Engine:
    """The engine over the corpus at ``path`` (default: the bundled one), made once a process.

    Raises:
        BadInput: a ranker without an encoder, or a corpus that cannot be read.
    """
    if path is None:
        from pivotgym.envs.search.bundled import corpus

        documents = corpus()
    else:
        documents = load_corpus(path)
    if ranker == "bm25":
        return LocalEngine(documents, page_chars=chars)
    if encoder is None:
        raise BadInput("ranker='embeddings' needs an encoder: a model's name or folder", field="encoder")
    made: Encoder = EndpointEncoder(encoder_url, encoder) if encoder_url else TransformersEncoder(encoder)
    return LocalEngine(documents, Embeddings(documents, made), chars, label=f"embeddings {encoder} {encoder_url or ''}")
