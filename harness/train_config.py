"""The settings of turn-level training. Apart from the loop, and from torch as far as may be."""

from __future__ import annotations

from pydantic import Field

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.pivots import Curriculum
from pivotgym.harness.shaping import Treatment
from pivotgym.harness.update_config import UpdateConfig


class TrainConfig(UpdateConfig):
    """How to train on pivots. A completion is one action.

    Attributes:
        curriculum: draw each step's pivots by how near their profiled pass rate is to a target that moves from easy to
            hard; None goes through all pivots in shuffled epochs.
        async_rollouts: sample the next batch while this one is trained on, from the weights before this update: what is
            trained on is then at most one batch old. The log-probabilities recorded when it was sampled stand for the
            policy that sampled, so clip and importance weights see its age.
        overlong_buffer: the reward falls over the last so many tokens before ``max_tokens``; 0 does not.
        overlong_weight: how far it falls.
        malformed: completions that are no well-formed action: trained on like others, or left out of the loss.
        malformed_advantage: their advantage, instead of their group's (the public PivotRL recipes take -5).
        verifier: spec, ``default`` for the environment's own.
        eval_every: held-out pivots are evaluated before, every so many steps, and after; 0 only before and after.
        eval_rollouts: actions sampled at each held-out pivot.
        eval_limit: at most so many held-out pivots.
    """

    curriculum: Curriculum | None = None
    async_rollouts: bool = False
    overlong_buffer: int = Field(0, ge=0)
    overlong_weight: float = Field(1.0, ge=0)
    malformed: Treatment = "keep"
    malformed_advantage: float | None = None
    verifier: str = "default"
    eval_every: int = Field(10, ge=0)
    eval_rollouts: int = Field(4, ge=1)
    eval_limit: int | None = Field(None, ge=1)

    def _conflicts(self) -> list[tuple[str, bool, str]]:
        return [
            *super()._conflicts(),
            ("overlong_buffer", self.overlong_buffer > self.max_tokens, "more than max_tokens"),
            (
                "malformed_advantage",
                self.malformed == "mask" and self.malformed_advantage is not None,
                "completions that are masked have no advantage",
            ),
            (
                "temperature",
                self.temperature != 1 and self.async_rollouts,
                "samplers report log-probabilities at temperature 1, and rollouts of older weights need them",
            ),
        ]

    def results_depend_on(self) -> JsonObject:
        """The fields that change the results of a step."""
        found = super().results_depend_on()
        if not self.async_rollouts:  # a run of before there was such an option is one without it
            del found["async_rollouts"]
        return found
