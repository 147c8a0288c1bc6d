"""Judges a text to the user where the demonstration talks to the user: by facts, weakly without any, or by a judge."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

from pivotgym.envs.core import AgentEnv, Pivot
from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of
from pivotgym.verifiers.claims import other_claim, other_polarity
from pivotgym.verifiers.facts import (
    Fact,
    FactSet,
    Vocabulary,
    attributions,
    facts_of,
    find,
    known_facts,
    stated,
    vocabulary_of,
)
from pivotgym.verifiers.speech import CONFIRMATION, Request, Speech, additional, analyse, conveyed, sentences_of

MAX_WORDS_FACTOR, MAX_WORDS_MORE = 2, 40
"""A text may have this many times the demonstration's words, plus so many."""
MAX_CHARACTERS_FACTOR, MAX_CHARACTERS_MORE = 4, 800
"""And this many times its characters, plus so many: longer ones are not even read."""
MAX_EXTRA_FACTS = 2
"""A text may state this many facts beyond the demonstration's, plus a quarter of those the demonstration states."""
MAX_EXTRA_TOPICS = 1
"""A text may ask for this many pieces of information beyond the demonstration's."""
SHORT_TEXT_WORDS = 30
"""In answer to a demonstration of at most so many words, any negation where it has none is a denial."""
MIN_DISTINCT_TRIGRAMS = 0.6
"""Below this share of distinct word trigrams a text of 30 words or more repeats itself."""
TALK_ONLY_REWARD = 0.5
"""Reward of a text that does the same as a demonstration without anything to check: never full."""


@dataclass(frozen=True)
class _Case:
    """What a demonstrated text demands; the same for every sample at a pivot.

    Attributes:
        text: the text itself.
        speech: what it does.
        facts: its facts other than terms.
        required: those a sample must state.
        terms: its names and statuses that are news to the user.
        named: all its names and statuses.
        known: every fact of the conversation and of the demonstration.
        vocabulary: what makes ids and terms recognisable.
        attributed: which amount, date or time it says of which id or term.
    """

    text: str
    speech: Speech
    facts: FactSet
    required: list[Fact]
    terms: list[Fact]
    named: FactSet
    known: FactSet
    vocabulary: Vocabulary
    attributed: dict[Fact, Fact]

    @property
    def subjects(self) -> set[Fact]:
        """What the demonstration says amounts, dates or times of."""
        return set(self.attributed.values())

    @property
    def checkable(self) -> bool:
        """Whether the demonstration holds anything a sample can be held to."""
        topics = {topic for request in self.speech.requests for topic in request.topics} - {CONFIRMATION}
        acts = self.speech.denies or self.speech.done_loosely or bool(self.speech.requests)
        return bool(self.required or self.terms or topics or (acts and self.speech.actions))


