"""The weights that learn: LoRA or all of them, their optimiser, their reference, their checkpoints."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.formats.jsonl import write_rows
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.adapters import REFERENCE, adapter_settings, with_adapter, with_lora
from pivotgym.harness.attention import attention_weight, skips_masked
from pivotgym.harness.forward import (
    Logprobs,
    causal_lm,
    group_logprobs,
    padded_logprobs,
)
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.packing import Group, Pack, plan_packs
from pivotgym.harness.recompute import Recomputing
from pivotgym.harness.runs import whole_folder, write_json
from pivotgym.harness.sampling_weights import LEARNER, SamplingWeights, sharing_copy
from pivotgym.harness.ways import Way, Ways

MOST_SKIPPED = 5
"""Updates without a finite gradient, one after the other, after which a run ends: it would go on without learning."""


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
        own_sampler: sample from weights that stay as they are while the learner's change, until :meth:`sampler` is
            called again; without LoRA that takes the memory of a second model.
        checkpointing: keep only the inputs of each layer for the backward pass and compute the rest again (Chen et
            al. 2016, arXiv:1604.06174): less memory, a forward pass more. The gradient is the same.

    Attributes:
        version: counts the changes of the weights.
        skipped: updates left out because their gradient was not finite.
        skipped_in_row: the last of them, without one that was taken in between; a checkpoint's state carries it on.

    Raises:
        BadInput: an adapter that cannot be started from, or ``own_sampler`` with one that is no sum of matrices.
    """

    lockstep = False
    """Whether passes are made in step with other processes, so that none may be left out."""

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
        own_sampler: bool = False,
        checkpointing: bool = False,
    ) -> None:
        self.optim, self.temperature = optim, temperature
        self.lora = lora is not None
        self.warm = self.lora and warm_start is not None
        self._frozen = None if reference_model is None else _freeze(reference_model)
        reference = reference and self._frozen is None
        self._ways = Ways()
        self._stale, self.version = True, 0
        self.skipped, self.skipped_in_row = 0, 0
        plain = sharing_copy(model) if (merged_sampler or own_sampler) and self.lora else None
        if warm_start is not None:
            adapter_settings(warm_start)  # refuses what cannot be trained on
        if lora is not None:
            self.model: Any = (
                with_lora(model, lora, seed)
                if warm_start is None
                else with_adapter(model, warm_start, reference=reference)
            )
        else:
            if warm_start is not None:
                from pivotgym.harness.policies.transformers_policy import merge_adapter  # late: it takes seconds

                model = merge_adapter(model, warm_start)
            self.model = model
            model.requires_grad_(True)
            if reference:
                self._frozen = _freeze(copy.deepcopy(model))
        self.recomputing = Recomputing(causal_lm(self.model) if checkpointing else None)
        self._sampling = None if plain is None else SamplingWeights.merged(self.model, plain)
        # Never train mode: what trains must be the distribution that sampled, so nothing may drop out.
        self.model.eval()
        if plain is not None and (reason := self._why_not_merged()) is not None:
            # Something in the adapter is no sum of matrices: then sample from the learner itself, slower but right.
            self._sampling = None
            if own_sampler:
                raise BadInput(
                    f"this adapter cannot be added into weights for a sampler of its own: {reason}", field="lora"
                )
            warnings.warn(f"sampling through the adapter, which takes more time: {reason}", stacklevel=2)
        if own_sampler and not self.lora:
            self._sampling = SamplingWeights.whole(self.model)
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
        if self._sampling is None:
            return cast(nn.Module, self.model)
        if self._stale:
            self._sampling.take_over()
            self._stale = False
        return self._sampling.model

    @torch.no_grad()
    def _why_not_merged(self) -> str | None:
        """Whether the sampler, with the adapter added in, is the learner; None, or the reason why not.

        Each adapter is compared with its matrix in float32, where rounding hides nothing however small the adapter is;
        then the two models on a few tokens, for what lies outside the adapted layers, as far as rounding lets it show.
        """
        from peft.tuners.lora import LoraLayer

        if self._sampling is None:
            return "an adapter does not belong to a linear layer"
        for name, layer in self.model.named_modules():
            if isinstance(layer, LoraLayer) and not _is_matrix(layer):
                return f"the adapter of {name} is no matrix"
        config: Any = self.model.config
        device = next(self.model.parameters()).device
        ids_1T = (torch.arange(1, 17, device=device) * 7919 % int(config.get_text_config().vocab_size))[None]
        learner_1TV, sampler_1TV = (model(input_ids=ids_1T).logits for model in (self.model, self.sampler()))
        share = 1e-3 if learner_1TV.dtype == torch.float32 else 0.1  # 12 layers in bfloat16 came to 0.05
        learner_1TV, sampler_1TV = learner_1TV.float(), sampler_1TV.float()
        effect = (learner_1TV - learner_1TV.mean(-1, keepdim=True)).norm()
        gap = (learner_1TV - sampler_1TV).norm()
        return None if bool(gap <= share * effect + 1e-6) else f"logits differ by {float(gap / effect):.1%}"

    def lr_at(self, update: int) -> float:
        """Learning rate of update ``update``, counted from 1."""
        return self.optim.lr * min(1.0, update / self.optim.warmup) if self.optim.warmup else self.optim.lr

    def update(self, number: int) -> float | None:
        """One optimiser step on the gradients at hand.

        Args:
            number: of this update, from 1, for the warm-up.

        Returns:
            The gradient norm before clipping; None where it was not finite and the update was left out.

        Raises:
            InfrastructureError: :data:`MOST_SKIPPED` updates in a row were left out.
        """
        found: Any = torch.nn.utils.clip_grad_norm_(self.parameters, self.optim.grad_clip)
        norm = float(
            found.full_tensor() if hasattr(found, "full_tensor") else found
        )  # sharded weights have a part each
        finite = math.isfinite(norm)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr_at(number)
            self.optimizer.step()
            self._changed()
            self.skipped_in_row = 0
        self.optimizer.zero_grad(set_to_none=True)
        if not finite:
            self._skip(number, norm)
        return norm if finite else None

    def _skip(self, number: int, norm: float) -> None:
        if not self.skipped:
            warnings.warn(f"update {number} is left out: its gradient norm is {norm}", stacklevel=3)
        self.skipped, self.skipped_in_row = self.skipped + 1, self.skipped_in_row + 1
        if self.skipped_in_row >= MOST_SKIPPED:
            raise InfrastructureError(
                f"{self.skipped_in_row} updates in a row, up to update {number}, had no finite gradient "
                f"(the last norm: {norm}); a smaller learning rate or another number format may help"
            )

    def _changed(self) -> None:
        self._stale = True
        self.version += 1

    def packs(self, groups: Sequence[Group], budget: int, most: int | None = None) -> list[Pack]:
        """Cuts a batch into forward passes for :meth:`logprobs`.

        Args:
            groups: prompts and completions.
            budget: positions of a pass: distinct ones where the model takes packed rows, else with the padding.
            most: at most so many groups in a pass.
        """
        way = self._way(self.model, groups, rows=0)
        lm = causal_lm(self.model)
        while True:
            dense = way.kernel == "dense" or not skips_masked(lm)
            quadratic = attention_weight(lm) if way.shared and dense else 0.0
            packs = plan_packs(groups, budget, shared=way.shared, quadratic=quadratic, most=most)
            # Rows of the size they came to are compared here, where all processes do, not while they are computed.
            before = way.shared, way.kernel
            way = self._way(self.model, groups, rows=max(pack.tokens for pack in packs))
            if not way.shared or (way.shared, way.kernel) == before:
                break
        return packs if before[0] == way.shared else plan_packs(groups, budget, shared=way.shared, most=most)

    def shares_prompts(self, groups: Sequence[Group], budget: int | None = None) -> bool:
        """Whether :meth:`logprobs` computes what these groups have in common only once.

        Args:
            groups: prompts and completions.
            budget: positions of a pass, where not all groups are in one.
        """
        every = sum(len(prompt) + sum(map(len, completions)) for prompt, completions in groups)
        return self._way(self.model, groups, None if budget is None else min(every, budget)).shared

    def way(self, groups: Sequence[Group], rows: int | None = None) -> Way:
        """How the learner computes log-probabilities of these groups, for those who make forward passes themselves.

        Args:
            groups: prompts and completions.
            rows: positions of the longest row, where it is not all groups.
        """
        return self._way(self.model, groups, rows)

    def share(self, packs: Sequence[Pack]) -> tuple[list[Pack], int]:
        """The packs this process computes, and how many of them, from the first, count in loss and figures."""
        return list(packs), len(packs)

    def logprobs(self, groups: Sequence[Group], model: nn.Module | None = None) -> Logprobs:
        """Log-probabilities and entropies of completions, at the learner's temperature.

        Each prompt is computed once where the model allows it.

        Args:
            groups: pairs of prompt and completions, token ids exactly as sampled.
            model: other weights than the learner's (the reference).

        Returns:
            Rows are the completions of the first group, then of the second, and so on.
        """
        if model is None:
            with self.recomputing:
                return self._logprobs(groups, self.model)
        return self._logprobs(groups, model)

    def _logprobs(self, groups: Sequence[Group], model: nn.Module) -> Logprobs:
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

    def _way(self, model: nn.Module, groups: Sequence[Group], rows: int | None = None) -> Way:
        return self._ways.of(model, groups, rows)

    # On disk --------------------------------------------------------------------------------------------------

    def save_weights(self, folder: Path) -> None:
        """The adapter, or the whole model, in the form ``from_pretrained`` reads."""
        self._put_weights(folder)

    def _put_weights(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        given: dict[str, Any] = {} if state is None else {"state_dict": dict(state)}
        if self.lora:
            self.model.save_pretrained(str(folder), selected_adapters=[LEARNER], save_embedding_layers=False, **given)
            (folder / "README.md").unlink(missing_ok=True)  # a card with blanks
        else:
            with _quiet():
                self.model.save_pretrained(str(folder), max_shard_size="1000GB", **given)

    def save_final(self, folder: Path, tokenizer: Any) -> None:
        """What ``load_policy`` reads, as ``folder``: an adapter, or a whole model with its tokenizer."""
        self._write_final(folder, tokenizer, None)

    def _write_final(self, folder: Path, tokenizer: Any, weights: Mapping[str, Tensor] | None) -> None:
        with whole_folder(folder) as temporary:
            self._put_weights(temporary, weights)
            if not self.lora:  # a whole model is loaded by its folder, an adapter beside its base
                tokenizer.save_pretrained(str(temporary))

    def load_weights(self, folder: Path) -> None:
        """Weights saved by :meth:`save_weights`."""
        self._changed()
        state = read_weights(folder, lora=self.lora)
        if self.lora:
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.model, state, adapter_name=LEARNER)
            return
        missing = self.model.load_state_dict(state, strict=False).missing_keys
        tied = set(getattr(self.model, "_tied_weights_keys", None) or ())
        if set(missing) - tied:
            raise BadInput(f"the checkpoint lacks {sorted(missing)[0]}", file=folder)

    def optimizer_state(self) -> JsonObject:
        """The optimiser's state as ``torch.save`` takes it."""
        return dict(self.optimizer.state_dict())

    def load_optimizer_state(self, state: JsonObject) -> None:
        """The state of :meth:`optimizer_state`."""
        self.optimizer.load_state_dict(state)

    def save_checkpoint(
        self, folder: Path, state: JsonObject, tables: Mapping[str, Sequence[JsonObject]] | None = None
    ) -> None:
        """Weights, optimiser, ``state`` and tables (JSONL, by name) into ``folder``; there completely or not at all."""
        self._write_checkpoint(folder, None, self.optimizer_state(), state, tables)

    def _write_checkpoint(
        self,
        folder: Path,
        weights: Mapping[str, Tensor] | None,
        optimizer: JsonObject,
        state: JsonObject,
        tables: Mapping[str, Sequence[JsonObject]] | None,
    ) -> None:
        with whole_folder(folder) as temporary:
            self._put_weights(temporary, weights)
            torch.save(optimizer, temporary / "optimizer.pt")
            write_json(temporary / "state.json", state)
            for name, rows in (tables or {}).items():
                write_rows(temporary / name, rows)

    def load_checkpoint(self, folder: Path) -> JsonObject:
        """Goes to a checkpoint exactly; returns its ``state``."""
        self.load_weights(folder)
        self.load_optimizer_state(torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu"))
        state: JsonObject = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return state


def read_weights(folder: Path, *, lora: bool) -> dict[str, Tensor]:
    """The tensors in a folder that :meth:`Learner.save_weights` wrote."""
    from safetensors.torch import load_file

    return load_file(str(folder / ("adapter_model.safetensors" if lora else "model.safetensors")))


def saved_names(adapted: Any) -> dict[str, str]:
    """Of each trainable parameter of a LoRA model, the name under which it is saved."""
    from peft import get_peft_model_state_dict

    names = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    numbered = {name: torch.tensor([number]) for number, name in enumerate(names)}
    saved = get_peft_model_state_dict(adapted, state_dict=numbered, adapter_name=LEARNER, save_embedding_layers=False)
    return {names[int(number)]: name for name, number in saved.items()}


def _is_matrix(layer: Any) -> bool:
    """Whether what an adapter adds to its layer's output is its input times the matrix that merging adds in."""
    wide = copy.deepcopy(layer).float()  # one layer at a time: a whole model in float32 may not fit
    base: nn.Linear = wide.base_layer
    weight_OI = base.weight
    draw = torch.Generator().manual_seed(0)
    inputs_NI = torch.randn(8, base.in_features, generator=draw).to(weight_OI.device)
    plain_NO = base(inputs_NI)
    added_NO = wide(inputs_NI) - plain_NO
    gap = (added_NO - inputs_NI @ wide.get_delta_weight(LEARNER).T).norm()
    # The second term is what subtracting the layer's own output leaves of rounding.
    return bool(gap <= 1e-3 * added_NO.norm() + 1e-5 * plain_NO.norm())


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
