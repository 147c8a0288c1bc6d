"""The trainer's options: losses, importance weights, masking and penalties, references, token budget."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.commands import Train
from pivotgym.harness.forward import padded_logprobs
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies.base import Completion, Conversation, Sampling
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.reference import StoredLogprobs, reference_rows, write_reference
from pivotgym.harness.reprofiling import zero_variance_share
from pivotgym.harness.runs import CostMeter
from pivotgym.harness.train import TrainConfig, Trainer, train

QUICK: dict[str, Any] = {
    "steps": 2,
    "batch": 8,
    "group": 4,
    "max_tokens": 4,
    "lora": None,
    "optim": OptimOptions(lr=2e-3),
    "eval_every": 0,
}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return lamps.warm_weights(tmp_path_factory.mktemp("sft"), epochs=6)


def pivots(count: int = 12, seed: int = 2) -> list[Pivot]:
    return [Pivot(trajectory=t, turn=0) for t in lamps.trajectories(count, turns=1, seed=seed)]


def one_step(trainer: Trainer, out: Path) -> tuple[JsonObject, dict[str, Tensor]]:
    """A step whose gradients are kept and not taken."""
    gradients: dict[str, Tensor] = {}

    def keep(number: int) -> float:
        model = trainer.learner.model
        gradients.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad()
        return 0.0

    trainer.learner.update = keep  # type: ignore[method-assign]
    with CostMeter(out, "train", 1) as meter:
        return trainer.step(1, meter), gradients


RECIPES: dict[str, dict[str, Any]] = {
    "gspo": {"loss": "gspo", "inner_epochs": 2},
    "cispo": {"loss": "cispo", "inner_epochs": 2},
    "dr_grpo": {"scale": "none", "aggregate": "constant"},
    "pivotrl": {
        "baseline": "leave_one_out",
        "clip_high": 0.28,
        "importance_cap": 5.0,
        "importance_floor": 0.2,
        "overlong": "mask",
        "malformed_advantage": -5.0,
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_reward_rises_with_every_recipe(warm: dict[str, Tensor], tmp_path: Path, name: str) -> None:
    config = TrainConfig(**{**QUICK, "steps": 25, "group": 8, "optim": OptimOptions(lr=3e-3), **RECIPES[name]})
    train(pivots(28), lamps.started(warm), config, tmp_path)
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    first, last = (sum(row["reward_mean"] for row in part) / 5 for part in (rows[:5], rows[-5:]))
    assert last > first + 0.2
    if name == "gspo":
        assert sum(row["clip_fraction"] for row in rows if row["loss"] is not None) > 0, "its bounds are narrow"
    assert all(row["sampler_gap_max"] < 1e-3 for row in rows if row["loss"] is not None), "one set of weights"


def test_losses_bring_their_own_defaults() -> None:
    for loss, wanted in {
        "clip": ("token", 0.2, 0.2),
        "gspo": ("sequence", 3e-4, 4e-4),
        "cispo": ("token", 1, 4),
    }.items():
        config = TrainConfig(loss=loss)
        assert (config.aggregate, config.clip_low, config.clip_high) == wanted
    assert TrainConfig(loss="gspo", clip_high=0.01).clip_high == 0.01


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("aggregate", {"loss": "gspo", "aggregate": "token"}),
        ("clip_cap", {"loss": "cispo", "clip_cap": 9.0}),
        ("clip_cap", {"clip_high": 0.5, "clip_cap": 1.2}),
        ("overlong_buffer", {"max_tokens": 8, "overlong_buffer": 9}),
        ("malformed_advantage", {"malformed": "mask", "malformed_advantage": -5.0}),
        ("importance_cap", {"importance_floor": 0.1}),
        ("importance_floor", {"importance_floor": 3.0, "importance_cap": 2.0}),
        ("temperature", {"temperature": 0.7, "importance_cap": 2.0}),
        ("reference_logprobs", {"beta": 0.1, "reference_missing": "skip"}),
        ("beta", {"reference_model": "embedded"}),
    ],
)
def test_settings_that_do_not_fit_together(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        TrainConfig(**options)
    assert caught.value.field == field


def test_the_command_line_reaches_every_option(tmp_path: Path) -> None:
    options = {
        "loss": "gspo",
        "kl": "k2",
        "clip_cap": 4.0,
        "importance_cap": 5.0,
        "importance_floor": 0.2,
        "overlong": "mask",
        "overlong_buffer": 3,
        "malformed_advantage": -5.0,
        "micro_tokens": 512,
    }
    config = Train(tmp_path, "embedded", beta=0.1, options=json.dumps(options))._config(TrainConfig)
    assert {name: getattr(config, name) for name in options} == options and config.aggregate == "sequence"
    with pytest.raises(BadInput, match="aggregate"):
        Train(tmp_path, "embedded", options='{"loss": "gspo", "aggregate": "token"}')._config(TrainConfig)


@pytest.mark.parametrize("inner_epochs", [1, 2])
def test_at_another_temperature_a_sampler_that_missed_an_update_shows(
    warm: dict[str, Tensor], tmp_path: Path, inner_epochs: int
) -> None:
    """The old policy is the trainer's own there, so nothing but the gap tells."""
    options = {"lora": LoraOptions(rank=4), "optim": OptimOptions(lr=2e-2), "inner_epochs": inner_epochs}
    config = TrainConfig(**{**QUICK, **options, "temperature": 0.7})
    rows: dict[str, list[JsonObject]] = {}
    for name in ("right", "stale"):
        trainer = Trainer(pivots(), lamps.started(warm), config, tmp_path / name)
        rows[name] = []
        for number in (1, 2):
            with CostMeter(tmp_path, "train", number) as meter:
                rows[name].append(trainer.step(number, meter))
            if name == "stale":
                assert trainer.learner._sampling is not None
                trainer.learner._sampling.take_over = lambda: None  # type: ignore[method-assign]
        assert trainer.learner.temperature == 0.7
        trainer.close()
    assert all(row["loss"] is not None for found in rows.values() for row in found), "otherwise this shows nothing"
    assert all(row["sampler_gap_max"] < 1e-3 for row in [*rows["right"], rows["stale"][0]])
    assert all(row["sampler_gap_mean"] > 0 for row in rows["right"]), "two computations, not one with itself"
    stale = rows["stale"][1]
    assert stale["sampler_gap_max"] > 0.05 and stale["sampler_gap_mean"] > 0.01 and stale["sampler_kl"] > 1e-4


