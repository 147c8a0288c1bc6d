"""The settings of turn-level training. Apart from the loop, and from torch as far as may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.losses import Aggregate, Baseline, KLEstimator, Level, Outside, PolicyLoss, Scale
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.shaping import Treatment

_BY_LOSS: dict[str, dict[str, Any]] = {
    "gspo": {"aggregate": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    "cispo": {"clip_low": 1.0, "clip_high": 4.0},
}
"""Defaults of the losses that have other ones than the fields' own."""


class TrainConfig(BaseModel):
    """How to train on pivots.

    Attributes:
        steps: rollout batches in all; a finished run goes on when this is raised.
        batch: pivots in a step.
        group: actions sampled at each pivot.
        inner_epochs: updates on each batch; from the second on the clip matters.
        micro_tokens: positions in one forward and backward pass: distinct tokens of the prompts and completions
            packed into it, or, for models that take padded batches only, tokens with the padding. One completion with
            its prompt may exceed it. The gradient does not depend on it, the memory does.
        micro_batch: at most so many pivots in a pass; None sets no limit.
        temperature: of the sampling; what is trained is the model's distribution at this temperature.
        top_p: of the sampling; the loss takes the sampled tokens as drawn from the whole distribution, so below 1
            training is slightly off-policy.
        max_tokens: longest action.
        lora: adapter settings; None trains all weights.
        warm_start: folder of a LoRA adapter to start from; it is then the reference policy too. Its rank and targets
            replace those of ``lora``; where all weights train it is merged into them first.
        merged_sampler: sample from a copy of the weights with the adapter added in (faster, more memory).
        optim: the optimiser.
        loss: ``clip`` (GRPO and its kin), ``gspo`` or ``cispo``, see :func:`~pivotgym.harness.losses.grpo_loss`; the
            last two come with other defaults: ``gspo`` with aggregation ``sequence`` and clip bounds 3e-4 and 4e-4
            (the paper's), ``cispo`` with no lower bound and an upper one of 5.
        clip_low: how far the probability ratio may fall below 1.
        clip_high: how far it may rise above 1.
        clip_cap: largest ratio of all, also where the advantage is negative; None is no bound.
        beta: weight of the KL to the reference policy.
        measure_kl: compute that KL even where ``beta`` is 0 (costs one forward pass).
        kl: its estimator.
        kl_by_ratio: multiply it by the ratio, which makes its gradient unbiased.
        reference_model: the reference policy, ``MODEL`` or ``MODEL+ADAPTER`` with the same tokens; None takes what
            training starts from (with LoRA the adapter turned off, which costs no memory).
        reference_logprobs: log-probabilities of the reference policy stored at profiling; where they are not known
            they are computed.
        reference_missing: ``skip`` computes none: tokens that were not profiled have no KL, and no reference policy is
            kept in memory.
        scale: what advantages are divided by.
        baseline: what is subtracted from rewards.
        aggregate: how token losses are averaged.
        importance_cap: corrects for a sampler that computes other probabilities than the trainer: token losses are
            multiplied by the ratio of the trainer's to the sampler's, at most so large. None does not correct, and
            takes the sampler's probabilities as the old policy's.
        importance_floor: at least so large; needs a cap.
        importance_level: one ratio a token or one a completion.
        importance_outside: hold ratios at the bounds, or leave out what lies outside.
        overlong: completions cut off at ``max_tokens``: trained on like others, or left out of the loss.
        overlong_buffer: the reward falls over the last so many tokens before ``max_tokens``; 0 does not.
        overlong_weight: how far it falls.
        malformed: completions that are no well-formed action: trained on like others, or left out of the loss.
        malformed_advantage: their advantage, instead of their group's (the public PivotRL recipes take -5).
        verifier: spec, ``default`` for the environment's own.
        env_options: keyword arguments of ``gym.make``.
        seed: fixes everything random.
        eval_every: held-out pivots are evaluated before, every so many steps, and after; 0 only before and after.
        eval_rollouts: actions sampled at each held-out pivot.
        eval_limit: at most so many held-out pivots.
        save_every: steps between checkpoints.
        keep: checkpoints kept.
        workers: threads that restore and judge.
        attempts: tries before a failure of the infrastructure is recorded as one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(50, ge=1)
    batch: int = Field(8, ge=1)
    group: int = Field(8, ge=2)
    inner_epochs: int = Field(1, ge=1)
    micro_tokens: int = Field(4096, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(128, ge=1)
    lora: LoraOptions | None = LoraOptions()
    warm_start: Path | None = None
    merged_sampler: bool = True
    optim: OptimOptions = OptimOptions()
    loss: PolicyLoss = "clip"
    clip_low: float = Field(0.2, ge=0, le=1)
    clip_high: float = Field(0.2, ge=0)
    clip_cap: float | None = Field(None, gt=1)
    beta: float = Field(0.0, ge=0)
    measure_kl: bool = False
    kl: KLEstimator = "k3"
    kl_by_ratio: bool = True
    reference_model: str | None = None
    reference_logprobs: Path | None = None
    reference_missing: Literal["compute", "skip"] = "compute"
    scale: Scale = "group"
    baseline: Baseline = "mean"
    aggregate: Aggregate = "token"
    importance_cap: float | None = Field(None, gt=0)
    importance_floor: float | None = Field(None, ge=0)
    importance_level: Level = "token"
    importance_outside: Outside = "truncate"
    overlong: Treatment = "keep"
    overlong_buffer: int = Field(0, ge=0)
    overlong_weight: float = Field(1.0, ge=0)
    malformed: Treatment = "keep"
    malformed_advantage: float | None = None
    verifier: str = "default"
    env_options: JsonObject = Field(default_factory=dict)
    seed: int = 0
    eval_every: int = Field(10, ge=0)
    eval_rollouts: int = Field(4, ge=1)
    eval_limit: int | None = Field(None, ge=1)
    save_every: int = Field(5, ge=1)
    keep: int = Field(2, ge=1)
    workers: int = Field(2, ge=1)
    attempts: int = Field(3, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_loss(cls, given: Any) -> Any:
        return {**_BY_LOSS.get(str(given.get("loss")), {}), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for wrong, name, problem in (
            (
                self.loss == "gspo" and self.aggregate != "sequence",
                "aggregate",
                "gspo has one ratio a completion and averages over completions: 'sequence'",
            ),
            (
                self.clip_cap is not None and (self.loss == "cispo" or self.clip_cap <= 1 + self.clip_high),
                "clip_cap",
                "must lie above 1 + clip_high, and cispo has none",
            ),
            (self.overlong_buffer > self.max_tokens, "overlong_buffer", "more than max_tokens"),
            (
                self.malformed == "mask" and self.malformed_advantage is not None,
                "malformed_advantage",
                "completions that are masked have no advantage",
            ),
            (
                self.importance_cap is None
                and (self.importance_floor, self.importance_level, self.importance_outside)
                != (None, "token", "truncate"),
                "importance_cap",
                "needed for the importance weights that the other importance options are about",
            ),
            (
                self.importance_cap is not None and (self.importance_floor or 0) > self.importance_cap,
                "importance_floor",
                "above importance_cap",
            ),
            (
                self.temperature != 1 and (self.importance_cap is not None or self.reference_logprobs is not None),
                "temperature",
                "samplers report log-probabilities at temperature 1, so importance weights and stored references "
                "need that",
            ),
            (
                self.reference_missing == "skip" and self.reference_logprobs is None,
                "reference_logprobs",
                "needed where missing references are skipped",
            ),
            (
                (self.reference_model is not None or self.reference_logprobs is not None)
                and not (self.beta > 0 or self.measure_kl),
                "beta",
                "a reference is named, but neither beta nor measure_kl asks for one",
            ),
        ):
            if wrong:
                raise BadInput(problem, field=name)
        return self

    @property
    def wants_kl(self) -> bool:
        """Whether a reference policy is needed."""
        return self.beta > 0 or self.measure_kl

    def results_depend_on(self) -> JsonObject:
        """The fields that change the results of a step."""
        return self.model_dump(mode="json", exclude={"steps", "save_every", "keep", "workers", "attempts"})
