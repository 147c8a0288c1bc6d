"""What every verifier offers: ``verify(env, action) -> Verdict``."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pivotgym.envs.core import AgentEnv, Pivot
from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Message
from pivotgym.envs.verdict import Verdict

__all__ = ["Verdict", "Verifier", "pivot_of"]


class Verifier(ABC):
    """Judges one action at a pivot.

    ``env`` stands at the pivot (it was reset to a trajectory and a turn) and may be forked freely; it is never
    stepped itself. A verifier raises :class:`pivotgym.envs.errors.InfrastructureError` when it cannot judge: that is
    no reward.
    """

    name: str = ""
    cost: float = 50.0
    """Rough price of one verdict, in milliseconds; compositions ask the cheap ones first."""

    @abstractmethod
    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        """The verdict on ``action`` in the state ``env`` stands in."""


def pivot_of(env: AgentEnv) -> Pivot:
    """The pivot ``env`` stands at. Raises BadInput where it was not restored from a recording."""
    if env.pivot is None:
        raise BadInput("the environment does not stand at a turn of a recorded trajectory", field="env")
    return env.pivot
