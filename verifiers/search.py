"""Effects for searching: what a turn has shown, by documents and passages; answers by the task's grader."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pivotgym.envs.core import AgentEnv, Pivot
from pivotgym.envs.errors import BadInput
from pivotgym.envs.search.domain import final_answer
from pivotgym.envs.search.env import SearchEnv
from pivotgym.envs.search.grading import matches
from pivotgym.envs.search.questions import Support, expected_of, question_of, support_of
from pivotgym.envs.search.ranking import fold
from pivotgym.envs.search.view import Shown
from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.verifiers.arguments import inadmissible
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of
from pivotgym.verifiers.effects import MAX_EXTRA_CALLS

RESULTS_COUNTED = 10
"""Results of one action beyond these do not count, so that asking for everything is no way to be right."""


@dataclass(frozen=True)
class _Did:
    """What an action showed: results, passages, and the texts of the tools."""

    shown: Shown
    texts: Sequence[str]

    @property
    def documents(self) -> set[str]:
        """Documents shown, as results or by a passage."""
        return {*self.shown.documents[:RESULTS_COUNTED], *(name for name, _ in self.shown.passages)}

    @property
    def failed(self) -> list[str]:
        """What failed."""
        return [text[:300] for text in self.texts if text.startswith("Error")]


class SearchEffects(Verifier):
    """Right is a turn that brings the agent at least as far as the demonstrated one.

    - **A search** is right if what it shows (results, or the pages it opens at once) holds a document that states the
      next fact on the way to the answer, where the task lists those facts. Else it must show the documents that the
      demonstration goes on to open, or all of those that the demonstration showed where it opens none of them.
    - **Reading** (``open``, ``find``) is right if it shows every passage that the demonstration showed, whichever tool
      shows it, or a passage that states the next fact on the way.
    - **The answer** is right by the task's grader, or where the task names no answer by a match with the
      demonstrated one. An answer where the demonstration still searches is wrong, and the other way round.
    - **Economy.** At most ``max_extra_calls`` calls more than the demonstration, and only the first
      :data:`RESULTS_COUNTED` results count. No call may fail unless a demonstrated one does.

    Which queries were asked, and in which document the agent ends up, does not matter beside what it has read.
    """

    name = "search_effects"
    cost = 5.0

    def __init__(self, max_extra_calls: int = MAX_EXTRA_CALLS) -> None:
        self.max_extra_calls = max_extra_calls

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """1 or 0 by rule ``search_effects`` (answers: by the grader's rule).

        Raises:
            BadInput: ``env`` is no :class:`SearchEnv`, or does not stand at a turn of a recording.
            InfrastructureError: the engine failed, or a record lacks what the action asks for.
        """
        if not isinstance(env, SearchEnv):
            raise BadInput(f"{type(env).__qualname__} does not search: take the verifier effects", field="verifier")
        pivot = pivot_of(env)
        demonstration = pivot.demonstration
        wanted, given = final_answer(demonstration), final_answer(action)
        if given is not None and wanted is None:
            return self._wrong("answers where the demonstration goes on")
        problem = inadmissible(env.tools, demonstration.tool_calls, action.tool_calls, self.max_extra_calls)
        if problem is not None:
            return self._wrong(problem)
        if wanted is not None:
            return self._wrong("does not answer") if given is None else self._judge_answer(env, wanted, given)
        return self._compare(env, pivot, _demonstrated(env, pivot), _done(env, action))

    def _judge_answer(self, env: SearchEnv, wanted: str, given: str) -> Verdict:
        expected = expected_of(env.task)
        if expected:
            verdict = env.domain.judge(question_of(env.task), given, expected)
            return verdict.model_copy(update={"rule": self.name if verdict.rule == "goal" else verdict.rule})
        if matches(given, wanted):
            return Verdict(reward=1.0, rule=self.name, reason="the demonstrated answer")
        return self._wrong("another answer than demonstrated", {"given": given[:300]})

    def _compare(self, env: SearchEnv, pivot: Pivot, wanted: _Did, given: _Did) -> Verdict:
        if given.failed and not wanted.failed:
            return self._wrong("a call fails", {"errors": given.failed})
        following = next_fact(env)
        if following is not None and _states(env, given, following):
            return self._right("shows the next fact")
        missing = sorted(wanted.shown.passages - given.shown.passages)
        if missing:
            told: JsonObject = {"missing": [list(place) for place in missing[:20]]}
            return self._wrong("does not show " + ", ".join(sorted({name for name, _ in missing}))[:200], told)
        if wanted.shown.passages:
            return self._right("shows the demonstrated passages")
        if following is not None and given.documents & set(following.documents):
            return self._right("finds a document that states the next fact")
        needed = _used_later(pivot, wanted.shown.documents)
        if following is not None and needed & set(following.documents):
            return self._wrong("finds no document that states the next fact", {"shown": sorted(given.documents)[:20]})
        needed = needed or set(wanted.shown.documents)
        lost = sorted(needed - given.documents)
        if lost:
            return self._wrong("does not find " + ", ".join(lost[:5])[:200], {"missing": lost[:20]})
        if not needed and not any(call.name == "search" for call in pivot.demonstration.tool_calls):
            return self._unshown(given, wanted)
        return self._right("finds the demonstrated documents")

    def _unshown(self, given: _Did, wanted: _Did) -> Verdict:
        """The demonstration read without anything to see: a failed call, or a text that is not there."""
        if list(given.texts) == list(wanted.texts):
            return self._right("the same result")
        return self._wrong("not the demonstrated result, which shows nothing to compare")

    def _right(self, reason: str) -> Verdict:
        return Verdict(reward=1.0, rule=self.name, reason=reason)

    def _wrong(self, reason: str, evidence: JsonObject | None = None) -> Verdict:
        return Verdict(reward=0.0, rule=self.name, reason=reason, evidence=evidence or {})


def next_fact(env: SearchEnv) -> Support | None:
    """The first fact on the way to the answer that no tool result so far states; None where the task lists none."""
    results = [message.text for message in env.messages if message.role == "tool"]
    for step in support_of(env.task):
        if not any(_tells(text, name, step.states) for text in results for name in step.documents):
            return step
    return None


def _tells(text: str, document: str, states: str) -> bool:
    """Whether a tool's result shows ``states`` from ``document``."""
    parts = re.split(r"\n(?=\d+\. \[)", text)
    return any(f"[{document}]" in part and _names(part, states) for part in parts)


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(fold(name))}(?!\w)", fold(" ".join(text.split()))) is not None


