"""The trainer: it learns, on exactly the sampled tokens, with the gradient and the reference it claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lamps
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import Message
from pivotgym.harness.forward import padded_logprobs
from pivotgym.harness.learner import Learner
from pivotgym.harness.losses import group_advantages
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies import load_policy
from pivotgym.harness.policies.base import Conversation, Sampling
from pivotgym.harness.runs import CostMeter, total_costs
from pivotgym.harness.sft import SftConfig, examples_of, train_sft
from pivotgym.harness.train import TrainConfig, Trainer, train

QUICK = TrainConfig(
    steps=2, batch=4, group=4, max_tokens=4, lora=LoraOptions(rank=4), optim=OptimOptions(lr=1e-2), eval_rollouts=2
)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights after a few supervised steps: the model presses keys, often the wrong ones."""
    torch.set_num_threads(1)
    policy = lamps.policy()
    config = SftConfig(lora=None, epochs=6, batch=8, optim=OptimOptions(lr=3e-3))
    result = train_sft(lamps.trajectories(40, seed=1), policy, config, tmp_path_factory.mktemp("sft"))
    assert result.first_loss is not None and result.last_loss is not None
    assert result.last_loss < result.first_loss / 3
    return {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}


def pivots(count: int = 8, heldout: int = 2, seed: int = 2) -> list[Pivot]:
    recorded = lamps.trajectories(count, turns=1, seed=seed)
    return [Pivot(trajectory=t, turn=0, split="heldout" if i < heldout else "train") for i, t in enumerate(recorded)]


def weights(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_the_reward_rises(warm: dict[str, Tensor], tmp_path: Path) -> None:
    config = TrainConfig(
        steps=25, batch=8, group=8, max_tokens=4, lora=None, optim=OptimOptions(lr=3e-3), eval_every=0, eval_rollouts=8
    )
    result = train(pivots(40, 12), lamps.started(warm), config, tmp_path)
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["kind"] == "train"]
    first, last = (sum(row["reward_mean"] for row in part) / 5 for part in (rows[:5], rows[-5:]))
    assert last > first + 0.25
    assert result.gain is not None and result.gain["low"] > 0, "on held-out pivots, by more than the interval"
    assert [row["step"] for row in rows] == list(range(1, 26))
    cost = total_costs(tmp_path)
    assert cost["train"].rollout_turns == 25 * 64 and cost["evaluate pivots"].rollout_turns == 2 * 12 * 8
    assert cost["train"].trained_tokens == sum(row["trained_tokens"] or 0 for row in rows)


def test_it_trains_on_exactly_the_sampled_ids(warm: dict[str, Tensor], tmp_path: Path) -> None:
    trainer = Trainer(pivots(), lamps.started(warm), QUICK, tmp_path)
    sampled: list[tuple[list[int], list[list[int]]]] = []
    trained: list[tuple[list[int], list[list[int]]]] = []
    sample, logprobs = trainer.policy.sample, trainer.learner.logprobs

    def keep_sampled(conversations: Any, n: int = 1, sampling: Sampling | None = None) -> Any:
        found = sample(conversations, n, sampling)
        sampled.extend((group[0].prompt_ids, [c.token_ids for c in group]) for group in found)
        return found

    def keep_trained(groups: Any, model: Any = None) -> Any:
        trained.extend(groups)
        return logprobs(groups, model)

    trainer.policy.sample = keep_sampled  # type: ignore[method-assign]
    trainer.learner.logprobs = keep_trained  # type: ignore[method-assign]
    with CostMeter(tmp_path, "train", 1) as meter:
        row = trainer.step(1, meter)
    assert trained and len(trained) == row["groups_with_signal"]
    assert all(group in sampled for group in trained)
    assert len(sampled) == 4
    assert row["old_kl"] < 1e-10 and row["ratio_max"] == pytest.approx(1, abs=1e-4), "on policy: the ratio is 1"


