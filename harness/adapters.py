"""LoRA adapters that train: fresh ones, those to start from, and what the settings of a run say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.options import LoraOptions
from pivotgym.harness.runs import adapter_digest
from pivotgym.harness.sampling_weights import LEARNER

REFERENCE = "reference"
"""Name of the adapter that is the reference policy."""


def adapter_settings(folder: Path) -> JsonObject:
    """What is adapted, and how much, by the LoRA adapter in ``folder``: ``rank``, ``alpha``, ``targets``, ``layers``.

    Raises:
        BadInput: no adapter, or one that is more than low-rank matrices added to linear layers (DoRA, whole modules,
            trained biases): sampling, reference and training would not agree on what the policy is.
    """
    file = folder / "adapter_config.json"
    if not file.is_file():
        raise BadInput("not a folder with an adapter (no adapter_config.json)", file=folder)
    try:
        found: JsonObject = json.loads(file.read_text(encoding="utf-8"))
        kind, bias = str(found.get("peft_type", "LORA")), str(found.get("bias", "none"))
    except (ValueError, AttributeError) as error:
        raise BadInput(f"no adapter settings ({error})", file=file) from error
    if kind != "LORA":
        raise BadInput(f"an adapter of type {kind}; only LORA can be a start", file=file, field="peft_type")
    if bias != "none":
        raise BadInput("an adapter that trains biases cannot be a start", file=file, field="bias")
    for name in ("use_dora", "modules_to_save", "trainable_token_indices"):
        if found.get(name):
            raise BadInput("an adapter that is not only low-rank matrices cannot be a start", file=file, field=name)
    targets = found.get("target_modules")
    return {
        "rank": found.get("r"),
        "alpha": found.get("lora_alpha"),
        "targets": sorted(targets) if isinstance(targets, list) else targets,
        "layers": found.get("layers_to_transform"),
    }


def start_settings(lora: LoraOptions | None, warm_start: Path | None) -> JsonObject:
    """For the settings of results: the adapter that trains in truth, and the content of the one started from."""
    if warm_start is None:
        return {}
    found = adapter_settings(warm_start)
    return {"warm_start_digest": adapter_digest(warm_start), "lora": None if lora is None else found}


def with_lora(model: nn.Module, lora: LoraOptions, seed: int) -> Any:
    """``model`` with fresh adapters that learn."""
    from peft import LoraConfig, get_peft_model

    config: Any = model.config
    depth = int(config.get_text_config().num_hidden_layers)
    targets: list[str] | Literal["all-linear"] = "all-linear" if lora.targets == ("all-linear",) else list(lora.targets)
    if lora.layers is not None and lora.layers > depth:
        raise BadInput(f"{lora.layers} layers of {depth}", field="lora.layers")
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        target_modules=targets,
        lora_dropout=0.0,
        layers_to_transform=None if lora.layers is None else list(range(depth - lora.layers, depth)),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it was
        torch.manual_seed(seed)
        return get_peft_model(model, settings, adapter_name=LEARNER)


def with_adapter(model: nn.Module, folder: Path, *, reference: bool) -> Any:
    """``model`` with the adapter in ``folder`` to go on from, and once more, frozen, where it is the ``reference``."""
    from peft import PeftModel

    try:
        wrapped: Any = PeftModel.from_pretrained(model, str(folder), adapter_name=LEARNER, is_trainable=True)
        if reference:
            wrapped.load_adapter(str(folder), adapter_name=REFERENCE, is_trainable=False)
            wrapped.set_adapter(LEARNER)
    except (RuntimeError, ValueError, OSError) as problem:
        raise BadInput(f"the adapter does not fit the model: {problem}", file=folder) from problem
    return wrapped
