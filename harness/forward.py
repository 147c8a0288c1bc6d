"""Exact log-probabilities of action tokens, each shared prefix computed once.

The completions of one pivot share its prompt, the pivots of one domain share its policy text and tool schemas, and
completions of a sharp policy share their first tokens. :func:`tree_logprobs` lays such sequences out as one prefix
tree: every distinct prefix is one position of a single packed row, and a position attends to its ancestors only. One
ordinary forward pass over that row gives each sequence the values it has on its own, and autograd through it gives
the exact gradient, because a shared position's gradient is the sum over the sequences through it. No key-value cache
is involved, so gradient checkpointing works as usual. (The idea of a tree-shaped attention mask: Miao et al. 2024,
SpecInfer, arXiv:2305.09781; there for decoding.)

The language-model head runs only on positions that predict an action token: with a small model and a vocabulary of
49 thousand it would otherwise cost as much as a third of the network.

Shapes: ``U`` positions of the tree, ``E`` distinct action tokens (edges), ``A`` action tokens of one sequence, ``G``
completions of one prompt, ``N`` completions in all, ``T`` tokens of the longest completion, ``D`` hidden size, ``V``
vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pivotgym.envs.errors import BadInput
from pivotgym.harness.attention import (
    PACKED,
    CannotPack,
    Kernel,
    hidden_states,
    positions_depend_on_length,
    window_of,
)
from pivotgym.harness.packing import PrefixTree

HEAD_BYTES = 256 * 2**20
"""Logits (float32) held at a time, in bytes; above that the head runs in chunks and recomputes them for backward."""
_HALF = (torch.bfloat16, torch.float16)
_TELLING = 32


class Logprobs(NamedTuple):
    """Log-probabilities of padded completions.

    Attributes:
        logprobs_NT: natural logarithms, float32, 0 on padding.
        mask_NT: bool, true on action tokens.
        entropy_NT: entropy in nats of the distribution each token was drawn from, without gradient; or ``None``.
    """

    logprobs_NT: Tensor
    mask_NT: Tensor
    entropy_NT: Tensor | None


def causal_lm(model: nn.Module) -> Any:
    """The transformers model inside ``model``, with adapters where peft put them."""
    get_base_model = getattr(model, "get_base_model", None)
    if get_base_model is None:
        return model
    if getattr(model.active_peft_config, "is_prompt_learning", False):
        raise BadInput("prompt-learning adapters are not supported, use LoRA or full weights", field="model")
    return get_base_model()


def _score(
    head: nn.Module, hidden_ED: Tensor, targets_E: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target, and the entropy of its distribution (empty unless asked for), ``(E,)`` each."""
    logits_EV = head(hidden_ED).float()
    if temperature != 1.0:
        logits_EV = logits_EV / temperature
    lse_E = torch.logsumexp(logits_EV, dim=-1)
    logprobs_E = logits_EV.gather(-1, targets_E[:, None]).squeeze(-1) - lse_E
    if not with_entropy:
        return logprobs_E, lse_E.detach()[:0]
    with torch.no_grad():
        return logprobs_E, torch.special.entr((logits_EV - lse_E[:, None]).exp()).sum(-1)


