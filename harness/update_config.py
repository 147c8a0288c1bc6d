"""The settings that every policy-gradient trainer has: weights, sampling, advantages, loss, references.

Turn-level training (:mod:`pivotgym.harness.train_config`) and whole episodes (:mod:`pivotgym.harness.grpo_episodes`)
add what is their own. A *completion* here is what the loss sees as one sequence: a sampled action, or a whole episode.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.losses import Aggregate, Baseline, KLEstimator, Level, Outside, PolicyLoss, Scale
from pivotgym.harness.options import LoraOptions, OptimOptions, VllmOptions
from pivotgym.harness.shaping import Treatment

_BY_LOSS: dict[str, dict[str, Any]] = {
    "gspo": {"aggregate": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    "cispo": {"clip_low": 1.0, "clip_high": 4.0},
}
"""Defaults of the losses that have other ones than the fields' own."""


class UpdateConfig(BaseModel):
    """How a batch is sampled and what the weights learn from it.

    Attributes:
        steps: rollout batches in all; a finished run goes on when this is raised.
        batch: pivots or tasks in a step.
        group: completions sampled for each of them.
        inner_epochs: updates on each batch; from the second on the clip matters.
        micro_tokens: positions in one forward and backward pass: distinct tokens of the prompts and actions packed
            into it, or, for models that take padded batches only, tokens with the padding. One completion with its
            prompt may exceed it. The gradient does not depend on it, the memory does.
        micro_batch: at most so many pivots or episodes in a pass; None sets no limit.
        gradient_checkpointing: keep only the inputs of each layer for the backward pass and compute the rest again: a
            fraction of the memory for a forward pass more. The gradient is the same.
        temperature: of the sampling; what is trained is the model's distribution at this temperature.
        top_p: of the sampling; the loss takes the sampled tokens as drawn from the whole distribution, so below 1
            training is slightly off-policy.
        max_tokens: longest action.
        lora: adapter settings; None trains all weights.
        warm_start: folder of a LoRA adapter to start from; it is then the reference policy too. Its rank and targets
            replace those of ``lora``; where all weights train it is merged into them first.
        merged_sampler: sample from a copy of the weights with the adapter added in (faster, more memory). With
            ``sampler`` ``vllm``: send the engine all weights with the adapter added in after each update, instead of
            the adapter.
        sampler: what samples: ``transformers`` (the weights that train, in this process), ``vllm`` (an engine in this
            process, which gets the weights after each update) or ``vllm:BASE_URL`` (a server, which reads them from
            the run's folder); see :mod:`pivotgym.harness.samplers`.
        vllm: settings of the engine in this process.
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
        kl_by_ratio: multiply it by the ratio, which makes its gradient unbiased, on and off policy. Without it ``k2``
            is unbiased on policy only, ``k3`` (GRPO as published) is biased, and ``k1`` is refused with ``beta``.
        reference_model: the reference policy, ``MODEL`` or ``MODEL+ADAPTER`` with the same tokens; None takes what
            training starts from (with LoRA the adapter turned off, which costs no memory).
        reference_logprobs: log-probabilities of the reference policy stored at profiling; where they are not known
            they are computed, and what is computed is compared with what is stored.
        reference_missing: ``skip`` computes none: tokens that were not profiled have no KL, no reference policy is
            kept in memory, and nothing stored is compared with it.
        scale: what advantages are divided by.
        baseline: what is subtracted from rewards.
        aggregate: how token losses are averaged.
        importance_cap: corrects for a sampler that computes other probabilities than the trainer: token losses are
            multiplied by the ratio of the trainer's to the sampler's, at most so large. None does not correct, and
            takes the sampler's probabilities as the old policy's.
        importance_floor: at least so large; needs a cap.
        importance_level: one ratio a token or one a completion.
        importance_outside: hold ratios at the bounds, or leave out what lies outside.
        overlong: completions cut off before their end (actions at ``max_tokens``, episodes at their last turn or at
            the end of the context): trained on like others, or left out of the loss.
        env_options: keyword arguments of ``gym.make``.
        seed: fixes everything random.
        save_every: steps between checkpoints.
        keep: checkpoints kept.
        workers: threads that restore, step and judge.
        attempts: tries before a failure of the infrastructure is recorded as one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(50, ge=1)
    batch: int = Field(8, ge=1)
    group: int = Field(8, ge=2)
    inner_epochs: int = Field(1, ge=1)
    micro_tokens: int = Field(4096, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    gradient_checkpointing: bool = False
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(128, ge=1)
    lora: LoraOptions | None = LoraOptions()
    warm_start: Path | None = None
    merged_sampler: bool = True
    sampler: str = Field("transformers", pattern=r"^(transformers|vllm|vllm:https?://.+)$")
    vllm: VllmOptions = VllmOptions()
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
    env_options: JsonObject = Field(default_factory=dict)
    seed: int = 0
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
        for name, wrong, problem in self._conflicts():
            if wrong:
                raise BadInput(problem, field=name)
        return self

    def _conflicts(self) -> list[tuple[str, bool, str]]:
        """Settings that contradict each other: field, whether it does, what is wrong."""
        return [
            (
                "aggregate",
                self.loss == "gspo" and self.aggregate != "sequence",
                "gspo has one ratio a completion and averages over completions: 'sequence'",
            ),
            (
                "clip_cap",
                self.clip_cap is not None and (self.loss == "cispo" or self.clip_cap <= 1 + self.clip_high),
                "must lie above 1 + clip_high, and cispo has none",
            ),
            (
                "kl_by_ratio",
                self.kl == "k1" and not self.kl_by_ratio and self.beta > 0,
                "k1 without the ratio has a gradient that does not depend on the reference, 0 in expectation on "
                "policy: keep kl_by_ratio, or take k2 or k3",
            ),
            (
                "importance_cap",
                self.importance_cap is None
                and (self.importance_floor, self.importance_level, self.importance_outside)
                != (None, "token", "truncate"),
                "needed for the importance weights that the other importance options are about",
            ),
            (
                "importance_floor",
                self.importance_cap is not None and (self.importance_floor or 0) > self.importance_cap,
                "above importance_cap",
            ),
            (
                "temperature",
                self.temperature != 1 and (self.importance_cap is not None or self.reference_logprobs is not None),
                "samplers report log-probabilities at temperature 1, and their ratio to the trainer's is not that of "
                "what was sampled at another one: importance weights and stored references need 1",
            ),
            (
                "reference_logprobs",
                self.reference_missing == "skip" and self.reference_logprobs is None,
                "needed where missing references are skipped",
            ),
            (
                "beta",
                (self.reference_model is not None or self.reference_logprobs is not None) and not self.wants_kl,
                "a reference is named, but neither beta nor measure_kl asks for one",
            ),
        ]

    @property
    def wants_kl(self) -> bool:
        """Whether a reference policy is needed."""
        return self.beta > 0 or self.measure_kl

    @property
    def longest(self) -> int:
        """Most tokens of a completion."""
        return self.max_tokens

    def results_depend_on(self) -> JsonObject:
        """The fields that change the results of a step."""
        left_out = {"steps", "save_every", "keep", "workers", "attempts", "gradient_checkpointing"}
        # Where nothing of vLLM is used, the settings are those of runs from before there was a choice.
        left_out |= {"sampler", "vllm"} if self.sampler == "transformers" else set()
        return self.model_dump(mode="json", exclude=left_out)
