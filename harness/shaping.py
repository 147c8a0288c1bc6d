"""What becomes of completions that are too long or no well-formed action, before the loss.

A completion cut off at the token limit says little about the policy's intention, and one that cannot be parsed is
wrong whatever it meant. The published recipes differ in what they do with them; :func:`shape` offers what they do.

Shapes: ``N`` completions of the batch in consecutive groups of ``G``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.harness.losses import Baseline, Scale, group_advantages
from pivotgym.harness.policies.base import Completion

Treatment = Literal["keep", "mask"]


@dataclass(frozen=True)
class Shaped:
    """A batch as the loss gets it.

    Attributes:
        advantages_N: float32.
        trained_N: bool; false for completions that are no part of the loss.
    """

    advantages_N: Tensor
    trained_N: Tensor


def soft_overlong_penalty(lengths_N: Tensor, max_length: int, buffer: int) -> Tensor:
    """Soft over-long punishment, added to the reward.

    0 up to ``max_length - buffer`` tokens, then falling linearly to -1 at ``max_length``, -1 beyond (DAPO, Yu et al.
    2025, arXiv:2503.14476, eq. 13).

    Args:
        lengths_N: tokens of each completion.
        max_length: longest completion in tokens (``L_max``).
        buffer: tokens over which the penalty grows (``L_cache``), from 1 to ``max_length``.

    Returns:
        Penalties, shape ``(N,)``, float64.

    Raises:
        BadInput: a buffer out of its range.
    """
    if not 1 <= buffer <= max_length:
        raise BadInput(f"{buffer} is not between 1 and the {max_length} tokens of a completion", field="buffer")
    return ((max_length - buffer - lengths_N.double()) / buffer).clamp(-1.0, 0.0)


def shape(
    completions: Sequence[Completion],
    rewards_N: Tensor,
    group: int,
    *,
    scale: Scale = "group",
    baseline: Baseline = "mean",
    max_length: int = 0,
    overlong: Treatment = "keep",
    overlong_buffer: int = 0,
    overlong_weight: float = 1.0,
    malformed: Treatment = "keep",
    malformed_advantage: float | None = None,
) -> Shaped:
    """Advantages of a batch, and which of its completions are trained on.

    Rewards always enter their group's mean and deviation, also those of completions that are not trained on: the
    baseline stays an estimate of the policy's mean reward (as TRL does it; DAPO, arXiv:2503.14476, section 3.4, for
    the masking of cut-off completions).

    Args:
        completions: in consecutive groups.
        rewards_N: their rewards.
        group: completions of a group, ``G``.
        scale: of :func:`~pivotgym.harness.losses.group_advantages`.
        baseline: the same.
        max_length: longest completion in tokens, for ``overlong_buffer``.
        overlong: what becomes of completions cut off at the token limit: trained on like others, or left out of the
            loss.
        overlong_buffer: adds :func:`soft_overlong_penalty` over so many tokens to the rewards; 0 does not.
        overlong_weight: what that penalty is multiplied by.
        malformed: the same as ``overlong`` for completions that ended but are no well-formed action.
        malformed_advantage: the advantage of such completions instead of their group's, whatever their reward (the
            NeMo RL recipes for PivotRL give -5 to the tokens of invalid tool calls and malformed thinking, Nemotron 3
            Ultra, arXiv:2606.15007, section 3.3.2, speaks of negative advantages).

    Raises:
        BadInput: shapes that do not fit; an advantage for completions that are masked.
    """
    if malformed == "mask" and malformed_advantage is not None:
        raise BadInput("completions that are masked have no advantage", field="malformed_advantage")
    cut_N = torch.tensor([completion.stop_reason == "length" for completion in completions], dtype=torch.bool)
    # A completion that was cut off is malformed too, but for another reason.
    malformed_N = torch.tensor([completion.malformed is not None for completion in completions]).bool() & ~cut_N
    if overlong_buffer:
        lengths_N = torch.tensor([len(completion.token_ids) for completion in completions])
        rewards_N = rewards_N + overlong_weight * soft_overlong_penalty(lengths_N, max_length, overlong_buffer)
    advantages_N = group_advantages(rewards_N, group, scale=scale, baseline=baseline).float()
    if malformed_advantage is not None:
        advantages_N = advantages_N.masked_fill(malformed_N, malformed_advantage)
    trained_N = torch.ones(len(completions), dtype=torch.bool)
    for treatment, which_N in ((overlong, cut_N), (malformed, malformed_N)):
        if treatment == "mask":
            trained_N &= ~which_N
    return Shaped(advantages_N, trained_N)
