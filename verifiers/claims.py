"""Whether a text that holds the demonstrated facts says the same of them: pairing, polarity, certainty, time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from pivotgym.verifiers.facts import Fact, FactSet, Found, Vocabulary, find
from pivotgym.verifiers.speech import NEGATION, actions_of, clauses_of

CLOSE = 0.6
"""Two clauses speak of the same where they share this part of their content words."""
CONTEXT_WORDS = 6
"""A value is bound to the content words up to so far from it, within its line."""

_PAIRED = ("amount", "date", "time", "id")
_WORD = re.compile(r"[^\W\d_]{2,}")
_STOP = frozenset(
    {"the", "and", "for", "with", "that", "this", "from", "their", "they", "has", "have", "had", "was", "were", "are"}
    | {"is", "am", "be", "been", "being", "will", "would", "can", "could", "may", "might", "shall", "should", "do"}
    | {"does", "did", "to", "of", "in", "on", "at", "by", "it", "its", "an", "as", "or", "we", "you", "your", "our"}
    | {"not", "no", "cannot", "now", "later", "unable", "able", "so", "if", "all", "any", "which", "there", "my", "me"}
)
_UNCERTAIN = re.compile(
    r"\b(?:may|might)\s+(?:\w+\s+){0,2}(?:be|have)\b|\b(?:maybe|perhaps|possibly|probably|later|soon|tomorrow|someday)\b"
    r"|\beventually\b|\bnext (?:week|month|year)\b",
    re.IGNORECASE,
)
# In a short text each of these turns what is said into something else.
_TURNS = re.compile(
    r"\b(?:old|previous(?:ly)?|former(?:ly)?|expired?|invalid|wrong|incorrect|only|another|other|someone|somebody|anyone"
    r"|nobody|neighbou?r\w*|yesterday|tomorrow|soon|later|may|might|maybe|perhaps|possibly|probably|someday|eventually"
    r"|almost|nearly|never|instead|used to|ago|next (?:week|month|year)|last (?:week|month|year)|store credit"
    r"|although|unless|until|was to|were to|supposed)\b",
    re.IGNORECASE,
)
_RELATION = re.compile(
    r"\b(before|after|until|since|later than|earlier than|sooner than|more than|less than|at least|at most)"
    r"\s+(?:the\s+|on\s+)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Clause:
    stems: frozenset[str]
    negated: bool
    uncertain: bool
    actions: frozenset[str]


def other_claim(wanted: str, given: str, vocabulary: Vocabulary, known: FactSet, *, short: bool) -> str | None:
    """What ``given`` claims otherwise than ``wanted``, or None.

    Args:
        wanted: the demonstrated text.
        given: the sampled text; it states the demonstrated facts.
        vocabulary: of the conversation.
        known: every fact of the conversation and of the demonstration.
        short: the demonstrated text is short, so that no word in it is a detail.
    """
    shown, said = find(wanted, vocabulary), find(given, vocabulary)
    return (
        _turned(wanted, given, short)
        or _related(wanted, shown, given, said)
        or _wrong_year(said, known)
        or _other_pairing(wanted, shown, given, said)
        or _otherwise_put(wanted, given)
    )


def other_polarity(wanted: str, given: str) -> str | None:
    """Something that one of two texts denies and the other does not, or None.

    A negation applies to the content words behind it, up to the end of its clause.
    """
    denied, affirmed = _polarity(wanted)
    denied_too, affirmed_too = _polarity(given)
    for stem in sorted((denied & affirmed_too) - denied_too - affirmed):
        return f"affirms {stem!r} where the demonstration denies it"
    for stem in sorted((denied_too & affirmed) - denied - affirmed_too):
        return f"denies {stem!r} where the demonstration does not"
    return None


def _polarity(text: str) -> tuple[set[str], set[str]]:
    denied: set[str] = set()
    affirmed: set[str] = set()
    for clause in clauses_of(text):
        negation = NEGATION.search(clause)
        if negation is None:
            affirmed |= set(_stems(clause))
            continue
        affirmed |= set(_stems(clause[: negation.start()]))
        # ``does not want a refund``: both words stand under the negation.
        denied |= set(_stems(clause[negation.end() :])[:4])
        affirmed |= set(_stems(clause[negation.end() :])[4:])
    return denied, affirmed


def _turned(wanted: str, given: str, short: bool) -> str | None:
    if not short:
        return None
    had = {match.group().casefold() for match in _TURNS.finditer(wanted)}
    for match in _TURNS.finditer(given):
        if match.group().casefold() not in had:
            return f"says {match.group()!r} where the demonstration does not"
    return None


def _related(wanted: str, shown: list[Found], given: str, said: list[Found]) -> str | None:
    """``before 24 March`` where the demonstration says ``on 24 March``."""
    plain = {item.fact for item in shown if not _RELATION.search(wanted[max(0, item.start - 20) : item.start])}
    bare = {item.fact for item in said if not _RELATION.search(given[max(0, item.start - 20) : item.start])}
    for item in said:
        relation = _RELATION.search(given[max(0, item.start - 20) : item.start])
        if relation and item.fact in plain and item.fact not in bare and item.fact.kind in ("date", "time", "amount"):
            return f"says {relation.group(1)} {item.fact}"
    return None


def _wrong_year(said: list[Found], known: FactSet) -> str | None:
    """A year added to a day that nobody gave a year."""
    years = {fact.value[:4] for fact in known if fact.kind == "date"} - {"????"}
    for item in said:
        if item.fact.kind == "date" and item.fact.value[0] != "?" and item.fact.value[:4] not in years:
            return f"invents the year of {item.fact}"
    return None


def _other_pairing(wanted: str, shown: list[Found], given: str, said: list[Found]) -> str | None:
    """Two values of a kind that stand with each other's words."""
    for kind in _PAIRED:
        ours, theirs = _first_of_kind(shown, kind), _first_of_kind(said, kind)
        both = [fact for fact in ours if fact in theirs]
        if not 2 <= len(both) <= 16:
            continue
        for one, other in combinations(both, 2):
            if _pairs_by_order(shown, ours, said, theirs, one, other) is False:
                return f"exchanges {one} and {other}"
        near = {fact: _context(wanted, shown, fact) for fact in both}
        near_too = {fact: _context(given, said, fact) for fact in both}
        for one, other in combinations(both, 2):
            same = _shared(near[one], near_too[one]) + _shared(near[other], near_too[other])
            crossed = _shared(near[one], near_too[other]) + _shared(near[other], near_too[one])
            if crossed > same + 1:
                return f"exchanges {one} and {other}"
    return None


