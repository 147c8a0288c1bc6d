"""What was told to the user in a browser, against what the demonstration tells."""

from __future__ import annotations

import copy
import re

from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.core import Pivot
from pivotgym.envs.trajectory import Message
from pivotgym.verifiers.browser_outcomes import Outcome, said_by
from pivotgym.verifiers.claims import other_polarity
from pivotgym.verifiers.talk import MAX_CHARACTERS_FACTOR, MAX_CHARACTERS_MORE, TalkRule


def message_problem(
    talk: TalkRule, env: BrowserEnv, pivot: Pivot, action: Message, wanted: Outcome, given: Outcome
) -> tuple[float, str]:
    """What telling the user this is worth, from 0 to 1, and why; both actions say something.

    - The same text, but for case, blanks and punctuation, is right.
    - Where the task's own goal depends on the answer, it decides: an answer that earns what the demonstrated one earns
      is right, unless it denies what that one affirms.
    - Else :class:`TalkRule` compares what is said (with a judge, if there is one). Where the demonstration holds
      nothing to check (``Done.``), saying the like is right if the task's goal is reached as by the demonstration.
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
        if contrary is not None:
            return 0.0, contrary
        return (1.0, "the same answer") if given.reward >= wanted.reward else (0.0, "another answer")
    verdict = talk.judge(_as_text(env, pivot, shown), Message(role="assistant", content=text))
    reached = wanted.done and given.done and given.reward >= wanted.reward > 0
    if verdict.rule == "talk_only" and verdict.reward > 0 and reached:
        return 1.0, "tells the like, and the task's goal is reached"
    return verdict.reward, verdict.reason


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
