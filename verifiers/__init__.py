"""Verifiers: judge one action at a pivot, by comparing it, by executing it in a fork, or by asking."""

from __future__ import annotations

from pivotgym.envs.actions import MAX_DEPTH, too_deep
from pivotgym.envs.core import AgentEnv
from pivotgym.envs.trajectory import Message
from pivotgym.verifiers.base import Verdict, Verifier
from pivotgym.verifiers.registry import VerifierOptions, make, register_verifier, verifier_names

__all__ = [
    "Verdict",
    "Verifier",
    "VerifierOptions",
    "make",
    "register_verifier",
    "verifier_names",
    "verify_completion",
]


def verify_completion(verifier: Verifier, env: AgentEnv, message: Message, malformed: str | None = None) -> Verdict:
    """Judges a sampled completion.

    Args:
        verifier: the judge.
        env: stands at the pivot.
        message: the parsed action; where ``malformed`` is set, the raw text (it is not executed).
        malformed: why the text is no well-formed action, or None.

    Returns:
        The verifier's verdict; reward 0 by rule ``malformed`` for text that is no action.

    Raises:
        InfrastructureError: the verifier could not judge; that is no reward.
    """
    if malformed is not None:
        return Verdict(reward=0.0, rule="malformed", reason=malformed)
    if any(too_deep(call.arguments) for call in message.tool_calls):
        return Verdict(reward=0.0, rule="malformed", reason=f"arguments nested deeper than {MAX_DEPTH} levels")
    return verifier.verify(env, message)