def _pairs_by_order(
    shown: list[Found], ours: dict[Fact, Found], said: list[Found], theirs: dict[Fact, Found], one: Fact, other: Fact
) -> bool | None:
    """Whether two values follow each other as their two subjects do, in both texts; None where it does not show.

    Holds for ``bike: 11, fan: 28``, ``11 (bike), 28 (fan)`` and ``bike and fan: 11 and 28`` alike.
    """
    pair = _subjects(shown, one.kind)
    if len(pair) != 2 or len(ours) != 2:
        return None
    first, second = pair
    again = _subjects(said, one.kind)
    if first not in again or second not in again:
        # Neither named: the values alone must at least come in the demonstrated order … and are no answer.
        return False if one.kind != "id" and not again else None
    before = (ours[one].start < ours[other].start) == (pair[first] < pair[second])
    after = (theirs[one].start < theirs[other].start) == (again[first] < again[second])
    return before == after


def _subjects(found: list[Found], kind: str) -> dict[Fact, int]:
    """Names (ids where there are none) by the place where they first stand; never the kind that is paired."""
    for subject in ("term", "id"):
        places: dict[Fact, int] = {}
        for item in sorted(found, key=lambda item: item.start):
            if item.fact.kind == subject != kind:
                places.setdefault(item.fact, item.start)
        if places:
            return places
    return {}


def _first_of_kind(found: list[Found], kind: str) -> dict[Fact, Found]:
    first: dict[Fact, Found] = {}
    for item in found:
        if item.fact.kind == kind and not item.fact.trivial:
            first.setdefault(item.fact, item)
    return first


def _context(text: str, found: list[Found], fact: Fact) -> dict[str, float]:
    """Content words and other facts around ``fact``, the nearer the heavier, for each place where it stands."""
    near: dict[str, float] = {}
    for item in found:
        if item.fact != fact:
            continue
        start, end = text.rfind("\n", 0, item.start) + 1, text.find("\n", item.end)
        before = _around(text, found, start, item.start)[::-1]
        behind = _around(text, found, item.end, end if end >= 0 else len(text))
        for side in (before, behind):
            for distance, word in enumerate(side[:CONTEXT_WORDS]):
                near[word] = max(near.get(word, 0.0), 1.0 - distance / CONTEXT_WORDS)
    return near


def _around(text: str, found: list[Found], start: int, end: int) -> list[str]:
    """Stems and facts of other kinds between two places, in order."""
    words: list[tuple[int, str]] = []
    position = start
    for item in sorted(found, key=lambda item: item.start):
        if item.fact.kind != "term" and start <= item.start and item.end <= end:
            words += _stems_at(text, position, item.start)
            words.append((item.start, str(item.fact)))
            position = max(position, item.end)
    return [word for _, word in words + _stems_at(text, position, end)]


def _stems_at(text: str, start: int, end: int) -> list[tuple[int, str]]:
    return [
        (match.start(), match.group().casefold()[:5])
        for match in _WORD.finditer(text, start, end)
        if match.group().casefold() not in _STOP
    ]


def _shared(one: dict[str, float], other: dict[str, float]) -> float:
    return sum(min(weight, other[word]) for word, weight in one.items() if word in other)


def _otherwise_put(wanted: str, given: str) -> str | None:
    """A clause worded like a demonstrated one that denies, puts off or does something else."""
    theirs, had = list(_clauses(given)), actions_of(wanted)
    for shown in _clauses(wanted):
        if len(shown.stems) < 2:
            continue
        close = [clause for clause in theirs if _alike(shown.stems, clause.stems) >= CLOSE]
        if not close:
            continue
        top = max(_alike(shown.stems, clause.stems) for clause in close)
        found = [_put(shown, clause, had) for clause in close if _alike(shown.stems, clause.stems) == top]
        if None not in found:
            return found[0]
    return None


def _put(shown: _Clause, clause: _Clause, had: frozenset[str]) -> str | None:
    if clause.negated != shown.negated:
        return "denies what the demonstration says" if clause.negated else "says what the demonstration denies"
    if clause.uncertain and not shown.uncertain:
        return "leaves open what the demonstration reports"
    other = clause.actions - shown.actions - had
    if other and not clause.negated:
        return "speaks of " + ", ".join(sorted(other)) + " where the demonstration does not"
    return None


def _clauses(text: str) -> Iterator[_Clause]:
    for clause in clauses_of(text):
        yield _Clause(
            frozenset(_stems(clause)),
            bool(NEGATION.search(clause)),
            bool(_UNCERTAIN.search(clause)),
            actions_of(clause),
        )


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0


def _stems(text: str) -> list[str]:
    return [word for _, word in _stems_at(text, 0, len(text))]
