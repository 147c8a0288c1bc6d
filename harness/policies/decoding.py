"""Decoding state of a batch: the key/value cache and one forward pass a step.

Two forms for prompts in one padded batch, with one interface (`start`, `step`, `keep`):

* :class:`SharedPromptDecoder` keeps each prompt's keys and values once, however many samples continue it, and the
  samples' own keys and values apart. Attention runs over both. On a CPU, where a step is bound by memory traffic,
  reading a prompt once instead of ``n`` times is most of the step.
* :class:`RepeatedPromptDecoder` copies the prompt's cache ``n`` times. It needs nothing but keys and values of tokens
  and padding on the left, so it serves architectures the first form does not know.

What takes no padding (:func:`takes_padding`) is decoded by :mod:`pivotgym.harness.policies.unpadded`.

Shape suffixes: P prompts, N rows (samples being decoded), S samples of one prompt, L prompt length, T steps,
H query heads, K key/value heads, G = H/K, D head size, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ATTENTION = "pivotgym_shared_prompt"
# Architectures whose attention is plain softmax over all earlier tokens; each is compared with the repeated form.
_PLAIN_ATTENTION = frozenset({"llama", "qwen2", "qwen3", "mistral"})
# Below this a common beginning of all prompts costs more in bookkeeping than it saves.
_MIN_COMMON_PREFIX = 16

_active: list[SharedPromptDecoder] = []


def supports_shared_prompt(model: nn.Module) -> bool:
    """Whether :class:`SharedPromptDecoder` computes exactly what ``model``'s own attention would."""
    config = base_model(model).config
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        config.model_type in _PLAIN_ATTENTION
        and layers == {"full_attention"}
        and getattr(config, "sliding_window", None) is None
    )


def takes_padding(model: nn.Module) -> bool:
    """Whether prompts of different length may share a batch, padded on the left.

    So it is where every layer keeps keys and values of tokens, all of them or those of a sliding window, and positions
    can be given. States that run along the row (Mamba, short convolutions, linear attention) take padding for tokens;
    windows cut into chunks lie elsewhere behind padding. Of code that is not transformers' own nothing is known.
    """
    base = base_model(model)
    if not type(base).__module__.startswith("transformers.models."):
        return False
    if not {"position_ids", "attention_mask", "past_key_values"} <= inspect.signature(base.forward).parameters.keys():
        return False
    config = base.config.get_text_config(decoder=True)
    named = getattr(config, "layer_types", None)
    if getattr(config, "attention_chunk_size", None) is not None if named is None else "chunked_attention" in named:
        return False
    try:
        kinds = {type(layer) for layer in DynamicCache(config=base.config).layers}
    except (AttributeError, KeyError, TypeError, ValueError):  # layers that transformers has no cache for
        return False
    return kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


