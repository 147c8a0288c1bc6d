"""Mixtures of experts, bfloat16, gradient checkpointing: the same gradients, whatever the model and the memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from tiny_models import make_unusual
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from pivotgym.envs.errors import BadInput
from pivotgym.harness.forward import Logprobs, group_logprobs, padded_logprobs, supports_shared_prompt
from pivotgym.harness.learner import Learner
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies.sampler import sample_tokens
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.sft import SftConfig, train_sft
from pivotgym.harness.train import TrainConfig, train

SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MODELS: dict[str, Callable[..., nn.Module]] = {
    "llama": lambda **more: LlamaForCausalLM(LlamaConfig(**SIZES, **more)),
    "qwen3_moe": lambda **more: Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            **SIZES,
            head_dim=8,
            num_experts=8,
            num_experts_per_tok=2,
            moe_intermediate_size=24,
            norm_topk_prob=True,
            **more,
        )
    ),
    "mixtral": lambda **more: MixtralForCausalLM(
        MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2, sliding_window=None, **more)
    ),
}
GROUPS = [
    ([7, 3, 99, 14, 15, 9], [[5, 35, 8], [5, 35, 9, 79, 3], [23], [84, 62, 6, 4]]),
    ([7, 3, 99, 60], [[5, 35, 8, 11], [12, 13]]),
]


def make(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    return MODELS[name](**more).eval()


def gradients(model: nn.Module, found: Logprobs) -> dict[str, torch.Tensor]:
    weights_NT = torch.randn(found.logprobs_NT.shape, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    (found.logprobs_NT * weights_NT).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def padded(model: nn.Module) -> Logprobs:
    """Every group on its own, through the model's own ``forward``."""
    parts = [padded_logprobs(model, prompt, completions) for prompt, completions in GROUPS]
    width = max(part.logprobs_NT.shape[1] for part in parts)
    pad = nn.functional.pad
    return Logprobs(
        torch.cat([pad(part.logprobs_NT, (0, width - part.logprobs_NT.shape[1])) for part in parts]),
        torch.cat([pad(part.mask_NT, (0, width - part.mask_NT.shape[1])) for part in parts]),
        None,
    )


def distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    difference = sum(float((left[name] - right[name]).double().square().sum()) for name in left)
    return float((difference / sum(float(one.double().square().sum()) for one in right.values())) ** 0.5)


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral"])
def test_packed_is_padded_for_mixtures_of_experts(name: str) -> None:
    model = make(name)
    assert supports_shared_prompt(model)
    packed, plain = group_logprobs(model, GROUPS), padded(model)
    assert torch.equal(packed.mask_NT, plain.mask_NT)
    assert torch.allclose(packed.logprobs_NT, plain.logprobs_NT, atol=2e-5)
    ours, theirs = gradients(model, packed), gradients(model, plain)
    routers = [one for one in ours if one.endswith(("mlp.gate.weight", "gate.weight", "router.weight"))]
    assert len(routers) >= 3 and all(float(ours[one].abs().max()) > 0 for one in routers)
    assert distance(ours, theirs) < 1e-5


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral"])
def test_the_sampler_of_a_mixture_says_what_the_trainer_computes(name: str) -> None:
    model = make(name)
    prompts = [prompt for prompt, _ in GROUPS]
    drawn = sample_tokens(
        model,
        prompts,
        [3, 2],
        end_ids=frozenset({2}),
        max_tokens=[6, 6],
        pad_id=0,
        generator=torch.Generator().manual_seed(0),
    )
    groups = [
        (prompt, [sample.token_ids for sample in samples]) for prompt, samples in zip(prompts, drawn, strict=True)
    ]
    found = group_logprobs(model, groups)
    sampled = [value for samples in drawn for sample in samples for value in sample.logprobs]
    assert found.logprobs_NT[found.mask_NT].tolist() == pytest.approx(sampled, abs=1e-4)


def test_the_load_balancing_loss_takes_no_part() -> None:
    """Neither values nor gradients change with the router's auxiliary loss: training never asks for it."""
    plain, with_aux = make("qwen3_moe"), make("qwen3_moe", output_router_logits=True, router_aux_loss_coef=0.5)
    assert (
        distance(gradients(with_aux, group_logprobs(with_aux, GROUPS)), gradients(plain, group_logprobs(plain, GROUPS)))
        == 0
    )


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@pytest.mark.parametrize("targets", [ATTENTION, LoraOptions().targets])
def test_lora_on_a_mixture_leaves_its_router_alone(targets: tuple[str, ...]) -> None:
    learner = Learner(
        make("qwen3_moe"), LoraOptions(rank=2, targets=targets), OptimOptions(lr=1e-2), merged_sampler=True
    )
    trained = [name for name, parameter in learner.model.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name and ".gate." not in name for name in trained)
    # With the names of the feed-forward matrices the stacked experts get adapters too.
    assert any("experts" in name for name in trained) == (targets != ATTENTION)
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    for number in (1, 2):
        learner.logprobs(GROUPS).logprobs_NT.sum().backward()
        assert learner.update(number)
    changed = {name for name, value in learner.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(trained)
    # The sampler has the update, merged or not.
    sampler = learner.sampler()
    assert (sampler is not learner.model) == (targets == ATTENTION)
    with torch.no_grad():
        ours, theirs = learner.logprobs(GROUPS), learner.logprobs(GROUPS, sampler)
    assert torch.allclose(ours.logprobs_NT, theirs.logprobs_NT, atol=1e-4)


def learnt(name: str, checkpointing: bool, lora: bool, **more: Any) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients through a learner, and how often the first layer's feed-forward part ran."""
    model = make(name, **more)
    learner = Learner(
        model, LoraOptions(rank=2) if lora else None, OptimOptions(), checkpointing=checkpointing, merged_sampler=False
    )
    for key, parameter in learner.model.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(3))
    learner.packs(GROUPS, 100)  # checks of the packed pass come before the count
    runs = 0

    def count(*_: Any) -> None:
        nonlocal runs
        runs += 1

    # Before it, not behind it: computing again ends with the last tensor that was wanted.
    next(one for key, one in model.named_modules() if key.endswith("layers.0.mlp")).register_forward_pre_hook(count)
    return gradients(learner.model, learner.logprobs(GROUPS)), runs


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "mixtral"])
def test_checkpointing_computes_layers_again_and_gives_the_same_gradients(name: str, lora: bool) -> None:
    # Dropout in the configuration must stay off: what trains is the distribution that sampled.
    plain, once = learnt(name, False, lora, attention_dropout=0.5)
    again, twice = learnt(name, True, lora, attention_dropout=0.5)
    assert distance(again, plain) < 1e-6
    assert twice == 2 * once > 0