def test_importance_weights_correct_for_another_sampler(warm: dict[str, Tensor], tmp_path: Path) -> None:
    """A sampler that reports other log-probabilities: the gradient is that of the weighted sum, written out here."""
    config = TrainConfig(**QUICK, importance_cap=1.2, importance_floor=0.9)
    trainer = Trainer(pivots(), lamps.started(warm), config, tmp_path)
    noise = torch.Generator().manual_seed(5)
    sample, run, sampled = trainer.policy.sample, trainer.runner.run, []

    def noisy(conversations: Any, n: int = 1, sampling: Sampling | None = None) -> list[list[Completion]]:
        found = sample(conversations, n, sampling)
        for group in found:
            for completion in group:
                completion.logprobs[:] = [
                    x + 0.3 * float(torch.randn((), generator=noise)) for x in completion.logprobs
                ]
        return found

    def keep_results(*arguments: Any) -> Any:
        sampled.extend(run(*arguments))
        return sampled

    trainer.policy.sample = noisy  # type: ignore[method-assign]
    trainer.runner.run = keep_results  # type: ignore[method-assign]
    row, gradients = one_step(trainer, tmp_path)
    assert row["ratio_max"] == 1 and row["old_kl"] == 0, "the old policy is the trainer's own"
    assert 0.3 < row["sampler_gap_max"] < 3 and row["sampler_kl"] > 0.01
    assert 0.9 < row["weight_mean"] < 1.2

    model = trainer.learner.model
    total = sum(len(completion.token_ids) for result in sampled for completion in result.completions)
    bounded = 0
    for result in sampled:
        rewards_G = torch.tensor(result.rewards)
        advantages_G = (rewards_G - rewards_G.mean()) / (rewards_G.std() + 1e-4)
        for advantage, completion in zip(advantages_G, result.completions, strict=True):
            logprobs_T = padded_logprobs(model, completion.prompt_ids, [completion.token_ids]).logprobs_NT[0]
            ratio_T = (logprobs_T.detach() - torch.tensor(completion.logprobs)).exp()
            bounded += int(((ratio_T < 0.9) | (ratio_T > 1.2)).sum())
            (-advantage * (ratio_T.clamp(0.9, 1.2) * logprobs_T).sum() / total).backward()
    assert bounded > 5, "otherwise the bounds show nothing"
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-3)