def _score_in_chunks(
    head: nn.Module, hidden_ED: Tensor, targets_E: Tensor, temperature: float, with_entropy: bool, vocabulary: int
) -> tuple[Tensor, Tensor]:
    """:func:`_score` with at most ``HEAD_BYTES`` of logits alive."""
    rows = max(1, HEAD_BYTES // (4 * vocabulary))
    if len(targets_E) <= rows:
        return _score(head, hidden_ED, targets_E, temperature, with_entropy)
    parts = [
        checkpoint(_score, head, hidden, targets, temperature, with_entropy, use_reentrant=False)
        for hidden, targets in zip(torch.split(hidden_ED, rows), torch.split(targets_E, rows), strict=True)
    ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _check(sequences: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]], temperature: float) -> None:
    if not sequences:
        raise BadInput("no sequence", field="sequences")
    if not temperature > 0:
        raise BadInput(f"{temperature} is not positive", field="temperature")
    if len(sequences) != len(masks):
        raise BadInput(f"{len(masks)} masks for {len(sequences)} sequences", field="masks")
    for number, (sequence, mask) in enumerate(zip(sequences, masks, strict=True)):
        if len(mask) != len(sequence):
            raise BadInput(f"{len(mask)} entries for {len(sequence)} tokens", field=f"masks.{number}")
        if not any(mask):
            raise BadInput("no action token", field=f"masks.{number}")
        if mask[0]:
            raise BadInput("the first token has nothing before it to predict it from", field=f"masks.{number}.0")


def tree_logprobs(
    model: nn.Module,
    sequences: Sequence[Sequence[int]],
    masks: Sequence[Sequence[bool]],
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
    kernel: Kernel | None = None,
    in_order: bool = False,
) -> Logprobs:
    """Log-probabilities of the action tokens of sequences, every distinct prefix computed once.

    The cost is that of one row of ``U`` tokens, ``U`` the number of distinct prefixes. Where attention is dense, pack
    sequences that share much of their length; unrelated ones are cheaper in separate calls, since attention between
    them is computed and thrown away (:func:`~pivotgym.harness.packing.plan_packs`).

    Args:
        model: a transformers causal language model, plain or with peft adapters (LoRA). Check it once with
            :func:`supports_shared_prompt`.
        sequences: token ids of each sequence, from its first token; not padded.
        masks: true on the action tokens, one entry a token.
        temperature: the logits are divided by it.
        with_entropy: also the entropy at each action token.
        kernel: how to attend; ``None`` chooses by device and size
            (:func:`~pivotgym.harness.attention.choose_kernel`).
        in_order: lay the sequences out as they come, not sorted.

    Returns:
        :class:`Logprobs` with the action tokens of each sequence moved to the left: ``T`` is the largest number of
        action tokens.

    Raises:
        BadInput: no sequence, a sequence without action token, a first token marked as action, a sequence longer than
            the attention window of the model, a peft method other than weight adapters.
    """
    _check(sequences, masks, temperature)
    lm = causal_lm(model)
    window = window_of(lm.config)
    longest = max(len(sequence) for sequence in sequences)
    if window is not None and longest > window:
        raise BadInput(f"{longest} tokens exceed the attention window of {window}", field="sequences")
    tree = PrefixTree.build(sequences, in_order=in_order)
    # Each distinct action token of the tree is scored once, from the hidden state of its parent.
    edge_of: dict[int, int] = {}
    parents: list[int] = []
    edges: list[list[int]] = []
    for path, mask in zip(tree.paths, masks, strict=True):
        row: list[int] = []
        for place in range(1, len(path)):
            if mask[place]:
                if path[place] not in edge_of:
                    edge_of[path[place]] = len(parents)
                    parents.append(path[place - 1])
                row.append(edge_of[path[place]])
        edges.append(row)

    hidden_UD = hidden_states(lm, tree, kernel)
    device = hidden_UD.device
    targets_E = torch.tensor([tree.token_ids[node] for node in edge_of], device=device)
    scores_E, entropies_E = _score_in_chunks(
        lm.get_output_embeddings(),
        hidden_UD[torch.tensor(parents, device=device)],
        targets_E,
        temperature,
        with_entropy,
        lm.config.get_text_config().vocab_size,
    )
    length = max(len(row) for row in edges)
    pad = len(parents)  # one entry past the end stands for padding
    index_NT = torch.tensor([row + [pad] * (length - len(row)) for row in edges], device=device)
    logprobs_NT = torch.cat([scores_E, scores_E.new_zeros(1)])[index_NT]
    entropy_NT = torch.cat([entropies_E, entropies_E.new_zeros(1)])[index_NT] if with_entropy else None
    return Logprobs(logprobs_NT, index_NT != pad, entropy_NT)


