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


def judge_answer(talk: TalkRule, env: AgentEnv, demonstrated: str, action: Message) -> Verdict:
    """1 for the same text but for case, blanks and punctuation; else by its facts.

    Facts are numbers, names of files and other words no prose is made of. All demonstrated ones must be said, no other
    number may be said that the conversation does not hold, and :class:`TalkRule` must find nothing else wrong with
    the text (denials, doubts, length). Texts without such facts are its alone to judge.
    """
    text = action.text
    if _plain(text) == _plain(demonstrated):
        return Verdict(reward=1.0, rule=_RULE, reason="the demonstrated answer")
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
