"""Decoding without padding: for models with states that run along a row, and for those of which nothing is known.

Prompts of equal length are computed together, and so are their samples, as all of them have the same length at each
step; others have a cache of their own. Nothing is padded, nothing is shared, no mask is needed: each row is computed as
the model computes it alone. Models without a cache that can be used here compute the whole row for every token.

Shape suffixes: P prompts, N rows (samples being decoded), M kept rows, L prompt length, T tokens of a pass, V
vocabulary.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from pivotgym.harness.policies.decoding import base_model

_CACHES = ("past_key_values", "cache_params")
_why_not_cached: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


class Unpadded:
    """Every prompt of a batch through the model once.

    Attributes:
        logits_PV: next-token logits after each prompt.
        parts: the prompts of each length, with their numbers.
    """

    def __init__(self, model: nn.Module, prompts: list[list[int]], device: torch.device) -> None:
        if model not in _why_not_cached:
            _why_not_cached[model] = reason = why_not_cached(model)
            if reason is not None:
                warnings.warn(f"sampling computes the whole sequence for every token: {reason}", stacklevel=4)
        kind = _Cached if _why_not_cached[model] is None else _Recomputed
        numbers_of: dict[int, list[int]] = {}
        for number, prompt in enumerate(prompts):
            numbers_of.setdefault(len(prompt), []).append(number)
        self.parts: list[tuple[Tensor, _Cached | _Recomputed]] = []
        logits: list[Tensor] = [torch.empty(0)] * len(prompts)
        for numbers in numbers_of.values():
            part = kind(model, torch.tensor([prompts[number] for number in numbers], device=device))
            for number, logits_V in zip(numbers, part.logits_NV, strict=True):
                logits[number] = logits_V
            self.parts.append((torch.tensor(numbers, device=device), part))
        self.logits_PV = torch.stack(logits)


class UnpaddedDecoder:
    """Decoding of all samples, those of prompts of one length together."""

    def __init__(self, prefill: Unpadded, prompt_of_row_N: Tensor) -> None:
        self._rows = len(prompt_of_row_N)
        self._parts: list[tuple[Tensor, _Cached | _Recomputed]] = []
        for numbers, part in prefill.parts:
            row_M, place_M = (prompt_of_row_N[:, None] == numbers).nonzero(as_tuple=True)
            part.select(place_M)
            self._parts.append((row_M, part))

    def step(self, token_N: Tensor) -> Tensor:
        """Feed one token a row; next-token logits, shape (N, V)."""
        for row_M, part in self._parts:
            part.feed(token_N[row_M, None])
        logits_NV = torch.cat([part.logits_NV for _, part in self._parts])
        return logits_NV[torch.cat([row_M for row_M, _ in self._parts]).argsort()]

    def keep(self, rows_M: Tensor) -> None:
        """Go on with these rows only."""
        new_N = rows_M.new_full((self._rows,), -1)
        new_N[rows_M] = torch.arange(len(rows_M), device=rows_M.device)
        self._rows = len(rows_M)
        kept = []
        for row_M, part in self._parts:
            place_M = (new_N[row_M] >= 0).nonzero()[:, 0]
            if len(place_M):
                part.select(place_M)
                kept.append((new_N[row_M[place_M]], part))
        self._parts = kept


class _Cached:
    """Rows of one length and the cache that the model fills itself."""

    def __init__(self, model: nn.Module, ids_PL: Tensor) -> None:
        base = base_model(model)
        self._model = model
        self._takes = inspect.signature(base.forward).parameters
        self._cache = DynamicCache(config=base.config)
        self._length = 0
        self.feed(ids_PL)

    def feed(self, ids_NT: Tensor) -> None:
        """Append tokens; the logits behind the last are in ``logits_NV``."""
        count = ids_NT.shape[1]
        given: dict[str, Any] = {next(name for name in _CACHES if name in self._takes): self._cache}
        if "position_ids" in self._takes:
            place_T = torch.arange(self._length, self._length + count, device=ids_NT.device)
            given["position_ids"] = place_T.expand(len(ids_NT), -1)
        if "logits_to_keep" in self._takes:
            given["logits_to_keep"] = 1
        self.logits_NV: Tensor = self._model(input_ids=ids_NT, use_cache=True, **given).logits[:, -1]
        self._length += count

    @property
    def lacks_states(self) -> bool:
        """Whether the model has states that it did not write into the cache, or not in a form known here."""
        written = [layer.has_previous_state for layer in self._cache.layers if hasattr(layer, "has_previous_state")]
        if not written:
            return bool(getattr(base_model(self._model), "_is_stateful", False))
        return not all(any(states.values()) for states in written)

    def select(self, place_M: Tensor) -> None:
        """Go on with these rows; one may be there several times."""
        # What beam search does with a cache; the cache's own selection is not there for layers with a state.
        self._cache.reorder_cache(place_M)  # type: ignore[arg-type]


class _Recomputed:
    """Rows of one length, computed from their first token each time."""

    def __init__(self, model: nn.Module, ids_PL: Tensor) -> None:
        self._model, self._ids_NT = model, ids_PL[:, :0]
        takes = inspect.signature(base_model(model).forward).parameters
        self._keep: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self.feed(ids_PL)

    def feed(self, ids_NT: Tensor) -> None:
        """Append tokens; the logits behind the last are in ``logits_NV``."""
        self._ids_NT = torch.cat([self._ids_NT, ids_NT], dim=1)
        self.logits_NV: Tensor = self._model(input_ids=self._ids_NT, use_cache=False, **self._keep).logits[:, -1]

    def select(self, place_M: Tensor) -> None:
        """Go on with these rows; one may be there several times."""
        self._ids_NT = self._ids_NT[place_M]


@torch.no_grad()
def why_not_cached(model: nn.Module) -> str | None:
    """Whether decoding with a cache gives the logits of whole sequences; compared on a few tokens.

    Returns:
        None where it does. Otherwise the reason, to be told to a person.
    """
    base = base_model(model)
    if not any(name in inspect.signature(base.forward).parameters for name in _CACHES):
        return f"{type(base).__name__} takes no cache"
    device = next(model.parameters()).device
    vocabulary = int(base.config.get_text_config().vocab_size)
    ids_2T = (torch.arange(1, 17, device=device).view(2, 8) * 7919) % vocabulary
    whole, both = _Recomputed(model, ids_2T), torch.arange(2, device=device)
    try:
        cached = _Cached(model, ids_2T[:, :5])
        if cached.lacks_states:  # rounding of half precision could hide that samples mix theirs
            return f"{type(base).__name__} has states that are not seen in its cache"
        cached.select(both.repeat(2))
        cached.feed(ids_2T[:, 5:6].repeat(2, 1))
        cached.select(both.flip(0))
        for place in (6, 7):
            cached.feed(ids_2T.flip(0)[:, place : place + 1])
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        told = str(error).partition("\n")[0]
        return f"{type(base).__name__} keeps no cache that can be copied to samples ({type(error).__name__}: {told})"
    wanted_2V, found_2V = whole.logits_NV.float(), cached.logits_NV.flip(0).float()
    effect = (wanted_2V[0] - wanted_2V[1]).norm()
    # Some models give logits in float32 whatever they compute in.
    share = 1e-3 if next(model.parameters()).dtype == torch.float32 else 0.1
    gap = (found_2V - wanted_2V).norm()
    if bool(gap <= share * effect + 1e-6 * wanted_2V.norm()):
        return None
    return f"with a cache {type(base).__name__} gives logits that differ by {float(gap / effect):.1%}"
