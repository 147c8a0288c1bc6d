"""Asynchronous rollouts: one batch old, no more, seen by the loss, and the same every time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.harness.ahead import AHEAD, Ahead, rollout, rollout_row
from pivotgym.harness.learner import Learner
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.runs import CostMeter, total_costs
from pivotgym.harness.train import TrainConfig, Trainer, train

CONFIG = TrainConfig(
    steps=4,
    batch=4,
    group=6,
    max_tokens=4,
    lora=LoraOptions(rank=4),
    optim=OptimOptions(lr=2e-2),
    eval_every=2,
    eval_rollouts=2,
    save_every=2,
    async_rollouts=True,
)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return lamps.warm_weights(tmp_path_factory.mktemp("sft"), epochs=4)


def pivots() -> list[Pivot]:
    recorded = lamps.trajectories(10, turns=1, seed=2)
    return [Pivot(trajectory=t, turn=0, split="heldout" if i < 2 else "train") for i, t in enumerate(recorded)]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for row in read_rows(folder / "metrics.jsonl") if row["kind"] == "train"]


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}


@pytest.mark.parametrize("lora", [LoraOptions(rank=4), None], ids=["lora", "full"])
def test_one_batch_old_and_the_same_every_time(
    warm: dict[str, Tensor], tmp_path: Path, lora: LoraOptions | None
) -> None:
    config = CONFIG.model_copy(update={"lora": lora, "optim": OptimOptions(lr=2e-2 if lora else 2e-3)})
    for name in ("one", "two"):
        train(pivots(), lamps.started(warm), config, tmp_path / name)
    train(pivots(), lamps.started(warm), config.model_copy(update={"async_rollouts": False}), tmp_path / "synchronous")
    weights = "final/adapter_model.safetensors" if lora else "final/model.safetensors"
    for file in ("metrics.jsonl", "summary.json", weights):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    rows, plain = rows_of(tmp_path / "one"), rows_of(tmp_path / "synchronous")
    assert [row.pop("updates_behind") for row in rows] == [0, 1, 1, 1]
    # A copy of all weights attends by another kernel than the learner, which shows in the last digits.
    assert rows[0] == plain[0] if lora else numbers(rows[0]) == pytest.approx(numbers(plain[0]), rel=1e-4, abs=1e-4)
    assert numbers(rows[1]) != pytest.approx(numbers(plain[1]), rel=1e-3), "sampled before the first update"
    assert any(row["loss"] for row in rows[1:])
    assert all(row["old_kl"] < 1e-7 for row in plain if row["old_kl"] is not None)
    stale = [row["old_kl"] for row in rows[1:] if row["old_kl"] is not None]
    assert stale and min(stale) > 1e-6, "the loss sees that the sampler was another policy"
    cost = total_costs(tmp_path / "one")["train"]
    assert cost.rollout_turns == 4 * 4 * 6, "nothing is sampled that is not trained on"


def test_the_batch_is_what_the_weights_before_the_update_sample(warm: dict[str, Tensor], tmp_path: Path) -> None:
    trainer = Trainer(pivots(), lamps.started(warm), CONFIG, tmp_path / "async")
    fresh = Trainer(pivots(), lamps.started(warm), CONFIG, tmp_path / "fresh")
    with CostMeter(tmp_path, "train", 1) as meter:
        trainer.step(1, meter)
    assert trainer._ahead is not None
    held = trainer._ahead.take(2)
    assert held is not None and held[1] == 0
    expected = fresh.rollouts(2)  # with the weights of the beginning
    assert [rollout_row(result) for result in held[0]] == [rollout_row(result) for result in expected]
    after = trainer.rollouts(2)  # with those of now
    assert [rollout_row(result) for result in after] != [rollout_row(result) for result in expected]
    trainer.close()
    fresh.close()


def test_importance_weights_see_the_age(warm: dict[str, Tensor], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"importance_cap": 2.0, "steps": 3})
    train(pivots(), lamps.started(warm), config, tmp_path)
    rows = rows_of(tmp_path)
    assert rows[0]["weight_mean"] == pytest.approx(1, abs=1e-4)
    stale = [row["weight_mean"] for row in rows[1:] if row["weight_mean"] is not None]
    assert stale and all(abs(weight - 1) > 1e-4 for weight in stale)
    ratios = [row["ratio_max"] for row in rows if row["ratio_max"] is not None]
    assert all(ratio == pytest.approx(1, abs=1e-3) for ratio in ratios), "the old policy is the trainer's"


def test_a_checkpoint_holds_the_batch(warm: dict[str, Tensor], tmp_path: Path) -> None:
    trainer = Trainer(pivots(), lamps.started(warm), CONFIG, tmp_path)
    results = trainer.rollouts(3)
    results[0].completions[0] = replace(results[0].completions[0], malformed="unclosed <think>", all_reasoning=True)
    trainer.close()
    ahead = Ahead()
    ahead.begin(3, 2, lambda: results)
    assert ahead.wait() is results
    rows = json.loads(json.dumps(ahead.rows()))
    file = tmp_path / AHEAD
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = Ahead()
    again.load(file, trainer._candidates)
    assert again.rows() == ahead.rows()
    assert [rollout(row, result.candidate).rewards for row, result in zip(rows[1:], results, strict=True)] == [
        result.rewards for result in results
    ]
    found = again.take(3)
    assert found is not None and found[1] == 2 and found[0][0].completions == results[0].completions
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    with pytest.raises(BadInput, match="3 rollouts for 4 pivots"):
        again.load(file, trainer._candidates)
    ahead.close()
    again.close()


@pytest.mark.parametrize("lora", [LoraOptions(rank=4), None], ids=["lora", "full"])
def test_the_samplers_own_weights_stay_until_they_are_asked_for(
    warm: dict[str, Tensor], lora: LoraOptions | None
) -> None:
    learner = Learner(lamps.started(warm).model, lora, OptimOptions(lr=1e-1), own_sampler=True)
    ids = torch.tensor([[5, 6, 7]])
    sampler = learner.sampler()
    before = sampler(input_ids=ids).logits.detach()
    learner.logprobs([([5, 6], [[7, 8]])]).logprobs_NT.sum().backward()
    learner.update(1)
    learner.logprobs([([5, 6], [[7, 8]])]).logprobs_NT.sum().backward()
    learner.update(2)  # the second changes what lies before B, too
    assert torch.equal(sampler(input_ids=ids).logits, before)
    assert learner.sampler() is sampler
    after, learned = sampler(input_ids=ids).logits, learner.model(input_ids=ids).logits
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, learned, atol=1e-4, rtol=1e-4)


def test_another_temperature_has_no_recorded_log_probabilities() -> None:
    with pytest.raises(BadInput, match="temperature"):
        TrainConfig(async_rollouts=True, temperature=0.7)
