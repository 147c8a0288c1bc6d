"""End-to-end GRPO: only sampled tokens are trained on, gradients are the plain ones, runs go on to the byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.harness.grpo_episodes import EpisodeTrainConfig, EpisodeTrainer, train_episodes
from pivotgym.harness.losses import group_advantages
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.policies.base import Sampling
from pivotgym.harness.rollouts import EpisodeResult, run_episodes
from pivotgym.harness.runs import CostMeter, total_costs
from pivotgym.harness.turns import make_env
from pivotgym.harness.update import episode_rows

TASKS = [lamps.task(key) for key in lamps.KEYS]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that are sometimes right."""
    torch.set_num_threads(1)
    return lamps.supervised(tmp_path_factory.mktemp("warm") / "sft")


policy = lamps.loaded


def config(**changed: Any) -> EpisodeTrainConfig:
    given: dict[str, Any] = {
        "steps": 4,
        "batch": 3,
        "group": 4,
        "max_turns": 3,
        "max_tokens": 4,
        "lora": None,
        "seed": 5,
    }
    return EpisodeTrainConfig.model_validate({**given, "optim": OptimOptions(lr=2e-3), **changed})


def episodes(warm: Path) -> list[EpisodeResult]:
    return run_episodes(
        lambda: make_env("pivotgym/Tools-v0"),
        TASKS[:3],
        policy(warm),
        trials=4,
        max_turns=3,
        sampling=Sampling(max_tokens=4),
        seed=1,
    )


@pytest.mark.parametrize("aggregate", ["token", "sequence", "constant"])
@pytest.mark.parametrize("micro_tokens", [1, 4096])
def test_gradients_are_those_of_every_sampled_token_alone(
    warm: Path, tmp_path: Path, aggregate: str, micro_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one plain forward pass a turn: advantage times log-probability, nothing else in the sum."""
    results = episodes(warm)
    assert any(result.turns > 1 for result in results), "episodes of several turns are what this is about"
    rewards_N = torch.tensor([float(result.reward or 0) for result in results], dtype=torch.float64)
    advantages = group_advantages(rewards_N, 4).float().tolist()
    assert any(advantages), "no signal"
    trainer = EpisodeTrainer(TASKS, policy(warm), config(aggregate=aggregate, micro_tokens=micro_tokens), tmp_path)
    lengths = [sum(len(c.token_ids) for c in result.completions) for result in results]
    denominator = {"token": sum(lengths), "sequence": len(results), "constant": len(results) * 12}[aggregate]
    seen: list[Tensor] = []

    def keep(number: int) -> float:
        seen.extend(p.grad.clone() for p in trainer.learner.parameters if p.grad is not None)
        return 0.0

    monkeypatch.setattr(trainer.learner, "update", keep)
    with CostMeter(tmp_path, "train", 1) as meter:
        row = trainer.update(list(zip(results, advantages, strict=True)), meter)
    trained = sum(length for length, advantage in zip(lengths, advantages, strict=True) if advantage)
    assert 0 < row["trained_tokens"] == trained == meter.cost.trained_tokens, "others have no gradient"
    assert row["ratio_max"] == pytest.approx(1, abs=1e-4), "the sampler's own log-probabilities are the old ones"

    model = policy(warm).model
    loss = torch.zeros(())
    for result, advantage, length in zip(results, advantages, lengths, strict=True):
        own = torch.zeros(())
        for completion in result.completions:
            ids = [*completion.prompt_ids, *completion.token_ids]
            logprobs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], -1)
            start = len(completion.prompt_ids)
            own = own + sum(logprobs[start + i - 1, token] for i, token in enumerate(completion.token_ids))
        loss = loss - advantage * own / (length if aggregate == "sequence" else 1) / denominator
    loss.backward()
    wanted = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(wanted) == len(seen)
    gap = max(float((a - b).abs().max()) for a, b in zip(seen, wanted, strict=True))
    assert gap < 1e-5 * max(float(b.abs().max()) for b in wanted) + 1e-8


def test_turns_are_laid_end_to_end() -> None:
    values = torch.arange(12.0).reshape(4, 3).requires_grad_()
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]]).bool()
    rows, kept = episode_rows(values, mask, [2, 1, 1])
    assert rows.tolist() == [[0, 1, 3], [6, 7, 8], [0, 0, 0]]
    assert kept.tolist() == [[True] * 3, [True] * 3, [False] * 3]
    rows.sum().backward()
    assert values.grad is not None and torch.equal(values.grad, mask.float())
    with pytest.raises(BadInput, match="turns"):
        episode_rows(values, mask, [2, 1])


def test_training_raises_the_outcome_and_counts_its_cost(warm: Path, tmp_path: Path) -> None:
    settings = config(steps=25, batch=8, group=8, optim=OptimOptions(lr=3e-3), save_every=50)
    result = train_episodes(TASKS, policy(warm), settings, tmp_path)
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    first, last = (sum(row["reward_mean"] for row in part) / 5 for part in (rows[:5], rows[-5:]))
    assert last > first + 0.2
    cost = total_costs(tmp_path)["train"]
    assert cost.rollout_turns == sum(row["rollout_turns"] for row in rows) == result.turns == cost.model_calls
    assert cost.sampled_tokens == sum(row["sampled_tokens"] for row in rows)
    assert all(row["groups_with_signal"] <= row["groups"] == 8 for row in rows)


def test_the_budget_of_turns_ends_training(warm: Path, tmp_path: Path) -> None:
    result = train_episodes(TASKS, policy(warm), config(steps=100, budget_turns=60), tmp_path)
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    assert result.steps == len(rows) < 100
    assert result.turns - rows[-1]["rollout_turns"] < 60 <= result.turns
    again = train_episodes(TASKS, policy(warm), config(steps=100, budget_turns=60), tmp_path)
    assert (again.steps, again.turns) == (result.steps, result.turns)


@pytest.mark.parametrize("options", [{"lora": LoraOptions(rank=2), "beta": 0.1}, {"beta": 0.1}, {"loss": "gspo"}])
def test_other_settings_run_and_report(warm: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    train_episodes(TASKS, policy(warm), config(steps=2, inner_epochs=2, **options), tmp_path)
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    assert len(rows) == 2
    if "beta" in options:
        assert all(row["kl"] is not None and row["kl"] >= 0 for row in rows)


def test_bad_input_is_named(warm: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no tasks"):
        train_episodes([], policy(warm), config(), tmp_path)
    other = TASKS[0].model_copy(update={"env": "pivotgym/Terminal-v0"})
    with pytest.raises(BadInput, match="several environments"):
        train_episodes([*TASKS, other], policy(warm), config(), tmp_path)
    train_episodes(TASKS, policy(warm), config(steps=1), tmp_path)
    with pytest.raises(BadInput, match="group was 4, now 6"):
        train_episodes(TASKS, policy(warm), config(steps=1, group=6), tmp_path)


def test_kills_change_nothing(warm: Path) -> None:
    start = warm.parents[1]
    calm, killed = start / "grpo-calm", start / "grpo-killed"
    worker = Path(__file__).with_name("compare_worker.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(worker), "grpo", str(calm), str(killed), "6", "4"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["hits"] == 6, "kills came too late to disturb anything"
    for name in ("metrics.jsonl", "summary.json", "settings.json", "final/model.safetensors"):
        assert (calm / name).read_bytes() == (killed / name).read_bytes(), name
