"""Compositions: all of several verifiers, or any of them; cheap ones first."""

from __future__ import annotations

from collections.abc import Sequence

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.verifiers.base import Verdict, Verifier


class _Composition(Verifier):
    def __init__(self, parts: Sequence[Verifier]) -> None:
        if not parts:
            raise BadInput("a composition needs at least one verifier", field="verifier")
        # sorted() is stable: equally dear parts keep the order given.
        self.parts = sorted(parts, key=lambda part: part.cost)
        self.cost = sum(part.cost for part in self.parts)


class AllOf(_Composition):
    """The lowest reward of all parts; stops at the first 0."""

    name = "all_of"

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """The lowest verdict, with the asked parts in its evidence. An infrastructure error of a part is raised."""
        verdicts: list[Verdict] = []
        for part in self.parts:
            verdicts.append(part.verify(env, action))
            if verdicts[-1].reward == 0.0:
                break
        return _decided(min(verdicts, key=lambda verdict: verdict.reward), verdicts)


class AnyOf(_Composition):
    """The highest reward of all parts; stops at the first 1.

    A dear part that would fail is not reached where a cheaper one already gave full reward; where it is reached, its
    infrastructure error is raised: the action may be right.
    """

    name = "any_of"

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """The highest verdict, with the asked parts in its evidence."""
        verdicts: list[Verdict] = []
        for part in self.parts:
            verdicts.append(part.verify(env, action))
            if verdicts[-1].reward == 1.0:
                break
        return _decided(max(verdicts, key=lambda verdict: verdict.reward), verdicts)


def all_of(*parts: Verifier) -> AllOf:
    """Right only where every part says so (:class:`AllOf`)."""
    return AllOf(parts)


def any_of(*parts: Verifier) -> AnyOf:
    """Right where one part says so (:class:`AnyOf`)."""
    return AnyOf(parts)


def _decided(verdict: Verdict, verdicts: list[Verdict]) -> Verdict:
    parts: list[JsonObject] = [{"rule": part.rule, "reward": part.reward, "reason": part.reason} for part in verdicts]
    return verdict.model_copy(update={"evidence": {**verdict.evidence, "parts": parts}})
