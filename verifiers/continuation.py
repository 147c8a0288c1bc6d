"""Continuation: after the sampled action, can the rest of the demonstration still reach the goal?"""

from __future__ import annotations

from collections.abc import Sequence

from pivotgym.envs.core import AgentEnv, Pivot
from pivotgym.envs.trajectory import JsonObject, Message
from pivotgym.verifiers.base import Verdict, Verifier, pivot_of
from pivotgym.verifiers.coverage import is_error
from pivotgym.verifiers.talk import TalkRule


class Continuation(Verifier):
    """Executes the sampled action in a fork, replays the demonstration's later turns, asks the goal.

    The users' later turns are the recorded ones. It stops early, with reward 0, when a later demonstrated call fails
    that did not fail in the recording. An action of another kind than demonstrated (a text for a call, a call for a
    text) is wrong, since the recorded user would answer something nobody said.

    What it judges of calls is harm and progress in the *state*: at a turn that only reads, any call that changes
    nothing passes. Combine it there: ``any_of(effects,continuation)`` forgives other ways to the goal, ``all_of`` adds
    a check. A text changes no state and the recorded user answers it whatever it says, so texts are judged by
    :class:`pivotgym.verifiers.talk.TalkRule` first; its reward, where the goal is still reached, is the reward.
    A demonstration that does not reach the goal itself can vouch for nothing: reward 0.

    Cost: one fork and every later turn of the recording an action, and once more a pivot for the demonstration.
    """

    name = "continuation"
    cost = 100.0

    def __init__(self, talk: TalkRule | None = None) -> None:
        self.talk = talk or TalkRule()

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """1 (for texts what they earn) where the goal is still reached, else 0, by rule ``continuation``."""
        pivot = pivot_of(env)
        demonstration = pivot.demonstration
        if bool(action.tool_calls) != bool(demonstration.tool_calls):
            return self._verdict(0.0, "another kind of action than demonstrated")
        said = None if action.tool_calls else self.talk.judge(env, action)
        if said is not None and said.reward <= 0.0:
            return said
        baseline = pivot.cache.get("continuation")
        if baseline is None:
            baseline = pivot.cache["continuation"] = self._run(env, pivot, demonstration, pivot.answer)
        if baseline.reward < 1.0:
            reason = f"the demonstration itself does not reach the goal: {baseline.reason}"
            return self._verdict(0.0, reason, {"goal": baseline.model_dump()})
        verdict = self._run(env, pivot, action, _said_by_user(pivot.answer))
        reason = "the goal is still reached" if verdict.reward >= 1.0 else verdict.reason
        earned = said.reward if said is not None else 1.0
        return self._verdict(earned * (verdict.reward >= 1.0), reason, verdict.evidence)

    def _run(self, env: AgentEnv, pivot: Pivot, action: Message, recorded: Sequence[Message]) -> Verdict:
        fork = env.fork()
        try:
            fork.advance(action, recorded=recorded)
            trajectory = pivot.trajectory
            for turn in range(pivot.turn + 1, len(trajectory.turns)):
                later, answer = trajectory.action(turn), trajectory.answer(turn)
                response = fork.advance(later, recorded=answer)
                broken = _newly_failing(response.messages, answer)
                if broken is not None:
                    evidence: JsonObject = {"turn": turn, "result": broken[:500]}
                    return self._verdict(0.0, f"the demonstrated action of turn {turn} then fails", evidence)
            return fork.score()
        finally:
            fork.close()

    def _verdict(self, reward: float, reason: str, evidence: JsonObject | None = None) -> Verdict:
        return Verdict(reward=reward, rule=self.name, reason=reason, evidence=evidence or {})


def _said_by_user(answer: Sequence[Message]) -> list[Message]:
    """The recorded answer without the results of the demonstrated calls: those belong to the demonstration only."""
    return [message for message in answer if message.role != "tool" or message.requestor != "assistant"]


def _newly_failing(replayed: Sequence[Message], recorded: Sequence[Message]) -> str | None:
    ours = [message for message in replayed if message.role == "tool"]
    theirs = [message for message in recorded if message.role == "tool"]
    for position, message in enumerate(ours):
        failed_before = position < len(theirs) and is_error(theirs[position])
        if is_error(message) and not failed_before:
            return message.text
    return None
