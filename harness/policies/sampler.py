"""Sampling from a causal language model: prefill once, then step by step.

Why not ``generate()``: it computes the prompt for each of ``n`` samples, keeps finished rows until the longest ends,
and its scores are those after temperature and truncation, which is not what a policy gradient needs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pivotgym.harness.policies.decoding import (
    Prefill,
    RepeatedPromptDecoder,
    SharedPromptDecoder,
    supports_shared_prompt,
    takes_padding,
)
from pivotgym.harness.policies.unpadded import Unpadded, UnpaddedDecoder

_BLOCK = 256
_TOP = 512


@dataclass(frozen=True)
class Sample:
    """Sampled ids (with the end token if one came), their log-probabilities, and whether the turn ended."""

    token_ids: list[int]
    logprobs: list[float]
    ended: bool


@dataclass(frozen=True)
class Limits:
    """How much runs at once.

    Attributes:
        rows: samples decoded together (more than one prompt's samples are never split below one prompt).
        tokens: key/value positions a batch may come to hold, prompts and samples together.
        compact_below: finished rows leave the batch once at most this share of it is still running; 0 never.
    """

    rows: int = 256
    tokens: int = 32768
    compact_below: float = 0.875


@torch.no_grad()
def sample_tokens(
    model: nn.Module,
    prompts: Sequence[list[int]],
    counts: Sequence[int],
    *,
    end_ids: frozenset[int],
    max_tokens: Sequence[int],
    pad_id: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    generator: torch.Generator,
    limits: Limits | None = None,
    share_prompts: bool | None = None,
    only: Collection[int] | None = None,
) -> list[list[Sample]]:
    """``counts[i]`` samples of prompt ``i``, in order.

    The log-probabilities are those of the full distribution at temperature 1 (``log_softmax`` in float32), whatever
    temperature and top-p the tokens were drawn with. All randomness is drawn from ``generator`` in advance, one
    stream a sample, so how the work is cut into batches does not change which random number a token meets.

    Args:
        model: a causal language model of Hugging Face's interface, in eval mode.
        prompts: distinct prompts, token ids.
        counts: samples wanted of each prompt.
        end_ids: ids that end a sample.
        max_tokens: most tokens of a sample, for each prompt.
        pad_id: any valid token id; padding is masked.
        temperature: 0 takes the most probable token.
        top_p: smallest set of tokens with at least this probability is drawn from.
        generator: a CPU generator.
        limits: batch size.
        share_prompts: hold a prompt's keys and values once for all its samples; None decides by architecture.
        only: numbers of the prompts to sample; the others get no samples, and their random numbers are passed over.
    """
    limits = limits or Limits()
    share = supports_shared_prompt(model) if share_prompts is None else share_prompts
    padded = takes_padding(model)
    most = max(max_tokens, default=0)
    starts = [sum(counts[:index]) for index in range(len(counts))]
    uniform_RT = torch.rand((sum(counts), most), generator=generator, dtype=torch.float64)
    device = next(model.parameters()).device
    ends = torch.tensor(sorted(end_ids), device=device)
    results: list[list[Sample]] = [[] for _ in prompts]
    wanted = [count if only is None or index in only else 0 for index, count in enumerate(counts)]
    for chunk in _chunks(prompts, wanted, max_tokens, limits, share):
        ids = [prompts[index] for index in chunk]
        batch = Prefill(model, ids, pad_id, device) if padded else Unpadded(model, ids, device)
        place_of_row = [place for place, index in enumerate(chunk) for _ in range(counts[index])]
        prompt_of_row = torch.tensor(place_of_row, dtype=torch.long, device=device)
        limit_R = torch.tensor([max_tokens[chunk[place]] for place in place_of_row], device=device)
        streams = [starts[index] + sample for index in chunk for sample in range(counts[index])]
        samples = _decode(
            model,
            batch,
            prompt_of_row,
            limit_R,
            uniform_RT[streams].to(device),
            ends,
            temperature,
            top_p,
            limits,
            share,
        )
        for place, sample in zip(place_of_row, samples, strict=True):
            results[chunk[place]].append(sample)
    return results


def _decode(
    model: nn.Module,
    batch: Prefill | Unpadded,
    prompt_of_row: Tensor,
    limit_R: Tensor,
    uniform_RT: Tensor,
    ends: Tensor,
    temperature: float,
    top_p: float,
    limits: Limits,
    share: bool,
) -> list[Sample]:
    rows, most = len(prompt_of_row), int(limit_R.max())
    token_RT = torch.zeros((rows, most), dtype=torch.long, device=limit_R.device)
    logprob_RT = torch.zeros((rows, most), dtype=torch.float32, device=limit_R.device)
    length_R = torch.zeros_like(limit_R)
    ended_R = torch.zeros_like(limit_R, dtype=torch.bool)
    row_N = torch.arange(rows, device=limit_R.device)
    running_N = torch.ones_like(row_N, dtype=torch.bool)
    logits_NV = batch.logits_PV[prompt_of_row]
    decoder: SharedPromptDecoder | RepeatedPromptDecoder | UnpaddedDecoder | None = None
    for step in range(most):
        logprob_NV = torch.log_softmax(logits_NV.float(), dim=-1)
        token_N = choose(logprob_NV, uniform_RT[row_N, step], temperature, top_p)
        live_M = row_N[running_N]
        token_RT[live_M, step] = token_N[running_N]
        logprob_RT[live_M, step] = logprob_NV.gather(1, token_N[:, None])[running_N, 0]
        length_R[live_M] = step + 1
        ended_N = torch.isin(token_N, ends)
        ended_R[live_M] = ended_N[running_N]
        running_N &= ~ended_N & (step + 1 < limit_R[row_N])
        running = int(running_N.sum())
        if running == 0:
            break
        if decoder is None:
            if isinstance(batch, Unpadded):
                decoder = UnpaddedDecoder(batch, prompt_of_row)
            else:
                decoder = (SharedPromptDecoder if share else RepeatedPromptDecoder)(model, batch, prompt_of_row)
        if running <= limits.compact_below * len(row_N) and running < len(row_N):
            keep = running_N.nonzero()[:, 0]
            decoder.keep(keep)
            row_N, token_N, running_N = row_N[keep], token_N[keep], running_N[keep]
        logits_NV = decoder.step(token_N)
    lengths, ended = length_R.tolist(), ended_R.tolist()
    tokens, logprobs = token_RT.tolist(), logprob_RT.tolist()
    return [Sample(tokens[r][: lengths[r]], logprobs[r][: lengths[r]], ended[r]) for r in range(rows)]


def choose(logprob_NV: Tensor, uniform_N: Tensor, temperature: float, top_p: float) -> Tensor:
    """Draw one token a row by inverting the cumulative distribution at ``uniform_N`` (float64 in [0, 1)).

    Torch's ``multinomial`` draws a random number for every entry of the vocabulary; that alone would cost as much
    as the model's forward pass on a CPU.
    """
    if temperature == 0:
        return logprob_NV.argmax(dim=-1)
    probs_NV = logprob_NV.exp() if temperature == 1 else torch.softmax(logprob_NV / temperature, dim=-1)
    if top_p < 1:
        probs_NV = _truncate(probs_NV, top_p)
    rows, vocabulary = probs_NV.shape
    probs_NBC = F.pad(probs_NV, (0, -vocabulary % _BLOCK)).view(rows, -1, _BLOCK)
    mass_NB = probs_NBC.sum(-1, dtype=torch.float64)
    upto_NB = mass_NB.cumsum(-1)
    target_N = uniform_N * upto_NB[:, -1]
    block_N = (upto_NB <= target_N[:, None]).sum(-1)
    row = torch.arange(rows, device=block_N.device)
    probs_NC = probs_NBC[row, block_N].double()
    target_N = target_N - (upto_NB - mass_NB)[row, block_N]
    inner_N = (probs_NC.cumsum(-1) <= target_N[:, None]).sum(-1)
    # Rounding may point behind the block's last possible token; an impossible one must never be drawn.
    last_N = _BLOCK - 1 - (probs_NC.flip(-1) > 0).int().argmax(-1)
    return block_N * _BLOCK + torch.minimum(inner_N, last_N)


def _truncate(probs_NV: Tensor, top_p: float) -> Tensor:
    """Zero outside of the smallest set of most probable tokens whose probability reaches ``top_p``."""
    count = min(_TOP, probs_NV.shape[1])
    while True:
        top_NC, index_NC = probs_NV.topk(count, dim=-1)
        before_NC = top_NC.cumsum(-1) - top_NC
        # Sorting the whole vocabulary is slow and rarely needed; widen only while the set might not be complete.
        if count == probs_NV.shape[1] or bool(((before_NC + top_NC)[:, -1] >= top_p).all()):
            break
        count = min(8 * count, probs_NV.shape[1])
    kept_NC = top_NC.masked_fill(before_NC >= top_p, 0.0)
    # The most probable token stays whatever top_p is.
    kept_NC[:, 0] = top_NC[:, 0]
    return torch.zeros_like(probs_NV).scatter_(1, index_NC, kept_NC)


def _chunks(
    prompts: Sequence[list[int]], counts: Sequence[int], max_tokens: Sequence[int], limits: Limits, share: bool
) -> list[list[int]]:
    """Prompt indices, cut into batches of similar length that keep to the limits."""
    order = sorted((index for index in range(len(prompts)) if counts[index]), key=lambda index: len(prompts[index]))
    chunks: list[list[int]] = []
    current: list[int] = []
    for index in order:
        trial = [*current, index]
        longest, rows = len(prompts[index]), sum(counts[i] for i in trial)
        most = max(max_tokens[i] for i in trial)
        held = (len(trial) if share else rows) * longest + rows * most
        if current and (rows > limits.rows or held > limits.tokens):
            chunks.append(current)
            trial = [index]
        current = trial
    return [*chunks, current] if current else chunks
