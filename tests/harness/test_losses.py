"""Losses against TRL's own code, on random tensors and on a real batch, and against their definitions."""

# ruff: noqa: F401, F811  (fixtures are imported)

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from trl_oracle import (
    AGGREGATES,
    MAX_LENGTH,
    REWARDS,
    REWARDS_WITH_GAP,
    G,
    batch,
    our_logprobs,
    perturb,
    recorded,
    trainer,
    trl_loss,
)

from pivotgym.envs.errors import BadInput
from pivotgym.harness.losses import (
    group_advantages,
    grpo_loss,
    importance_weights,
    kl_divergence,
    kl_k3,
    loss_denominator,
    masked_mean,
    merge_metrics,
)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("rewards", [REWARDS, REWARDS_WITH_GAP], ids=["all", "gap"])
@pytest.mark.filterwarnings("ignore:All reward functions returned None")
def test_advantages_agree_with_trl(trainer: Any, scale: str, rewards: list[float | None]) -> None:
    trainer.current.rewards, trainer.beta, trainer.scale_rewards = rewards, 0.0, scale
    wanted_N = trainer._generate_and_score_completions(trainer.rows)["advantages"]
    ours_N = torch.tensor([math.nan if reward is None else reward for reward in rewards])
    got_N = group_advantages(ours_N, G, scale=scale)
    assert wanted_N.abs().max() > 0.1
    torch.testing.assert_close(got_N, wanted_N, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss_type", AGGREGATES)
@pytest.mark.parametrize(("beta", "kl_by_ratio"), [(0.0, True), (0.3, True), (0.3, False)])
@pytest.mark.parametrize("on_policy", [True, False], ids=["on_policy", "off_policy"])
def test_loss_agrees_with_trl_on_random_tensors(
    trainer: Any, monkeypatch: pytest.MonkeyPatch, loss_type: str, beta: float, kl_by_ratio: bool, on_policy: bool
) -> None:
    monkeypatch.setattr(trainer.args, "use_bias_correction_kl", kl_by_ratio)
    generator = torch.Generator().manual_seed(7)
    n, t = 12, 17

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    logprobs_NT = -draw(n, t).abs()
    old_NT, ref_NT, advantages_N = logprobs_NT + 0.3 * draw(n, t), logprobs_NT + 0.5 * draw(n, t), draw(n)
    lengths_N = torch.randint(1, t + 1, (n,), generator=generator)
    mask_NT = (torch.arange(t)[None] < lengths_N[:, None]).long()

    trl_NT = logprobs_NT.clone().requires_grad_()
    monkeypatch.setattr(
        trainer, "_get_per_token_logps_and_entropies", lambda *_a, **_k: (trl_NT, torch.ones(n, t), None)
    )
    inputs = {
        "prompt_ids": torch.zeros(n, 1, dtype=torch.long),
        "prompt_mask": torch.ones(n, 1, dtype=torch.long),
        "completion_ids": torch.zeros(n, t, dtype=torch.long),
        "completion_mask": mask_NT,
        "advantages": advantages_N,
        "num_items_in_batch": mask_NT.sum(),
        "ref_per_token_logps": ref_NT,
    }
    if not on_policy:
        inputs["old_per_token_logps"] = old_NT
    trainer._metrics["train"].clear()
    wanted = trl_loss(trainer, loss_type, beta, inputs)
    wanted.backward()
    logged = {name: values[-1] for name, values in trainer._metrics["train"].items()}

    ours_NT = logprobs_NT.clone().requires_grad_()
    got, metrics = grpo_loss(
        ours_NT,
        None if on_policy else old_NT,
        advantages_N,
        mask_NT,
        ref_logprobs_NT=ref_NT,
        clip_high=0.28,
        beta=beta,
        kl_by_ratio=kl_by_ratio,
        aggregate=AGGREGATES[loss_type],
        max_length=MAX_LENGTH,
    )
    got.backward()
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert trl_NT.grad is not None and ours_NT.grad is not None
    assert (ours_NT.grad - trl_NT.grad).norm() < 1e-5 * trl_NT.grad.norm()
    assert metrics.clip_fraction_low == pytest.approx(logged["clip_ratio/low_mean"], abs=1e-6)
    assert metrics.clip_fraction_high == pytest.approx(logged["clip_ratio/high_mean"], abs=1e-6)
    assert metrics.clip_fraction == pytest.approx(logged["clip_ratio/region_mean"], abs=1e-6)
    assert (metrics.clip_fraction == 0) == on_policy
    if beta:
        assert metrics.kl == pytest.approx(logged["kl"], rel=1e-5)


@pytest.mark.parametrize("loss_type", AGGREGATES)
@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("on_policy", [True, False], ids=["on_policy", "off_policy"])
def test_loss_agrees_with_trl_on_a_real_batch(
    trainer: Any, batch: dict[str, Tensor], loss_type: str, beta: float, on_policy: bool
) -> None:
    """Recorded messages through TRL's whole path and ours: forward, advantages, KL to the reference, loss, gradient."""
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    inputs = {**batch} if not on_policy else {k: v for k, v in batch.items() if k != "old_per_token_logps"}
    try:
        with torch.no_grad():
            old_NT = our_logprobs(trainer, batch)  # the policy that sampled …
            with trainer.model.disable_adapter():
                ref_NT = our_logprobs(trainer, batch)
        perturb(trainer.model, 0.05, seed=2)  # … has been updated since
        trainer.model.zero_grad()
        trainer._metrics["train"].clear()
        wanted = trl_loss(trainer, loss_type, beta, inputs)
        wanted.backward()
        wanted_grad = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])
        kl = trainer._metrics["train"].get("kl", [None])[-1]

        trainer.model.zero_grad()
        got, metrics = grpo_loss(
            our_logprobs(trainer, batch),
            None if on_policy else old_NT,
            group_advantages(torch.tensor(REWARDS), G),
            batch["completion_mask"],
            ref_logprobs_NT=ref_NT,
            clip_high=0.28,
            beta=beta,
            aggregate=AGGREGATES[loss_type],
            max_length=MAX_LENGTH,
        )
        got.backward()
    finally:
        for name, parameter in trainer.model.named_parameters():
            if name in before:
                parameter.data.copy_(before[name])
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    grad = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])
    assert wanted_grad.norm() > 1e-3
    assert (grad - wanted_grad).norm() < 1e-5 * wanted_grad.norm()
    if not on_policy:
        assert metrics.clip_fraction > 0  # the clip took part
    if beta:
        assert kl > 1e-3
        assert metrics.kl == pytest.approx(kl, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_importance_weights_agree_with_trl(trainer: Any, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    low, high = 0.85, 1.2
    monkeypatch.setattr(trainer, "use_vllm", True)
    monkeypatch.setattr(trainer, "_last_loaded_step", trainer.state.global_step, raising=False)
    monkeypatch.setattr(trainer, "vllm_importance_sampling_correction", True)
    monkeypatch.setattr(trainer, "vllm_importance_sampling_mode", mode)
    monkeypatch.setattr(trainer, "vllm_importance_sampling_clip_min", low, raising=False)
    monkeypatch.setattr(trainer, "vllm_importance_sampling_clip_max", high, raising=False)
    trainer.current.rewards, trainer.beta, trainer.scale_rewards = REWARDS, 0.0, "group"
    trainer.model.train()
    batch = trainer._generate_and_score_completions(trainer.rows)
    mask_NT = batch["completion_mask"]
    level, outside = mode.split("_")
    got_NT = importance_weights(
        batch["old_per_token_logps"],
        batch["sampling_per_token_logps"],
        mask_NT,
        cap=high,
        floor=low,
        level=level,
        outside=outside,
    )
    wanted_NT = batch["importance_sampling_ratio"].expand_as(got_NT) * mask_NT
    torch.testing.assert_close(got_NT, wanted_NT, rtol=1e-5, atol=1e-5)
    kept = got_NT[mask_NT.bool()]  # the case is a real one: some weights inside the bounds, some outside
    inside = (kept > low) & (kept < high)
    assert inside.any() and not inside.all()
    wanted = trl_loss(trainer, "dapo", 0.0, batch)
    got, _ = grpo_loss(
        our_logprobs(trainer, batch),
        batch["old_per_token_logps"],
        batch["advantages"],
        mask_NT,
        weights_NT=got_NT,
        clip_high=0.28,
    )
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("aggregate", ["token", "sequence", "constant"])
def test_micro_batches_add_up(aggregate: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs_NT = -torch.rand(7, 9, generator=generator)
    old_NT = logprobs_NT + 0.3 * torch.randn(7, 9, generator=generator)
    ref_NT = logprobs_NT + 0.3 * torch.randn(7, 9, generator=generator)
    advantages_N = torch.randn(7, generator=generator)
    mask_NT = torch.arange(9)[None] < torch.tensor([9, 1, 4, 2, 9, 7, 3])[:, None]
    common = {"beta": 0.1, "aggregate": aggregate, "max_length": 12}

    whole_NT = logprobs_NT.clone().requires_grad_()
    whole, whole_metrics = grpo_loss(whole_NT, old_NT, advantages_N, mask_NT, ref_logprobs_NT=ref_NT, **common)
    whole.backward()

    parts = [slice(0, 1), slice(1, 2), slice(2, 7)]
    denominator = sum(loss_denominator(mask_NT[part], aggregate, 12) for part in parts)
    parts_NT = logprobs_NT.clone().requires_grad_()
    total, metrics = 0.0, []
    for part in parts:
        loss, seen = grpo_loss(
            parts_NT[part],
            old_NT[part],
            advantages_N[part],
            mask_NT[part],
            ref_logprobs_NT=ref_NT[part],
            denominator=denominator,
            **common,
        )
        loss.backward()
        total += loss.item()
        metrics.append(seen)
    assert total == pytest.approx(whole.item(), rel=1e-5)
    torch.testing.assert_close(parts_NT.grad, whole_NT.grad, rtol=1e-5, atol=1e-7)
    merged = merge_metrics(metrics)
    for name in ("tokens", "kl", "clip_fraction", "ratio_mean", "ratio_max", "old_kl"):
        assert getattr(merged, name) == pytest.approx(getattr(whole_metrics, name), rel=1e-5), name


def test_masked_positions_never_matter() -> None:
    logprobs_NT = torch.tensor([[-1.0, math.nan], [-2.0, -math.inf]], requires_grad=True)
    mask_NT = torch.tensor([[1, 0], [1, 0]])
    loss, metrics = grpo_loss(
        logprobs_NT, None, torch.tensor([1.0, -1.0]), mask_NT, ref_logprobs_NT=logprobs_NT.detach() * 2, beta=0.1
    )
    loss.backward()
    assert torch.isfinite(loss) and metrics.tokens == 2 and math.isfinite(metrics.kl)
    assert logprobs_NT.grad is not None
    assert torch.isfinite(logprobs_NT.grad).all() and not logprobs_NT.grad[:, 1].any()
    assert masked_mean(torch.tensor([1.0, math.inf]), torch.tensor([1, 0])) == 1.0
    assert masked_mean(torch.tensor([[1.0, 3.0], [5.0, 7.0]]), torch.tensor([[1, 1], [0, 1]]), 1).tolist() == [2.0, 7.0]
    empty, metrics = grpo_loss(logprobs_NT, None, torch.tensor([1.0, -1.0]), torch.zeros(2, 2))
    assert empty.item() == 0.0 and metrics.tokens == 0


def test_advantages_by_hand() -> None:
    # One success among 16, others as baseline: full credit for the success, equal small blame for the rest.
    rewards_N = torch.tensor([1.0] + [0.0] * 15)
    got_N = group_advantages(rewards_N, 16, baseline="leave_one_out", eps=0.0)
    assert got_N[0] == 1.0
    others = torch.tensor([1.0] + [0.0] * 14)
    torch.testing.assert_close(got_N[1:], (-(others.mean()) / others.std()).expand(15))
    plain_N = group_advantages(rewards_N, 16, baseline="leave_one_out", scale="none")
    torch.testing.assert_close(plain_N[1:], torch.full((15,), -1 / 15))
    # Group ids in any order give what consecutive groups give.
    rewards_N = torch.tensor([0.1, 0.9, 0.4, 0.4, 0.3, 0.8])
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for baseline in ("mean", "leave_one_out"):
        consecutive_N = group_advantages(rewards_N, 3, baseline=baseline)
        shuffled_N = group_advantages(rewards_N[order], torch.tensor([9, 9, 9, 2, 2, 2])[order], baseline=baseline)
        torch.testing.assert_close(shuffled_N, consecutive_N[order])
    # Nothing to compare with, nothing to learn.
    for baseline in ("mean", "leave_one_out"):
        for scale in ("group", "batch", "none"):
            for same in (torch.full((6,), 0.1), torch.tensor([0.3])):
                assert not group_advantages(same, len(same), scale=scale, baseline=baseline).any()


def test_advantages_reject_bad_input() -> None:
    rewards_N = torch.zeros(6)
    with pytest.raises(BadInput, match="groups of 4"):
        group_advantages(rewards_N, 4)
    with pytest.raises(BadInput, match="infinite"):
        group_advantages(torch.tensor([math.inf, 0.0]), 2)
    with pytest.raises(BadInput, match="group ids"):
        group_advantages(rewards_N, torch.zeros(5))
    with pytest.raises(BadInput, match="reference"):
        grpo_loss(torch.zeros(1, 1), None, torch.zeros(1), torch.ones(1, 1), beta=0.1)
    with pytest.raises(BadInput, match="advantages_N"):
        grpo_loss(torch.zeros(2, 1), None, torch.zeros(1), torch.ones(2, 1))
    with pytest.raises(BadInput, match="max_length"):
        grpo_loss(torch.zeros(1, 1), None, torch.zeros(1), torch.ones(1, 1), aggregate="constant")
    with pytest.raises(BadInput, match="not positive"):
        grpo_loss(torch.zeros(1, 1), None, torch.zeros(1), torch.ones(1, 1), denominator=0.0)


def test_kl_estimators_estimate_the_kl() -> None:
    policy_V, ref_V = (
        torch.log_softmax(torch.randn(5, generator=torch.Generator().manual_seed(s)), -1) for s in (0, 1)
    )
    exact = (policy_V.exp() * (policy_V - ref_V)).sum()
    for kind in ("k1", "k3"):  # unbiased: their expectation under the policy is the divergence itself
        estimate = (policy_V.exp() * kl_divergence(policy_V, ref_V, kind)).sum()
        torch.testing.assert_close(estimate, exact)
    torch.testing.assert_close(kl_divergence(policy_V, ref_V, "k2"), (policy_V - ref_V).square() / 2)
    assert (kl_k3(policy_V, ref_V) > 0).all()
    with pytest.raises(BadInput):
        kl_divergence(policy_V, ref_V, "k4")  # type: ignore[arg-type]
