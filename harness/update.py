"""Gradient updates on one batch of judged completions: packs, old and reference policy, importance weights, loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.learner import Learner
from pivotgym.harness.losses import LossMetrics, SamplerGap, grpo_loss, importance_weights, merge_metrics
from pivotgym.harness.packing import Group, Pack, pack_together
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.ranks import Ranks
from pivotgym.harness.reference import Reference, ReferenceSource
from pivotgym.harness.runs import CostMeter, derive_seed
from pivotgym.harness.update_config import UpdateConfig

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
NO_ADVANTAGE = 1e-9
"""Advantages below are rounding: equal rewards that are no binary fractions may differ in the last digit."""


@dataclass(frozen=True)
class Batch:
    """What is trained on in one step.

    Attributes:
        groups: prompts and sampled actions, the very ids the sampler returned; text never enters.
        sampled: the sampler's log-probabilities at temperature 1, one list an action.
        advantages_N: one advantage a completion.
        denominator: what the summed token losses are divided by: of the whole batch, also of what is left out here
            because it has no gradient.
        turns: how many consecutive actions each completion consists of, laid end to end: an episode is one completion
            to the losses, though each of its turns is scored behind its own prompt. None where every action is one.
    """

    groups: Sequence[Group]
    sampled: Sequence[Sequence[float]]
    advantages_N: Tensor
    denominator: float
    turns: Sequence[int] | None = None


@dataclass(frozen=True)
class _Pass:
    """One forward pass: the actions in it, the completions they make up, and how many actions each has."""

    pack: Pack
    completions: list[int]
    turns: list[int] | None

    def laid(self, values_RT: Tensor, mask_RT: Tensor) -> tuple[Tensor, Tensor]:
        """Values and mask of actions as those of completions."""
        return (values_RT, mask_RT) if self.turns is None else episode_rows(values_RT, mask_RT, self.turns)


def make_learner(
    policy: TransformersPolicy,
    config: UpdateConfig,
    source: ReferenceSource,
    *,
    kind: Callable[..., Learner] = Learner,
    own_sampler: bool = False,
) -> Learner:
    """The weights that a trainer of these settings changes; the policy's model is changed in place.

    Args:
        policy: what to train.
        config: settings.
        source: of the reference policy.
        kind: makes the learner, over several processes another one.
        own_sampler: see :class:`Learner`.
    """
    here = config.sampler == "transformers"  # an engine has weights of its own
    return kind(
        policy.model,
        config.lora,
        config.optim,
        warm_start=config.warm_start,
        seed=derive_seed(config.seed, "adapter"),
        reference=source.computes,
        reference_model=source.model,
        merged_sampler=config.merged_sampler and here,
        temperature=config.temperature,
        own_sampler=own_sampler and here,
        checkpointing=config.gradient_checkpointing,
    )


class Updater:
    """Takes optimiser steps on batches.

    Args:
        learner: the weights.
        config: settings.
        reference: the policy the KL refers to; None without one.
        ranks: the processes that share the packs.

    Attributes:
        updates: optimiser steps so far.
    """

    def __init__(
        self, learner: Learner, config: UpdateConfig, reference: Reference | None, ranks: Ranks | None = None
    ) -> None:
        self.learner, self.config, self._reference, self._ranks = learner, config, reference, ranks or Ranks()
        self.updates = 0

    def update(self, batch: Batch, meter: CostMeter) -> JsonObject:
        """``inner_epochs`` optimiser steps; returns :data:`FIGURES`.

        Args:
            batch: not empty.
            meter: counts the trained tokens.
        """
        config = self.config
        passes, counted = self._passes(batch)
        references = None if self._reference is None else self._reference.logprobs([item.pack for item in passes])
        losses: list[float] = []
        norms: list[float | None] = []
        parts: list[LossMetrics] = []
        gaps: list[SamplerGap] = []
        olds: list[Tensor] = []  # log-probabilities of the old policy, of each pack
        weights: list[Tensor | None] = []
        entropy = 0.0
        for epoch in range(config.inner_epochs):
            loss_sum = 0.0
            for place, item in enumerate(passes):
                plain_NT = self._untempered(item) if epoch == 0 and config.temperature != 1 else None
                found = self.learner.logprobs(item.pack.groups)
                logprobs_NT, mask_NT = item.laid(found.logprobs_NT, found.mask_NT)
                if epoch == 0:
                    old_NT, weights_NT, gap = self._old(logprobs_NT.detach(), plain_NT, mask_NT, item, batch)
                    olds.append(old_NT)
                    weights.append(weights_NT)
                    gaps += [gap] if place < counted else []
                    entropy += 0.0 if found.entropy_NT is None or place >= counted else float(found.entropy_NT.sum())
                reference_NT = None if references is None else item.laid(references[place], found.mask_NT)[0]
                loss, part = grpo_loss(
                    logprobs_NT,
                    olds[place],
                    batch.advantages_N[item.completions].to(logprobs_NT.device),
                    mask_NT,
                    loss=config.loss,
                    ref_logprobs_NT=reference_NT,
                    weights_NT=weights[place],
                    clip_low=config.clip_low,
                    clip_high=config.clip_high,
                    clip_cap=config.clip_cap,
                    beta=config.beta,
                    kl=config.kl,
                    kl_by_ratio=config.kl_by_ratio,
                    aggregate=config.aggregate,
                    denominator=batch.denominator,
                    max_length=config.longest,
                )
                if place >= counted:  # the pass keeps step with other processes, and adds nothing
                    (loss * 0).backward()  # type: ignore[no-untyped-call]
                    continue
                loss.backward()  # type: ignore[no-untyped-call]
                loss_sum += float(loss.detach())
                parts.append(part)
            losses.append(loss_sum)
            self.updates += 1
            norms.append(self.learner.update(self.updates))
        shares = self._ranks.exchange((losses, parts, gaps, entropy))
        losses = [sum(of_epoch) for of_epoch in zip(*(share[0] for share in shares), strict=True)]
        parts, gaps = [part for share in shares for part in share[1]], [gap for share in shares for gap in share[2]]
        entropy = sum(share[3] for share in shares)
        tokens = sum(part.tokens for part in parts)
        meter.cost.trained_tokens += tokens
        merged, gap = merge_metrics(parts), SamplerGap.merge(gaps)
        return {
            "loss": fmean(losses),
            "kl": merged.kl if references is not None else None,
            "kl_share": merged.kl_tokens / tokens if references is not None else None,
            "clip_fraction": merged.clip_fraction,
            "ratio_max": merged.ratio_max,
            "old_kl": merged.old_kl,
            "sampler_gap_mean": gap.mean,
            "sampler_gap_max": gap.largest,
            "sampler_kl": gap.kl,
            "weight_mean": merged.weight_mean,
            "entropy": entropy * config.inner_epochs / tokens,
            "grad_norm": norms[-1],
            "lr": self.learner.lr_at(self.updates),
            "trained_tokens": tokens,
        }

    def _passes(self, batch: Batch) -> tuple[list[_Pass], int]:
        """This process's passes, and how many of them, from the first, count in loss and figures."""
        config, groups = self.config, batch.groups
        if batch.turns is None:
            packs, counted = self.learner.share(self.learner.packs(groups, config.micro_tokens, config.micro_batch))
            return [_Pass(pack, pack.rows, None) for pack in packs], counted
        if self.learner.lockstep:
            # Without packed rows a pass over several turns is several forward passes, and processes would part.
            raise BadInput("whole episodes are trained on in one process", field="turns")
        # A completion's ratio may be one of all its tokens, so its turns are never in different passes.
        shared = self.learner.shares_prompts(groups, config.micro_tokens)
        found, first = [], 0
        for pack, count in pack_together(groups, batch.turns, config.micro_tokens, shared, config.micro_batch):
            inside = range(first, first + count)
            found.append(_Pass(pack, list(inside), [batch.turns[place] for place in inside]))
            first += count
        return found, len(found)

    @torch.no_grad()
    def _untempered(self, item: _Pass) -> Tensor:
        """The learner's log-probabilities at temperature 1, which is what samplers record at any temperature.

        A forward pass of its own: those at another temperature do not follow from them. It is made before the pass
        with gradients, so that nothing lies between that one and its backward pass in processes that share weights.
        """
        with _at_temperature_one(self.learner):
            # The model is named, so that the pass is one without recomputing: there is no backward pass to save for.
            found = self.learner.logprobs(item.pack.groups, self.learner.model)
        return item.laid(found.logprobs_NT, found.mask_NT)[0]

    def _old(
        self, logprobs_NT: Tensor, plain_NT: Tensor | None, mask_NT: Tensor, item: _Pass, batch: Batch
    ) -> tuple[Tensor, Tensor | None, SamplerGap]:
        """Log-probabilities of the old policy, importance weights, and how far sampler and trainer are apart.

        Without importance weights the old policy is the sampler as it says itself, so that the clip sees its
        differences too. With them it is the trainer before the first update, and the weights see the differences.
        At another temperature than 1 (``plain_NT`` is then the trainer at 1) the old policy is the trainer too, as
        what the sampler says is of another distribution; how far the two are apart is told at temperature 1.
        """
        config = self.config
        sampled_NT = _padded(_said(batch, item), mask_NT)
        gap = SamplerGap.between(logprobs_NT if plain_NT is None else plain_NT, sampled_NT, mask_NT)
        if plain_NT is not None:
            return logprobs_NT, None, gap
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