class TalkRule:
    """How a text is judged where the demonstration talks.

    A text is right by rule ``facts`` (reward 1) if all of this holds, else 0:

    - it states every id, e-mail and street address, amount, date, time and phone number that the demonstration states
      and the user has not said before (what the demonstration only echoes is required just where it says nothing new
      and asks for nothing but a go-ahead), and at least half of the known names and statuses (rounded down where
      there is other news), with no other one in place of one it leaves out;
    - it names no other id, date, address … in place of one that the demonstration echoes;
    - it says no amount, date or time of another id or name than the demonstration does (``the desk on 14 March, the
      lamp on 21 March``), as far as clauses show it;
    - it states no id, amount, date … that stands neither in the conversation nor in the demonstration, and none as one
      of two alternatives (``$60 or $88``) where the demonstration is definite;
    - it asks for every piece of information that the demonstration asks for (one of them where the demonstration
      offers alternatives), for at most one more, and for nothing where the demonstration asks nothing;
    - it denies where the demonstration denies and only there, and offers nothing the demonstration denies; it reports
      as done what the demonstration reports as done and only then; where the demonstration asks for a go-ahead, denies
      or reports, it speaks of at least half of the kinds of action the demonstration speaks of;
    - it speaks of no action (``I closed the ticket``) that the demonstration does not speak of, pairs no two values
      or ids the other way round, and puts no clause into doubt, denial or another time
      (:mod:`pivotgym.verifiers.claims`);
    - it is no list of everything: see ``MAX_EXTRA_FACTS``, ``MAX_WORDS_FACTOR``, ``MIN_DISTINCT_TRIGRAMS``.

    A demonstration without any of that to check (``Is there anything else?``) is judged by rule ``talk_only``: a text
    that breaks no limit above and does the same (asks, denies, reports, closes, informs) gets ``TALK_ONLY_REWARD``.

    With a ``judge``, texts within the limits go to it and the verdict is the judge's; texts that invent facts, repeat
    themselves or list everything fail before it is asked. The rules know English only.
    """

    def __init__(self, judge: Verifier | None = None, talk_only_reward: float = TALK_ONLY_REWARD) -> None:
        self.judge_verifier = judge
        self.talk_only_reward = talk_only_reward

    def judge(self, env: AgentEnv, action: Message) -> Verdict:
        """The verdict on a text; both ``action`` and the demonstration have no calls."""
        case = _case(env, pivot_of(env))
        if len(action.text) > MAX_CHARACTERS_FACTOR * len(case.text) + MAX_CHARACTERS_MORE:
            return _wrong(f"{len(action.text)} characters where the demonstration has {len(case.text)}")
        speech = _analyse(case, action.text)
        problem = _out_of_bounds(case, action.text, speech)
        if problem is not None:
            return _wrong(*problem)
        if self.judge_verifier is not None:
            verdict = self.judge_verifier.verify(env, action)
            by_facts = self._by_facts(case, action.text, speech)
            evidence = {**verdict.evidence, "facts": by_facts.model_dump()}
            return verdict.model_copy(update={"evidence": evidence})
        return self._by_facts(case, action.text, speech)

    def _by_facts(self, case: _Case, text: str, speech: Speech) -> Verdict:
        problem = _other_act(case.speech, speech)
        if problem is not None:
            return _wrong(problem, {"act": speech.act, "demonstrated_act": case.speech.act})
        if not case.checkable:
            same = speech.act == case.speech.act and _other_actions(case.speech, speech) is None
            reason = f"{'also' if same else 'not'} {case.speech.act}; the demonstration has no checkable facts"
            return Verdict(reward=self.talk_only_reward * same, rule="talk_only", reason=reason)
        said = facts_of(text, case.vocabulary)
        missing = [fact for fact in case.required if not said.covers(fact)]
        if missing:
            return _wrong("misses " + ", ".join(map(str, missing)), {"missing": list(map(str, missing))})
        named = [fact for fact in case.terms if said.covers(fact)]
        unnamed = [fact for fact in case.terms if fact not in named]
        # A name or status beside other news is a detail; where it is all the news, it is what must be said.
        needed = len(case.terms) // 2 if case.required or speech.denies else (len(case.terms) + 1) // 2
        if len(named) < needed:
            names = [str(fact) for fact in unnamed]
            return _wrong("misses " + ", ".join(names), {"missing": names})
        swapped = _swapped(case, unnamed, stated(text, case.vocabulary))
        if swapped is not None:
            return _wrong(f"says {swapped[1]} where the demonstration says {swapped[0]}")
        replaced = _replaced(case, stated(text, case.vocabulary), said)
        if replaced is not None:
            return _wrong(f"speaks of {replaced[1]} instead of {replaced[0]}")
        # ``The bike and the fan on 11 and 28 March respectively``: paired by order, see ``other_claim``.
        given = {} if re.search(r"\brespectively\b", text, re.IGNORECASE) else attributions(text, case.vocabulary)
        for value, subject in case.attributed.items():
            other = given.get(value, subject)
            if other != subject and other in case.subjects:
                return _wrong(f"says {value} of {other}, the demonstration of {subject}")
        short = case.speech.words <= SHORT_TEXT_WORDS
        otherwise = _other_actions(case.speech, speech)
        otherwise = otherwise or other_claim(case.text, text, case.vocabulary, case.known, short=short)
        if otherwise is not None:
            return _wrong(otherwise)
        evidence = {"facts": [str(fact) for fact in [*case.required, *case.terms]], "act": case.speech.act}
        return Verdict(reward=1.0, rule="facts", reason="conveys what the demonstration conveys", evidence=evidence)


def prose_problem(env: AgentEnv, demonstrated: str, sampled: str) -> str | None:
    """Why a free-text argument (a note, a summary) does not say what the demonstrated one says, or None.

    It must state the demonstrated ids, amounts, dates …, invent none, share a quarter of the demonstrated content
    words (by their first five letters) and keep the limits of :class:`TalkRule`.
    """
    conversation = env.conversation
    vocabulary = vocabulary_of(conversation, env.tools)
    wanted = FactSet(fact for fact in stated(demonstrated, vocabulary) if fact.kind != "term")
    known = FactSet([*known_facts(conversation, vocabulary), *wanted])
    said = facts_of(sampled, vocabulary)
    missing = wanted.missing_from(said)
    if missing:
        return "misses " + ", ".join(map(str, missing))
    invented = _invented(said, known)
    if invented:
        return "invents " + ", ".join(map(str, invented))
    contrary = other_polarity(demonstrated, sampled)
    if contrary:
        return contrary
    stems, found = _stems(demonstrated), _stems(sampled)
    if stems and 4 * len(stems & found) < len(stems):
        return "says something else"
    if len(sampled.split()) > MAX_WORDS_FACTOR * len(demonstrated.split()) + MAX_WORDS_MORE:
        return "much longer than demonstrated"
    return "repeats itself" if _repeats(sampled) else None


