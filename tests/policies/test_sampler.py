"""The sampler against ordinary full forward passes and Hugging Face's generate()."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import MODELS, UNUSUAL, make_model, make_unusual

from pivotgym.harness.policies.decoding import supports_shared_prompt
from pivotgym.harness.policies.sampler import Limits, Sample, choose, sample_tokens

PROMPTS = [[1, 20, 30, 40, 50], [1, 9, 8], [1, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109], [7]]
SHARED_START = [[1, *range(10, 40), *tail] for tail in ([50, 51, 52], [60], [70, 71, 72, 73, 74, 75])]
FAR_APART = [[1, *range(10, 40), *tail] for tail in ([50, 51, 52], [60], range(70, 150), [61])]
# One id in ten ends a sample, so that rows end at many different steps.
ENDS = frozenset(range(2, 261, 10))
NO_END = frozenset({260})


def draw(
    model: Any, prompts: list[list[int]] = PROMPTS, n: int = 3, seed: int = 5, **options: Any
) -> list[list[Sample]]:
    settings: dict[str, Any] = {"end_ids": ENDS, "max_tokens": [24] * len(prompts), "pad_id": 0}
    generator = torch.Generator().manual_seed(seed)
    return sample_tokens(model, prompts, [n] * len(prompts), generator=generator, **{**settings, **options})


def tokens(samples: list[list[Sample]]) -> list[list[list[int]]]:
    return [[sample.token_ids for sample in group] for group in samples]


def full_forward(model: Any, prompt: list[int], sampled: list[int]) -> torch.Tensor:
    """Log-probabilities of ``sampled`` by one pass over prompt and sample together, without any cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + sampled]), use_cache=False).logits[0]
    picked = torch.tensor(sampled)[:, None]
    return torch.log_softmax(logits[len(prompt) - 1 : -1].float(), -1).gather(1, picked)[:, 0]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("prompts", [PROMPTS, SHARED_START], ids=["different", "common-start"])
@pytest.mark.parametrize("kind", sorted(MODELS))
def test_logprobs_are_those_of_a_full_forward_pass(kind: str, prompts: list[list[int]], share: bool) -> None:
    model = make_model(kind)
    assert supports_shared_prompt(model)
    samples = draw(model, prompts, temperature=0.7, top_p=0.9, share_prompts=share)
    lengths = set()
    for prompt, group in zip(prompts, samples, strict=True):
        for sample in group:
            lengths.add(len(sample.token_ids))
            expected = full_forward(model, prompt, sample.token_ids)
            torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-4, rtol=0)
    assert len(lengths) > 3, "rows must end at different steps, or compaction is not exercised"
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.filterwarnings("ignore:sampling computes the whole sequence")
@pytest.mark.parametrize("prompts", [PROMPTS, FAR_APART], ids=["different", "common-start"])
@pytest.mark.parametrize("kind", UNUSUAL)
def test_windows_and_states_see_the_tokens_before_them_and_no_padding(kind: str, prompts: list[list[int]]) -> None:
    """A long beginning in common, and prompts so different in length that padding would fill the windows."""
    model = make_unusual(kind)
    assert not supports_shared_prompt(model)
    samples = draw(model, prompts, limits=Limits(compact_below=1))
    lengths = set()
    for prompt, group in zip(prompts, samples, strict=True):
        assert len(group) == 3
        for sample in group:
            lengths.add(len(sample.token_ids))
            expected = full_forward(model, prompt, sample.token_ids)
            torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-3, rtol=0)
    assert len(lengths) > 3, "rows must end at different steps, or compaction is not exercised"


def test_what_the_shared_form_does_not_know_takes_the_other() -> None:
    sliding = make_model("mistral", sliding_window=8)
    assert not supports_shared_prompt(sliding)
    long = [[1, *range(20, 50)]]
    for sample in draw(sliding, long)[0]:
        expected = full_forward(sliding, long[0], sample.token_ids)
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("share", [True, False])
def test_greedy_equals_generate(model: Any, share: bool) -> None:
    samples = draw(model, n=2, temperature=0.0, end_ids=frozenset({2}), share_prompts=share)
    for prompt, group in zip(PROMPTS, samples, strict=True):
        ids = torch.tensor([prompt])
        output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        assert group[0].token_ids == group[1].token_ids == output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("share", [True, False])
