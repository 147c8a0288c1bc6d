"""GSPO, CISPO, the dual clip, RLOO, and what becomes of over-long and malformed completions, against TRL's code."""

# ruff: noqa: F401, F811  (fixtures are imported)

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from trl.rewards import get_soft_overlong_punishment
from trl.trainer.rloo_trainer import RLOOTrainer
from trl_oracle import MAX_LENGTH, REWARDS, G, batch, our_logprobs, perturb, recorded, trainer, trl_loss

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Message
from pivotgym.harness.losses import SamplerGap, group_advantages, grpo_loss, kl_divergence, merge_metrics
from pivotgym.harness.policies.base import Completion, StopReason
from pivotgym.harness.shaping import shape, soft_overlong_penalty

N, T = 12, 17
# Ours beside TRL's settings of the same method.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gspo": (
        {"loss": "gspo", "clip_low": 0.01, "clip_high": 0.015, "aggregate": "sequence"},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 0.01, "epsilon_high": 0.015},
    ),
    # TRL's bound is the weight itself, and it has no lower one.
    "cispo": ({"loss": "cispo", "clip_low": 1.0, "clip_high": 0.3}, {"loss_type": "cispo", "epsilon_high": 1.3}),
    "dual clip": (
        {"clip_cap": 1.5, "clip_low": 0.2, "clip_high": 0.28},
        {"loss_type": "dapo", "epsilon_low": 0.2, "epsilon_high": 0.28, "delta": 1.5},
    ),
}


def configure(trainer: Any, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        monkeypatch.setattr(trainer.args if name == "delta" else trainer, name, value)


def random_case() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(11)
    logprobs_NT = -torch.randn(N, T, generator=generator).abs()
    lengths_N = torch.randint(1, T + 1, (N,), generator=generator)
    return {
        "logprobs": logprobs_NT,
        "old": logprobs_NT + 0.4 * torch.randn(N, T, generator=generator),
        "ref": logprobs_NT + 0.4 * torch.randn(N, T, generator=generator),
        "advantages": torch.randn(N, generator=generator),
        "mask": (torch.arange(T)[None] < lengths_N[:, None]).long(),
        "weights": torch.rand(N, T, generator=generator) + 0.5,
    }


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("on_policy", [True, False], ids=["on_policy", "off_policy"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_variants_agree_with_trl_on_random_tensors(
    trainer: Any, monkeypatch: pytest.MonkeyPatch, name: str, beta: float, on_policy: bool, weighted: bool
) -> None:
    ours, theirs = VARIANTS[name]
    configure(trainer, monkeypatch, theirs)
    # With a sequence-level ratio TRL would multiply the KL by that; ours stays with the token's own.
    monkeypatch.setattr(trainer.args, "use_bias_correction_kl", False)
    monkeypatch.setattr(trainer, "use_vllm", weighted)
    monkeypatch.setattr(trainer, "vllm_importance_sampling_correction", weighted)
    case = random_case()
    trl_NT = case["logprobs"].clone().requires_grad_()
    monkeypatch.setattr(
        trainer, "_get_per_token_logps_and_entropies", lambda *_a, **_k: (trl_NT, torch.ones(N, T), None)
    )
    inputs = {
        "prompt_ids": torch.zeros(N, 1, dtype=torch.long),
        "prompt_mask": torch.ones(N, 1, dtype=torch.long),
        "completion_ids": torch.zeros(N, T, dtype=torch.long),
        "completion_mask": case["mask"],
        "advantages": case["advantages"],
        "num_items_in_batch": case["mask"].sum(),
        "ref_per_token_logps": case["ref"],
        "importance_sampling_ratio": case["weights"],
    }
    if not on_policy:
        inputs["old_per_token_logps"] = case["old"]
    trainer._metrics["train"].clear()
    wanted = trl_loss(trainer, theirs["loss_type"], beta, inputs)
    wanted.backward()
    logged = {key: values[-1] for key, values in trainer._metrics["train"].items()}

    ours_NT = case["logprobs"].clone().requires_grad_()
    got, metrics = grpo_loss(
        ours_NT,
        None if on_policy else case["old"],
        case["advantages"],
        case["mask"],
        ref_logprobs_NT=case["ref"],
        weights_NT=case["weights"] if weighted else None,
        beta=beta,
        kl_by_ratio=False,
        **ours,
    )
    got.backward()
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert trl_NT.grad is not None and ours_NT.grad is not None and trl_NT.grad.norm() > 1e-3
    assert (ours_NT.grad - trl_NT.grad).norm() < 1e-5 * trl_NT.grad.norm()
    assert (metrics.clip_fraction == 0) == on_policy, "off policy the clip takes part"
    assert (metrics.weight_mean == 1) == (not weighted)
    if name == "gspo" and not on_policy:
        # TRL's share is of completions, ours of tokens, as everywhere.
        total_N = case["mask"] * (case["logprobs"] - case["old"])
        ratio_N = (total_N.sum(-1) / case["mask"].sum(-1)).exp()
        clipped_N = ((ratio_N < 0.99) & (case["advantages"] < 0)) | ((ratio_N > 1.015) & (case["advantages"] > 0))
        assert clipped_N.float().mean() == pytest.approx(logged["clip_ratio/region_mean"], abs=1e-6)
        share = float((clipped_N[:, None] * case["mask"]).sum() / case["mask"].sum())
        assert metrics.clip_fraction == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_agree_with_trl_on_a_real_batch(
    trainer: Any, monkeypatch: pytest.MonkeyPatch, batch: dict[str, Tensor], name: str
) -> None:
    """Recorded messages through TRL's path and ours after the weights have moved, to the gradients of the adapter."""
    ours, theirs = VARIANTS[name]
    before = {key: p.detach().clone() for key, p in trainer.model.named_parameters() if p.requires_grad}
    configure(trainer, monkeypatch, theirs)
    try:
        with torch.no_grad():
            old_NT = our_logprobs(trainer, batch)
        perturb(trainer.model, 0.05, seed=2)
        gradients = []
        for side in ("trl", "ours"):
            trainer.model.zero_grad()
            if side == "trl":
                wanted = loss = trl_loss(trainer, theirs["loss_type"], 0.0, batch)
            else:
                loss, metrics = grpo_loss(
                    our_logprobs(trainer, batch),
                    old_NT,
                    group_advantages(torch.tensor(REWARDS), G),
                    batch["completion_mask"],
                    max_length=MAX_LENGTH,
                    **ours,
                )
                torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
            loss.backward()
            gradients.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad]))
    finally:
        for key, parameter in trainer.model.named_parameters():
            if key in before:
                parameter.data.copy_(before[key])
    assert gradients[0].norm() > 1e-3 and metrics.clip_fraction > 0
    assert (gradients[1] - gradients[0]).norm() < 1e-5 * gradients[0].norm()


