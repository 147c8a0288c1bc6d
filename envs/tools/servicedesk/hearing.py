"""Whether a text tells the user what they wait for: not only the right words, but said as true.

Rules over clauses, made for short texts of a service desk. A clause with an odd number of negations denies what it
says. They err on the side of hearing nothing: a user who did not understand repeats the wish.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pivotgym.envs.tools.functions import Fact, missing_facts
from pivotgym.envs.tools.servicedesk.scenario import REFUSAL, Request
from pivotgym.envs.trajectory import Message

# A comma or full stop inside a number or a date is followed by no space. The words begin a new statement.
_CLAUSE = re.compile(
    r"(?<=[.,;:!?])\s+|\n|\s[-–—]+\s|—|[()]|\s+(?=(?:but|and|so|because|since|although|though|while|then|which|as)\b)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(no|not|never|none|nothing|nobody|neither|nor|without|cannot|unable|impossible|hardly|fail(?:s|ed)?"
    r"|refus(?:e|es|ed|al)|den(?:y|ies|ied)|declin(?:e|es|ed)|reject(?:s|ed)?)\b|n't\b",
    re.IGNORECASE,
)
# Negations that deny nothing.
_IDIOM = re.compile(
    r"\b(no (problem|worries|issue|trouble|doubt|longer (need|want)(ed|s)?)|not (a problem|only|bad)|why not)\b",
    re.IGNORECASE,
)
_CONDITION = re.compile(r"\b(only|within|if|unless|limit|policy|rules?|could|would)\b", re.IGNORECASE)
_REASON = re.compile(r"\b(already|too (late|old)|days? old|past|over|limit|expired)\b", re.IGNORECASE)
_FILLER = frozenset(
    (
        "done",
        "ok",
        "okay",
        "yes",
        "no",
        "sorry",
        "hello",
        "hi",
        "please",
        "thanks",
        "thank",
        "all",
        "set",
        "sure",
        "fine",
    )
)

_CANCEL, _CLOSE = r"cancell?ed|cancell?ing", r"closed|closing|resolved"
_LOSS = r"lost|stolen|missing|destroyed"
_REOPENED = r"reopened|re-opened|reinstated|undone|restored|reversed"
_OFFERS = {
    "refund": r"refunded|(paid|sent|given) (it |the money )?back|escalated|approved|granted|accepted"
    r"|(will|'ll|shall|can|going to|happy to|glad to) (now )?(refund|pay|escalate|send you)"
    r"|refund (is |was |has been |will be |comes|will )*(on (its|the) way|coming|comes?|issued|sent|approved|paid|"
    r"processed|made|done|follow|arrive|tomorrow|next|soon)",
    "cancel": rf"{_CANCEL}|escalated|refunded|approved|granted|accepted|stopped"
    r"|(will|'ll|shall|can|going to|happy to|glad to) (now )?(cancel|stop|escalate)",
}
"""By the kind of a refused request: what must not be said beside the refusal, unless it is denied itself."""
_CONTRADICTIONS = {
    "refund": rf"{_CANCEL}|{_CLOSE}|{_LOSS}|charged|owed?|pay us",
    "damaged": rf"{_CANCEL}|{_CLOSE}|{_LOSS}|charged|owed?|pay us",
    "broken": rf"{_CANCEL}|{_CLOSE}|{_LOSS}|charged",
    "cancel": _REOPENED,
    "where": rf"{_CANCEL}|{_LOSS}|arrived|returned|refunded|closed",
    "visit": rf"{_CANCEL}|{_CLOSE}|{_LOSS}",
    "address": r"deleted|removed",
    "password": r"deleted|expired|old code",
    "fault": rf"{_CANCEL}|{_CLOSE}|deleted|rejected",
    "solved": rf"{_REOPENED}|{_CANCEL}|still open",
    "news": rf"{_CANCEL}|{_CLOSE}|deleted|rejected",
}
"""By the kind of request: what would make a right answer wrong."""


def tells(request: Request, text: str, earlier: Sequence[Request] = ()) -> bool:
    """Whether ``text`` answers ``request``: every fact said as true, with words around it, and nothing against it.

    A refusal needs a denial and no offer.

    Args:
        request: what the user waits for.
        text: one message of the agent.
        earlier: requests settled before; what was done for them may be said again.
    """
    clauses = _clauses(text)
    if REFUSAL in request.facts:
        return _refuses(clauses) and not _says(_OFFERS[request.kind], clauses, earlier, conditions=True)
    if not all(_affirmed(fact, clauses) for fact in request.facts) or _bare(request.facts, text):
        return False
    pattern = _CONTRADICTIONS[request.kind]
    if request.kind == "where" and request.calls:
        # An overdue order may be lost; that is why it is escalated.
        pattern = _CANCEL
    return not _says(pattern, clauses, earlier)


def _clauses(text: str) -> list[str]:
    plain = _IDIOM.sub(" ", text.replace("\u2019", "'"))
    return [clause for clause in _CLAUSE.split(plain) if clause and clause.strip()]


def _denied(clause: str) -> bool:
    return len(_NEGATION.findall(clause)) % 2 == 1


def _affirmed(fact: Fact, clauses: Sequence[str]) -> bool:
    return any(not _denied(clause) and _holds(fact, clause) for clause in clauses)


def _holds(fact: Fact, text: str) -> bool:
    return not missing_facts([fact], [Message(role="assistant", content=text)])


def _refuses(clauses: Sequence[str]) -> bool:
    if any(_denied(clause) for clause in clauses):
        return True
    text = " ".join(clauses)
    return re.search(r"\bsorry\b", text, re.IGNORECASE) is not None and _REASON.search(text) is not None


def _says(pattern: str, clauses: Sequence[str], earlier: Sequence[Request], *, conditions: bool = False) -> bool:
    """Whether one of these is said and not denied; ``conditions``: not said of other cases either."""
    for clause in clauses:
        if _denied(clause) or (conditions and _CONDITION.search(clause)):
            continue
        for found in re.finditer(rf"\b({pattern})\b", clause, re.IGNORECASE):
            if not _recalls(found.group(), earlier):
                return True
    return False


def _recalls(word: str, earlier: Sequence[Request]) -> bool:
    """Whether the word tells what was done for an earlier request."""
    deeds = {call.name for request in earlier for call in request.calls}
    stems = {"cancel": "cancel", "close": "close_ticket", "refund": "refund", "escalate": "escalate"}
    return any(word.lower().startswith(stem[:5]) and deed in deeds for stem, deed in stems.items())


def _bare(facts: Sequence[Fact], text: str) -> bool:
    """Whether nothing is said but ids, numbers and dates."""
    words = [fact for group in facts for fact in ((group,) if isinstance(group, str) else group)]
    if not any(char.isdigit() for word in words for char in word):
        return False  # a state in words ("cancelled") says enough
    for word in sorted(words, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", " ", text, flags=re.IGNORECASE)
    return not [word for word in re.findall(r"[^\W\d_]{2,}", text) if word.lower() not in _FILLER]
