"""The learner on its own: what it samples from in half precision, and updates whose gradient is not finite."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.harness.learner import MOST_SKIPPED, Learner
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.sft import SftConfig, train_sft
from pivotgym.harness.train import TrainConfig, train

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return lamps.warm_weights(tmp_path_factory.mktemp("sft"), epochs=6)


def llama(kind: torch.dtype = torch.bfloat16, *, bias: bool = False) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        attention_bias=bias,
    )
    return LlamaForCausalLM(config).to(kind).eval()


def adapter(folder: Path, size: float, **options: Any) -> Path:
    """A trained adapter: no number of it is the initial one."""
    settings: dict[str, Any] = {"r": 8, "target_modules": ["q_proj", "o_proj"], "task_type": "CAUSAL_LM"} | options
    wrapped: Any = get_peft_model(llama(bias="lora_bias" in options), LoraConfig(**settings))
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * size)
    wrapped.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


@pytest.mark.parametrize("size", [1e-3, 0.2])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_rounding_of_half_precision_is_no_reason_against_a_sampler(
    tmp_path: Path, kind: torch.dtype, size: float
) -> None:
    start = adapter(tmp_path, size)
    for options in ({"own_sampler": True}, {"merged_sampler": True}):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            learner = Learner(llama(kind), LoraOptions(rank=8), OptimOptions(), warm_start=start, **options)
        sampler = learner.sampler()
        assert sampler is not learner.model
        with torch.no_grad():
            gap = (sampler(input_ids=IDS).logits - learner.model(input_ids=IDS).logits).float().abs().max()
        assert gap < (1e-4 if kind == torch.float32 else 0.2)
        assert kind != torch.bfloat16 or size < 0.1 or gap > 1e-3, "otherwise this shows nothing"


@pytest.mark.parametrize("size", [1e-3, 0.2])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_what_cannot_be_merged_is_found_however_small(tmp_path: Path, kind: torch.dtype, size: float) -> None:
    """The low-rank matrices have biases, which no merged matrix holds."""
    start = adapter(tmp_path, size, lora_bias=True, target_modules=["o_proj"])

    def make(**options: Any) -> Learner:
        return Learner(llama(kind, bias=True), LoraOptions(), OptimOptions(), warm_start=start, **options)

    with pytest.warns(UserWarning, match=r"sampling through the adapter.*o_proj is no matrix"):
        learner = make(merged_sampler=True)
    assert learner.sampler() is learner.model
    with pytest.raises(BadInput, match=r"sampler of its own.*o_proj is no matrix"):
        make(own_sampler=True)


def broken(learner: Learner, number: int) -> float | None:
    learner.parameters[0].grad = torch.full_like(learner.parameters[0], float("nan"))
    return learner.update(number)


def test_updates_without_a_finite_gradient_are_counted_and_end_the_run() -> None:
    learner = Learner(llama(torch.float32), None, OptimOptions())
    before = learner.parameters[0].detach().clone()
    with pytest.warns(UserWarning, match="update 1 is left out: its gradient norm is nan") as told:
        for number in range(1, MOST_SKIPPED):
            assert broken(learner, number) is None
    assert len(told) == 1, "said once"
    assert torch.equal(learner.parameters[0], before) and learner.version == 0
    learner.parameters[0].grad = torch.ones_like(before)
    assert learner.update(MOST_SKIPPED)
    assert (learner.skipped, learner.skipped_in_row) == (MOST_SKIPPED - 1, 0), "one that is taken begins a new row"
    for number in range(1, MOST_SKIPPED):
        broken(learner, number)
    with pytest.raises(InfrastructureError, match=f"{MOST_SKIPPED} updates in a row, up to update 5"):
        broken(learner, 5)


def strict_rows(file: Path) -> list[dict[str, Any]]:
    """The rows, by a reader that takes no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in file.read_text().splitlines()]


def poison(monkeypatch: pytest.MonkeyPatch, wanted: set[int]) -> None:
    """Gradients of these updates are not numbers."""
    update = Learner.update

    def poisoned(self: Learner, number: int) -> float | None:
        if number in wanted:
            for parameter in self.parameters:
                parameter.grad = torch.full_like(parameter, float("nan"))
        return update(self, number)

    monkeypatch.setattr(Learner, "update", poisoned)


@pytest.mark.parametrize("method", ["pivots", "sft"])
@pytest.mark.filterwarnings("ignore:update")
def test_a_run_ends_with_an_error_when_updates_stay_without_numbers(
    warm: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The count goes on over a restart, and what was finished is kept."""
    poison(monkeypatch, {1, *range(3, 50)})
    pivots = [Pivot(trajectory=t, turn=0) for t in lamps.trajectories(12, turns=1, seed=2)]

    def run(steps: int) -> None:
        optim = OptimOptions(lr=2e-3)
        if method == "sft":
            config = SftConfig(lora=None, epochs=steps, batch=12, optim=optim, save_every=1)
            train_sft([pivot.trajectory for pivot in pivots], lamps.started(warm), config, tmp_path)
        else:
            # With a KL there is an update at every step, signal or not.
            options: dict[str, Any] = {"batch": 4, "group": 4, "max_tokens": 4, "eval_every": 0, "save_every": 1}
            settings = TrainConfig(steps=steps, lora=None, optim=optim, beta=0.1, **options)
            train(pivots, lamps.started(warm), settings, tmp_path)

    run(4)
    rows = strict_rows(tmp_path / "metrics.jsonl")
    assert [row["updates_skipped"] for row in rows] == [1, 0, 1, 1]
    assert [row["grad_norm"] is None for row in rows] == [True, False, True, True]
    with pytest.raises(InfrastructureError, match="5 updates in a row, up to update 7"):
        run(20)
    assert len(strict_rows(tmp_path / "metrics.jsonl")) == 6
    with pytest.raises(InfrastructureError, match="5 updates in a row, up to update 7"):
        run(20)


@pytest.mark.filterwarnings("ignore:update")
def test_a_loss_that_is_no_number_is_null(warm: dict[str, Tensor], tmp_path: Path) -> None:
    policy: Any = lamps.started(warm)
    with torch.no_grad():
        policy.model.model.norm.weight.fill_(float("nan"))
    config = SftConfig(lora=None, epochs=2, batch=4)
    result = train_sft(lamps.trajectories(4), policy, config, tmp_path)
    rows = strict_rows(tmp_path / "metrics.jsonl")
    assert [(row["loss"], row["grad_norm"], row["updates_skipped"]) for row in rows] == [(None, None, 1)] * 2
    assert result.first_loss is None and "NaN" not in (tmp_path / "summary.json").read_text()