def test_gspo_gradient_by_hand() -> None:
    """GSPO, eq. 10: of an unclipped completion it is s · A · mean over its tokens of the gradient of log pi."""
    case = random_case()
    logprobs_NT = case["logprobs"].clone().requires_grad_()
    loss, _ = grpo_loss(
        logprobs_NT,
        case["old"],
        case["advantages"],
        case["mask"],
        loss="gspo",
        aggregate="sequence",
        clip_low=0.9,
        clip_high=9.0,
    )
    loss.backward()
    lengths_N1 = case["mask"].sum(-1, keepdim=True)
    ratio_N1 = (((case["logprobs"] - case["old"]) * case["mask"]).sum(-1, keepdim=True) / lengths_N1).exp()
    wanted_NT = -ratio_N1 * case["advantages"][:, None] * case["mask"] / lengths_N1 / N
    torch.testing.assert_close(logprobs_NT.grad, wanted_NT, rtol=1e-5, atol=1e-8)


def test_cispo_keeps_every_gradient_and_holds_its_weight() -> None:
    case = random_case()
    logprobs_NT = case["logprobs"].clone().requires_grad_()
    loss, metrics = grpo_loss(
        logprobs_NT, case["old"], case["advantages"], case["mask"], loss="cispo", clip_low=0.2, clip_high=0.2
    )
    loss.backward()
    ratio_NT = (case["logprobs"] - case["old"]).exp()
    wanted_NT = -ratio_NT.clamp(0.8, 1.2) * case["advantages"][:, None] * case["mask"] / case["mask"].sum()
    torch.testing.assert_close(logprobs_NT.grad, wanted_NT)
    outside_NT = ((ratio_NT < 0.8) | (ratio_NT > 1.2)) * case["mask"]
    assert metrics.clip_fraction == pytest.approx(float(outside_NT.sum() / case["mask"].sum()))
    with pytest.raises(BadInput, match="clip_cap"):
        grpo_loss(logprobs_NT, None, case["advantages"], case["mask"], loss="cispo", clip_cap=3.0)
    with pytest.raises(BadInput, match="clip_cap"):
        grpo_loss(logprobs_NT, None, case["advantages"], case["mask"], clip_high=0.5, clip_cap=1.2)
    with pytest.raises(BadInput, match="none of clip"):
        grpo_loss(logprobs_NT, None, case["advantages"], case["mask"], loss="ppo")  # type: ignore[arg-type]