def _case(env: AgentEnv, pivot: Pivot) -> _Case:
    if "talk" not in pivot.cache:
        pivot.cache["talk"] = _build_case(env, pivot.demonstration.text)
    case: _Case = pivot.cache["talk"]
    return case


def _build_case(env: AgentEnv, text: str) -> _Case:
    conversation = env.conversation
    vocabulary = vocabulary_of(conversation, env.tools)
    speech = analyse(text)
    facts = stated(text, vocabulary)
    user_said = known_facts([message for message in conversation if message.role == "user"], vocabulary)
    hard = [fact for fact in facts if fact.kind != "term"]
    required = [fact for fact in hard if fact.kind == "marker" or not user_said.covers(fact)]
    if not required and speech.asked <= {CONFIRMATION}:
        required = hard
    named = FactSet(fact for fact in facts if fact.kind == "term")
    terms = [fact for fact in named if not user_said.covers(fact)]
    known = FactSet([*known_facts(conversation, vocabulary), *facts_of(text, vocabulary)])
    return _Case(text, speech, FactSet(hard), required, terms, named, known, vocabulary, attributions(text, vocabulary))


def _out_of_bounds(case: _Case, text: str, speech: Speech) -> tuple[str, JsonObject] | None:
    """What no judge need be asked about: nothing said, invented facts, padding."""
    if not re.search(r"\w", text):
        return "says nothing", {}
    said = FactSet(fact for fact in stated(text, case.vocabulary) if fact.kind != "term")
    markers = [fact for fact in said if fact.kind == "marker" and not case.facts.covers(fact)]
    if markers:
        return f"says {markers[0].value} where the demonstration does not", {}
    invented = _invented(said, case.known)
    if invented:
        return "invents " + ", ".join(map(str, invented)), {"invented": list(map(str, invented))}
    extra = [fact for fact in said.missing_from(case.facts) if not fact.trivial]
    limit = MAX_EXTRA_FACTS + len(case.facts) // 4
    if len(extra) > limit:
        return f"states {len(extra)} facts beyond the demonstration", {"extra": list(map(str, extra)), "limit": limit}
    if speech.words > MAX_WORDS_FACTOR * case.speech.words + MAX_WORDS_MORE:
        return f"{speech.words} words where the demonstration has {case.speech.words}", {}
    if _repeats(text):
        return "repeats itself", {}
    hedged = _hedged(text, case)
    return (f"leaves open whether {hedged}", {"hedged": hedged}) if hedged else None


def _other_act(wanted: Speech, given: Speech) -> str | None:
    unmet = [request for request in wanted.requests if not request.met_by(given.asked)]
    if unmet:
        return "does not ask for " + ", ".join(sorted(unmet[0].topics) or ["anything"])
    if given.requests and not wanted.requests:
        return "asks for " + ", ".join(sorted(given.asked)) + " where the demonstration asks nothing"
    more = given.asked - wanted.asked
    if len(more) > MAX_EXTRA_TOPICS and "something" not in wanted.asked:
        return "also asks for " + ", ".join(sorted(more))
    if wanted.denies and not given.denies_loosely:
        return "does not say that it cannot be done or is not there"
    possible = (wanted.denied & given.offered) - wanted.offered - given.denied
    if possible:
        return "says that this can be done: " + ", ".join(sorted(possible))
    negates = given.denies or (given.denies_loosely and wanted.words <= SHORT_TEXT_WORDS)
    if negates and not wanted.denies_loosely:
        return "denies"
    short = wanted.words <= SHORT_TEXT_WORDS
    if short and (wanted.denied & given.offered) - wanted.offered:
        return "both denies and offers it"
    kept = bool(given.reported) and given.reported <= wanted.performs | wanted.reported
    if given.done and not wanted.done_loosely and not kept:
        return "reports something as done that is not"
    reports = wanted.done_loosely and not wanted.requests and not wanted.denies
    shown = bool(wanted.reported) and wanted.reported <= given.results | given.reported
    if (wanted.done or reports) and not given.done_loosely and not shown:
        return "does not report what was done"
    informs = short and not wanted.requests
    if wanted.denies or wanted.done or reports or informs or CONFIRMATION in wanted.asked:
        common = conveyed(wanted.actions, given)
        if 2 * len(common) < len(wanted.actions):
            return "does not speak of " + ", ".join(sorted(wanted.actions - given.actions))
    return None


