"""Goal: the task's own check after the sampled action."""

from __future__ import annotations

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.trajectory import Message
from pivotgym.verifiers.base import Verdict, Verifier


class Goal(Verifier):
    """Executes the action in a fork and asks the task's own check, with nothing after it.

    Meant for turns that should complete the task; at earlier turns the goal is rarely reached by any single action.
    Nobody outside is asked: a text to the user gets no reply.
    """

    name = "goal"
    cost = 20.0

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """The goal's reward, by rule ``goal``."""
        fork = env.fork()
        try:
            fork.advance(action, recorded=())
            verdict = fork.score()
        finally:
            fork.close()
        return verdict.model_copy(update={"rule": self.name, "evidence": {**verdict.evidence, "goal": verdict.rule}})
