"""A judgement of one action or one episode."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.trajectory import JsonObject


class Verdict(BaseModel):
    """Reward in [0, 1], why, by which rule, and the evidence.

    Attributes:
        reward: 0 (wrong) to 1 (right).
        rule: which verifier or rule decided (``effects``, ``facts``, ``tool_call``, ``malformed`` …).
        reason: one sentence for a person.
        evidence: JSON facts the reason rests on (state changes, missing facts, judge's answer …).
    """

    model_config = ConfigDict(extra="forbid")

    reward: float = Field(ge=0.0, le=1.0)
    rule: str
    reason: str = ""
    evidence: JsonObject = Field(default_factory=dict)