@pytest.mark.parametrize("aggregate", ["token", "sequence", "constant"])
def test_accumulated_gradients_are_the_batchs(warm: dict[str, Tensor], tmp_path: Path, aggregate: str) -> None:
    found = []
    for size in (1, 3, 8):
        config = QUICK.model_copy(
            update={"batch": 8, "micro_batch": size, "lora": None, "beta": 0.1, "aggregate": aggregate}
        )
        trainer = Trainer(pivots(12), lamps.started(warm), config, tmp_path / str(size))
        gradients: dict[str, Tensor] = {}

        def keep(number: int, model: Any = trainer.learner.model, into: Any = gradients) -> float:
            into.update({name: p.grad.clone() for name, p in model.named_parameters()})
            return 0.0

        trainer.learner.update = keep  # type: ignore[method-assign]
        with CostMeter(tmp_path, "train", 1) as meter:
            row = trainer.step(1, meter)
        assert row["groups_with_signal"] >= 4
        found.append((gradients, row["loss"]))
    for gradients, loss in found[1:]:
        assert loss == pytest.approx(found[0][1], abs=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[0][0][name], atol=1e-6, rtol=1e-4)


def test_the_step_does_not_depend_on_how_few_groups_have_signal(warm: dict[str, Tensor], tmp_path: Path) -> None:
    """Groups without a gradient are skipped at beta 0 and computed above; the update must be the same."""
    found = []
    for beta in (0.0, 1e-12):
        config = QUICK.model_copy(update={"batch": 8, "beta": beta, "lora": None})
        trainer = Trainer(pivots(12), lamps.started(warm), config, tmp_path / str(beta))
        gradients: dict[str, Tensor] = {}

        def keep(number: int, model: Any = trainer.learner.model, into: Any = gradients) -> float:
            into.update({name: p.grad.clone() for name, p in model.named_parameters()})
            return 0.0

        trainer.learner.update = keep  # type: ignore[method-assign]
        with CostMeter(tmp_path, "train", 1) as meter:
            row = trainer.step(1, meter)
        assert 0 < row["groups_with_signal"] < row["groups"], "otherwise this shows nothing"
        found.append(gradients)
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.7, 1.2])
def test_the_tempered_distribution_is_trained(warm: dict[str, Tensor], tmp_path: Path, temperature: float) -> None:
    """On policy at any temperature: the gradient is that of sum of advantage times log softmax(logits / T)."""
    config = QUICK.model_copy(update={"temperature": temperature, "batch": 8, "lora": None, "measure_kl": True})
    trainer = Trainer(pivots(12), lamps.started(warm), config, tmp_path)
    model, sampled = trainer.learner.model, []
    run, gradients = trainer.runner.run, dict[str, Tensor]()

    def keep_results(*arguments: Any) -> Any:
        sampled.extend(run(*arguments))
        return sampled

    def keep(number: int) -> float:
        gradients.update({name: p.grad.clone() for name, p in model.named_parameters()})
        model.zero_grad()
        return 0.0

    trainer.runner.run = keep_results  # type: ignore[method-assign]
    trainer.learner.update = keep  # type: ignore[method-assign]
    with CostMeter(tmp_path, "train", 1) as meter:
        row = trainer.step(1, meter)
    assert row["ratio_max"] == pytest.approx(1, abs=1e-4) and row["kl"] == pytest.approx(0, abs=1e-9)
    assert 0 < row["sampler_gap_max"] < 1e-3, "compared at temperature 1, where samplers record"
    rewards_N = torch.tensor([reward for result in sampled for reward in result.rewards])
    advantages_N = group_advantages(rewards_N, config.group)
    completions = [completion for result in sampled for completion in result.completions]
    total = sum(len(completion.token_ids) for completion in completions)
    for advantage, completion in zip(advantages_N, completions, strict=True):
        ids_1T = torch.tensor([completion.prompt_ids + completion.token_ids])
        logits_TV = model(ids_1T).logits[0, len(completion.prompt_ids) - 1 : -1] / temperature
        picked_T = torch.log_softmax(logits_TV, -1).gather(1, torch.tensor(completion.token_ids)[:, None])
        (-advantage * picked_T.sum() / total).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-3)


