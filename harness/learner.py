"""The weights that learn: LoRA or all of them, their optimiser, their reference, their checkpoints."""

from __future__ import annotations

import copy
import json
import math
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.attention import Kernel, attention_weight, skips_masked, window_of
from pivotgym.harness.forward import (
    Logprobs,
    agrees_with_padded,
    causal_lm,
    group_logprobs,
    padded_logprobs,
    supports_shared_prompt,
)
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.packing import Group, Pack, plan_packs
from pivotgym.harness.runs import adapter_digest, whole_folder, write_json

LEARNER, REFERENCE = "default", "reference"


class Learner:
    """A model being trained.

    Without LoRA all weights train (those of a warm-start adapter added in first) and the reference is a frozen copy of
    what they started from. With LoRA the reference costs nothing: it is
    the base model (adapter off), or, after a warm start, a second frozen copy of the warm-start adapter. So the
    learner's own adapter always applies to the original base model, whatever it started from.

    Args:
        model: a causal language model; with LoRA it is changed in place (adapters are put into it).
        lora: None trains all weights.
        optim: the optimiser.
        warm_start: folder of a LoRA adapter to start from (its rank and targets replace those of ``lora``); without
            ``lora`` it is merged into the weights.
        temperature: the policy is the model's distribution at this temperature: :meth:`logprobs` divides by it.
        seed: of the adapter's initial weights.
        reference: whether a reference policy will be asked for.
        reference_model: another model as the reference, instead of what training starts from.
        merged_sampler: with LoRA, keep a second copy of the adapted matrices with the adapter added in. Sampling is
            then a quarter faster (measured on a CPU), for the memory of those matrices.
    """

    def __init__(
        self,
        model: nn.Module,
        lora: LoraOptions | None,
        optim: OptimOptions,
        *,
        warm_start: Path | None = None,
        seed: int = 0,
        reference: bool = False,
        reference_model: nn.Module | None = None,
        merged_sampler: bool = False,
        temperature: float = 1.0,
    ) -> None:
        self.optim, self.temperature = optim, temperature
        self.lora = lora is not None
        self.warm = self.lora and warm_start is not None
        self._frozen = None if reference_model is None else _freeze(reference_model)
        reference = reference and self._frozen is None
        self._ways: dict[int, _Way] = {}
        self._stale = True
        plain = _sharing_copy(model) if merged_sampler and self.lora else None
        if warm_start is not None:
            adapter_settings(warm_start)  # refuses what cannot be trained on
        if lora is not None:
            self.model: Any = (
                _with_lora(model, lora, seed)
                if warm_start is None
                else _with_adapter(model, warm_start, reference=reference)
            )
        else:
            if warm_start is not None:
                from pivotgym.harness.policies.transformers_policy import merge_adapter  # late: it takes seconds

                model = merge_adapter(model, warm_start)
            self.model = model
            model.requires_grad_(True)
            if reference:
                self._frozen = _freeze(copy.deepcopy(model))
        self._sampler: nn.Module = self.model if plain is None else plain
        self._merged = [] if plain is None else _own_matrices(self.model, plain)
        # Never train mode: what trains must be the distribution that sampled, so nothing may drop out.
        self.model.eval()
        if self._merged and self._sampler_gap() > 1e-3:
            # Something in the adapter is no sum of matrices: then sample from the learner itself, slower but right.
            self._sampler, self._merged = self.model, []
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay
        )

    @contextmanager
    def reference_model(self) -> Iterator[nn.Module]:
        """The frozen reference policy, for forward passes inside the ``with`` block."""
        if self._frozen is not None:
            yield self._frozen
        elif not self.lora:
            raise BadInput("the learner was made without a reference policy", field="reference")
        elif self.warm:
            self.model.set_adapter(REFERENCE)
            try:
                yield self.model
            finally:
                self.model.set_adapter(LEARNER)
                for parameter in self.parameters:  # switching adapters also switches what trains
                    parameter.requires_grad_(True)
        else:
            with self.model.disable_adapter():
                yield self.model

    def sampler(self) -> nn.Module:
        """The model to sample from, with the current weights; the same object every time."""
        if self._stale:
            with torch.no_grad():
                for layer, weight in self._merged:
                    # From the base weights each time: merging and unmerging in place would add up rounding.
                    weight.copy_(layer.base_layer.weight + layer.get_delta_weight(LEARNER))
            self._stale = False
        return self._sampler

    @torch.no_grad()
    def _sampler_gap(self) -> float:
        """Largest difference between the logits of the learner and of its sampler, on a few tokens."""
        config: Any = self.model.config
        device = next(self.model.parameters()).device
        ids_1T = (torch.arange(1, 17, device=device) * 7919 % int(config.get_text_config().vocab_size))[None]
        learner_1TV, sampler_1TV = (model(input_ids=ids_1T).logits.float() for model in (self.model, self.sampler()))
        return float((learner_1TV - sampler_1TV).abs().max())

    def lr_at(self, update: int) -> float:
        """Learning rate of update ``update``, counted from 1."""
        return self.optim.lr * min(1.0, update / self.optim.warmup) if self.optim.warmup else self.optim.lr

    def update(self, number: int) -> float | None:
        """One optimiser step on the gradients at hand.

        Args:
            number: of this update, from 1, for the warm-up.

        Returns:
            The gradient norm before clipping; None where it was not finite and the update was left out.
        """
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.optim.grad_clip))
        finite = math.isfinite(norm)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr_at(number)
            self.optimizer.step()
            self._stale = True
        self.optimizer.zero_grad(set_to_none=True)
        return norm if finite else None

    def packs(self, groups: Sequence[Group], budget: int, most: int | None = None) -> list[Pack]:
        """Cuts a batch into forward passes for :meth:`logprobs`.

        Args:
            groups: prompts and completions.
            budget: positions of a pass: distinct ones where the model takes packed rows, else with the padding.
            most: at most so many groups in a pass.
        """
        way = self._way(self.model, groups)
        lm = causal_lm(self.model)
        dense = way.kernel == "dense" or not skips_masked(lm)
        quadratic = attention_weight(lm) if way.shared and dense else 0.0
        return plan_packs(groups, budget, shared=way.shared, quadratic=quadratic, most=most)

    def logprobs(self, groups: Sequence[Group], model: nn.Module | None = None) -> Logprobs:
        """Log-probabilities and entropies of completions, at the learner's temperature.

        Each prompt is computed once where the model allows it.

        Args:
            groups: pairs of prompt and completions, token ids exactly as sampled.
            model: other weights than the learner's (the reference).

        Returns:
            Rows are the completions of the first group, then of the second, and so on.
        """
        model = self.model if model is None else model
        way = self._way(model, groups)
        if way.shared:
            return group_logprobs(model, groups, temperature=self.temperature, with_entropy=True, kernel=way.kernel)
        found = [
            padded_logprobs(model, prompt, completions, temperature=self.temperature, with_entropy=True)
            for prompt, completions in groups
        ]
        return Logprobs(
            _stack([item.logprobs_NT for item in found]),
            _stack([item.mask_NT for item in found]),
            _stack([item.entropy_NT for item in found if item.entropy_NT is not None]),
        )

    def _way(self, model: nn.Module, groups: Sequence[Group]) -> _Way:
        """How log-probabilities of these groups are computed with ``model``: as fast as was seen to be right.

        The packed pass is compared with the padded one on a few tokens first, and again on a real group whenever one
        is twice as long as any compared before. What disagrees is not used again.
        """
        way = self._ways.get(id(model))
        if way is None:
            # A few tokens are too short for the kernel of long rows to be chosen, so it is asked for.
            long: Kernel = "flex" if next(model.parameters()).device.type == "cuda" else "blocks"
            way = _Way(True) if supports_shared_prompt(model, long) else _Way(supports_shared_prompt(model), "dense")
            self._ways[id(model)] = way
        prompt, completions = max(groups, key=lambda group: len(group[0]) + max(map(len, group[1])))
        length = len(prompt) + max(map(len, completions))
        limit = window_of(causal_lm(model).config)
        if not way.shared or (limit is not None and length > limit):
            return _Way(False)
        if length >= 2 * way.checked:
            two = sorted({tuple(completion) for completion in completions}, key=len)[-2:]
            if len(two) < 2:  # the last token branches off, so that there is something to mask
                two.append((*two[0][:-1], 1 if two[0][-1] == 0 else 0))
            pair = [list(completion) for completion in two]
            while way.shared and not agrees_with_padded(model, prompt, pair, way.kernel):
                if way.kernel is None:
                    way.kernel = "dense"
                else:
                    way.shared = False
                    warnings.warn(
                        "packed and padded log-probabilities disagree: training on padded batches", stacklevel=2
                    )
            way.checked = length
        return way

    # On disk --------------------------------------------------------------------------------------------------

    def save_weights(self, folder: Path) -> None:
        """The adapter, or the whole model, in the form ``from_pretrained`` reads."""
        if self.lora:
            self.model.save_pretrained(str(folder), selected_adapters=[LEARNER], save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)  # a card with blanks
        else:
            with _quiet():
                self.model.save_pretrained(str(folder), max_shard_size="1000GB")

    def load_weights(self, folder: Path) -> None:
        """Weights saved by :meth:`save_weights`."""
        from safetensors.torch import load_file

        self._stale = True
        if self.lora:
            from peft import set_peft_model_state_dict

            state = load_file(str(folder / "adapter_model.safetensors"))
            set_peft_model_state_dict(self.model, state, adapter_name=LEARNER)
            return
        state = load_file(str(folder / "model.safetensors"))
        missing = self.model.load_state_dict(state, strict=False).missing_keys
        tied = set(getattr(self.model, "_tied_weights_keys", None) or ())
        if set(missing) - tied:
            raise BadInput(f"the checkpoint lacks {sorted(missing)[0]}", file=folder)

    def save_checkpoint(self, folder: Path, state: JsonObject) -> None:
        """Weights, optimiser and ``state`` into ``folder``; there completely or not at all."""
        with whole_folder(folder) as temporary:
            self.save_weights(temporary)
            torch.save(self.optimizer.state_dict(), temporary / "optimizer.pt")
            write_json(temporary / "state.json", state)

    def load_checkpoint(self, folder: Path) -> JsonObject:
        """Goes to a checkpoint exactly; returns its ``state``."""
        self.load_weights(folder)
        self.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
        state: JsonObject = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return state