def test_checkpointing_is_for_the_learner_s_own_passes() -> None:
    model = make("llama")
    learner = Learner(model, None, OptimOptions(), checkpointing=True)
    with learner.recomputing:
        assert any(module.training for module in model.modules())
        assert not any(module.training for module in model.modules() if not list(module.children()))
    assert not any(module.training for module in model.modules())


def test_a_model_without_checkpointing_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

    with pytest.raises(BadInput, match="gradient_checkpointing"):
        Learner(Bare(), None, OptimOptions(), checkpointing=True)


def test_training_is_the_same_to_the_byte_with_checkpointing(tmp_path: Path) -> None:
    plain, again = (trained(tmp_path / str(on), on) for on in (False, True))
    assert plain == again
    assert any(json.loads(line).get("grad_norm") for line in plain[1].splitlines())


def trained(folder: Path, checkpointing: bool) -> list[bytes]:
    """Metrics of a supervised run and of a run on pivots that goes on from it."""
    policy = lamps.policy()
    supervised = SftConfig(
        lora=None, epochs=4, batch=8, optim=OptimOptions(lr=3e-3), gradient_checkpointing=checkpointing
    )
    train_sft(lamps.trajectories(24, seed=1), policy, supervised, folder / "sft")
    config = TrainConfig(
        steps=2,
        batch=3,
        group=6,
        max_tokens=4,
        lora=None,
        optim=OptimOptions(lr=1e-2),
        gradient_checkpointing=checkpointing,
    )
    pivots = [Pivot(trajectory=one, turn=0, split="train") for one in lamps.trajectories(6, turns=1, seed=2)]
    train(pivots, policy, config, folder / "train")
    return [(folder / name / "metrics.jsonl").read_bytes() for name in ("sft", "train")]


@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
def test_bfloat16_weights_train_float32_adapters(name: str) -> None:
    exact = Learner(make(name), LoraOptions(rank=2), OptimOptions())
    half = Learner(make(name).to(torch.bfloat16), LoraOptions(rank=2), OptimOptions(), checkpointing=True)
    found = []
    for learner in (exact, half):
        learner.logprobs(GROUPS).logprobs_NT.sum().backward()
        found.append(torch.cat([p.grad.float().reshape(-1) for p in learner.parameters if p.grad is not None]))
    assert {parameter.dtype for parameter in half.parameters} == {torch.float32}
    assert float(torch.nn.functional.cosine_similarity(found[0], found[1], dim=0)) > 0.97
    assert half.update(1) is not None


@pytest.mark.parametrize("kind", ["mamba", "lfm2"])
def test_models_with_a_state_are_sampled_and_trained(kind: str, tmp_path: Path) -> None:
    words = lamps.tokenizer()
    ends = {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id, "bos_token_id": None}
    layers = {"layer_types": ["conv", "full_attention"]} if kind == "lfm2" else {}
    model = make_unusual(kind, vocab_size=len(words), num_hidden_layers=2, initializer_range=0.1, **ends, **layers)
    policy = TransformersPolicy(model, words, name=kind)
    with pytest.warns(UserWarning, match="training on padded batches"):
        supervised = SftConfig(lora=None, epochs=3, batch=8, optim=OptimOptions(lr=3e-3))
        train_sft(lamps.trajectories(24, seed=1), policy, supervised, tmp_path / "sft")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pivots = [Pivot(trajectory=one, turn=0, split="train") for one in lamps.trajectories(6, turns=1, seed=2)]
    config = TrainConfig(steps=2, batch=4, group=8, max_tokens=4, lora=None, optim=OptimOptions(lr=1e-3))
    with pytest.warns(UserWarning, match="training on padded batches"):
        train(pivots, policy, config, tmp_path / "train")
    rows = [json.loads(line) for line in (tmp_path / "train" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "train"]
    # The sampler's log-probabilities are the trainer's, also after the update.
    assert len(steps) == 2 and all(row["trained_tokens"] and row["sampler_gap_max"] < 1e-3 for row in steps)
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
