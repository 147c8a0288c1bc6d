"""How the packed row attends: a tree-shaped mask, in blocks of rows on a CPU, a block mask for FlexAttention on CUDA.

- ``dense``: scaled dot-product (or eager) attention with a boolean matrix, on any device; work and memory are quadratic
  in the row.
- ``blocks``: scaled dot-product attention of 128 rows at a time, each block with the keys that any of its rows sees:
  the row's own branches and their ancestors. The work is that of the sequences, the prompt counted once.
- ``flex``: PyTorch's FlexAttention, which skips blocks of 128 by 128 positions that are masked as a whole (Dong et al.
  2024, arXiv:2412.05496). It has a backward pass on CUDA only; its mask and its values are tested on the CPU, its speed
  has not been measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from pivotgym.harness.packing import PrefixTree

Kernel = Literal["dense", "blocks", "flex"]
PACKED = "pivotgym_packed"
"""Name of our attention function: flex attention for block masks, blocks of rows where the mask brings them, else what
``sdpa`` does."""
_BLOCK = 128
_LONG = 2 * _BLOCK
_ROWS = "pivotgym_rows"


@dataclass(frozen=True)
class Rows:
    """A block of rows and the keys they see.

    Attributes:
        start: first row.
        stop: behind the last.
        spans: keys that a row of the block sees, as (start, stop); the last span is the block itself.
        mask_RK: bool, which row sees which of them.
    """

    start: int
    stop: int
    spans: tuple[tuple[int, int], ...]
    mask_RK: Tensor


def tree_mask(tree: PrefixTree, device: torch.device) -> Tensor:
    """Bool ``(1, 1, U, U)``: true where the row's position attends to the column's."""
    at_U = torch.arange(len(tree.token_ids), device=device)
    last_U = torch.tensor(tree.last, device=device)
    return ((at_U[:, None] >= at_U[None, :]) & (at_U[:, None] <= last_U[None, :]))[None, None]


def block_mask(tree: PrefixTree, device: torch.device) -> Any:
    """The same as a ``BlockMask``, its sides filled up to whole blocks with positions that see themselves only."""
    from torch.nn.attention.flex_attention import create_block_mask

    count = len(tree.token_ids)
    whole = -(-count // _BLOCK) * _BLOCK
    last_U = torch.tensor([*tree.last, *range(count, whole)], device=device)

    def sees(_b: Tensor, _h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query <= last_U[key])

    return create_block_mask(sees, 1, 1, whole, whole, device=device.type, BLOCK_SIZE=_BLOCK)


def rows_of(tree: PrefixTree, device: torch.device) -> list[Rows]:
    """The row cut into blocks. In preorder, a row outside sees ``j`` exactly when ``j``'s subtree reaches into it."""
    found = []
    count = len(tree.token_ids)
    last_U = torch.tensor(tree.last, device=device)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        spans: list[tuple[int, int]] = []
        for key in (last_U[:start] >= start).nonzero()[:, 0].tolist():
            if spans and spans[-1][1] == key:
                spans[-1] = (spans[-1][0], key + 1)
            else:
                spans.append((key, key + 1))
        spans.append((start, stop))
        key_K = torch.cat([torch.arange(*span, device=device) for span in spans])
        row_R1 = torch.arange(start, stop, device=device)[:, None]
        found.append(Rows(start, stop, tuple(spans), (row_R1 >= key_K) & (row_R1 <= last_U[key_K])))
    return found


def choose_kernel(lm: Any, tree: PrefixTree, device: torch.device) -> Kernel:
    """For rows with branches that are long enough to have something to skip: flex on CUDA, else blocks; or dense."""
    if not skips_masked(lm) or tree.is_chain or len(tree.token_ids) < _LONG:
        return "dense"
    return "flex" if device.type == "cuda" else "blocks"


def skips_masked(lm: Any) -> bool:
    """Whether long rows get attention that skips what is masked; not with kernels that were chosen on purpose."""
    return lm.config._attn_implementation in ("sdpa", PACKED)


class CannotPack(ValueError):
    """A model or kernel does not take packed rows; the message says why."""


def hidden_states(lm: Any, tree: PrefixTree, kernel: Kernel | None = None) -> Tensor:
    """Last hidden state of every position of the tree, ``(U, D)``.

    Args:
        lm: a transformers causal language model without wrappers.
        tree: what to compute.
        kernel: how; ``None`` chooses by device and size.

    Raises:
        CannotPack: the model's attention, or its output, is of another kind. What the model itself raises on such a
            mask comes as it is.
    """
    device = lm.get_input_embeddings().weight.device
    token_ids, depths = tree.token_ids, tree.depths
    mask: Any = None
    kernel = kernel or choose_kernel(lm, tree, device)
    if kernel != "dense":
        # For good, not for this call: checkpointed layers are computed again in the backward pass, and with other
        # masks the function is the model's own.
        _use_packed(lm)
    if kernel == "flex":
        mask = block_mask(tree, device)
        filling = [0] * (mask.shape[-1] - len(token_ids))
        token_ids, depths = token_ids + filling, depths + filling
    elif not tree.is_chain:
        mask = tree_mask(tree, device)
        if kernel == "blocks":  # they travel with the mask, which would do without them
            setattr(mask, _ROWS, rows_of(tree, device))
        if lm.config._attn_implementation not in ("sdpa", PACKED):  # eager attention adds its mask to the scores
            dtype = lm.get_input_embeddings().weight.dtype
            mask = torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill(~mask, torch.finfo(dtype).min)
    output = decoder_of(lm)(
        input_ids=torch.tensor([token_ids], device=device),
        position_ids=torch.tensor([depths], device=device),
        attention_mask=mask,
        use_cache=False,
    )
    hidden_1UD = getattr(output, "last_hidden_state", None)
    if hidden_1UD is None:
        raise CannotPack(f"{type(decoder_of(lm)).__name__} gives no last_hidden_state")
    return cast(Tensor, hidden_1UD[0, : len(tree.token_ids)])