class Prefill:
    """Every prompt of a batch through the model once, left-padded.

    What all prompts begin with (policy text and tools, usually) is computed once for the batch, where every layer keeps
    all keys: the cached beginning is moved to the right in each row, so that all padding stands left of all tokens.
    Padding between tokens would be right for attention over everything only: windows, and positions by distance, count
    places of the row.

    Attributes:
        logits_PV: next-token logits after each prompt.
        cache: keys and values, one row a prompt.
        is_token_PL: false on padding.
        length_P: tokens in each prompt.
    """

    def __init__(self, model: nn.Module, prompts: list[list[int]], pad_id: int, device: torch.device) -> None:
        longest = max(map(len, prompts))
        ids_PL = torch.full((len(prompts), longest), pad_id, dtype=torch.long)
        is_token_PL = torch.zeros((len(prompts), longest), dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids_PL[row, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
            is_token_PL[row, longest - len(prompt) :] = True
        ids_PL, self.is_token_PL = ids_PL.to(device), is_token_PL.to(device)
        self.length_P = self.is_token_PL.sum(-1)
        self.cache = DynamicCache(config=base_model(model).config)
        layers: list[Any] = self.cache.layers
        common = _common_prefix(prompts) if all(type(layer) is DynamicLayer for layer in layers) else 0
        if common:
            shared = torch.tensor([prompts[0][:common]], device=device)
            model(input_ids=shared, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
            # Slot c of a row holds its prompt's token c - padding; what lies before the first is masked.
            from_PC = torch.arange(common, device=device) - (longest - self.length_P)[:, None]
            for layer in layers:
                if layer.is_initialized:
                    layer.keys, layer.values = (_moved(kept, from_PC) for kept in (layer.keys, layer.values))
        position_PL = (self.is_token_PL.cumsum(-1) - 1).clamp(min=0)
        output = model(
            input_ids=ids_PL[:, common:],
            # Without padding the mask is left out: the fast causal kernel is only taken then.
            attention_mask=None if bool(self.is_token_PL.all()) else self.is_token_PL.long(),
            position_ids=position_PL[:, common:],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits_PV: Tensor = output.logits[:, -1]


class RepeatedPromptDecoder:
    """Decoding with the prompt's cache copied to every sample; any architecture that takes padding."""

    def __init__(self, model: nn.Module, prefill: Prefill, prompt_of_row_N: Tensor) -> None:
        self.model, self.cache = model, prefill.cache
        self.cache.batch_select_indices(prompt_of_row_N)
        self.mask_NL = prefill.is_token_PL[prompt_of_row_N].long()
        self.position_N = prefill.length_P[prompt_of_row_N]

    def step(self, token_N: Tensor) -> Tensor:
        """Feed one token a row; next-token logits, shape (N, V)."""
        self.mask_NL = torch.cat([self.mask_NL, self.mask_NL.new_ones(len(token_N), 1)], dim=1)
        output = self.model(
            input_ids=token_N[:, None],
            attention_mask=self.mask_NL,
            position_ids=self.position_N[:, None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.position_N = self.position_N + 1
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows_M: Tensor) -> None:
        """Go on with these rows only."""
        self.cache.batch_select_indices(rows_M)
        self.mask_NL, self.position_N = self.mask_NL[rows_M], self.position_N[rows_M]


class SharedPromptDecoder:
    """Decoding with each prompt's keys and values held once."""

    def __init__(self, model: nn.Module, prefill: Prefill, prompt_of_row_N: Tensor) -> None:
        self.model = model
        self.config = base_model(model).config
        layers: list[Any] = prefill.cache.layers
        self.prompt_keys_PKLD: list[Tensor] = [layer.keys for layer in layers]
        self.prompt_values_PKLD: list[Tensor] = [layer.values for layer in layers]
        self.is_token_PL = prefill.is_token_PL
        self.position_N = prefill.length_P[prompt_of_row_N]
        self.suffix = _SuffixCache(len(self.prompt_keys_PKLD))
        self._place(prompt_of_row_N)

    def step(self, token_N: Tensor) -> Tensor:
        """Feed one token a row; next-token logits, shape (N, V)."""
        with self._attention():
            output = self.model(
                input_ids=token_N[:, None],
                position_ids=self.position_N[:, None],
                past_key_values=self.suffix,
                use_cache=True,
                logits_to_keep=1,
            )
        self.suffix.length += 1
        self.position_N = self.position_N + 1
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows_M: Tensor) -> None:
        """Go on with these rows only."""
        self.suffix.keep(rows_M)
        self.position_N = self.position_N[rows_M]
        prompt_of_row = self.prompt_of_row_N[rows_M]
        alive = torch.unique(prompt_of_row)
        # Prompts are big, so they are copied together only when that frees half of them.
        if 2 * len(alive) <= len(self.is_token_PL):
            self.prompt_keys_PKLD = [keys[alive] for keys in self.prompt_keys_PKLD]
            self.prompt_values_PKLD = [values[alive] for values in self.prompt_values_PKLD]
            self.is_token_PL = self.is_token_PL[alive]
            prompt_of_row = torch.searchsorted(alive, prompt_of_row)
        self._place(prompt_of_row)

    def _place(self, prompt_of_row_N: Tensor) -> None:
        """Give every row a slot (prompt, sample) and lay out the gathers attention needs."""
        prompts = len(self.is_token_PL)
        self.prompt_of_row_N = prompt_of_row_N
        count_P = torch.bincount(prompt_of_row_N, minlength=prompts)
        first_P = count_P.cumsum(0) - count_P
        order_N = prompt_of_row_N.argsort(stable=True)
        rank_N = torch.empty_like(order_N)
        rank_N[order_N] = torch.arange(len(order_N), device=order_N.device)
        slots = int(count_P.max())
        self.slot_of_row_N = prompt_of_row_N * slots + rank_N - first_P[prompt_of_row_N]
        self.row_of_slot = torch.zeros(prompts * slots, dtype=torch.long, device=order_N.device)
        self.row_of_slot[self.slot_of_row_N] = torch.arange(len(order_N), device=order_N.device)
        self.slots = slots
        self.padding_NL = ~self.is_token_PL[prompt_of_row_N]
        self.any_padding = bool(self.padding_NL.any())

    def attend(self, layer: int, query_NHD: Tensor, keys_NKTD: Tensor, values_NKTD: Tensor, scale: float) -> Tensor:
        """softmax(q·[prompt keys, own keys]) · [prompt values, own values], shape (N, H, D)."""
        prompt_keys, prompt_values = self.prompt_keys_PKLD[layer], self.prompt_values_PKLD[layer]
        prompts, heads, length, size = prompt_keys.shape
        rows, groups = len(query_NHD), query_NHD.shape[1] // heads
        query_NKGD = query_NHD.view(rows, heads, groups, size) * scale
        # Samples of one prompt become more queries of that prompt's row, so its keys are read once.
        query_PKSGD = query_NKGD[self.row_of_slot].view(prompts, self.slots, heads, groups, size).transpose(1, 2)
        stacked = (prompts, heads, self.slots * groups)
        scores_PKSGL = query_PKSGD.reshape(*stacked, size) @ prompt_keys.transpose(-1, -2)
        scores_NKGL = self._to_rows(scores_PKSGL, groups)
        if self.any_padding:
            scores_NKGL = scores_NKGL.masked_fill(self.padding_NL[:, None, None], float("-inf"))
        own_NKGT = query_NKGD @ keys_NKTD.transpose(-1, -2)
        weights = torch.softmax(torch.cat([scores_NKGL, own_NKGT], dim=-1), dim=-1, dtype=torch.float32)
        weights = weights.to(prompt_values.dtype)
        weights_NKGL, weights_NKGT = weights[..., :length], weights[..., length:]
        weights_PKSGL = weights_NKGL[self.row_of_slot].view(prompts, self.slots, heads, groups, length).transpose(1, 2)
        from_prompt_PKSGD = weights_PKSGL.reshape(*stacked, length) @ prompt_values
        output_NKGD = self._to_rows(from_prompt_PKSGD, groups) + weights_NKGT @ values_NKTD
        return output_NKGD.reshape(rows, heads * groups, size)

    def _to_rows(self, stacked: Tensor, groups: int) -> Tensor:
        """(P, K, S·G, X) to (N, K, G, X)."""
        prompts, heads, _, width = stacked.shape
        by_slot = stacked.view(prompts, heads, self.slots, groups, width).transpose(1, 2)
        rows: Tensor = by_slot.reshape(prompts * self.slots, heads, groups, width)[self.slot_of_row_N]
        return rows

    @contextmanager
    def _attention(self) -> Iterator[None]:
        before = self.config._attn_implementation
        self.config._attn_implementation = ATTENTION
        _active.append(self)
        try:
            yield
        finally:
            _active.pop()
            self.config._attn_implementation = before


class _SuffixCache(Cache):
    """Keys and values of the sampled tokens; room grows by doubling, so that a step does not copy everything."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[])
        self.length = 0
        self.keys_NKTD: list[Tensor | None] = [None] * layers
        self.values_NKTD: list[Tensor | None] = [None] * layers

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append one token a row to a layer; all of the layer's sampled keys and values, (N, K, T, D) each."""
        return (
            self._append(self.keys_NKTD, key_states, layer_idx),
            self._append(self.values_NKTD, value_states, layer_idx),
        )

    def _append(self, store: list[Tensor | None], new_NK1D: Tensor, layer: int) -> Tensor:
        rows, heads, _, size = new_NK1D.shape
        room = store[layer]
        if room is None or room.shape[2] <= self.length:
            bigger = new_NK1D.new_empty(rows, heads, max(16, 2 * self.length), size)
            if room is not None:
                bigger[:, :, : self.length] = room[:, :, : self.length]
            store[layer] = room = bigger
        room[:, :, self.length] = new_NK1D[:, :, 0]
        return room[:, :, : self.length + 1]

    def keep(self, rows_M: Tensor) -> None:
        """Go on with these rows only."""
        for store in (self.keys_NKTD, self.values_NKTD):
            store[:] = [None if room is None else room[rows_M] for room in store]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Sampled tokens held so far."""
        return self.length


def _shared_prompt_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention function in Hugging Face's interface: query (N, H, 1, D), key and value (N, K, T, D)."""
    foreign = [name for name in ("softcap", "s_aux", "sliding_window", "position_bias") if kwargs.get(name) is not None]
    if foreign or not _active:
        raise RuntimeError(f"shared-prompt attention used where it does not apply ({', '.join(foreign) or 'inactive'})")
    layer: Any = module.layer_idx
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    output_NHD = _active[-1].attend(layer, query[:, :, 0], key, value, float(scale))
    return output_NHD[:, None], None


AttentionInterface.register(ATTENTION, _shared_prompt_attention)


def base_model(model: nn.Module) -> Any:
    """The Hugging Face model inside a peft wrapper, or the model itself."""
    unwrap = getattr(model, "get_base_model", None)
    return unwrap() if callable(unwrap) else model


def _common_prefix(prompts: list[list[int]]) -> int:
    """Length of what all prompts begin with, leaving each at least one token; 0 where it does not pay."""
    if len(prompts) < 2:
        return 0
    # The smallest and the largest in lexicographic order agree exactly on what all of them share.
    low, high = min(prompts), max(prompts)
    limit = min(map(len, prompts)) - 1
    length = next((index for index in range(limit) if low[index] != high[index]), limit)
    return length if length >= _MIN_COMMON_PREFIX else 0


def _moved(kept_1KCD: Tensor, from_PC: Tensor) -> Tensor:
    """One row of keys or values as many, with slot ``c`` of row ``p`` taken from ``from_PC[p, c]``."""
    return kept_1KCD[0, :, from_PC.clamp(min=0)].transpose(0, 1)
