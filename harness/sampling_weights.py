"""Weights to sample from, beside those that learn.

Merged LoRA matrices make sampling faster; weights of their own let a sampler work with what was before the last update
while the next one is being computed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

LEARNER = "default"
"""Name of the adapter that learns."""


class SamplingWeights:
    """A copy of a model for sampling. It takes over what was learned when it is told to, not before.

    With LoRA it has the adapter added in, and of the matrices only those that are adapted are its own; otherwise all
    weights are.

    Args:
        plain: the copy, of the model before adapters were put into it.
        pairs: with LoRA, the adapter layers and the copy's matrix of each.
        learner: without LoRA, the model that learns.

    Attributes:
        model: to sample from; the same object every time.
    """

    def __init__(
        self, plain: nn.Module, pairs: list[tuple[Any, nn.Parameter]] | None = None, learner: nn.Module | None = None
    ) -> None:
        self.model = plain.requires_grad_(False) if learner is not None else plain
        self._pairs = pairs or []
        self._learner = learner

    @classmethod
    def merged(cls, adapted: Any, plain: nn.Module) -> SamplingWeights | None:
        """For LoRA: ``plain`` shares all parameters with ``adapted`` (:func:`sharing_copy`) but adapted ones.

        None where an adapter does not belong to a linear layer of its own, as those of a mixture's stacked experts.
        """
        from peft.tuners.lora import LoraLayer

        layers = [layer for layer in adapted.modules() if isinstance(layer, LoraLayer)]
        if not all(isinstance(layer.base_layer, nn.Linear) for layer in layers):
            return None
        pairs = []
        for name, layer in adapted.get_base_model().named_modules():
            if isinstance(layer, LoraLayer):
                module = plain.get_submodule(name)
                base: Any = layer.base_layer
                module.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)
                pairs.append((layer, module.weight))
        return cls(plain, pairs)

    @classmethod
    def whole(cls, learner: nn.Module) -> SamplingWeights:
        """Where all weights train: a second copy of them."""
        return cls(copy.deepcopy(learner).eval(), learner=learner)

    @torch.no_grad()
    def take_over(self) -> None:
        """Goes to the learner's weights as they are now."""
        for layer, weight in self._pairs:
            # From the base weights each time: merging and unmerging in place would add up rounding.
            weight.copy_(layer.base_layer.weight + layer.get_delta_weight(LEARNER))
        if self._learner is not None:
            for mine, learned in zip(self.model.parameters(), self._learner.parameters(), strict=True):
                mine.copy_(learned)


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy of the modules that holds the very same parameters."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()}).eval()
