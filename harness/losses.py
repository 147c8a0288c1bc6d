"""Losses of turn-level policy gradient training: pure functions on tensors.

Shapes: ``N`` completions in the batch, ``T`` tokens of the longest completion, ``G`` completions sampled at one state.
Logarithms are natural. ``mask_NT`` is 1 on action tokens and 0 on padding; what stands at masked positions never
reaches a result or a gradient, not even when it is infinite or NaN.

Micro-batches: every loss is a sum divided by a denominator. :func:`loss_denominator` gives the denominator of one
micro-batch and adds up over micro-batches; pass the sum to each :func:`grpo_loss`, and the gradients of the
micro-batches add up to the gradient of the whole batch, however unequal the micro-batches are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput

Scale = Literal["group", "batch", "none"]
Baseline = Literal["mean", "leave_one_out"]
Aggregate = Literal["token", "sequence", "constant"]
KLEstimator = Literal["k1", "k2", "k3"]
PolicyLoss = Literal["clip", "gspo", "cispo"]
Level = Literal["token", "sequence"]
Outside = Literal["truncate", "mask"]


def masked_mean(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of ``values`` where ``mask`` is not 0; 0 where nothing is left.

    Args:
        values: any shape.
        mask: same shape, bool or 0/1.
        dim: dimension to average over, or ``None`` for all.

    Returns:
        A scalar, or ``values`` without ``dim``.
    """
    keep = mask.bool()
    kept = values.masked_fill(~keep, 0.0)  # not a product: 0 · inf would be NaN
    if dim is None:
        return kept.sum() / keep.sum().clamp(min=1)
    return kept.sum(dim) / keep.sum(dim).clamp(min=1)


def _group_index(groups: Tensor | int, count: int, device: torch.device) -> tuple[Tensor, int]:
    """Group number of each completion, counted from 0, and the number of groups."""
    if isinstance(groups, int):
        if groups < 1 or count % groups:
            raise BadInput(f"{count} rewards do not divide into groups of {groups}", field="groups")
        return torch.arange(count, device=device) // groups, count // groups
    if groups.shape != (count,):
        raise BadInput(f"group ids have shape {tuple(groups.shape)}, rewards ({count},)", field="groups")
    ids, index_N = torch.unique(groups.to(device), return_inverse=True)
    return index_N, len(ids)


