"""Reading queries."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .words import words_of

_PART = re.compile(r'(-?)"([^"]*)"|(-?)(\S+)')


@dataclass
class Clause:
    """Phrases that must all occur, and phrases that must not. A single word is a short phrase."""

    wanted: list[tuple[str, ...]] = field(default_factory=list)
    unwanted: list[tuple[str, ...]] = field(default_factory=list)


def read_query(text: str) -> list[Clause]:
    """The clauses of a query; a document has to satisfy one of them."""
    clauses = [Clause()]
    for found in _PART.finditer(text):
        minus = found.group(1) or found.group(3)
        body = found.group(2) if found.group(2) is not None else found.group(4)
        if found.group(0) == "OR":
            clauses.append(Clause())
            continue
        phrase = tuple(word.form for word in words_of(body))
        if phrase:
            (clauses[-1].unwanted if minus else clauses[-1].wanted).append(phrase)
    return [clause for clause in clauses if clause.wanted]


def wanted_phrases(text: str) -> list[tuple[str, ...]]:
    """All phrases that a query looks for, of all its clauses."""
    return [phrase for clause in read_query(text) for phrase in clause.wanted]
