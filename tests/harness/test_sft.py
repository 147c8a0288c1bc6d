"""Supervised training where the packed pass cannot be used, or not with every kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.harness import sft, ways
from pivotgym.harness.forward import Logprobs, padded_logprobs, tree_logprobs
from pivotgym.harness.learner import Learner
from pivotgym.harness.options import OptimOptions
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.sft import Example, SftConfig, _accumulate, examples_of, train_sft


def mistral(window: int | None, vocabulary: int = 64) -> Any:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        pad_token_id=None,
    )
    return MistralForCausalLM(config).eval()


def example(length: int, seed: int) -> Example:
    """A conversation of two assistant turns."""
    ids = torch.randint(2, 64, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Example(ids, [10 <= place < 15 or place >= length - 6 for place in range(length)])


def padded_loss(model: Any, batch: list[Example]) -> torch.Tensor:
    total = torch.zeros(())
    for item in batch:
        logprobs_1T = padded_logprobs(model, item.token_ids[:1], [item.token_ids[1:]]).logprobs_NT
        total = total - logprobs_1T[0, torch.tensor(item.is_output[1:])].sum()
    return total / sum(item.tokens for item in batch)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.filterwarnings("ignore:training on padded")
def test_conversations_beyond_the_window_are_trained_on_as_padded_ones() -> None:
    learner = Learner(mistral(64), None, OptimOptions())
    batch = [example(90, 0), example(40, 1), example(120, 2), example(50, 1)]
    loss = _accumulate(learner, batch, 1000)
    found = gradients(learner.model)
    learner.model.zero_grad()
    wanted = padded_loss(learner.model, batch)
    wanted.backward()  # type: ignore[no-untyped-call]
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)
    for name, gradient in gradients(learner.model).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


def test_a_run_beyond_the_window_says_so_and_trains(tmp_path: Path) -> None:
    tokenizer = lamps.policy().tokenizer
    policy = TransformersPolicy(mistral(64, len(tokenizer)), tokenizer, name="window")
    recordings = lamps.trajectories(6, turns=8)
    examples, _ = examples_of(recordings, policy.format)
    assert max(len(item.token_ids) for item in examples) > 64
    wanted = float(padded_loss(policy.model, examples).detach())
    with pytest.warns(UserWarning, match="attention window of 64 tokens") as told:
        train_sft(recordings, policy, SftConfig(lora=None, epochs=2, batch=len(examples)), tmp_path)
    assert sum("attention window" in str(one.message) for one in told) == 1, "said once"
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    assert rows[0]["loss"] == pytest.approx(wanted, rel=1e-5) and rows[1]["loss"] < wanted


@pytest.mark.filterwarnings("ignore:training on padded")
@pytest.mark.parametrize("fails", ["long rows", "all rows"])
def test_the_kernels_are_checked_before_they_are_used(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """Also that of long rows, which a few tokens do not reach; and on the conversations themselves."""
    asked: list[Any] = []

    def disagrees(model: Any, prompt: Any, completions: Any, kernel: Any, positions: int) -> str | None:
        asked.append((len(prompt) + len(completions[0]), kernel, positions))
        return "they differ" if kernel is None or fails == "all rows" else None

    monkeypatch.setattr(ways, "why_not_packed", disagrees)
    learner = Learner(mistral(None), None, OptimOptions())
    kernels: list[Any] = []

    def watched(*given: Any, kernel: Any) -> Logprobs:
        kernels.append(kernel)
        return tree_logprobs(*given, kernel=kernel)

    monkeypatch.setattr(sft, "tree_logprobs", watched)
    batch = [example(200, 0), example(150, 1)]
    loss = _accumulate(learner, batch, 1000)
    # A quarter more than the row has; then the row of both conversations.
    alone, both = [(200, None, 250), (200, "dense", 250)], [(200, "dense", 350 + 350 // 4)]
    assert asked == (alone + both if fails == "long rows" else alone)
    assert kernels == (["dense"] if fails == "long rows" else [])
    assert loss == pytest.approx(float(padded_loss(learner.model, batch).detach()), rel=1e-5)