def group_advantages(
    rewards_N: Tensor,
    groups: Tensor | int,
    *,
    scale: Scale = "group",
    baseline: Baseline = "mean",
    eps: float = 1e-4,
) -> Tensor:
    """Advantage of each completion over the other completions of its state.

    ``A_i = (r_i - mean(r)) / (std(r) + eps)`` with mean and sample standard deviation (divisor G - 1) over the group
    (GRPO, Shao et al. 2024, arXiv:2402.03300, eq. 4.1.2).

    - ``scale="batch"`` divides by the standard deviation of all rewards instead (Liu et al. 2025, arXiv:2508.08221);
      ``scale="none"`` does not divide (Dr. GRPO, Liu et al. 2025, arXiv:2503.20783).
    - ``baseline="leave_one_out"`` subtracts the mean of the *other* completions (RLOO, Ahmadian et al. 2024,
      arXiv:2402.14740), which without scaling keeps the policy gradient unbiased. With ``scale="group"`` the standard
      deviation is that of the others too; where it is 0 the difference is left undivided, so that a single success
      among failures has advantage 1.

    A reward of NaN says that no verdict was reached (an infrastructure failure): it enters no mean, no deviation, and
    its advantage is 0. A group of one, or with equal rewards, has advantage 0.

    Args:
        rewards_N: rewards, shape ``(N,)``.
        groups: the group size, where groups are consecutive; or group ids, shape ``(N,)``, in any order.
        scale: what to divide by.
        baseline: what to subtract.
        eps: added to the standard deviation.

    Returns:
        Advantages, shape ``(N,)``, in the dtype of the rewards (float32 for integers).

    Raises:
        BadInput: shapes that do not fit, an infinite reward, an unknown option.
    """
    if rewards_N.dim() != 1:
        raise BadInput(f"rewards have shape {tuple(rewards_N.shape)}, wanted (N,)", field="rewards_N")
    if scale not in ("group", "batch", "none"):
        raise BadInput(f"{scale!r} is none of group, batch, none", field="scale")
    if baseline not in ("mean", "leave_one_out"):
        raise BadInput(f"{baseline!r} is none of mean, leave_one_out", field="baseline")
    rewards_N = rewards_N if rewards_N.is_floating_point() else rewards_N.float()
    if torch.isinf(rewards_N).any():
        raise BadInput("a reward is infinite", field="rewards_N")
    index_N, n_groups = _group_index(groups, len(rewards_N), rewards_N.device)

    # Double precision: sums of squares of nearly equal rewards cancel badly in single precision.
    valid_N = ~torch.isnan(rewards_N)
    r_N = rewards_N.double().masked_fill(~valid_N, 0.0)
    one_N = valid_N.double()

    def over_group(x_N: Tensor) -> Tensor:
        return x_N.new_zeros(n_groups).index_add(0, index_N, x_N)[index_N]

    count_N = over_group(one_N)
    mean_N = over_group(r_N) / count_N.clamp(min=1)
    centred_N = (r_N - mean_N) * one_N
    squares_N = over_group(centred_N.square())
    others_N = count_N - 1
    if baseline == "mean":
        advantages_N = centred_N
        deviation_N = (squares_N / others_N.clamp(min=1)).sqrt()
    else:
        # mean of the others = mean - centred / (G - 1), hence r - that = centred · G / (G - 1).
        advantages_N = centred_N * count_N / others_N.clamp(min=1)
        # Sum of squares of the others about their own mean: S - centred² · G / (G - 1).
        left_N = (squares_N - centred_N.square() * count_N / others_N.clamp(min=1)).clamp(min=0.0)
        deviation_N = (left_N / (others_N - 1).clamp(min=1)).sqrt()
        # Rounding leaves crumbs where the others are equal; a true spread is far larger than 1e-12 of the scale.
        deviation_N = deviation_N.masked_fill(left_N <= 1e-12 * squares_N, 0.0)
    if scale == "batch":
        kept = r_N[valid_N]
        deviation = kept.std() if kept.numel() > 1 else kept.new_zeros(())
        advantages_N = advantages_N / (deviation + eps)
    elif scale == "group" and baseline == "mean":
        advantages_N = advantages_N / (deviation_N + eps)
    elif scale == "group":
        advantages_N = torch.where(deviation_N > 0, advantages_N / (deviation_N + eps), advantages_N)
    return (advantages_N * one_N).to(rewards_N.dtype)


def kl_divergence(logprobs: Tensor, ref_logprobs: Tensor, kind: KLEstimator = "k3") -> Tensor:
    """Per-token estimate of ``KL(policy || reference)`` from tokens the policy sampled.

    With ``d = log ref - log policy``: ``k1 = -d`` (unbiased, high variance), ``k2 = d²/2`` (biased), ``k3 = exp(d) -
    d - 1`` (unbiased, never negative; the one GRPO uses). Source: Schulman 2020, "Approximating KL divergence"; Shao
    et al. 2024, arXiv:2402.03300, eq. 4.

    That is about the values. The gradient of a sample's estimate is not one of the KL's, as the sampling depends on
    the policy too: on policy that of k2 has the KL's as its expectation, that of k1 has 0, that of k3 the gradient of
    ``KL(reference || policy)``. See :func:`weighted_kl`.

    Args:
        logprobs: log-probabilities under the policy, any shape.
        ref_logprobs: the same tokens under the reference policy, same shape.
        kind: the estimator.

    Returns:
        The estimate, same shape.
    """
    d = ref_logprobs - logprobs
    if kind == "k1":
        return -d
    if kind == "k2":
        return 0.5 * d.square()
    if kind == "k3":
        return torch.expm1(d) - d  # expm1: exp(d) - 1 loses all digits for small d
    raise BadInput(f"{kind!r} is none of k1, k2, k3", field="kl")


