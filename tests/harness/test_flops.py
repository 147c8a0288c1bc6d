"""Operations of a step: PyTorch's own counter is the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lamps import policy
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from pivotgym.harness.bench_train_config import Point
from pivotgym.harness.bench_train_worker import Worker
from pivotgym.harness.flops import causal_pairs, peak_flops, training_flops


@pytest.mark.parametrize("adapters", [False, True])
def test_a_pass_takes_what_pytorch_counts(adapters: bool) -> None:
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    length = 96
    ids = torch.randint(0, 512, (1, length))
    if adapters:  # gradients pass through everything and stay at the input
        model.requires_grad_(False)
        inputs = {"inputs_embeds": model.get_input_embeddings()(ids).detach().requires_grad_()}
    else:
        inputs = {"input_ids": ids}
    with FlopCounterMode(display=False) as counter:
        model(**inputs).logits.sum().backward()
    weights = sum(parameter.numel() for parameter in model.model.layers.parameters() if parameter.dim() > 1)
    # The counter knows nothing of the mask: every position sees all others.
    ours = training_flops(config, length, length * length, length, weights, adapters=adapters)
    assert ours == pytest.approx(counter.get_total_flops(), rel=2e-3)


def test_pairs_are_those_of_the_masks() -> None:
    prompt, completions = 5, [3, 1]

    def count(rows: list[list[int]]) -> int:
        """Ancestors of each position in a tree of paths, counted one by one."""
        return len({(tuple(row[: i + 1]), j) for row in rows for i in range(len(row)) for j in range(i + 1)})

    rows = [[*range(prompt), *(100 * (number + 1) + i for i in range(n))] for number, n in enumerate(completions)]
    assert causal_pairs(prompt, completions, shared=True) == (prompt + 4, count(rows))
    assert causal_pairs(prompt, completions, shared=False) == (2 * prompt + 4, sum(count([row]) for row in rows))


def test_sides_of_the_benchmark_count_their_own(tmp_path: Path) -> None:
    made = policy(layers=2)
    made.model.save_pretrained(str(tmp_path))  # type: ignore[operator]
    made.tokenizer.save_pretrained(str(tmp_path))
    point = Point(group=8, prompt=256, completion=8, rows=2, tokens=4096)
    packed, padded = (Worker(side, str(tmp_path), False, 1) for side in ("packed", "padded"))  # type: ignore[arg-type]
    decoder = made.model.model.layers
    assert packed.weights == sum(parameter.numel() for parameter in decoder.parameters() if parameter.dim() > 1)
    assert 5 < padded.flops(point) / packed.flops(point) < 8, "the prompt eight times, the completions once"
    taken = packed.step(point)
    assert taken.tflop == pytest.approx(packed.flops(point) / 1e12) and taken.card_tflops is None


def test_the_peak_is_the_cards() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", torch.bfloat16) == 989e12
    assert peak_flops("NVIDIA H100 PCIe", torch.bfloat16) == 756e12
    assert peak_flops("NVIDIA A100-SXM4-40GB", torch.float16) == 312e12
    assert peak_flops("NVIDIA H100 80GB HBM3", torch.float32) is None
    assert peak_flops("some other card", torch.bfloat16) is None
