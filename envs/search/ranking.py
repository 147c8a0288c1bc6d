"""Ranking: BM25 by the ``bm25s`` package, or the cosine of embeddings; ties are broken by the document's id."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pivotgym.envs.errors import EndpointError, MissingExtra
from pivotgym.envs.search.corpus import Corpus, Document

_DIGITS = 4
"""Scores are compared to so many decimals, so that another machine's last bit does not change the order."""
_COMMON = (
    "a an and are as at be been but by did do does for from had has have he her his how if in into is it its of on or "
    "she so such than that the their them then there these they this those to was we were what when where which who "
    "whom whose why will with would you your"
)
_STOP = frozenset(_COMMON.split())
_WORD, _POSSESSIVE = re.compile(r"\w+"), re.compile(r"['’]s\b")


class Ranker(ABC):
    """Scores every document of a corpus for a query."""

    @abstractmethod
    def scores(self, query: str) -> NDArray[np.float64]:
        """A score a document, in the corpus's order (by id); what is not above 0 was not found."""


def fold(text: str) -> str:
    """Lower case without accents, so that ``Čapek`` and ``capek`` are one word. Keeps no positions."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in plain if not unicodedata.combining(character))


def words(text: str) -> list[str]:
    """The words of a text as they are indexed: folded, without the most common ones, plural and possessive *s* cut."""
    found = [word for word in _WORD.findall(_POSSESSIVE.sub("", fold(text))) if word not in _STOP]
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in found]


def best(ranker: Ranker, query: str, k: int) -> list[int]:
    """Indices of the ``k`` best documents, best first, equal scores by id (the corpus's order)."""
    rounded = np.round(ranker.scores(query), _DIGITS)
    order = np.argsort(-rounded, kind="stable")[:k]
    return [int(index) for index in order if rounded[index] > 0]


class Bm25(Ranker):
    """Okapi BM25 over title and text (Lucene's variant, k1 = 1.5, b = 0.75), by ``bm25s``; the title counts twice.

    Raises:
        MissingExtra: without the extra ``search``.
    """

    def __init__(self, corpus: Corpus) -> None:
        try:
            import bm25s  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtra("bm25s", "search") from error
        tokens = [words(f"{one.title}\n{one.title}\n{one.text}") or ["-"] for one in corpus.documents.values()]
        self._vocabulary = {word for document in tokens for word in document}
        self._index: Any = bm25s.BM25(method="lucene", backend="numpy", auto_compile=False)
        self._index.index(tokens, show_progress=False)
        self._count = len(tokens)

    def scores(self, query: str) -> NDArray[np.float64]:
        """BM25 scores; 0 where no word of the query occurs."""
        known = [word for word in words(query) if word in self._vocabulary]
        if not known:
            return np.zeros(self._count)
        found: NDArray[np.float64] = np.asarray(self._index.get_scores(known), dtype=np.float64)
        return found


class Encoder(ABC):
    """Turns texts into vectors."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """One row a text."""


class Embeddings(Ranker):
    """Cosine of a query's and each document's embedding (title and text; encoders cut what is too long)."""

    def __init__(self, corpus: Corpus, encoder: Encoder) -> None:
        self._encoder = encoder
        self._matrix = _unit(encoder.encode([_whole(one) for one in corpus.documents.values()]))

    def scores(self, query: str) -> NDArray[np.float64]:
        """Cosines in [-1, 1]."""
        vector = _unit(self._encoder.encode([query]))[0]
        found: NDArray[np.float64] = self._matrix @ vector
        return found


class TransformersEncoder(Encoder):
    """A model of the ``transformers`` package in this process: mean of the last hidden states, on the CPU.

    Args:
        model: a folder, or a name the package knows.
        batch: texts a forward pass.
        max_tokens: longer texts are cut.
    """

    def __init__(self, model: str, batch: int = 16, max_tokens: int = 512) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self._model: Any = AutoModel.from_pretrained(model).eval()
        self._batch, self._max_tokens = batch, max_tokens

    def encode(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Mean-pooled vectors."""
        import torch

        rows: list[NDArray[np.float64]] = []
        for start in range(0, len(texts), self._batch):
            part = list(texts[start : start + self._batch])
            inputs = self._tokenizer(
                part, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
            )
            with torch.inference_mode():
                states = self._model(**inputs).last_hidden_state.double()
            mask = inputs["attention_mask"].unsqueeze(-1).double()
            rows.append(((states * mask).sum(1) / mask.sum(1).clamp(min=1)).numpy())
        return np.concatenate(rows)


class EndpointEncoder(Encoder):
    """An OpenAI-compatible ``/embeddings`` endpoint.

    Args:
        base_url: as ``http://localhost:8000/v1``.
        model: the model's name there.
        api_key: sent as bearer token; servers of one's own need none.
        batch: texts a request.
    """

    def __init__(self, base_url: str, model: str, api_key: str | None = None, batch: int = 64) -> None:
        from openai import OpenAI

        self._client = OpenAI(base_url=base_url, api_key=api_key or "none", timeout=60.0, max_retries=3)
        self._url, self._model_name, self._batch = base_url, model, batch

    def encode(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The endpoint's vectors. Raises EndpointError where it gives none."""
        import openai

        rows: list[list[float]] = []
        for start in range(0, len(texts), self._batch):
            part = list(texts[start : start + self._batch])
            try:
                answer = self._client.embeddings.create(model=self._model_name, input=part, encoding_format="float")
                found = [list(one.embedding) for one in sorted(answer.data, key=lambda one: one.index)]
            except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
                raise EndpointError(f"embeddings {self._model_name} at {self._url}: {error}") from error
            if len(found) != len(part):
                raise EndpointError(f"embeddings {self._model_name} at {self._url}: {len(found)} for {len(part)} texts")
            rows += found
        return np.asarray(rows, dtype=np.float64)


def _whole(document: Document) -> str:
    return f"{document.title}\n{document.text}"


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float64] = vectors / np.where(lengths > 0, lengths, 1.0)
    return found
