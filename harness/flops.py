"""Arithmetic of a training step and what a card could do at most: the share of the peak that a step reaches.

Counted is what the model's definition takes (Chowdhery et al. 2022, PaLM, arXiv:2204.02311, appendix B), a product
and a sum each as one: 6 operations a weight and position for forward and backward pass, and attention's products with
the keys that a position sees. What is computed again, masked, or done beside the matrices does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

PEAKS: dict[str, float] = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bfloat16 operations a second by their makers' sheets, by a part of the device's name; the first that fits."""


def peak_flops(name: str, dtype: torch.dtype) -> float | None:
    """Operations a second that the card does at most; None where it is not known for this card and precision."""
    if dtype not in (torch.bfloat16, torch.float16):
        return None
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def training_flops(
    config: Any, positions: int, pairs: int, scored: int, weights: int, *, adapters: bool = False
) -> float:
    """Operations of one forward and backward pass.

    Args:
        config: the model's, with the usual names.
        positions: computed by the decoder.
        pairs: of a position and one that it sees, itself included.
        scored: positions whose logits are computed.
        weights: parameters of the decoder that multiply a position: without embeddings and head.
        adapters: only adapters are trained (theirs are not counted): the matrices need no gradients of their own.
    """
    config = config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each = 4.0 if adapters else 6.0
    matrices = each * (weights * positions + config.hidden_size * config.vocab_size * scored)
    return float(matrices + 12.0 * config.num_hidden_layers * config.num_attention_heads * size * pairs)


def causal_pairs(prompt: int, completions: Sequence[int], *, shared: bool) -> tuple[int, int]:
    """Positions and pairs of a prompt with its completions, the prompt computed once (``shared``) or for each."""
    tails = sum(length * prompt + length * (length + 1) // 2 for length in completions)
    heads = 1 if shared else len(completions)
    return heads * prompt + sum(completions), heads * prompt * (prompt + 1) // 2 + tails
