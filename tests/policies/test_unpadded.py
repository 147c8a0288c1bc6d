"""Sampling without padding: which models get it, what it computes, and what has no cache that can be used."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import MODELS, make_model, make_unusual
from transformers import DynamicCache, LlamaForCausalLM

from pivotgym.harness.policies.decoding import takes_padding
from pivotgym.harness.policies.sampler import Limits, Sample, sample_tokens
from pivotgym.harness.policies.unpadded import why_not_cached

PROMPTS = [[1, 20, 30, 40, 50], [1, 9, 8], [1, 100, 101, 102, 103], [7, 5, 6], [7]]


def draw(model: Any, n: int = 4, **options: Any) -> list[list[Sample]]:
    settings: dict[str, Any] = {"max_tokens": [12] * len(PROMPTS), "pad_id": 0}
    generator = torch.Generator().manual_seed(5)
    ends = frozenset(range(2, 261, 10))
    return sample_tokens(model, PROMPTS, [n] * len(PROMPTS), generator=generator, end_ids=ends, **settings | options)


def tokens(samples: list[list[Sample]]) -> list[list[list[int]]]:
    return [[sample.token_ids for sample in group] for group in samples]


def test_padding_is_for_attention_to_tokens() -> None:
    for kind in MODELS:
        assert takes_padding(make_model(kind)), kind
    for kind in ("mistral-window", "qwen2-window", "gemma3", "gpt-oss", "gpt-neo"):
        assert takes_padding(make_unusual(kind)), kind
    for kind in ("llama4", "mpt", "mamba", "mamba2", "lfm2", "qwen3-next", "rwkv", "recurrent-gemma"):
        assert not takes_padding(make_unusual(kind)), kind
    adapted = get_peft_model(make_model(), LoraConfig(r=2, target_modules=["q_proj"]))  # type: ignore[arg-type]
    assert takes_padding(adapted)

    class Own(LlamaForCausalLM):
        """Of code outside of transformers nothing is known."""

    assert not takes_padding(Own(make_model().config))


@pytest.mark.parametrize("kind", ["mamba", "lfm2"])
def test_compaction_and_batching_change_no_token(kind: str) -> None:
    model = make_unusual(kind)
    never = draw(model, limits=Limits(compact_below=0))
    at_once = draw(model, limits=Limits(compact_below=1))
    in_pieces = draw(model, limits=Limits(rows=4))
    assert tokens(never) == tokens(at_once) == tokens(in_pieces)
    assert len({len(ids) for group in tokens(never) for ids in group}) > 3


def test_prompts_of_one_length_are_one_batch_and_finished_rows_leave_it() -> None:
    model = make_unusual("mamba")
    assert why_not_cached(model) is None
    draw(model, max_tokens=[1] * 5)  # the check of the cache comes before the count
    seen: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    samples = draw(model, limits=Limits(compact_below=1))
    hook.remove()
    # Two prompts of five tokens, two of three, one of one; each once, whatever n.
    assert sorted(seen[:3]) == [(1, 1), (2, 3), (2, 5)]
    lengths = [[len(ids) for ids in group] for group in tokens(samples)]
    together = ([0, 2], [1, 3], [4])
    wanted = []
    for step in range(1, 12):
        alive = [sum(length > step for prompt in part for length in lengths[prompt]) for part in together]
        wanted.append(sorted((count, 1) for count in alive if count))
    place, steps = 3, []
    for at_once in wanted:
        steps.append(sorted(seen[place : place + len(at_once)]))
        place += len(at_once)
    assert steps == wanted and place == len(seen)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("rwkv", "RwkvForCausalLM takes no cache"), ("recurrent-gemma", "RecurrentGemmaForCausalLM has states")],
)
def test_without_a_usable_cache_sampling_says_so_once(kind: str, reason: str) -> None:
    model = make_unusual(kind)
    with pytest.warns(UserWarning, match=f"whole sequence for every token: {reason}") as told:
        draw(model)
    assert len([one for one in told if "whole sequence" in str(one.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(model)


@pytest.mark.parametrize("kind", ["mamba", "lfm2", "qwen3-next", "mpt"])
def test_rounding_is_no_reason_against_a_cache_and_a_wrong_cache_is(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What samples draw in half precision is also near the whole sequence's."""
    half = make_unusual(kind).to(torch.bfloat16)
    assert why_not_cached(half) is None and why_not_cached(make_unusual(kind)) is None
    for prompt, group in zip(PROMPTS, draw(half), strict=True):
        for sample in group:
            logits = half(input_ids=torch.tensor([prompt + sample.token_ids]), use_cache=False).logits[0]
            wanted = torch.log_softmax(logits[len(prompt) - 1 : -1].float(), -1)
            wanted = wanted.gather(1, torch.tensor(sample.token_ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(sample.logprobs), wanted, atol=0.3, rtol=0)
    monkeypatch.setattr(DynamicCache, "reorder_cache", lambda self, index: None)
    assert why_not_cached(make_unusual(kind)) is not None


def test_a_model_that_fails_with_its_cache_is_found_and_lack_of_memory_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_unusual("mamba")
    forward = model.forward
    problem: Exception = TypeError("no such cache\nand more")

    def refuse(input_ids: Any, cache_params: Any = None, **options: Any) -> Any:
        if cache_params is not None:
            raise problem
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "forward", refuse)
    assert "(TypeError: no such cache)" in str(why_not_cached(model))
    problem = torch.OutOfMemoryError("full")
    with pytest.raises(torch.OutOfMemoryError):
        why_not_cached(model)