def padded_logprobs(
    model: nn.Module,
    prompt_ids: Sequence[int],
    completions: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
) -> Logprobs:
    """The plain way: a right-padded batch with the prompt in each row, through the model's own ``forward``.

    Works for any causal language model; the fallback and the yardstick of :func:`completion_logprobs`, whose
    arguments and result it has.
    """
    sequences = [[*prompt_ids, *completion] for completion in completions]
    masks = [[False] * len(prompt_ids) + [True] * len(completion) for completion in completions]
    _check(sequences, masks, temperature)
    lm = causal_lm(model)
    device = lm.get_input_embeddings().weight.device
    lengths = [len(completion) for completion in completions]
    longest = max(lengths)
    ids_GT = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in completions], device=device)
    mask_GT = torch.arange(longest, device=device)[None] < torch.tensor(lengths, device=device)[:, None]
    prompt_GP = torch.tensor([list(prompt_ids)], device=device).expand(len(lengths), -1)
    # The padding may be attended to only by padding, so token 0 does no harm there.
    keep = {"logits_to_keep": longest + 1} if "logits_to_keep" in inspect.signature(lm.forward).parameters else {}
    output = model(
        input_ids=torch.cat([prompt_GP, ids_GT], dim=1),
        attention_mask=torch.cat([torch.ones_like(prompt_GP), mask_GT.long()], dim=1),
        use_cache=False,
        **keep,
    )
    logits_GTV = output.logits[:, -longest - 1 : -1].float() / temperature
    lse_GT = torch.logsumexp(logits_GTV, dim=-1)
    logprobs_GT = logits_GTV.gather(-1, ids_GT[..., None]).squeeze(-1) - lse_GT
    entropy_GT: Tensor | None = None
    if with_entropy:
        with torch.no_grad():
            entropy_GT = torch.special.entr((logits_GTV - lse_GT[..., None]).exp()).sum(-1).masked_fill(~mask_GT, 0.0)
    return Logprobs(logprobs_GT.masked_fill(~mask_GT, 0.0), mask_GT, entropy_GT)


def group_logprobs(
    model: nn.Module,
    groups: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
    kernel: Kernel | None = None,
) -> Logprobs:
    """Log-probabilities of the completions of several prompts, in one packed forward pass.

    What the prompts have in common at their start (policy text, tool schemas) is computed once too.

    Args:
        model: see :func:`tree_logprobs`.
        groups: pairs of prompt and completions, token ids.
        temperature: the logits are divided by it.
        with_entropy: also the entropy at each token.
        kernel: see :func:`tree_logprobs`.

    Returns:
        :class:`Logprobs`; rows are the completions of the first group, then of the second, and so on.

    Raises:
        BadInput: as :func:`tree_logprobs`; an empty completion has no action token.
    """
    rows = [(prompt, completion) for prompt, completions in groups for completion in completions]
    return tree_logprobs(
        model,
        [[*prompt, *completion] for prompt, completion in rows],
        [[False] * len(prompt) + [True] * len(completion) for prompt, completion in rows],
        temperature=temperature,
        with_entropy=with_entropy,
        kernel=kernel,
    )


def completion_logprobs(
    model: nn.Module,
    prompt_ids: Sequence[int],
    completions: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
) -> Logprobs:
    """Log-probabilities of ``G`` completions of one prompt, the prompt computed once; see :func:`tree_logprobs`.

    Args:
        model: see :func:`tree_logprobs`.
        prompt_ids: the prompt, not empty.
        completions: token ids of each completion, not empty.
        temperature: the logits are divided by it.
        with_entropy: also the entropy at each token.

    Returns:
        :class:`Logprobs` of shape ``(G, T)``, right-padded.

    Raises:
        BadInput: as :func:`tree_logprobs`.
    """
    return group_logprobs(model, [(prompt_ids, completions)], temperature=temperature, with_entropy=with_entropy)