def test_equal_rewards_change_nothing(tmp_path: Path) -> None:
    """A random model never presses a key: no signal, no update, counted as all wrong."""
    trainer = Trainer(pivots(), lamps.policy(seed=3), QUICK, tmp_path)
    before = weights(trainer.learner.model)
    with CostMeter(tmp_path, "train", 1) as meter:
        row = trainer.step(1, meter)
    assert (row["groups_with_signal"], row["groups_all_wrong"], row["loss"], row["lr"]) == (0, 4, None, None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(trainer.learner.model).items())


PROMPT, COMPLETIONS = [257, 65, 260], [[261, 260], [262, 263, 260]]


def logprobs_of(model: Any) -> Tensor:
    with torch.no_grad():
        return padded_logprobs(model, PROMPT, COMPLETIONS).logprobs_NT


def shake(learner: Learner, steps: int = 3) -> None:
    for number in range(1, steps + 1):
        padded_logprobs(learner.model, PROMPT, COMPLETIONS).logprobs_NT.sum().backward()
        learner.update(number)


@pytest.mark.parametrize("kind", ["full", "lora", "warm start"])
def test_the_reference_is_what_training_started_from(warm: dict[str, Tensor], tmp_path: Path, kind: str) -> None:
    policy, start = lamps.started(warm), None
    if kind == "warm start":
        first = Learner(lamps.started(warm).model, LoraOptions(rank=4), OptimOptions(lr=1e-2))
        shake(first)
        first.save_weights(tmp_path)
        start = tmp_path
    learner = Learner(
        policy.model,
        None if kind == "full" else LoraOptions(rank=4),
        OptimOptions(lr=1e-2),
        warm_start=start,
        reference=True,
    )
    began = logprobs_of(learner.model)
    if kind == "warm start":
        assert (began - logprobs_of(lamps.started(warm).model)).abs().max() > 1e-3, "the adapter must matter"
    trainable = set(weights(learner.model))
    shake(learner)
    with learner.reference_model() as reference:
        torch.testing.assert_close(logprobs_of(reference), began, atol=1e-6, rtol=0)
    assert (logprobs_of(learner.model) - began).abs().max() > 1e-2, "the learner moved and is back"
    assert set(weights(learner.model)) == trainable and not any("reference" in name for name in trainable)
    before = weights(learner.model)
    shake(learner, 1)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(learner.model).items()), "still trains"


def test_the_kl_holds_the_policy_back(warm: dict[str, Tensor], tmp_path: Path) -> None:
    """Exact KL to the reference of the next-token distribution at every key's prompt, after equal training."""
    asked = [Conversation([Message(role="user", content=key)]) for key in lamps.KEYS]
    prompts = torch.tensor([lamps.policy().format.prompt_ids(conversation) for conversation in asked])

    def distribution(model: Any) -> Tensor:
        with torch.no_grad():
            return torch.log_softmax(model(prompts).logits[:, -1], dim=-1)

    reference, moved = distribution(lamps.started(warm).model), {}
    for beta in (0.0, 3.0):
        config = QUICK.model_copy(
            update={"steps": 20, "batch": 8, "beta": beta, "measure_kl": True, "lora": None, "eval_every": 0}
        ).model_copy(update={"optim": OptimOptions(lr=2e-3)})
        policy = lamps.started(warm)
        train(pivots(16, 0), policy, config, tmp_path / str(beta))
        rows = list(read_rows(tmp_path / str(beta) / "metrics.jsonl"))
        assert rows[0]["kl"] == pytest.approx(0, abs=1e-9), "before the first update policy and reference are one"
        now = distribution(policy.model)
        moved[beta] = float((now.exp() * (now - reference)).sum(-1).mean())
    assert 0 < moved[3.0] < 0.5 * moved[0.0], moved