def test_rloo_agrees_with_trl(trainer: Any, batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """On policy, RLOO's gradient is ours with the leave-one-out baseline and the sum over a completion's tokens."""
    rewards_N = torch.tensor(REWARDS)
    advantages_N = group_advantages(rewards_N, G, scale="none", baseline="leave_one_out")
    # The formula (arXiv:2402.14740, eq. 9): the mean of the others is subtracted.
    by_hand = [r - (sum(REWARDS[i // G * G : i // G * G + G]) - r) / (G - 1) for i, r in enumerate(REWARDS)]
    torch.testing.assert_close(advantages_N, torch.tensor(by_hand))

    mask_NT = batch["completion_mask"]
    with torch.no_grad():
        old_N = (our_logprobs(trainer, batch) * mask_NT).sum(-1)
    monkeypatch.setattr(trainer, "epsilon_low", 0.2)
    monkeypatch.setattr(trainer, "epsilon_high", 0.2)
    trainer.model.zero_grad()
    trainer.model.train()
    # RLOOTrainer's loss needs nothing that GRPOTrainer has not.
    wanted = RLOOTrainer._compute_loss(
        trainer, trainer.model, {**batch, "old_logps": old_N, "advantages": advantages_N}
    )
    wanted.backward()
    wanted_grad = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])
    trainer.model.zero_grad()
    logprobs_NT = our_logprobs(trainer, batch)
    # Completions × 1: the sum over a completion's tokens, averaged over completions.
    loss, _ = grpo_loss(logprobs_NT, None, advantages_N, mask_NT, aggregate="constant", max_length=1)
    loss.backward()
    grad = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])
    assert wanted_grad.norm() > 1e-3
    assert (grad - wanted_grad).norm() < 1e-5 * wanted_grad.norm()


@pytest.mark.parametrize("buffer", [1, 6, 20])
def test_soft_overlong_penalty_agrees_with_trl(buffer: int) -> None:
    lengths = list(range(1, 26))
    wanted = get_soft_overlong_punishment(20, buffer)(completion_ids=[[0] * length for length in lengths])
    assert soft_overlong_penalty(torch.tensor(lengths), 20, buffer).tolist() == pytest.approx(wanted)
    for wrong in (0, 21):
        with pytest.raises(BadInput, match="buffer"):
            soft_overlong_penalty(torch.tensor(lengths), 20, wrong)


def test_masking_of_truncated_completions_agrees_with_trl(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same completions masked, the same advantages, the same denominators for every aggregation."""
    monkeypatch.setattr(trainer, "mask_truncated_completions", True)
    rollout = trainer.rollout_func

    def cut(prompts: list[str], trainer: Any) -> dict[str, list[list[Any]]]:
        found: dict[str, list[list[Any]]] = rollout(prompts, trainer)
        for index in (1, 4, 6):
            found["completion_ids"][index][-1] = 7  # not the end token
        return found

    monkeypatch.setattr(trainer, "rollout_func", cut)
    trainer.current.rewards, trainer.beta, trainer.scale_rewards = REWARDS, 0.0, "group"
    trainer.model.train()
    prepared = trainer._generate_and_score_completions(trainer.rows)
    assert (prepared["completion_mask"].sum(-1) == 0).tolist() == [index in (1, 4, 6) for index in range(2 * G)]
    ids = [row[row != 0].tolist() for row in prepared["completion_ids"]]
    completions = [completion(row, "length" if i in (1, 4, 6) else "stop") for i, row in enumerate(ids)]
    shaped = shape(completions, torch.tensor(REWARDS), G, overlong="mask")
    assert shaped.trained_N.tolist() == [index not in (1, 4, 6) for index in range(2 * G)]
    torch.testing.assert_close(shaped.advantages_N, prepared["advantages"], rtol=1e-5, atol=1e-5)
    logprobs_NT = our_logprobs_of(trainer, prepared)
    for loss_type, aggregate in {"grpo": "sequence", "dapo": "token", "dr_grpo": "constant"}.items():
        inputs = {key: value for key, value in prepared.items() if key != "old_per_token_logps"}
        wanted = trl_loss(trainer, loss_type, 0.0, inputs)
        got, _ = grpo_loss(
            logprobs_NT,
            None,
            shaped.advantages_N,
            prepared["completion_mask"],
            aggregate=aggregate,  # type: ignore[arg-type]
            max_length=MAX_LENGTH,
        )
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def our_logprobs_of(trainer: Any, prepared: dict[str, Tensor]) -> Tensor:
    """Of all completions, also those that TRL masks; their values must not matter."""
    everything = {**prepared, "completion_mask": (prepared["completion_ids"] != 0).long()}
    with torch.no_grad():
        return our_logprobs(trainer, everything)


def completion(ids: list[int], stop: StopReason = "stop", malformed: str | None = None) -> Completion:
    message = Message(role="assistant", content="x")
    return Completion(
        message, "x", [1], ids, [0.0] * len(ids), stop, malformed or ("cut" if stop == "length" else None)
    )


def test_malformed_and_cut_off_completions_are_treated_apart() -> None:
    group = [
        completion([5] * 3),
        completion([5] * 2, malformed="no JSON"),
        completion([5] * 9, "length"),
        completion([5]),
    ]
    rewards_N = torch.tensor([1.0, 0.0, 0.0, 1.0])
    plain_N = group_advantages(rewards_N, 4)
    kept = shape(group, rewards_N, 4)
    assert torch.equal(kept.advantages_N, plain_N) and kept.trained_N.all()
    # The penalty replaces the group's advantage, of the malformed one only; the others keep theirs.
    punished = shape(group, rewards_N, 4, malformed_advantage=-5.0)
    assert punished.advantages_N[1] == -5 and punished.trained_N.all()
    assert torch.equal(punished.advantages_N[[0, 2, 3]], plain_N[[0, 2, 3]])
    assert shape(group, rewards_N, 4, malformed="mask").trained_N.tolist() == [True, False, True, True]
    assert shape(group, rewards_N, 4, overlong="mask").trained_N.tolist() == [True, True, False, True]
    # All equally right: the length still makes a difference.
    long_N = shape(group, torch.ones(4), 4, max_length=10, overlong_buffer=5, overlong_weight=0.5).advantages_N
    assert long_N[2] < 0 < long_N[0] == long_N[1] == long_N[3]
    expected_N = group_advantages(torch.tensor([1.0, 1.0, 0.6, 1.0], dtype=torch.float64), 4).float()
    torch.testing.assert_close(long_N, expected_N)
    with pytest.raises(BadInput, match="no advantage"):
        shape(group, rewards_N, 4, malformed="mask", malformed_advantage=-5.0)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_tokens_without_a_known_reference_have_no_kl(kind: Any) -> None:
    case = random_case()
    known_NT = torch.rand(N, T, generator=torch.Generator().manual_seed(0)) < 0.5
    gradients, metrics = [], []
    for ref_NT, mask_NT in (
        (case["ref"].masked_fill(~known_NT, math.nan), case["mask"].bool()),
        (case["ref"], case["mask"].bool() & known_NT),
    ):
        logprobs_NT = case["logprobs"].clone().requires_grad_()
        loss, seen = grpo_loss(
            logprobs_NT,
            None,
            torch.zeros(N),
            mask_NT,
            ref_logprobs_NT=ref_NT,
            beta=1.0,
            kl=kind,
            kl_by_ratio=False,
            denominator=1.0,
        )
        loss.backward()
        gradients.append(logprobs_NT.grad)
        metrics.append(seen)
    assert gradients[0] is not None and gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])
    assert metrics[0].kl == pytest.approx(metrics[1].kl) and metrics[0].kl_tokens == metrics[1].tokens
    wanted = kl_divergence(case["logprobs"], case["ref"], kind)[case["mask"].bool() & known_NT].mean()
    assert merge_metrics([metrics[0]]).kl == pytest.approx(float(wanted), rel=1e-5)


def test_the_gap_between_sampler_and_trainer() -> None:
    trainer_NT = torch.tensor([[-1.0, -2.0, -9.0], [-0.5, -0.5, -0.5]])
    sampler_NT = torch.tensor([[-1.5, -2.0, 4.0], [-0.5, math.nan, -0.7]])
    mask_NT = torch.tensor([[1, 1, 0], [1, 1, 1]])
    gap = SamplerGap.between(trainer_NT, sampler_NT, mask_NT)
    assert (gap.tokens, gap.largest) == (4, pytest.approx(0.5)) and gap.mean == pytest.approx(0.7 / 4)
    d = torch.tensor([0.5, 0.0, 0.0, 0.2])  # log trainer - log sampler, of tokens the sampler drew
    assert gap.kl == pytest.approx(float((torch.expm1(d) - d).mean()))
    parts = [SamplerGap.between(trainer_NT[i : i + 1], sampler_NT[i : i + 1], mask_NT[i : i + 1]) for i in (0, 1)]
    merged = SamplerGap.merge(parts)
    assert merged.tokens == 4 and merged.mean == pytest.approx(gap.mean) and merged.kl == pytest.approx(gap.kl)
    assert SamplerGap.between(trainer_NT, torch.full_like(trainer_NT, math.nan), mask_NT).tokens == 0