def supports_shared_prompt(model: nn.Module, kernel: Kernel | None = None) -> bool:
    """Whether :func:`why_not_shared` has nothing against the packed pass."""
    return why_not_shared(model, kernel) is None


def why_not_shared(model: nn.Module, kernel: Kernel | None = None) -> str | None:
    """Whether the packed pass gives what the model's own ``forward`` gives; run it once before training.

    Compares both on a short branching input, without gradient and with dropout off. It does not for models whose layers
    carry state along the row (recurrent, convolutional), attention kernels that take no mask of this kind, positions
    that depend on the longest sequence of a pass, and outputs changed after the head (soft caps, scaled logits): use
    :func:`padded_logprobs` for them. What shows in long inputs only is found by :func:`why_not_packed` on them.

    Args:
        model: a causal language model, plain or with adapters.
        kernel: see :func:`tree_logprobs`.

    Returns:
        None when the largest difference is rounding: below a thousandth of what the prompt itself changes in the
        log-probabilities (a tenth in half precision). Otherwise the reason, to be told to a person.

    Raises:
        Exception: what is no matter of what the model can do: out of memory, a failing device, a bug of ours.
    """
    lm = causal_lm(model)
    if lm.config._attn_implementation not in ("sdpa", "eager", PACKED):
        return f"attention {lm.config._attn_implementation!r} takes no masks of one's own"
    if positions_depend_on_length(lm.config):
        return "rotary positions depend on the longest sequence of a pass"
    generator = torch.Generator().manual_seed(0)
    vocabulary = lm.config.get_text_config().vocab_size

    def draw(count: int) -> list[int]:
        return torch.randint(0, vocabulary, (count,), generator=generator).tolist()

    start, stem = draw(5), draw(3)
    prompts = [start + draw(6), start + draw(4)]
    completions = [stem + draw(4), stem + draw(2), stem, draw(5)]
    window = window_of(lm.config)
    longest = max(map(len, prompts)) + max(map(len, completions))
    if window is not None and window < longest:
        return f"an attention window of {window} tokens"
    found = _both_ways(model, [(prompt, completions) for prompt in prompts], kernel)
    if isinstance(found, str):
        return found
    shared_NT, plain = found
    effect = float((plain[0] - plain[1]).abs().max())
    gap = float((shared_NT - torch.cat(plain)).abs().max())
    if gap <= (0.1 if _is_half(lm) else 1e-3) * effect:
        return None
    return f"on a few tokens log-probabilities differ by {gap:.2g} nats from the padded batch's"


