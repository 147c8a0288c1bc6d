"""What the PivotRL paper proves (section 3), checked by numbers on a softmax policy over a few actions.

``z`` are logits of eight actions, ``r`` their rewards. Everything is exact: expectations are sums over the actions.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pivotgym.harness.losses import group_advantages


def policy(seed: int, actions: int = 8) -> tuple[Tensor, Tensor]:
    """Logits, and rewards of 0 and 1 with both among them."""
    generator = torch.Generator().manual_seed(seed)
    logits_A = torch.randn(actions, generator=generator, dtype=torch.float64)
    rewards_A = (torch.rand(actions, generator=generator, dtype=torch.float64) < 0.5).double()
    rewards_A[0], rewards_A[1] = 0.0, 1.0
    return logits_A, rewards_A


def natural_gradient_norm(logits_A: Tensor, rewards_A: Tensor) -> float:
    """Norm of the natural gradient of the expected reward, in the metric of the Fisher information."""
    parameter_A = logits_A.clone().requires_grad_()
    (torch.softmax(parameter_A, 0) * rewards_A).sum().backward()
    assert parameter_A.grad is not None
    p_A = torch.softmax(logits_A, 0)
    fisher_AA = torch.diag(p_A) - torch.outer(p_A, p_A)
    natural_A = torch.linalg.pinv(fisher_AA) @ parameter_A.grad
    return float((natural_A @ fisher_AA @ natural_A).sqrt())


@pytest.mark.parametrize("seed", range(5))
def test_the_natural_gradient_is_as_long_as_the_reward_s_standard_deviation(seed: int) -> None:
    """Theorem 3.2: the signal of a turn is the spread of its outcomes."""
    logits_A, rewards_A = policy(seed)
    p_A = torch.softmax(logits_A, 0)
    mean = float(p_A @ rewards_A)
    assert natural_gradient_norm(logits_A, rewards_A) == pytest.approx((mean * (1 - mean)) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_turns_without_mixed_outcomes_have_no_gradient(reward: float) -> None:
    """Proposition 3.1, for the policy and for the advantages of our groups."""
    logits_A, rewards_A = policy(0)
    assert natural_gradient_norm(logits_A, torch.full_like(rewards_A, reward)) == pytest.approx(0, abs=1e-9)
    assert group_advantages(torch.full((8,), reward, dtype=torch.float64), 8).abs().max() == 0


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_the_functional_reward_with_a_kl_keeps_ratios_within_right_and_within_wrong(beta: float) -> None:
    """Theorem 3.3: the minimiser of ``-E r + beta KL(pi | pi_0)`` raises the mass of the right actions, no more."""
    start_A, rewards_A = policy(3)
    start_p_A = torch.softmax(start_A, 0)
    parameter_A = start_A.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [parameter_A], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        p_A = torch.softmax(parameter_A, 0)
        loss = -(p_A * rewards_A).sum() + beta * (p_A * (p_A / start_p_A).log()).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(objective)  # type: ignore[arg-type]
    ratio_A = (torch.softmax(parameter_A.detach(), 0) / start_p_A).log()
    right = rewards_A == 1
    assert ratio_A[right].max() - ratio_A[right].min() < 1e-5
    assert ratio_A[~right].max() - ratio_A[~right].min() < 1e-5
    assert ratio_A[right].mean() - ratio_A[~right].mean() == pytest.approx(1 / beta, rel=1e-5)
    assert ratio_A[right].mean() > 0 > ratio_A[~right].mean()