def test_inner_epochs_meet_the_clip(warm: dict[str, Tensor], tmp_path: Path) -> None:
    config = QUICK.model_copy(
        update={"steps": 1, "batch": 8, "inner_epochs": 4, "lora": None, "optim": OptimOptions(lr=2e-2)}
    )
    train(pivots(12, 0), lamps.started(warm), config, tmp_path)
    (row,) = read_rows(tmp_path / "metrics.jsonl")
    assert row["clip_fraction"] > 0 and row["ratio_max"] > 1.2


def test_the_trained_adapter_belongs_to_the_base_model(warm: dict[str, Tensor], tmp_path: Path) -> None:
    """Loaded by others on the original weights it gives the trained policy, after a warm start too."""
    first = Learner(lamps.started(warm).model, LoraOptions(rank=4), OptimOptions(lr=1e-2))
    shake(first)
    first.save_weights(tmp_path / "warm")
    config = QUICK.model_copy(update={"warm_start": tmp_path / "warm", "beta": 0.05})
    policy = lamps.started(warm)
    result = train(pivots(), policy, config, tmp_path / "run")
    loaded = PeftModel.from_pretrained(lamps.started(warm).model, str(result.weights))
    assert sorted(p.name for p in result.weights.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    trainer = Trainer(pivots(), lamps.started(warm), config, tmp_path / "run")
    trainer.checkpoints.resume(trainer.learner)
    torch.testing.assert_close(logprobs_of(loaded), logprobs_of(trainer.learner.model))


@pytest.mark.parametrize("start", ["base", "warm start"])
def test_the_merged_sampler_follows_the_learner(warm: dict[str, Tensor], tmp_path: Path, start: str) -> None:
    first = Learner(lamps.started(warm).model, LoraOptions(rank=4), OptimOptions(lr=1e-2))
    shake(first)
    first.save_weights(tmp_path)
    learner = Learner(
        lamps.started(warm).model,
        LoraOptions(rank=4),
        OptimOptions(lr=1e-2),
        warm_start=tmp_path if start == "warm start" else None,
        merged_sampler=True,
    )
    kept, sampler = logprobs_of(learner.model), learner.sampler()
    for _ in range(3):
        torch.testing.assert_close(logprobs_of(learner.sampler()), logprobs_of(learner.model), atol=1e-5, rtol=0)
        shake(learner, 1)
    assert learner.sampler() is sampler and (logprobs_of(sampler) - kept).abs().max() > 1e-2
    assert not any(p.requires_grad for p in sampler.parameters())
    shared = {id(p) for p in learner.model.parameters()}
    assert any(id(p) in shared for p in sampler.parameters()), "what has no adapter is not copied"


def saved_adapter(folder: Path, model: Any, **options: Any) -> Path:
    """An adapter made by peft itself, with every number of it different from its initial value."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"r": 4, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"} | options
    wrapped: Any = get_peft_model(model, LoraConfig(**settings))
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    wrapped.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("use_dora", {"use_dora": True}),
        ("modules_to_save", {"modules_to_save": ["lm_head"]}),
        ("bias", {"bias": "all"}),
    ],
)
def test_an_adapter_that_is_more_than_matrices_is_no_start(tmp_path: Path, field: str, options: Any) -> None:
    start = saved_adapter(tmp_path, lamps.policy().model, **options)
    with pytest.raises(BadInput) as caught:
        Learner(lamps.policy().model, LoraOptions(), OptimOptions(), warm_start=start, merged_sampler=True)
    assert caught.value.field == field


def test_where_merging_is_not_exact_the_learner_samples(tmp_path: Path) -> None:
    """The low-rank matrices of this adapter have biases, which no merged matrix holds."""
    plain = saved_adapter(tmp_path / "plain", lamps.policy().model)
    biased = saved_adapter(tmp_path / "biased", lamps.policy().model, lora_bias=True, target_modules=["o_proj"])
    for start, merged in ((plain, True), (biased, False)):
        model = lamps.policy().model
        if not merged:
            model.model.layers[0].self_attn.o_proj.bias = torch.nn.Parameter(torch.zeros(32))
        learner = Learner(model, LoraOptions(), OptimOptions(), warm_start=start, merged_sampler=True)
        assert (learner.sampler() is not learner.model) == merged
        torch.testing.assert_close(logprobs_of(learner.sampler()), logprobs_of(learner.model), atol=1e-5, rtol=0)


def test_all_weights_train_after_a_warm_start(tmp_path: Path) -> None:
    start = saved_adapter(tmp_path, lamps.policy().model)
    adapted = logprobs_of(PeftModel.from_pretrained(lamps.policy().model, str(start)))
    model = lamps.policy().model
    count = sum(p.numel() for p in model.parameters())
    learner = Learner(model, None, OptimOptions(lr=1e-2), warm_start=start, reference=True, merged_sampler=True)
    torch.testing.assert_close(logprobs_of(learner.model), adapted, atol=1e-5, rtol=0)
    assert sum(p.numel() for p in learner.parameters) == count
    shake(learner)
    with learner.reference_model() as reference:
        torch.testing.assert_close(logprobs_of(reference), adapted, atol=1e-5, rtol=0)
    assert (logprobs_of(learner.sampler()) - adapted).abs().max() > 1e-2
    learner.save_checkpoint(tmp_path / "saved", {})
    again = Learner(lamps.policy().model, None, OptimOptions(lr=1e-2), warm_start=start)
    again.load_checkpoint(tmp_path / "saved")
    assert torch.equal(logprobs_of(again.model), logprobs_of(learner.model))


def test_other_content_under_the_same_names_is_refused(warm: dict[str, Tensor], tmp_path: Path) -> None:
    start, out = saved_adapter(tmp_path / "start", lamps.policy().model, r=3), tmp_path / "run"
    config = QUICK.model_copy(update={"warm_start": start})
    Trainer(pivots(), lamps.started(warm), config, out)
    settings = json.loads((out / "settings.json").read_text())["settings"]
    assert settings["lora"]["rank"] == 3 and settings["lora"]["targets"] == ["down_proj", "q_proj"]
    Trainer(pivots(), lamps.started(warm), config, out)
    with pytest.raises(BadInput, match="policy_fingerprint was"):
        Trainer(pivots(), lamps.policy(seed=9), config, out)
    other = pivots()
    other[-1].trajectory.messages[0].content = "g" if other[-1].trajectory.messages[0].content != "g" else "f"
    with pytest.raises(BadInput, match="pivots was"):
        Trainer(other, lamps.started(warm), config, out)
    saved_adapter(start, lamps.policy(seed=4).model, r=3, lora_alpha=9)
    with pytest.raises(BadInput, match="warm_start_digest was"):
        Trainer(pivots(), lamps.started(warm), config, out)
    (out / "settings.json").unlink()
    (out / "metrics.jsonl").touch()
    with pytest.raises(BadInput, match="not their settings"):
        Trainer(pivots(), lamps.started(warm), config, out)


def test_lora_on_the_last_layers_only(warm: dict[str, Tensor]) -> None:
    learner = Learner(lamps.policy(layers=3).model, LoraOptions(rank=2, layers=1), OptimOptions())
    assert {name.split("layers.")[1][0] for name in weights(learner.model)} == {"2"}
    with pytest.raises(BadInput, match="4 layers of 3"):
        Learner(lamps.policy(layers=3).model, LoraOptions(layers=4), OptimOptions())


def test_warm_up_and_clipping_of_the_gradient(warm: dict[str, Tensor]) -> None:
    learner = Learner(lamps.started(warm).model, None, OptimOptions(lr=1.0, warmup=4, grad_clip=0.5))
    assert [learner.lr_at(n) for n in (1, 2, 4, 9)] == [0.25, 0.5, 1.0, 1.0]
    before = weights(learner.model)
    learner.parameters[0].grad = torch.full_like(learner.parameters[0], float("nan"))
    assert learner.update(1) is None, "a gradient that is no number is left out"
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(learner.model).items())


def test_batches_are_shuffled_epochs(tmp_path: Path) -> None:
    trainer = Trainer(pivots(12, 2), lamps.policy(), QUICK, tmp_path)
    seen = [pivot.trajectory.id for number in range(1, 6) for pivot in trainer.batch(number)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == sorted(p.trajectory.id for p in trainer.pivots)
    assert seen[:10] != seen[10:]


def test_a_fully_trained_model_is_loaded_by_its_folder(warm: dict[str, Tensor], tmp_path: Path) -> None:
    config = TrainConfig(steps=1, batch=2, group=4, max_tokens=4, lora=None, eval_every=0, eval_rollouts=2)
    policy = lamps.started(warm)
    result = train(pivots(), policy, config, tmp_path)
    loaded = load_policy(str(result.weights), device="cpu")
    asked = [Conversation(lamps.trajectories(1)[0].prefix(0))]
    sampling = Sampling(temperature=0.0, max_tokens=4)
    assert loaded.sample(asked, 1, sampling)[0][0].token_ids == policy.sample(asked, 1, sampling)[0][0].token_ids


def test_no_pivots_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="profile and filter first"):
        train([], lamps.policy(), QUICK, tmp_path)
    with pytest.raises(BadInput, match="all held out"):
        train(pivots(2, 2), lamps.policy(), QUICK, tmp_path)


def test_more_steps_go_on_from_the_last(warm: dict[str, Tensor], tmp_path: Path) -> None:
    train(pivots(8, 0), lamps.started(warm), QUICK, tmp_path / "one")
    train(pivots(8, 0), lamps.started(warm), QUICK.model_copy(update={"steps": 4}), tmp_path / "one")
    train(pivots(8, 0), lamps.started(warm), QUICK.model_copy(update={"steps": 4}), tmp_path / "two")
    for name in ("metrics.jsonl", "final/adapter_model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with pytest.raises(BadInput, match="group was 4, now 8"):
        train(pivots(8, 0), lamps.started(warm), QUICK.model_copy(update={"group": 8}), tmp_path / "one")


def test_sft_learns_only_what_the_assistant_said(warm: dict[str, Tensor]) -> None:
    policy = lamps.policy()
    (trajectory,) = lamps.trajectories(1, turns=2)
    (example,), cut = examples_of([trajectory], policy.format)
    kept = [token for token, flag in zip(example.token_ids, example.is_output, strict=True) if flag]
    calls = [policy.format.action_ids(Conversation(trajectory.prefix(t)), trajectory.action(t)) for t in range(2)]
    assert kept == calls[0] + calls[1] and cut == 0
    assert example.is_output[-1], "what comes after the last action is not computed"
    (short,), cut = examples_of([trajectory], policy.format, max_length=len(example.token_ids) - 1)
    assert cut == 1 and short.tokens == len(calls[0]) and short.is_output[-1]
    assert examples_of([trajectory], policy.format, max_length=2) == ([], 1)


def test_sft_packing_changes_no_gradient(tmp_path: Path) -> None:
    found = []
    for size in (0, 10_000):
        policy = lamps.policy()
        config = SftConfig(lora=None, epochs=1, batch=8, pack_tokens=size or 1)
        train_sft(lamps.trajectories(8), policy, config, tmp_path / str(size))
        found.append(next(iter(read_rows(tmp_path / str(size) / "metrics.jsonl"))))
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
    assert found[0]["grad_norm"] == pytest.approx(found[1]["grad_norm"], rel=1e-4)