def why_not_packed(
    model: nn.Module,
    prompt_ids: Sequence[int],
    completions: Sequence[Sequence[int]],
    kernel: Kernel | None = None,
    *,
    positions: int = 0,
) -> str | None:
    """Whether packed and padded pass agree on one real group, without gradient and with dropout off.

    For what :func:`why_not_shared` cannot see in a few tokens: attention that leaves out distant tokens, and attention
    that takes places of the row for places of the sequence (a window cut out of a matrix of the row). The row is filled
    up to ``positions`` with other branches between the prompt and the completions, so that these stand as far behind
    their prompt as any completion in a row of that size.

    Args:
        model: a causal language model, plain or with adapters.
        prompt_ids: the prompt.
        completions: at least two, so that the row branches.
        kernel: see :func:`tree_logprobs`.
        positions: size of the row; a smaller number than the group has leaves it as it is.

    Returns:
        None when the difference is at most a thousandth of the log-probabilities, by Euclidean norm. In half precision
        a twentieth, and not far above what rounding makes of a row that has the branches behind a completion, which
        then is where it would be alone. Otherwise the reason.

    Raises:
        Exception: as :func:`why_not_shared`.
    """
    dtype = causal_lm(model).get_input_embeddings().weight.dtype
    if positions:  # a few tokens would say little of rounding, so the end of a prompt goes with short completions
        end = len(prompt_ids) - max(0, min(_TELLING - max(map(len, completions)), len(prompt_ids) // 2))
        prompt_ids, completions = prompt_ids[:end], [[*prompt_ids[end:], *completion] for completion in completions]
    filling = _filling(prompt_ids, completions, positions)
    share = 5e-2 if dtype in _HALF else 1e-3
    rows: list[tuple[Sequence[Sequence[int]], Sequence[Sequence[int]], Sequence[Sequence[int]]]]
    rows = [(filling, completions, [])]
    if dtype in _HALF and filling:
        rows.insert(0, ([], completions[-1:], filling))
    for before, tested, behind in rows:
        found = _both_ways(model, [(prompt_ids, tested)], kernel, before, behind)
        if isinstance(found, str):
            return found
        shared_GT, (plain_GT,) = found
        gap, size = float((shared_GT - plain_GT).norm()), float(plain_GT.norm())
        if gap > share * size + 1e-3:
            row = f" in a row of {positions}" if filling else ""
            most = float((shared_GT - plain_GT).abs().max())
            return (
                f"on {len(prompt_ids)} prompt tokens{row} log-probabilities differ by {most:.2g} nats from the padded "
                "batch's"
            )
        if behind:
            share = min(share, 4 * gap / max(size, 1e-3) + torch.finfo(dtype).eps / 2)
    return None


def _filling(prompt_ids: Sequence[int], completions: Sequence[Sequence[int]], positions: int) -> list[list[int]]:
    """Branches behind the prompt, none longer than the completions, that fill a row of them up to ``positions``."""
    rows = [[*prompt_ids, *completion] for completion in completions]
    left = positions - len(PrefixTree.build(rows, in_order=True).token_ids)
    longest = max(map(len, completions))
    # Neighbours begin with different tokens, or they would be one branch.
    begins = [token for token in range(3) if token != completions[0][0]]
    found: list[list[int]] = []
    while left > 0:
        rest = [number % 2 for number in range(min(longest, left) - 1)]
        found.append([*prompt_ids, begins[len(found) % 2], *rest])
        left -= len(rest) + 1
    return found


@torch.no_grad()
def _both_ways(
    model: nn.Module,
    groups: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    kernel: Kernel | None,
    before: Sequence[Sequence[int]] = (),
    behind: Sequence[Sequence[int]] = (),
) -> tuple[Tensor, list[Tensor]] | str:
    """Log-probabilities packed, ``(N, T)``, and padded, of each group; or why the model refuses packed rows.

    Other sequences may stand before and behind those of the groups in the packed row.
    """
    training = model.training
    model.eval()
    pairs = [(prompt, completion) for prompt, completions in groups for completion in completions]
    rows = [*before, *([*prompt, *completion] for prompt, completion in pairs), *behind]
    masks = [[place == len(row) - 1 for place in range(len(row))] for row in rows]
    for number, (prompt, completion) in enumerate(pairs, len(before)):
        masks[number] = [False] * len(prompt) + [True] * len(completion)
    try:
        plain = [padded_logprobs(model, prompt, completions).logprobs_NT for prompt, completions in groups]
        try:
            packed = tree_logprobs(model, rows, masks, kernel=kernel, in_order=bool(before or behind)).logprobs_NT
            return packed[len(before) : len(before) + len(pairs)], plain
        except CannotPack as error:
            return str(error)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            if _raised_here(error):
                raise
            return f"{type(error).__name__}: {error}"  # the architecture does not take such a mask
    finally:
        model.train(training)


def _raised_here(error: BaseException) -> bool:
    """Whether the error came up in code of this package, not in that of the model it called."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(frame.tb_frame.f_globals.get("__name__", "")).startswith("pivotgym.")


def _is_half(lm: Any) -> bool:
    return lm.get_input_embeddings().weight.dtype in _HALF