def test_cut_off_completions_are_left_out(warm: dict[str, Tensor], tmp_path: Path) -> None:
    """With room for one token every call is cut off before its end: there is nothing to train on."""
    found = {}
    for overlong in ("keep", "mask"):
        config = TrainConfig(**{**QUICK, "max_tokens": 1, "overlong": overlong, "beta": 0.1, "aggregate": "sequence"})
        found[overlong], _ = one_step(Trainer(pivots(), lamps.started(warm), config, tmp_path / overlong), tmp_path)
    kept, masked = found["keep"], found["mask"]
    assert kept["cut_off"] > 0.9 and kept["masked"] == 0 and kept["trained_tokens"] == kept["sampled_tokens"]
    assert masked["masked"] == masked["cut_off"] == kept["cut_off"]
    assert masked["trained_tokens"] == round((1 - masked["cut_off"]) * masked["sampled_tokens"])


def test_over_long_answers_cost_reward(warm: dict[str, Tensor], tmp_path: Path) -> None:
    """The penalty makes a difference where the rewards make none."""
    found = {}
    for buffer in (0, 4):
        config = TrainConfig(**{**QUICK, "overlong_buffer": buffer})
        policy = lamps.policy(seed=3)  # never presses a key: all rewards are 0
        row, _ = one_step(Trainer(pivots(), policy, config, tmp_path / str(buffer)), tmp_path)
        found[buffer] = row
    assert found[0]["reward_mean"] == found[4]["reward_mean"] == 0, "what is reported is the verdict"
    lengths_differ = found[0]["sampled_tokens"] < 8 * 4 * 4
    assert found[0]["groups_with_signal"] == 0 and (found[4]["groups_with_signal"] > 0) == lengths_differ


BROKEN = '<tool_call>{"name": "press", "arguments": </tool_call>'


def breaking(warm: dict[str, Tensor]) -> TransformersPolicy:
    """The warm policy with one token more, a call of broken JSON, which is as likely as pressing the first key."""
    policy = lamps.started(warm)
    policy.tokenizer.add_tokens([BROKEN])
    model: Any = policy.model
    model.resize_token_embeddings(len(policy.tokenizer), mean_resizing=False)
    call = policy.tokenizer.convert_tokens_to_ids(BROKEN) - len(lamps.KEYS)
    with torch.no_grad():
        for layer in (model.lm_head, model.model.embed_tokens):
            layer.weight[-1] = layer.weight[call]
    return TransformersPolicy(model, policy.tokenizer, name="breaking")


def test_malformed_actions_become_less_likely(warm: dict[str, Tensor], tmp_path: Path) -> None:
    """The penalty lowers what was sampled and malformed."""
    config = TrainConfig(**{**QUICK, "group": 16, "malformed_advantage": -5.0})
    trainer = Trainer(pivots(), breaking(warm), config, tmp_path)
    run, sampled = trainer.runner.run, []

    def keep_results(*arguments: Any) -> Any:
        sampled.extend(run(*arguments))
        return sampled

    trainer.runner.run = keep_results  # type: ignore[method-assign]

    def likelihood() -> float:
        with torch.no_grad():
            return sum(
                float(padded_logprobs(trainer.learner.model, c.prompt_ids, [c.token_ids]).logprobs_NT.sum())
                for result in sampled
                for c in result.completions
                if c.malformed is not None and c.stop_reason == "stop"
            )

    with CostMeter(tmp_path, "train", 1) as meter:
        before = {name: p.detach().clone() for name, p in trainer.learner.model.named_parameters()}
        row = trainer.step(1, meter)
    assert 0 < row["malformed"] < 1 and row["malformed"] > row["cut_off"]
    after = likelihood()
    with torch.no_grad():
        for name, parameter in trainer.learner.model.named_parameters():
            parameter.copy_(before[name])
    assert after < likelihood() - 0.1


