"""Judges the text that ends a terminal episode: it must answer as the demonstrated text does."""

from __future__ import annotations

import re

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.trajectory import Message
from pivotgym.envs.verdict import Verdict
from pivotgym.verifiers.talk import TalkRule
from pivotgym.verifiers.terminal_text import facts

SHORT_ANSWER_WORDS = 3
"""A demonstrated text of at most so many words is an answer, every word of it."""
_RULE = "terminal_answer"
_MARKED = re.compile(r"^[\s*_`#>]*(?:final[ _]+)?answer[*_`]*\s*[:=][*_`]*[ \t]*(.*)$", re.IGNORECASE | re.MULTILINE)
_LEAD = re.compile(
    r"^(?:so,? |thus,? |therefore,? )?(?:(?:the |my )?(?:final )?(?:answer|result) (?:is|=|:)|it is|it's|that is|"
    r"there (?:is|are)|this is|answer:?)\s*:?\s+",
    re.IGNORECASE,
)
_HEDGES = re.compile(
    r"\b(?:anything but|all but|other than|rather than|instead of|except|either|or|unless|opposite of|far from)\b",
    re.IGNORECASE,
)
_OPPOSITES = (
    ("largest", "biggest", "greatest", "smallest"), ("most", "least", "fewest"), ("highest", "lowest"),
    ("longest", "shortest"), ("newest", "latest", "oldest", "earliest"), ("maximum", "max", "minimum", "min"),
    ("first", "last"), ("more", "less", "fewer"), ("before", "after"), ("above", "below"), ("true", "false"),
    ("yes", "no"), ("fastest", "slowest"), ("passes", "fails"), ("passed", "failed"), ("up", "down"),
    ("enabled", "disabled"), ("open", "closed"), ("equal", "different"), ("succeeded", "failed"), ("with", "without"),
    ("larger", "bigger", "smaller"), ("higher", "lower"), ("older", "newer"), ("increased", "decreased"),
)  # fmt: skip
_ONE_SIDE = {
    "biggest": "largest", "greatest": "largest", "fewest": "least", "latest": "newest", "earliest": "oldest",
    "max": "maximum", "min": "minimum", "fewer": "less", "bigger": "larger",
}  # fmt: skip


def judge_answer(talk: TalkRule, env: AgentEnv, demonstrated: str, action: Message) -> Verdict:
    """1 for the same text but for case, blanks and punctuation; else by its facts.

    Where the demonstration is short, or has a line ``ANSWER: …``, the answers must be equal: what stands behind the
    marker (or ``the answer is``), or the whole text. Else facts decide: numbers, names of files and other words no
    prose is made of. All demonstrated ones must be said, no other number may be said that the conversation does not
    hold, no opposite (``smallest`` for ``largest``) and no alternative, and :class:`TalkRule` must find nothing else
    wrong with the text (denials, doubts, length). Texts without such facts are its alone to judge.
    """
    text = action.text
    if _plain(text) == _plain(demonstrated):
        return Verdict(reward=1.0, rule=_RULE, reason="the demonstrated answer")
    marked = _MARKED.search(demonstrated) is not None
    if marked or len(demonstrated.split()) <= SHORT_ANSWER_WORDS:
        right = _answers(text) == _answers(demonstrated)
        return Verdict(reward=float(right), rule=_RULE, reason="the same answer" if right else "another answer")
    contrary = _contrary(demonstrated, text)
    if contrary is not None:
        return Verdict(reward=0.0, rule=_RULE, reason=contrary)
    wanted = _answer_facts(demonstrated)
    if not wanted:
        return talk.judge(env, action)
    said = [fact.casefold() for fact in facts(text)]
    missing = [fact for fact in wanted if fact not in said]
    if missing:
        return Verdict(reward=0.0, rule=_RULE, reason="does not say " + ", ".join(missing[:5]))
    demonstrated_facts = {fact.casefold() for fact in facts(demonstrated)}
    asked = {
        fact.casefold() for message in env.conversation for line in message.text.split("\n") for fact in facts(line)
    }
    others = [fact for fact in said if _is_hard(fact) and fact not in demonstrated_facts | asked]
    numbers = [fact for fact in others if re.fullmatch(r"-?[\d.]+%?", fact)]
    if numbers or len(others) > len(wanted) + 2:
        return Verdict(reward=0.0, rule=_RULE, reason="also says " + ", ".join((numbers or others)[:5]))
    verdict = talk.judge(env, action)
    if verdict.reward == 0.0:
        return verdict
    return Verdict(reward=1.0, rule=_RULE, reason="says " + ", ".join(wanted[:5]))


def _answers(text: str) -> set[str]:
    """The answers that a text gives; a line with a marker leaves the others aside."""
    found: list[str] = list(_MARKED.findall(text)) or [text]
    return {_plain(_LEAD.sub("", part.strip())) for part in found}


def _contrary(demonstrated: str, text: str) -> str | None:
    """Says if a text leaves open what the demonstration does not, or says the opposite of one of its words."""
    hedge = _HEDGES.search(text)
    if hedge is not None and not _HEDGES.search(demonstrated):
        return f"says {hedge.group()!r}"
    ours, theirs = ({_ONE_SIDE.get(w, w) for w in re.findall(r"[a-z]+", t.casefold())} for t in (demonstrated, text))
    for kind in _OPPOSITES:
        sides = {_ONE_SIDE.get(word, word) for word in kind}
        said, wanted = sides & theirs, sides & ours
        if wanted and said and not said <= wanted:
            return f"says {', '.join(sorted(said - wanted))} where the demonstration says {', '.join(sorted(wanted))}"
    return None


def _answer_facts(text: str) -> list[str]:
    words = [fact.casefold() for fact in facts(text)]
    if len(words) <= SHORT_ANSWER_WORDS:
        return words
    quoted = {fact.casefold() for part in re.findall(r"`([^`]+)`|\"([^\"]+)\"", text) for fact in facts(" ".join(part))}
    return [word for word in words if _is_hard(word) or word in quoted]


def _is_hard(word: str) -> bool:
    """A number, or a word with a digit, a dot or an underscore inside: no word of prose."""
    return re.search(r"\d|\w[._]\w|[a-z]-[a-z]+-", word) is not None


def _plain(text: str) -> str:
    return re.sub(r"[\s`'\"*]+", " ", text).strip(" .!").casefold()
