"""TRL's own trainer around a tiny random Llama, fed recorded messages: the oracle of the tests of losses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tiny_models import make_model
from torch import Tensor

from pivotgym.harness.forward import completion_logprobs

G = 4
MAX_LENGTH = 40
AGGREGATES = {"grpo": "sequence", "bnpo": "token", "dapo": "token", "dr_grpo": "constant"}
REWARDS = [1.0, 0.0, 0.25, 1.0, 0.5, 0.5, 0.5, 0.5]
REWARDS_WITH_GAP = [1.0, None, 0.25, 1.0, None, None, None, 0.5]


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> list[tuple[str, list[str]]]:
    """Two real states of recorded τ²-bench runs, each with G real agent messages as its completions."""
    runs = json.loads((shared_data / "tau2" / "gpt-4.1_airline.json").read_text())["simulations"]
    spoken = [[m for m in run["messages"] if m.get("content")] for run in runs]
    replies = [next(m["content"] for m in run[2:] if m["role"] == "assistant") for run in spoken[: 2 * G]]
    prompts = ["\n".join(m["content"] for m in run[:2]) + "\n" for run in spoken[:2]]
    return [(prompts[0], replies[:G]), (prompts[1], replies[G:])]


@pytest.fixture(scope="module")
def trainer(recorded: list[tuple[str, list[str]]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real GRPOTrainer around a tiny random Llama with LoRA; its rollouts are the recorded messages."""
    from datasets import Dataset
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(0)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    texts = [text for prompt, replies in recorded for text in (prompt, *replies)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=600, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>")
    model = make_model(
        vocab_size=len(tokenizer),
        hidden_size=48,
        num_hidden_layers=3,
        max_position_embeddings=2048,
        initializer_range=0.1,
        eos_token_id=1,
    )
    current = SimpleNamespace(rewards=REWARDS)

    def rollout(prompts: list[str], trainer: Any) -> dict[str, list[list[Any]]]:
        left = {prompt: list(replies) for prompt, replies in recorded}
        prompt_ids = [tokenizer.encode(prompt) for prompt in prompts]
        completion_ids = [[*tokenizer.encode(left[prompt].pop(0))[: MAX_LENGTH - 1], 1] for prompt in prompts]
        noise = torch.Generator().manual_seed(3)
        logprobs = []  # a sampler that computes slightly other probabilities than the trainer
        with torch.no_grad():
            for ids, completion in zip(prompt_ids, completion_ids, strict=True):
                exact_T = completion_logprobs(trainer.model, ids, [completion]).logprobs_NT[0]
                logprobs.append((exact_T + 0.15 * torch.randn(exact_T.shape, generator=noise)).tolist())
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}

    made = GRPOTrainer(
        model=model,
        reward_funcs=lambda prompts, completions, **_: list(current.rewards),
        args=GRPOConfig(
            output_dir=str(tmp_path_factory.mktemp("trl")),
            use_cpu=True,
            bf16=False,
            report_to=[],
            per_device_train_batch_size=2 * G,
            num_generations=G,
            max_completion_length=MAX_LENGTH,
            num_iterations=2,  # makes TRL compute the log-probabilities at sampling time
            beta=0.05,
            gradient_checkpointing=False,
            epsilon_high=0.28,
        ),
        train_dataset=Dataset.from_dict({"prompt": [prompt for prompt, _ in recorded]}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"]),
        rollout_func=rollout,
    )
    made.current = current
    made.rows = [{"prompt": prompt} for prompt, _ in recorded for _ in range(G)]
    perturb(made.model, 0.05, seed=1)  # away from the reference, which is the model without its adapter
    return made


def perturb(model: torch.nn.Module, size: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def trl_loss(trainer: Any, loss_type: str, beta: float, inputs: dict[str, Tensor]) -> Tensor:
    trainer.loss_type, trainer.beta = loss_type, beta
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    loss: Tensor = trainer._compute_loss(trainer.model, inputs)
    return loss


@pytest.fixture
def batch(trainer: Any) -> dict[str, Tensor]:
    """The real batch as TRL prepares it: rewards scored, advantages, old and reference log-probabilities."""
    trainer.current.rewards, trainer.beta, trainer.scale_rewards = REWARDS, 0.05, "group"
    trainer.model.train()
    prepared: dict[str, Tensor] = trainer._generate_and_score_completions(trainer.rows)
    return prepared


def our_logprobs(trainer: Any, batch: dict[str, Tensor]) -> Tensor:
    """Our packed forward over the real batch, one prompt at a time."""
    rows = []
    for start in range(0, 2 * G, G):
        prompt = batch["prompt_ids"][start][batch["prompt_mask"][start].bool()].tolist()
        completions = [
            ids[mask.bool()].tolist()
            for ids, mask in zip(
                batch["completion_ids"][start : start + G], batch["completion_mask"][start : start + G], strict=True
            )
        ]
        part_GT = completion_logprobs(trainer.model, prompt, completions).logprobs_NT
        missing = batch["completion_ids"].shape[1] - part_GT.shape[1]
        rows.append(torch.nn.functional.pad(part_GT, (0, missing)))
    return torch.cat(rows)