def test_zero_variance_is_of_rewards_not_of_gradients(warm: dict[str, Tensor], tmp_path: Path) -> None:
    """A penalty gives gradients to groups of equal rewards, masking takes them from mixed ones: neither counts."""
    found = {}
    recipes: dict[str, JsonObject] = {
        "plain": {},
        "penalty": {"malformed_advantage": -5.0},
        "masked": {"overlong": "mask", "max_tokens": 1},
    }
    for name, recipe in recipes.items():
        trainer = Trainer(pivots(), breaking(warm), TrainConfig(**{**QUICK, **recipe}), tmp_path / name)
        kept: list[Any] = []
        run = trainer.runner.run

        def half_right(*arguments: Any, run: Any = run, kept: list[Any] = kept) -> Any:
            # Half of the groups have equal rewards, the other half has not, whatever the actions.
            for number, result in enumerate(run(*arguments)):
                rewards = [float(place == 0 and number % 2) for place in range(len(result.rewards))]
                verdicts = [
                    v.model_copy(update={"reward": reward}) for v, reward in zip(result.verdicts, rewards, strict=True)
                ]
                kept.append(replace(result, verdicts=verdicts))
            return kept

        trainer.runner.run = half_right  # type: ignore[method-assign]
        found[name], _ = one_step(trainer, tmp_path)
        assert 0.4 < (zero_variance_share([found[name]]) or 0) < 0.6
        assert found[name]["groups_zero_variance"] == sum(len(set(result.rewards)) == 1 for result in kept)
    signal = {name: row["groups_with_signal"] for name, row in found.items()}
    groups = found["plain"]["groups"]
    assert signal["plain"] == groups - found["plain"]["groups_zero_variance"]
    assert signal["penalty"] > signal["plain"] and signal["masked"] < signal["plain"], "otherwise this shows nothing"


def profiled(policy: TransformersPolicy, path: Path, count: int) -> list[Completion]:
    """What profiling samples at the first ``count`` pivots, with its log-probabilities stored."""
    asked = [Conversation(pivot.trajectory.prefix(0)) for pivot in pivots()[:count]]
    found = [item for group in policy.sample(asked, 64, Sampling(max_tokens=4, seed=9)) for item in group]
    write_reference(path, found)
    return found