@contextmanager
def _at_temperature_one(learner: Learner) -> Iterator[None]:
    own = learner.temperature
    learner.temperature = 1.0
    try:
        yield
    finally:
        learner.temperature = own


def _said(batch: Batch, item: _Pass) -> list[list[float]]:
    """The sampler's log-probabilities of the completions of a pass."""
    rows = [list(batch.sampled[row]) for row in item.pack.rows]
    if item.turns is None:
        return rows
    left = iter(rows)
    return [[logprob for _ in range(count) for logprob in next(left)] for count in item.turns]


def episode_rows(values_RT: Tensor, mask_RT: Tensor, turns: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The tokens of each episode's turns laid end to end.

    Args:
        values_RT: one row a turn, all turns of the first episode first, shape ``(R, T)``.
        mask_RT: which of them are sampled tokens, bool, shape ``(R, T)``.
        turns: of each of the ``E`` episodes; they sum to ``R``.

    Returns:
        Values and mask of shape ``(E, L)``, ``L`` being the most tokens of an episode; differentiable in the values.

    Raises:
        BadInput: the turns do not sum to the rows.
    """
    if sum(turns) != len(values_RT):
        raise BadInput(f"{sum(turns)} turns in {len(values_RT)} rows", field="turns")
    rows, masks, start = [], [], 0
    for count in turns:
        row = values_RT[start : start + count][mask_RT[start : start + count]]
        rows.append(row)
        masks.append(torch.ones(len(row), dtype=torch.bool, device=row.device))
        start += count
    return pad_sequence(rows, batch_first=True), pad_sequence(masks, batch_first=True)


def _padded(rows: Sequence[Sequence[float]], mask_NT: Tensor) -> Tensor:
    """Rows laid out like ``mask_NT``."""
    found_NT = torch.zeros(mask_NT.shape, dtype=torch.float32)
    for place, row in enumerate(rows):
        assert len(row) == int(mask_NT[place].sum())
        found_NT[place, : len(row)] = torch.tensor(row)
    return found_NT.to(mask_NT.device)