def test_compaction_and_batching_change_no_token(model: Any, share: bool) -> None:
    never = draw(model, n=6, share_prompts=share, limits=Limits(compact_below=0))
    at_once = draw(model, n=6, share_prompts=share, limits=Limits(compact_below=1))
    in_pieces = draw(model, n=6, share_prompts=share, limits=Limits(rows=6))
    other_form = draw(model, n=6, share_prompts=not share)
    assert tokens(never) == tokens(at_once) == tokens(in_pieces) == tokens(other_form)
    assert len({len(ids) for group in tokens(never) for ids in group}) > 3


def test_finished_rows_leave_the_batch(model: Any) -> None:
    rows: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    samples = draw(model, n=8, limits=Limits(compact_below=1))
    hook.remove()
    lengths = [len(ids) for group in tokens(samples) for ids in group]
    # After the prefill, step s decodes exactly the samples longer than s.
    assert rows[1:] == [sum(length > step for length in lengths) for step in range(1, max(lengths))]


def test_each_prompt_is_computed_once_whatever_n(model: Any) -> None:
    seen: list[tuple[int, int]] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    draw(model, SHARED_START, n=16, max_tokens=[1] * 3)
    hook.remove()
    # The common beginning (31 tokens) once, then what is each prompt's own, padded to the longest (6).
    assert seen == [(1, 31), (3, 6)]


def test_the_seed_decides(model: Any) -> None:
    assert tokens(draw(model, seed=1)) == tokens(draw(model, seed=1))
    assert tokens(draw(model, seed=1)) != tokens(draw(model, seed=2))
    ids = tokens(draw(model, n=8, seed=1))
    assert len({tuple(sample) for sample in ids[0]}) > 1


def test_stop_and_length(model: Any) -> None:
    samples = [sample for group in draw(model, n=8, max_tokens=[3, 24, 24, 24]) for sample in group]
    assert all(sample.ended == (sample.token_ids[-1] in ENDS) for sample in samples)
    assert all(not set(sample.token_ids[:-1]) & ENDS for sample in samples)
    assert all(len(sample.token_ids) <= 3 for sample in samples[:8])
    assert all(len(sample.token_ids) == 24 for sample in samples[8:] if not sample.ended)
    assert {True, False} == {sample.ended for sample in samples}


def test_a_context_filled_to_the_brim(model: Any) -> None:
    (group,) = draw(model, [[1] * 511], max_tokens=[1], end_ids=NO_END)
    assert [len(sample.token_ids) for sample in group] == [1, 1, 1]


def test_draws_follow_the_distribution() -> None:
    torch.manual_seed(0)
    logits = torch.randn(600) * 2
    logits[::7] = float("-inf")
    probs = torch.softmax(logits, -1)
    # Evenly spaced numbers instead of random ones: each token's share is then exact up to one part in the count.
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = choose(torch.log_softmax(logits, -1).expand(count, -1), uniform, 1.0, 1.0)
    share = torch.bincount(drawn, minlength=600) / count
    torch.testing.assert_close(share, probs, atol=1.5 / count, rtol=0)
    sharper = choose(torch.log_softmax(logits, -1).expand(count, -1), uniform, 0.5, 1.0)
    expected = torch.softmax(logits / 0.5, -1)
    torch.testing.assert_close(torch.bincount(sharper, minlength=600) / count, expected, atol=1.5 / count, rtol=0)


@pytest.mark.parametrize("vocabulary", [5, 600, 3000])
def test_top_p_draws_from_the_smallest_set_only(vocabulary: int) -> None:
    torch.manual_seed(1)
    # Flat, so that the set is larger than the first guess of how many tokens to sort.
    logprob = torch.log_softmax(torch.randn(vocabulary) * 0.5, -1)
    order = logprob.argsort(descending=True)
    mass = logprob[order].exp().cumsum(0)
    allowed = order[: int((mass < 0.9).sum()) + 1]
    uniform = (torch.arange(4_000, dtype=torch.float64) + 0.5) / 4_000
    drawn = choose(logprob.expand(4_000, -1), uniform, 1.0, 0.9)
    assert set(drawn.tolist()) <= set(allowed.tolist())
    assert len(set(drawn.tolist())) > 0.5 * len(allowed)
    assert set(choose(logprob.expand(4_000, -1), uniform, 1.0, 0.0).tolist()) == {int(order[0])}


def test_the_extreme_random_numbers_draw_possible_tokens() -> None:
    logprob = torch.full((2, 700), float("-inf"))
    logprob[:, [3, 300, 690]] = torch.log(torch.tensor([0.2, 0.5, 0.3]))
    assert choose(logprob, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), 1.0, 1.0).tolist() == [3, 690]
