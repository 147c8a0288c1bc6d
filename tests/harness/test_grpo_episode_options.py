"""End-to-end GRPO takes every loss, correction and reference that turn-level training takes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.harness.grpo_episodes import EpisodeTrainConfig, EpisodeTrainer, train_episodes
from pivotgym.harness.learner import Learner
from pivotgym.harness.losses import group_advantages
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.packing import PrefixTree, pack_together
from pivotgym.harness.policies.base import Sampling
from pivotgym.harness.reference import write_reference
from pivotgym.harness.rollouts import EpisodeResult, run_episodes
from pivotgym.harness.runs import CostMeter
from pivotgym.harness.turns import make_env

TASKS = [lamps.task(key) for key in lamps.KEYS]
QUICK: dict[str, Any] = {"steps": 3, "batch": 4, "group": 4, "max_turns": 3, "max_tokens": 4, "lora": None, "seed": 5}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return lamps.supervised(tmp_path_factory.mktemp("warm") / "sft")


def episodes(warm: Path, seed: int = 1, trials: int = 4) -> list[EpisodeResult]:
    return run_episodes(
        lambda: make_env("pivotgym/Tools-v0"),
        TASKS[:3],
        lamps.loaded(warm),
        trials=trials,
        max_turns=3,
        sampling=Sampling(max_tokens=4),
        seed=seed,
    )


def gspo(new_L: Tensor, said_L: Tensor, advantage: float) -> Tensor:
    """Zheng et al. 2025, arXiv:2507.18071, eq. 5 and 7, with the bounds given below; a sequence is the episode."""
    ratio = (new_L - said_L).mean().exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)


def cispo(new_L: Tensor, said_L: Tensor, advantage: float) -> Tensor:
    """MiniMax-M1, 2025, arXiv:2506.13585, eq. 4."""
    return -((new_L - said_L).exp().clamp(0, 1.2).detach() * advantage * new_L).sum()


def dual_clip(new_L: Tensor, said_L: Tensor, advantage: float) -> Tensor:
    """Ye et al. 2020, arXiv:1912.09729, eq. 5."""
    ratio_L = (new_L - said_L).exp()
    least_L = torch.minimum(ratio_L * advantage, ratio_L.clamp(0.8, 1.1) * advantage)
    return -(least_L if advantage > 0 else least_L.clamp(min=1.3 * advantage)).sum()


def truncated(new_L: Tensor, said_L: Tensor, advantage: float) -> Tensor:
    """Truncated importance sampling, one weight an episode."""
    weight = (new_L.detach() - said_L).sum().exp().clamp(0.7, 1.5)
    return -(weight * advantage * new_L).sum()


RECIPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gspo": (gspo, {"loss": "gspo", "clip_low": 0.2, "clip_high": 0.2}),
    "cispo": (cispo, {"loss": "cispo", "clip_high": 0.2}),
    "dual clip": (dual_clip, {"clip_high": 0.1, "clip_cap": 1.3}),
    "truncated": (truncated, {"importance_cap": 1.5, "importance_floor": 0.7, "importance_level": "sequence"}),
}


@pytest.mark.parametrize("micro_tokens", [1, 4096])
@pytest.mark.parametrize("name", RECIPES)
def test_an_episode_is_one_sequence_to_every_loss(warm: Path, tmp_path: Path, name: str, micro_tokens: int) -> None:
    """A sampler that reports other log-probabilities, so that ratios are not 1; the loss is written out above."""
    loss_of, options = RECIPES[name]
    results, rng = episodes(warm), random.Random(3)
    assert any(result.turns > 1 for result in results)
    for result in results:
        for completion in result.completions:
            completion.logprobs[:] = [value + rng.gauss(0, 0.4) for value in completion.logprobs]
    rewards_N = torch.tensor([float(result.reward or 0) for result in results], dtype=torch.float64)
    advantages = group_advantages(rewards_N, 4).float().tolist()
    config = EpisodeTrainConfig(**QUICK, **options, micro_tokens=micro_tokens)
    trainer = EpisodeTrainer(TASKS, lamps.loaded(warm), config, tmp_path)
    seen: list[Tensor] = []

    def keep(number: int) -> float:
        seen.extend(p.grad.clone() for p in trainer.learner.parameters if p.grad is not None)
        return 0.0

    trainer.learner.update = keep  # type: ignore[method-assign]
    with CostMeter(tmp_path, "train", 1) as meter:
        row = trainer.update(list(zip(results, advantages, strict=True)), meter)
    assert row["sampler_gap_max"] > 0.4
    assert (row["weight_mean"] != 1) == (name == "truncated")
    assert (row["clip_fraction"] > 0) == (name != "truncated"), "the bounds must matter"

    model = lamps.loaded(warm).model
    total = torch.zeros(())
    denominator = len(results) if config.aggregate == "sequence" else 0
    for result, advantage in zip(results, advantages, strict=True):
        new, said = [], []
        for completion in result.completions:
            ids = [*completion.prompt_ids, *completion.token_ids]
            logprobs_TV = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], -1)
            start = len(completion.prompt_ids)
            new += [logprobs_TV[start + i - 1, token] for i, token in enumerate(completion.token_ids)]
            said += completion.logprobs
        denominator += 0 if config.aggregate == "sequence" else len(new)
        total = total + loss_of(torch.stack(new), torch.tensor(said), advantage)
    (total / denominator).backward()
    wanted = [p.grad for p in model.parameters() if p.grad is not None]
    gap = max(float((a - b).abs().max()) for a, b in zip(seen, wanted, strict=True))
    assert gap < 1e-4 * max(float(b.abs().max()) for b in wanted) + 1e-8


@pytest.mark.parametrize("kind", ["second model", "stored", "adapter off"])
def test_every_kind_of_reference_gives_the_same_training(warm: Path, tmp_path: Path, kind: str) -> None:
    options: dict[str, Any] = {**QUICK, "beta": 0.5, "optim": OptimOptions(lr=1e-2)}
    second, other = tmp_path / "second", dict[str, Any]()
    if kind == "stored":
        sampled = [item for result in episodes(warm, trials=16) for item in result.completions]
        write_reference(tmp_path / "reference.jsonl", sampled)  # not of all tasks: the rest is computed
        other = {"reference_logprobs": tmp_path / "reference.jsonl"}
    else:
        if kind == "adapter off":
            options["lora"] = LoraOptions(rank=4)
        lamps.loaded(warm).model.save_pretrained(str(second))  # type: ignore[operator]
        lamps.tokenizer().save_pretrained(str(second))
        other = {"reference_model": str(second)}
    rows = []
    for name, more in (("plain", {}), ("other", other)):
        train_episodes(TASKS, lamps.loaded(warm), EpisodeTrainConfig(**options, **more), tmp_path / name)
        rows.append(list(read_rows(tmp_path / name / "metrics.jsonl")))
    assert abs(rows[0][-1]["kl"]) > 1e-4, "the policy has moved"
    for ours, wanted in zip(*reversed(rows), strict=True):
        assert ours["kl_share"] == 1
        for figure in ("kl", "loss", "reward_mean", "grad_norm"):
            assert ours[figure] == pytest.approx(wanted[figure], rel=1e-3, abs=1e-5), figure


def test_what_was_not_stored_may_go_without_a_kl(warm: Path, tmp_path: Path) -> None:
    path = tmp_path / "reference.jsonl"
    write_reference(path, [item for result in episodes(warm)[:8] for item in result.completions])
    options: dict[str, Any] = {**QUICK, "beta": 0.5, "reference_logprobs": path, "reference_missing": "skip"}
    trainer = EpisodeTrainer(TASKS, lamps.loaded(warm), EpisodeTrainConfig(**options), tmp_path / "run")
    with CostMeter(tmp_path, "train", 1) as meter:
        row = trainer.step(1, meter)
    assert 0 < row["kl_share"] < 1 and row["kl"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(BadInput, match="without a reference"), trainer.learner.reference_model():
        pass


def test_episodes_that_were_cut_off_are_left_out(warm: Path, tmp_path: Path) -> None:
    found = {}
    for overlong in ("keep", "mask"):
        config = EpisodeTrainConfig(**{**QUICK, "max_turns": 1, "overlong": overlong, "beta": 0.1})
        trainer = EpisodeTrainer(TASKS, lamps.loaded(warm), config, tmp_path / overlong)
        with CostMeter(tmp_path, "train", 1) as meter:
            found[overlong] = trainer.step(1, meter)
    kept, masked = found["keep"], found["mask"]
    assert kept["cut_off"] > 0 and kept["masked"] == 0 and kept["trained_tokens"] == kept["sampled_tokens"]
    assert masked["masked"] == pytest.approx(masked["cut_off"]) and masked["reward_mean"] == kept["reward_mean"]
    assert (masked["trained_tokens"] or 0) < kept["trained_tokens"]


def test_settings_are_refused_as_for_single_turns() -> None:
    with pytest.raises(BadInput, match="sequence"):
        EpisodeTrainConfig(loss="gspo", aggregate="token")
    with pytest.raises(BadInput, match="beta"):
        EpisodeTrainConfig(reference_model="embedded")
    assert EpisodeTrainConfig(loss="gspo").aggregate == "sequence"
    assert EpisodeTrainConfig().longest == 12 * 128


def test_an_episode_is_never_cut_apart(warm: Path) -> None:
    results = episodes(warm)
    groups = [(turn.prompt_ids, [turn.token_ids]) for result in results for turn in result.completions]
    sizes = [len(result.completions) for result in results]
    for budget in (1, 20, 10_000):
        for shared in (True, False):
            packs = pack_together(groups, sizes, budget, shared)
            assert sum(count for _, count in packs) == len(sizes)
            assert [group for pack, _ in packs for group in pack.groups] == groups
            assert [row for pack, _ in packs for row in pack.rows] == list(range(len(groups)))
            assert all(pack.tokens <= budget or count == 1 for pack, count in packs)
            for pack, _ in packs:
                sequences = [[*prompt, *completions[0]] for prompt, completions in pack.groups]
                distinct = len(PrefixTree.build(sequences).token_ids)
                assert pack.tokens >= distinct if shared else pack.tokens == sum(map(len, sequences))
    assert len(pack_together(groups, sizes, 1)) == len(sizes)
    assert [count for _, count in pack_together(groups, sizes, 10_000, most=5)] == [5, 5, 2]
    learner = Learner(lamps.loaded(warm).model, None, OptimOptions())
    assert learner.shares_prompts(groups)


def test_sampler_and_trainer_are_compared_at_any_temperature(warm: Path, tmp_path: Path) -> None:
    config = EpisodeTrainConfig(**QUICK, temperature=0.7, inner_epochs=2, micro_tokens=256)
    train_episodes(TASKS, lamps.loaded(warm), config, tmp_path)
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row.get("loss") is not None]
    assert rows and all(row["rollout_turns"] > row["episodes"] for row in rows), (
        "episodes of several turns, laid end to end"
    )
    assert all(0 < row["sampler_gap_max"] < 1e-3 and row["sampler_kl"] < 1e-6 for row in rows)