def decoder_of(lm: Any) -> nn.Module:
    """Everything below the language-model head."""
    decoder = lm.get_decoder() if hasattr(lm, "get_decoder") else None
    if decoder is None or decoder is lm:
        decoder = getattr(lm, lm.base_model_prefix)
    return cast(nn.Module, decoder)


def window_of(config: Any) -> int | None:
    """Longest sequence in tokens for which every layer sees everything before; ``None`` without such a limit."""
    kinds = getattr(config, "layer_types", None)
    limits = []
    if kinds is None or "chunked_attention" in kinds:
        limits.append(getattr(config, "attention_chunk_size", None))
    if (kinds is None or "sliding_attention" in kinds) and getattr(config, "use_sliding_window", True) is not False:
        limits.append(getattr(config, "sliding_window", None))
    return min((limit for limit in limits if limit is not None), default=None)


def positions_depend_on_length(config: Any) -> bool:
    """Whether rotary positions change with the longest sequence of a pass (``dynamic``, ``longrope``).

    A sequence then has other values beside a longer one, so that packing changes them.
    """
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [found, *(value for value in found.values() if isinstance(value, dict))]
    return any(kind.get("rope_type", kind.get("type")) in ("dynamic", "longrope") for kind in kinds)


def attention_weight(lm: Any) -> float:
    """What dense attention adds to the work of a position, a position of the row: ``quadratic`` of ``plan_packs``.

    A layer multiplies each position by its matrices and by every key and value: ``2 · heads · head size`` products a
    key, against one a parameter.
    """
    config = lm.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    embeddings = lm.get_input_embeddings().weight.numel()
    parameters = max(sum(p.numel() for p in decoder_of(lm).parameters()) - embeddings, 1)
    return float(2 * config.num_hidden_layers * config.num_attention_heads * size / parameters)


def _use_packed(lm: Any) -> None:
    config = lm.config
    if config._attn_implementation not in ("sdpa", PACKED):
        raise CannotPack(f"attention {config._attn_implementation!r} cannot be replaced, only sdpa")
    _register()
    config._attn_implementation = PACKED


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(PACKED, _attend)
    AttentionMaskInterface.register(PACKED, sdpa_mask)


@cache
def _flex(device: str) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if device == "cuda" else flex_attention


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Attention function in the interface of transformers: query ``(1, H, U, D)``, key and value ``(1, K, U, D)``."""
    from torch.nn.attention.flex_attention import BlockMask
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    foreign = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if kwargs.get("dropout"):
        foreign.append("dropout")
    rows: list[Rows] | None = getattr(attention_mask, _ROWS, None)
    if rows is not None and not foreign:
        return _attend_by_rows(query, key, value, rows, kwargs.get("scaling")), None
    if not isinstance(attention_mask, BlockMask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if foreign:
        raise CannotPack(f"flex attention on a packed row does not know {', '.join(foreign)}")
    output_1HUD = _flex(query.device.type)(
        query,
        key,
        value,
        block_mask=attention_mask,
        scale=kwargs.get("scaling"),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output_1HUD.transpose(1, 2).contiguous(), None


def _attend_by_rows(
    query_1HUD: Tensor, key_1KUD: Tensor, value_1KUD: Tensor, rows: list[Rows], scale: float | None
) -> Tensor:
    """Attention a block of rows at a time, ``(1, U, H, D)``."""
    heads, size, out = query_1HUD.shape[1], query_1HUD.shape[3], value_1KUD.shape[3]  # out may differ from size
    kept = key_1KUD.shape[1]
    parts = []
    for block in rows:
        count = block.stop - block.start
        key_1KXD, value_1KXD = (_take(tensor, block.spans) for tensor in (key_1KUD, value_1KUD))
        # Heads that share keys become more rows of one head: nothing is copied for them.
        query_1KRD = query_1HUD[:, :, block.start : block.stop].reshape(1, kept, heads // kept * count, size)
        output_1KRD = nn.functional.scaled_dot_product_attention(
            query_1KRD, key_1KXD, value_1KXD, attn_mask=block.mask_RK.repeat(heads // kept, 1), scale=scale
        )
        parts.append(output_1KRD.reshape(1, heads, count, out))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


def _take(tensor_1KUD: Tensor, spans: tuple[tuple[int, int], ...]) -> Tensor:
    if len(spans) == 1:
        return tensor_1KUD[:, :, slice(*spans[0])]
    return torch.cat([tensor_1KUD[:, :, slice(*span)] for span in spans], dim=2)