def test_stored_logprobs_are_found_by_prompt_and_tokens(warm: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "reference.jsonl"
    found = profiled(lamps.started(warm), path, 3)
    rows = list(read_rows(path))
    assert len(rows) == len(reference_rows(found)) < len(found), "equal completions are stored once"
    stored = StoredLogprobs(path)
    for completion in found:
        assert stored.lookup(completion.prompt_ids, completion.token_ids) == pytest.approx(completion.logprobs)
    ids, other = found[0].token_ids, [*found[0].token_ids[:1], 3, 5]
    assert [math.isnan(x) for x in stored.lookup(found[0].prompt_ids, other)] == [False, True, True]
    assert all(math.isnan(x) for x in stored.lookup([1, 2, 3], ids))
    path.write_text('{"prompt": "x", "token_ids": [1, 2], "logprobs": [-1.0]}\n')
    with pytest.raises(BadInput, match="do not fit") as caught:
        StoredLogprobs(path)
    assert (caught.value.line, caught.value.field) == (1, "logprobs")
    with pytest.raises(BadInput, match="no such file"):
        StoredLogprobs(tmp_path / "nothing")


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
@pytest.mark.parametrize("kind", ["second model", "stored", "adapter off"])
def test_every_kind_of_reference_gives_the_same_training(
    warm: dict[str, Tensor], tmp_path: Path, kind: str, kl: str
) -> None:
    """The start of training as a frozen copy, beside the same policy in another guise."""
    options: dict[str, Any] = {**QUICK, "steps": 4, "beta": 0.5, "kl": kl, "optim": OptimOptions(lr=1e-2)}
    if kind == "second model":
        folder = tmp_path / "second"
        lamps.started(warm).model.save_pretrained(str(folder))  # type: ignore[operator]
        lamps.tokenizer().save_pretrained(str(folder))
        other = {"reference_model": str(folder)}
    elif kind == "stored":
        profiled(lamps.started(warm), tmp_path / "reference.jsonl", 8)  # not all pivots: the rest is computed
        other = {"reference_logprobs": tmp_path / "reference.jsonl"}
    else:
        options["lora"] = LoraOptions(rank=4)
        folder = tmp_path / "second"
        lamps.started(warm).model.save_pretrained(str(folder))  # type: ignore[operator]
        lamps.tokenizer().save_pretrained(str(folder))
        other = {"reference_model": str(folder)}
    rows = []
    for name, more in (("plain", {}), ("other", other)):
        train(pivots(), lamps.started(warm), TrainConfig(**options, **more), tmp_path / name)
        rows.append(list(read_rows(tmp_path / name / "metrics.jsonl")))
    assert abs(rows[0][-1]["kl"]) > 1e-4, "the policy has moved"
    for ours, wanted in zip(*reversed(rows), strict=True):
        assert ours["kl_share"] == 1
        for name in ("kl", "loss", "reward_mean", "grad_norm"):
            assert ours[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-5), name


def test_what_was_not_profiled_may_go_without_a_kl(warm: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "reference.jsonl"
    profiled(lamps.started(warm), path, 6)
    config = TrainConfig(**QUICK, beta=0.5, reference_logprobs=path, reference_missing="skip")
    trainer = Trainer(pivots(), lamps.started(warm), config, tmp_path / "run")
    row, _ = one_step(trainer, tmp_path)
    assert 0 < row["kl_share"] < 1 and row["kl"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(BadInput, match="without a reference"), trainer.learner.reference_model():
        pass


def test_references_that_are_not_the_reference_are_refused(warm: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "reference.jsonl"
    profiled(lamps.policy(seed=8), path, 12)
    config = TrainConfig(**QUICK, beta=0.5, reference_logprobs=path)
    with pytest.raises(BadInput, match="stored with another one"):
        for number in range(3):  # a random model may never have sampled what this one does
            trainer = Trainer(pivots(seed=2), lamps.policy(seed=9), config, tmp_path / str(number))
            one_step(trainer, tmp_path)
    folder = tmp_path / "other"
    other = lamps.tokenizer()
    other.add_tokens(["something else"])
    lamps.policy().model.save_pretrained(str(folder))  # type: ignore[operator]
    other.save_pretrained(str(folder))
    config = TrainConfig(**QUICK, beta=0.5, reference_model=str(folder))
    with pytest.raises(BadInput, match="other tokens"):
        Trainer(pivots(), lamps.started(warm), config, tmp_path / "tokens")


def test_the_token_budget_changes_no_gradient(warm: dict[str, Tensor], tmp_path: Path) -> None:
    found, passes = [], []
    for budget in (1, 12, 4096):
        config = TrainConfig(**QUICK, beta=0.1, micro_tokens=budget)
        trainer = Trainer(pivots(), lamps.started(warm), config, tmp_path / str(budget))
        logprobs, calls = trainer.learner.logprobs, list[int]()

        def count(groups: Any, model: Any = None, logprobs: Any = logprobs, calls: list[int] = calls) -> Any:
            calls.append(sum(len(completions) for _, completions in groups))
            return logprobs(groups, model)

        trainer.learner.logprobs = count  # type: ignore[method-assign]
        row, gradients = one_step(trainer, tmp_path)
        found.append((row["loss"], gradients))
        passes.append(calls)
    assert set(passes[0]) == {1} and len(passes[0]) > len(passes[1]) > len(passes[2])
    for loss, gradients in found[:2]:
        assert loss == pytest.approx(found[2][0], abs=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[2][1][name], atol=1e-6, rtol=1e-4)