def weighted_kl(kl: Tensor, log_ratio: Tensor, kind: KLEstimator) -> Tensor:
    """A :func:`kl_divergence` whose gradient has that of the KL as its expectation, whichever policy sampled.

    k1 and k3 are unbiased estimates, so times ``rho = pi / pi_old`` their expectation under the old policy is the KL
    as a function of the current one, and so is its gradient: ``rho`` keeps its gradient (DeepSeek-V3.2, 2025,
    arXiv:2512.02556). k2 is no unbiased estimate, but its gradient ``-d · grad log pi`` is that of the KL for samples
    of the current policy; it is to be weighed by ``rho`` only, and a gradient of ``rho`` itself would spoil it.

    Args:
        kl: of :func:`kl_divergence`.
        log_ratio: ``log rho`` of the same tokens, same shape.
        kind: the estimator.

    Returns:
        The weighted estimate, same shape.
    """
    ratio = log_ratio.exp()
    return kl * (ratio.detach() if kind == "k2" else ratio)


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The estimator ``exp(d) - d - 1``, ``d = log ref - log policy``; see :func:`kl_divergence`."""
    return kl_divergence(logprobs, ref_logprobs, "k3")


def importance_weights(
    trainer_logprobs_NT: Tensor,
    sampler_logprobs_NT: Tensor,
    mask_NT: Tensor,
    *,
    cap: float | None = 2.0,
    floor: float | None = None,
    level: Level = "token",
    outside: Outside = "truncate",
) -> Tensor:
    """Correction for a sampler that computes other probabilities than the trainer (other kernels, older weights).

    ``w = pi_trainer / pi_sampler`` of a token, or of the whole completion, held in ``[floor, cap]``: truncated
    importance sampling (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training";
    Ionides 2008). ``outside="mask"`` drops what lies outside instead.

    Args:
        trainer_logprobs_NT: the sampled tokens under the trainer's weights at sampling time, ``(N, T)``.
        sampler_logprobs_NT: the same as the sampler reported them; NaN where it reported none (weight 1).
        mask_NT: action tokens.
        cap: upper bound, or ``None``.
        floor: lower bound, or ``None``.
        level: one weight a token, or one a completion.
        outside: hold at the bound, or give weight 0.

    Returns:
        Weights without gradient, ``(N, T)`` for both levels, 0 on masked positions.
    """
    keep_NT = mask_NT.bool()
    with torch.no_grad():
        log_NT = torch.nan_to_num(trainer_logprobs_NT - sampler_logprobs_NT, nan=0.0).masked_fill(~keep_NT, 0.0)
        if level == "sequence":
            log_NT = log_NT.sum(-1, keepdim=True).expand_as(log_NT)
        weights_NT = log_NT.exp()
        low = -math.inf if floor is None else floor
        high = math.inf if cap is None else cap
        if outside == "truncate":
            weights_NT = weights_NT.clamp(low, high)
        else:
            weights_NT = weights_NT.masked_fill((weights_NT < low) | (weights_NT > high), 0.0)
        return weights_NT.masked_fill(~keep_NT, 0.0)


@dataclass(frozen=True)
class SamplerGap:
    """How far the log-probabilities of sampler and trainer are apart on the same tokens and weights.

    Attributes:
        tokens: compared.
        mean: mean absolute difference in nats.
        largest: the largest.
        kl: mean k3 estimate of KL(sampler || trainer).
    """

    tokens: int
    mean: float
    largest: float
    kl: float

    @classmethod
    def between(cls, trainer_logprobs_NT: Tensor, sampler_logprobs_NT: Tensor, mask_NT: Tensor) -> SamplerGap:
        """Measures it; tokens of which the sampler reported none (NaN) do not count. Shapes ``(N, T)``."""
        known_NT = mask_NT.bool() & ~torch.isnan(sampler_logprobs_NT)
        trainer_K, sampler_K = trainer_logprobs_NT.detach()[known_NT], sampler_logprobs_NT[known_NT]
        if not len(trainer_K):
            return cls(0, 0.0, 0.0, 0.0)
        gap_K = (trainer_K - sampler_K).abs()
        return cls(len(gap_K), float(gap_K.mean()), float(gap_K.max()), float(kl_k3(sampler_K, trainer_K).mean()))

    @staticmethod
    def merge(parts: list[SamplerGap]) -> SamplerGap:
        """That of a whole batch."""
        tokens = sum(part.tokens for part in parts)

        def mean(name: str) -> float:
            return float(sum(float(getattr(part, name)) * part.tokens for part in parts) / max(tokens, 1))

        return SamplerGap(tokens, mean("mean"), max((part.largest for part in parts), default=0.0), mean("kl"))


def loss_denominator(mask_NT: Tensor, aggregate: Aggregate = "token", max_length: int | None = None) -> float:
    """What the sum over a (micro-)batch is divided by; adds up over micro-batches.

    Args:
        mask_NT: action tokens, ``(N, T)``.
        aggregate: see :func:`grpo_loss`.
        max_length: longest completion the sampler may give, in tokens; needed for ``constant``.

    Returns:
        Number of action tokens (``token``), of completions (``sequence``), or completions × ``max_length``.
    """
    if aggregate == "token":
        return float(mask_NT.bool().sum())
    if aggregate == "sequence":
        return float(mask_NT.shape[0])
    if aggregate == "constant":
        if max_length is None or max_length < 1:
            raise BadInput("aggregation 'constant' needs the longest completion length", field="max_length")
        return float(mask_NT.shape[0] * max_length)
    raise BadInput(f"{aggregate!r} is none of token, sequence, constant", field="aggregate")


@dataclass(frozen=True)
class LossMetrics:
    """What a loss saw, as plain numbers. Means are over action tokens of this micro-batch.

    Attributes:
        tokens: action tokens.
        kl: mean estimate of the KL to the reference policy, over the tokens whose reference is known; 0 without one.
        kl_tokens: how many those are.
        clip_fraction: share of tokens whose gradient the clip removed (``cispo``: whose weight it holds at a bound).
        clip_fraction_low: of these, those below ``1 - clip_low`` with negative advantage (``cispo``: with any).
        clip_fraction_high: of these, those above ``1 + clip_high`` with positive advantage (``cispo``: with any), and
            those above ``clip_cap`` with negative advantage.
        ratio_mean: mean of ``pi / pi_old``, of a completion's tokens together with ``gspo``.
        ratio_max: largest ``pi / pi_old``.
        old_kl: mean k3 estimate of the KL from the policy that sampled.
        weight_mean: mean of the importance weights; 1 without them.
    """

    tokens: int
    kl: float
    kl_tokens: int
    clip_fraction: float
    clip_fraction_low: float
    clip_fraction_high: float
    ratio_mean: float
    ratio_max: float
    old_kl: float
    weight_mean: float


def merge_metrics(parts: list[LossMetrics]) -> LossMetrics:
    """Metrics of a whole batch from those of its micro-batches (means weighted by tokens)."""
    tokens, kl_tokens = (sum(getattr(part, name) for part in parts) for name in ("tokens", "kl_tokens"))

    def mean(name: str) -> float:
        return float(sum(float(getattr(part, name)) * part.tokens for part in parts) / max(tokens, 1))

    return LossMetrics(
        tokens=tokens,
        kl=sum(part.kl * part.kl_tokens for part in parts) / max(kl_tokens, 1),
        kl_tokens=kl_tokens,
        clip_fraction=mean("clip_fraction"),
        clip_fraction_low=mean("clip_fraction_low"),
        clip_fraction_high=mean("clip_fraction_high"),
        ratio_mean=mean("ratio_mean"),
        ratio_max=max((part.ratio_max for part in parts), default=0.0),
        old_kl=mean("old_kl"),
        weight_mean=mean("weight_mean"),
    )


def grpo_loss(
    logprobs_NT: Tensor,
    old_logprobs_NT: Tensor | None,
    advantages_N: Tensor,
    mask_NT: Tensor,
    *,
    loss: PolicyLoss = "clip",
    ref_logprobs_NT: Tensor | None = None,
    weights_NT: Tensor | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    clip_cap: float | None = None,
    beta: float = 0.0,
    kl: KLEstimator = "k3",
    kl_by_ratio: bool = True,
    aggregate: Aggregate = "token",
    denominator: float | None = None,
    max_length: int | None = None,
) -> tuple[Tensor, LossMetrics]:
    """Policy-gradient loss with bounded ratios and an optional KL term to a frozen reference policy.

    With ``rho = pi / pi_old`` of a token, ``A`` the completion's advantage and ``sg`` without gradient, a token's loss
    is ``w · l + beta · KL``, where ``l`` is

    - ``clip``: ``-min(rho · A, clip(rho, 1 - clip_low, 1 + clip_high) · A)`` (PPO, Schulman et al. 2017,
      arXiv:1707.06347, eq. 7; with group advantages GRPO, Shao et al. 2024, arXiv:2402.03300, eq. 3; unequal clip
      bounds from DAPO, Yu et al. 2025, arXiv:2503.14476, eq. 10). ``clip_cap`` bounds ``rho`` above where ``A`` is
      negative too (dual clip, Ye et al. 2020, arXiv:1912.09729, eq. 5; INTELLECT-2, 2025, arXiv:2505.07291).
    - ``gspo``: the same with one ratio a completion, ``exp`` of the mean of ``log rho`` over its tokens (GSPO, Zheng
      et al. 2025, arXiv:2507.18071, eq. 5 and 7). It is meant with aggregation ``sequence`` and clip bounds of a few
      1e-4.
    - ``cispo``: ``-sg(clip(rho, 1 - clip_low, 1 + clip_high)) · A · log pi``: no token loses its gradient (MiniMax-M1,
      2025, arXiv:2506.13585, eq. 4 and 5, with ``clip_low = 1``, no lower bound).

    The sum over tokens is divided:

    - ``token``: by the number of action tokens of the whole batch (DAPO): each token counts the same.
    - ``sequence``: by the completion's own length, then by the number of completions (GRPO): each completion
      counts the same.
    - ``constant``: by completions × ``max_length`` (Dr. GRPO, arXiv:2503.20783): no length bias.

    Args:
        logprobs_NT: log-probabilities of the sampled tokens under the policy, with gradient.
        old_logprobs_NT: under the policy that sampled them; ``None`` when that is the current one (``rho`` is 1 and
            still has its gradient).
        advantages_N: one advantage a completion.
        mask_NT: action tokens.
        loss: see above.
        ref_logprobs_NT: under the reference policy; needed for ``beta`` > 0, otherwise only measured. NaN where it is
            unknown: there is no KL term there.
        weights_NT: :func:`importance_weights`; multiply ``l``, not the KL.
        clip_low: how far ``rho`` may fall below 1.
        clip_high: how far it may rise above 1.
        clip_cap: largest ``rho`` of all, for ``clip`` and ``gspo``; above ``1 + clip_high``. ``None`` is no bound.
        beta: weight of the KL term.
        kl: its estimator.
        kl_by_ratio: multiply the KL of a token by its own ``rho``, see :func:`weighted_kl`: the gradient of the term
            is then an unbiased one of the token's KL given what stands before it, on and off policy. Without it,
            ``k2`` has that gradient on policy only; ``k3``, GRPO as first published, has on policy the gradient of
            the opposite ``KL(reference || policy)``; ``k1`` has one that does not depend on the reference.
        aggregate: see above.
        denominator: what to divide by, the sum of :func:`loss_denominator` over all micro-batches of the step;
            ``None`` takes this batch as the whole.
        max_length: longest completion, for ``constant``.

    Returns:
        The loss, a scalar to minimise, and its :class:`LossMetrics`.

    Raises:
        BadInput: shapes that do not fit, ``beta`` without reference, a denominator that is not positive, an unknown
            loss or a cap that it does not have or that lies inside the clip bounds.
    """
    for name, value, shape in (
        ("old_logprobs_NT", old_logprobs_NT, logprobs_NT.shape),
        ("advantages_N", advantages_N, logprobs_NT.shape[:1]),
        ("mask_NT", mask_NT, logprobs_NT.shape),
        ("ref_logprobs_NT", ref_logprobs_NT, logprobs_NT.shape),
        ("weights_NT", weights_NT, logprobs_NT.shape),
    ):
        if value is not None and value.shape != shape:
            raise BadInput(f"shape {tuple(value.shape)}, wanted {tuple(shape)}", field=name)
    if loss not in ("clip", "gspo", "cispo"):
        raise BadInput(f"{loss!r} is none of clip, gspo, cispo", field="loss")
    if clip_cap is not None and (loss == "cispo" or clip_cap <= 1 + clip_high):
        raise BadInput(f"{clip_cap} for loss {loss!r} with clip_high {clip_high}", field="clip_cap")
    if beta and ref_logprobs_NT is None:
        raise BadInput(f"beta is {beta} but there are no reference log-probabilities", field="ref_logprobs_NT")
    keep_NT = mask_NT.bool()
    if denominator is None:
        denominator = loss_denominator(mask_NT, aggregate, max_length)
        denominator = denominator or 1.0  # nothing to train on: the loss is 0, not NaN
    if not denominator > 0:
        raise BadInput(f"{denominator} is not positive", field="denominator")

    # Fill masked positions before any arithmetic: a NaN there would reach the gradient through 0 · NaN.
    policy_NT = logprobs_NT.masked_fill(~keep_NT, 0.0)
    old_NT = policy_NT.detach() if old_logprobs_NT is None else old_logprobs_NT.detach().masked_fill(~keep_NT, 0.0)
    log_ratio_NT = policy_NT - old_NT
    advantages_N1 = advantages_N.detach().to(policy_NT.dtype).unsqueeze(1)
    if loss == "gspo":
        lengths_N1 = keep_NT.sum(-1, keepdim=True).clamp(min=1)
        ratio_NT = (log_ratio_NT.sum(-1, keepdim=True) / lengths_N1).exp().expand_as(policy_NT)
    else:
        ratio_NT = log_ratio_NT.exp()
    clipped_NT = ratio_NT.clamp(1 - clip_low, 1 + clip_high)
    if loss == "cispo":
        token_loss_NT = -clipped_NT.detach() * advantages_N1 * policy_NT
    else:
        capped_NT = ratio_NT if clip_cap is None else ratio_NT.clamp(max=clip_cap)
        token_loss_NT = -torch.minimum(capped_NT * advantages_N1, clipped_NT * advantages_N1)
    if weights_NT is not None:
        token_loss_NT = token_loss_NT * weights_NT.detach().masked_fill(~keep_NT, 0.0)
    kl_NT, known_NT = torch.zeros_like(policy_NT), torch.zeros_like(keep_NT)
    if ref_logprobs_NT is not None:
        known_NT = keep_NT & ~torch.isnan(ref_logprobs_NT)
        reference_NT = torch.where(known_NT, ref_logprobs_NT.detach(), policy_NT.detach())
        kl_NT = kl_divergence(policy_NT, reference_NT, kl)
        if kl_by_ratio:
            kl_NT = weighted_kl(kl_NT, log_ratio_NT, kl)
        kl_NT = kl_NT.masked_fill(~known_NT, 0.0)
        if beta:
            token_loss_NT = token_loss_NT + beta * kl_NT
    token_loss_NT = token_loss_NT.masked_fill(~keep_NT, 0.0)
    if aggregate == "sequence":
        total = (token_loss_NT.sum(-1) / keep_NT.sum(-1).clamp(min=1)).sum()
    else:
        total = token_loss_NT.sum()

    with torch.no_grad():
        low_NT, high_NT = ratio_NT < 1 - clip_low, ratio_NT > 1 + clip_high
        if loss != "cispo":
            low_NT, high_NT = low_NT & (advantages_N1 < 0), high_NT & (advantages_N1 > 0)
        if clip_cap is not None:
            high_NT = high_NT | ((ratio_NT > clip_cap) & (advantages_N1 < 0))
        low, high = (float(masked_mean(x_NT.to(ratio_NT.dtype), keep_NT)) for x_NT in (low_NT, high_NT))
        tokens = int(keep_NT.sum())
        metrics = LossMetrics(
            tokens=tokens,
            kl=float(masked_mean(kl_NT, known_NT)),
            kl_tokens=int(known_NT.sum()),
            clip_fraction=low + high,
            clip_fraction_low=low,
            clip_fraction_high=high,
            ratio_mean=float(masked_mean(ratio_NT, keep_NT)),
            ratio_max=float(ratio_NT[keep_NT].max()) if tokens else 0.0,
            old_kl=float(masked_mean(kl_k3(old_NT, policy_NT), keep_NT)),
            weight_mean=1.0 if weights_NT is None else float(masked_mean(weights_NT.to(ratio_NT.dtype), keep_NT)),
        )
    return total / denominator, metrics
