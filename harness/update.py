"""Gradient updates on one batch of judged completions: packs, old and reference policy, importance weights, loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.learner import Learner
from pivotgym.harness.losses import LossMetrics, SamplerGap, grpo_loss, importance_weights, merge_metrics
from pivotgym.harness.packing import Group, Pack
from pivotgym.harness.reference import Reference
from pivotgym.harness.runs import CostMeter
from pivotgym.harness.train_config import TrainConfig

FIGURES = (
    "loss",
    "kl",
    "kl_share",
    "clip_fraction",
    "ratio_max",
    "old_kl",
    "sampler_gap_mean",
    "sampler_gap_max",
    "sampler_kl",
    "weight_mean",
    "entropy",
    "grad_norm",
    "lr",
    "trained_tokens",
)
"""What :meth:`Updater.update` reports."""


@dataclass(frozen=True)
class Batch:
    """What is trained on in one step.

    Attributes:
        groups: prompts and completions, the very ids the sampler returned; text never enters.
        sampled: the sampler's log-probabilities at temperature 1, one list a completion.
        advantages_N: one advantage a completion.
        denominator: what the summed token losses are divided by: of the whole batch, also of what is left out here
            because it has no gradient.
    """

    groups: Sequence[Group]
    sampled: Sequence[Sequence[float]]
    advantages_N: Tensor
    denominator: float


class Updater:
    """Takes optimiser steps on batches.

    Args:
        learner: the weights.
        config: settings.
        reference: the policy the KL refers to; None without one.

    Attributes:
        updates: optimiser steps so far.
    """

    def __init__(self, learner: Learner, config: TrainConfig, reference: Reference | None) -> None:
        self.learner, self.config, self._reference = learner, config, reference
        self.updates = 0

    def update(self, batch: Batch, meter: CostMeter) -> JsonObject:
        """``inner_epochs`` optimiser steps; returns :data:`FIGURES`.

        Args:
            batch: not empty.
            meter: counts the trained tokens.
        """
        config = self.config
        packs = self.learner.packs(batch.groups, config.micro_tokens, config.micro_batch)
        references = None if self._reference is None else self._reference.logprobs(packs)
        losses: list[float] = []
        norms: list[float | None] = []
        parts: list[LossMetrics] = []
        gaps: list[SamplerGap] = []
        olds: list[Tensor] = []  # log-probabilities of the old policy, of each pack
        weights: list[Tensor | None] = []
        entropy = 0.0
        for epoch in range(config.inner_epochs):
            loss_sum = 0.0
            for place, pack in enumerate(packs):
                logprobs_NT, mask_NT, entropy_NT = self.learner.logprobs(pack.groups)
                if epoch == 0:
                    old_NT, weights_NT, gap = self._old(logprobs_NT.detach(), mask_NT, pack, batch)
                    olds.append(old_NT)
                    weights.append(weights_NT)
                    gaps += [] if gap is None else [gap]
                    entropy += 0.0 if entropy_NT is None else float(entropy_NT.sum())
                loss, part = grpo_loss(
                    logprobs_NT,
                    olds[place],
                    batch.advantages_N[pack.rows].to(logprobs_NT.device),
                    mask_NT,
                    loss=config.loss,
                    ref_logprobs_NT=None if references is None else references[place],
                    weights_NT=weights[place],
                    clip_low=config.clip_low,
                    clip_high=config.clip_high,
                    clip_cap=config.clip_cap,
                    beta=config.beta,
                    kl=config.kl,
                    kl_by_ratio=config.kl_by_ratio,
                    aggregate=config.aggregate,
                    denominator=batch.denominator,
                    max_length=config.max_tokens,
                )
                loss.backward()  # type: ignore[no-untyped-call]
                loss_sum += float(loss.detach())
                parts.append(part)
                meter.cost.trained_tokens += part.tokens
            losses.append(loss_sum)
            self.updates += 1
            norms.append(self.learner.update(self.updates))
        tokens = sum(part.tokens for part in parts)
        merged, gap = merge_metrics(parts), SamplerGap.merge(gaps) if gaps else None
        return {
            "loss": fmean(losses),
            "kl": merged.kl if references is not None else None,
            "kl_share": merged.kl_tokens / tokens if references is not None else None,
            "clip_fraction": merged.clip_fraction,
            "ratio_max": merged.ratio_max,
            "old_kl": merged.old_kl,
            "sampler_gap_mean": gap and gap.mean,
            "sampler_gap_max": gap and gap.largest,
            "sampler_kl": gap and gap.kl,
            "weight_mean": merged.weight_mean,
            "entropy": entropy * config.inner_epochs / tokens,
            "grad_norm": norms[-1],
            "lr": self.learner.lr_at(self.updates),
            "trained_tokens": tokens,
        }

    def _old(
        self, logprobs_NT: Tensor, mask_NT: Tensor, pack: Pack, batch: Batch
    ) -> tuple[Tensor, Tensor | None, SamplerGap | None]:
        """Log-probabilities of the old policy, importance weights, and how far sampler and trainer are apart.

        Without importance weights the old policy is the sampler as it says itself, so that the clip sees its
        differences too. With them it is the trainer before the first update, and the weights see the differences.
        """
        config = self.config
        if config.temperature != 1:
            # The sampler records temperature 1. At another one the learner, still unchanged, says it itself.
            return logprobs_NT, None, None
        sampled_NT = _padded([batch.sampled[row] for row in pack.rows], mask_NT)
        gap = SamplerGap.between(logprobs_NT, sampled_NT, mask_NT)
        if config.importance_cap is None:
            return sampled_NT, None, gap
        weights_NT = importance_weights(
            logprobs_NT,
            sampled_NT,
            mask_NT,
            cap=config.importance_cap,
            floor=config.importance_floor,
            level=config.importance_level,
            outside=config.importance_outside,
        )
        return logprobs_NT, weights_NT, gap


def _padded(rows: Sequence[Sequence[float]], mask_NT: Tensor) -> Tensor:
    """Rows laid out like ``mask_NT``."""
    found_NT = torch.zeros(mask_NT.shape, dtype=torch.float32)
    for place, row in enumerate(rows):
        assert len(row) == int(mask_NT[place].sum())
        found_NT[place, : len(row)] = torch.tensor(row)
    return found_NT.to(mask_NT.device)
