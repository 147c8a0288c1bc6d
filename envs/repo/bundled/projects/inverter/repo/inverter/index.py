"""The inverted index: from a word to the places where it stands."""

from __future__ import annotations

from collections import defaultdict

from .query import Clause, read_query
from .words import words_of


class TextIndex:
    """Documents under names, searchable by word and phrase."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, list[int]]] = defaultdict(dict)
        self._texts: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, name: str, text: str) -> None:
        """Add a document, or replace the one of that name."""
        self.remove(name)
        self._texts[name] = text
        for place, word in enumerate(words_of(text)):
            self._places[word.form].setdefault(name, []).append(place)

    def remove(self, name: str) -> None:
        """Take a document out; nothing happens if there is none of that name."""
        for word in words_of(self._texts.pop(name, "")):
            self._places[word.form].pop(name, None)
            if not self._places[word.form]:
                del self._places[word.form]

    def text(self, name: str) -> str:
        """The document as it was added."""
        return self._texts[name]

    def vocabulary(self) -> list[str]:
        """All comparable words of all documents, in order."""
        return sorted(self._places)

    def _hits(self, phrase: tuple[str, ...]) -> dict[str, int]:
        """How often a phrase occurs, by document."""
        hits = {}
        for name, places in self._places.get(phrase[0], {}).items():
            follow = [set(self._places.get(form, {}).get(name, ())) for form in phrase[1:]]
            count = sum(all(place + step in there for step, there in enumerate(follow, start=1)) for place in places)
            if count:
                hits[name] = count
        return hits

    def _satisfying(self, clause: Clause) -> dict[str, int]:
        found = [self._hits(phrase) for phrase in clause.wanted]
        names = set.intersection(*(set(hits) for hits in found))
        for phrase in clause.unwanted:
            names -= set(self._hits(phrase))
        return {name: sum(hits[name] for hits in found) for name in names}

    def search(self, query: str) -> list[str]:
        """The names of the documents that satisfy a query, most hits first."""
        scores: dict[str, int] = defaultdict(int)
        for clause in read_query(query):
            for name, score in self._satisfying(clause).items():
                scores[name] += score
        return sorted(scores, key=lambda name: (-scores[name], name))
