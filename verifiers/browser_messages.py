"""What was told to the user in a browser, against what the demonstration tells."""

from __future__ import annotations

import copy
import re

from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.core import Pivot
from pivotgym.envs.trajectory import Message
from pivotgym.verifiers.browser_outcomes import Outcome, said_by
from pivotgym.verifiers.claims import other_polarity
from pivotgym.verifiers.speech import analyse, conveyed
from pivotgym.verifiers.talk import MAX_CHARACTERS_FACTOR, MAX_CHARACTERS_MORE, TalkRule, prose_problem

_CLOSING = re.compile(
    r"(?:(?:it|that|this|everything|all)(?: is|'s)? |i am |i'm |all )?(?:done|finished|completed?|set|ready)[.!\s]*$",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.,-])\d{1,2}(?![\w-]|[.,]\d)")
_COMMON = {"the", "and", "has", "have", "are", "was", "were", "been", "your", "with"}


def message_problem(
    talk: TalkRule, env: BrowserEnv, pivot: Pivot, action: Message, wanted: Outcome, given: Outcome
) -> tuple[float, str]:
    """What telling the user this is worth, from 0 to 1, and why; both actions say something.

    - The same text, but for case, blanks and punctuation, is right.
    - Where the task's own goal depends on the answer, it decides: an answer that earns what the demonstrated one earns
      is right, unless it denies something and that one does not.
    - Else :class:`TalkRule` compares what is said, with a judge, if there is one. Without one, a message is a courtesy
      where the task's goal is reached as by the demonstration: ``Done.`` is right, and so is what says the like in
      other words, denies nothing, asks for nothing and brings no facts of its own; numbers up to 99 (how many, which
      rating) must be the demonstration's or the user's.
    """
    demonstrated, sampled = said_by(pivot.demonstration), said_by(action)
    if [how for how, _ in sampled] != [how for how, _ in demonstrated]:
        return 0.0, "tells the user something of another kind, or more often"
    text, shown = ("\n".join(what for _, what in said) for said in (sampled, demonstrated))
    if _plain(text) == _plain(shown):
        return 1.0, "tells the same"
    if len(text) > MAX_CHARACTERS_FACTOR * len(shown) + MAX_CHARACTERS_MORE:
        return 0.0, f"{len(text)} characters where the demonstration has {len(shown)}"
    if wanted.answered:
        contrary = other_polarity(shown, text)
        if contrary is None and analyse(text).denies_loosely and not analyse(shown).denies_loosely:
            contrary = "denies"
        if contrary is not None:
            return 0.0, contrary
        return (1.0, "the same answer") if given.reward >= wanted.reward else (0.0, "another answer")
    verdict = talk.judge(_as_text(env, pivot, shown), Message(role="assistant", content=text))
    reached = wanted.done and given.done and given.reward >= wanted.reward > 0
    if not reached or talk.judge_verifier is not None:
        return verdict.reward, verdict.reason
    if verdict.rule == "facts" and verdict.reward > 0:
        return 1.0, verdict.reason
    problem = _discourtesy(env, shown, text)
    return (1.0, "the task's goal is reached, and the message says the like") if problem is None else (0.0, problem)


def _discourtesy(env: BrowserEnv, shown: str, text: str) -> str | None:
    """Says what is wrong with a message that nothing depends on."""
    if _CLOSING.match(text.strip()):
        return None
    wanted, given = analyse(shown), analyse(text)
    if given.requests and not wanted.requests:
        return "asks for something where the demonstration asks nothing"
    if given.denies_loosely and not wanted.denies_loosely:
        return "denies"
    goal = env.spec_of_task.goal or env.browser.goal or ""
    allowed = _NUMBER.findall(f"{goal} {shown}")
    unasked = [number for number in _NUMBER.findall(text) if number not in allowed]
    if unasked:
        return f"says {unasked[0]}, as neither the user nor the demonstration does"
    said, asked = _stems(text), _stems(goal)
    if _CLOSING.match(shown.strip()):  # which says nothing of what was done: the user has
        return None if 2 * len(said & asked) > len(said) else "says something else"
    problem = prose_problem(env, shown, text)
    if problem is not None or conveyed(wanted.actions, given):
        return problem
    stems = _stems(shown)
    shared = 2 * len(stems & said)
    like = shared > len(stems) or (shared == len(stems) and 2 * len(said & (stems | asked)) > len(said))
    return None if like else "says something else"


def _stems(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"[a-z]{3,}", text.casefold())} - _COMMON


def _as_text(env: BrowserEnv, pivot: Pivot, shown: str) -> BrowserEnv:
    """The environment as a verifier of texts wants it: the demonstrated message is a text, not a call."""
    cache = pivot.cache.setdefault("browser effects", {})
    if "as text" not in cache:
        trajectory = pivot.trajectory
        messages = list(trajectory.messages)
        messages[trajectory.turns[pivot.turn]] = Message(role="assistant", content=shown)
        cache["as text"] = Pivot(trajectory.model_copy(update={"messages": messages}), pivot.turn)
    speaking = copy.copy(env)
    speaking._episode = env.episode.twin(private=True)
    speaking._episode.pivot = cache["as text"]
    return speaking


def _plain(text: str) -> str:
    return re.sub(r"[\s`'\"*]+", " ", text).strip(" .!").casefold()