def _other_actions(wanted: Speech, given: Speech) -> str | None:
    # Who asks for a go-ahead may name in the question what for; any other action would be a claim of its own.
    claimed = given.stated if wanted.requests else given.actions
    if wanted.denies:
        claimed -= given.negated
    more_actions = additional(
        wanted.actions | wanted.results, claimed if wanted.words <= SHORT_TEXT_WORDS else given.reported
    )
    if more_actions:
        return "speaks of " + ", ".join(sorted(more_actions)) + " where the demonstration does not"
    return None


def _analyse(case: _Case, text: str) -> Speech:
    """What a sampled text does; where a go-ahead is asked for, with what only this demonstration makes clear.

    A question that holds every demonstrated fact asks for the go-ahead. A refusal beside it that holds none of them
    (``16 March is full``) is no refusal of what is asked.
    """
    speech = analyse(text)
    if CONFIRMATION not in case.speech.asked or not len(case.facts):
        return speech
    sentences = sentences_of(text)
    held = [facts_of(sentence, case.vocabulary) for sentence in sentences]
    asks = [
        sentence.rstrip().endswith("?") and not case.facts.missing_from(said)
        for sentence, said in zip(sentences, held, strict=True)
    ]
    if not any(asks):
        return speech
    rest = [sentence for sentence, asked in zip(sentences, asks, strict=True) if not asked]
    others = analyse("\n".join(rest))
    about = [said for said, asked in zip(held, asks, strict=True) if not asked]
    harmless = not any(case.facts.covers(fact) for said in about for fact in said)
    question = analyse(" ".join(sentence for sentence, asked in zip(sentences, asks, strict=True) if asked))
    return replace(
        speech,
        requests=(Request(frozenset({CONFIRMATION})), *others.requests),
        denies=question.denies or (speech.denies and not harmless),
        denies_loosely=question.denies_loosely or (speech.denies_loosely and not harmless),
    )


def _invented(said: FactSet, known: FactSet) -> list[Fact]:
    return [fact for fact in said.missing_from(known) if fact.kind != "term" and not fact.trivial]


def _replaced(case: _Case, given: FactSet, said: FactSet) -> tuple[Fact, Fact] | None:
    """A demonstrated fact that only echoes the user, and another of its kind that stands in its place."""
    others = [fact for fact in given.missing_from(case.facts) if fact.kind != "term"]
    for fact in case.facts:
        if not said.covers(fact):
            for other in others:
                if other.shape == fact.shape:
                    return fact, other
    return None


def _swapped(case: _Case, unnamed: list[Fact], given: FactSet) -> tuple[Fact, Fact] | None:
    """A known name or status left out, and another one of the same key that the demonstration does not say."""
    keys = case.vocabulary.terms
    others = [fact for fact in given if fact.kind == "term" and not case.named.covers(fact)]
    for fact in unnamed:
        for other in others:
            if keys[fact.value] & keys[other.value]:
                return fact, other
    return None


def _repeats(text: str) -> bool:
    words = re.findall(r"\w+", text.casefold())
    if len(words) < 30:
        return False
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) < MIN_DISTINCT_TRIGRAMS * len(trigrams)


def _hedged(text: str, case: _Case) -> str | None:
    """Two alternatives of which the demonstration states exactly one, as ``amount 60 or amount 88``."""
    found = [item for item in find(text, case.vocabulary) if item.fact.kind != "term"]
    for first, second in pairwise(found):
        between = text[first.end : second.start]
        if first.fact.kind != second.fact.kind or first.fact.trivial or second.fact.trivial:
            continue
        alternatives = re.fullmatch(r"[\s\W]*(?:or|/|maybe|perhaps)(?: \w+){0,2}[\s\W]*", between, re.I)
        if alternatives and case.facts.covers(first.fact) != case.facts.covers(second.fact):
            return f"{first.fact} or {second.fact}"
    return None


_STOP = frozenset(
    {"the", "and", "for", "with", "that", "this", "from", "their", "they", "have", "has", "was", "were", "are", "been"}
    | {"will", "would", "user", "customer"}
)


def _stems(text: str) -> set[str]:
    words = re.findall(r"[a-z]{3,}", text.casefold())
    return {word[:5] for word in words if word not in _STOP}


def _wrong(reason: str, evidence: JsonObject | None = None) -> Verdict:
    return Verdict(reward=0.0, rule="facts", reason=reason, evidence=evidence or {})
