"""Gradient checkpointing: what a layer holds is computed again in the backward pass (Chen et al. 2016, 1604.06174)."""

from __future__ import annotations

from typing import Any

from torch import nn

from pivotgym.envs.errors import BadInput


class Recomputing:
    """A context in which forward passes of a model keep only the inputs of each layer.

    Outside of it the model is as it was: sampling and forward passes without gradients pay nothing.

    Args:
        lm: a transformers causal language model without wrappers (adapters may be in it); None for a context that
            changes nothing.

    Raises:
        BadInput: the architecture does not offer it.
    """

    def __init__(self, lm: Any | None) -> None:
        self._layers: list[nn.Module] = []
        if lm is None:
            return
        from transformers.modeling_layers import GradientCheckpointingLayer

        self._layers = [layer for layer in lm.modules() if isinstance(layer, GradientCheckpointingLayer)]
        if not self._layers or not getattr(lm, "supports_gradient_checkpointing", False):
            raise BadInput(f"{type(lm).__name__} has none", field="gradient_checkpointing")
        # Its new name came with transformers 5.
        enable = getattr(lm, "activation_checkpointing_enable", None)
        if enable is not None:
            enable()
        else:
            lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def __enter__(self) -> None:
        # transformers checkpoints a layer in train mode only. Of the layer's own object, not of what is in it: there
        # nothing may drop out.
        for layer in self._layers:
            layer.training = True

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            layer.training = False