@dataclass
class _Way:
    """Whether a model takes packed rows, with which kernel, and up to which length in tokens that was checked."""

    shared: bool
    kernel: Kernel | None = None
    checked: int = 64


def _freeze(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False).eval()


def _stack(parts: list[Tensor]) -> Tensor:
    longest = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bar transformers shows for every file it writes."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


class Checkpoints:
    """The checkpoints of a run: ``<run>/checkpoints/step-000010``, the last few of them.

    Args:
        folder: where they are.
        keep: how many to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, max(keep, 1)

    def all(self) -> list[Path]:
        """Complete checkpoints, the oldest first."""
        return sorted(self.folder.glob("step-*"))

    def save(self, learner: Learner, step: int, state: JsonObject) -> None:
        """Writes the checkpoint of ``step`` and removes old ones."""
        learner.save_checkpoint(self.folder / f"step-{step:06d}", {"step": step, **state})
        for old in self.all()[: -self._keep]:
            shutil.rmtree(old)

    def resume(self, learner: Learner) -> JsonObject | None:
        """Goes to the last checkpoint and returns its state; None where there is none."""
        for leftover in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        found = [folder for folder in self.all() if (folder / "state.json").is_file()]
        return learner.load_checkpoint(found[-1]) if found else None


def truncate(path: Path, size: int) -> None:
    """Cuts a file of results back to what a checkpoint knows of."""
    if not path.exists():
        if size:
            raise BadInput(f"{size} bytes of results belong to the checkpoint, but there is no file", file=path)
        return
    if path.stat().st_size < size:
        raise BadInput(f"{path.stat().st_size} bytes, the checkpoint knows of {size}", file=path)
    with path.open("r+b") as file:
        file.truncate(size)


def _sharing_copy(model: nn.Module) -> nn.Module:
    """A copy of the modules that holds the very same parameters."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()}).eval()


def _own_matrices(adapted: Any, plain: nn.Module) -> list[tuple[Any, nn.Parameter]]:
    """Gives ``plain`` matrices of its own where ``adapted`` has adapters: (adapter layer, matrix) of each."""
    from peft.tuners.lora import LoraLayer

    found = []
    for name, layer in adapted.get_base_model().named_modules():
        if isinstance(layer, LoraLayer):
            module = plain.get_submodule(name)
            base: Any = layer.base_layer
            module.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)
            found.append((layer, module.weight))
    return found


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


def _with_lora(model: nn.Module, lora: LoraOptions, seed: int) -> Any:
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


def _with_adapter(model: nn.Module, folder: Path, *, reference: bool) -> Any:
    from peft import PeftModel

    try:
        wrapped: Any = PeftModel.from_pretrained(model, str(folder), adapter_name=LEARNER, is_trainable=True)
        if reference:
            wrapped.load_adapter(str(folder), adapter_name=REFERENCE, is_trainable=False)
            wrapped.set_adapter(LEARNER)
    except (RuntimeError, ValueError, OSError) as problem:
        raise BadInput(f"the adapter does not fit the model: {problem}", file=folder) from problem
    return wrapped