def _states(env: SearchEnv, did: _Did, fact: Support) -> bool:
    """Whether a passage that was opened or found states the fact."""
    for name, number in did.shown.passages:
        if name in fact.documents:
            paged = env.engine.read(name, _address(env, name))
            if paged is not None and _names(paged.passages[number].text, fact.states):
                return True
    return False


def _address(env: SearchEnv, name: str) -> str:
    hit = env.session.view.hit(name)
    return hit[2] if hit is not None else ""


def _demonstrated(env: SearchEnv, pivot: Pivot) -> _Did:
    if "search effects" not in pivot.cache:
        pivot.cache["search effects"] = _done(env, pivot.demonstration)
    did: _Did = pivot.cache["search effects"]
    return did


def _done(env: SearchEnv, action: Message) -> _Did:
    return _Did(*env.domain.shown(env.session, action.tool_calls))


def _used_later(pivot: Pivot, documents: Sequence[str]) -> set[str]:
    """Which of the documents the demonstration opens before it searches again."""
    used: set[str] = set()
    for turn in range(pivot.turn + 1, len(pivot.trajectory.turns)):
        calls = pivot.trajectory.action(turn).tool_calls
        if any(call.name == "search" for call in calls):
            break
        for call in calls:
            if call.name == "open" and isinstance(call.arguments, dict):
                used.add(str(call.arguments.get("document")))
    return used & set(documents)
