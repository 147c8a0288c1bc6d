"""A small real tool domain and a tiny random Llama that can learn it, for the tests of the loop.

One token of the tokenizer spells one whole call (``press`` with one key), so that a model of one layer can act. The
user names a key, the right action presses it. Nothing here is faked: the environment, the verifier, the sampler and
the trainer are the project's own.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import torch
from lamps_domain import DOMAIN, KEYS, Lamps, Panel, press, task
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.harness.options import OptimOptions
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.sft import SftConfig, train_sft

# Worker processes import this module too, and pytest's paths are not theirs.
sys.path.append(str(Path(__file__).parents[1] / "support"))
from tiny_models import call_model, call_tokenizer

__all__ = [
    "DOMAIN",
    "KEYS",
    "Lamps",
    "Panel",
    "loaded",
    "policy",
    "press",
    "supervised",
    "task",
    "tokenizer",
    "trajectories",
    "whole_episodes",
]


def trajectories(count: int, turns: int = 2, seed: int = 0) -> list[Trajectory]:
    """Recordings of a user who names keys and an expert who presses them."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        keys = [rng.choice(KEYS) for _ in range(turns)]
        messages = []
        for key in keys:
            messages += [
                Message(role="user", content=key),
                Message(role="assistant", tool_calls=[ToolCall(name="press", arguments={"key": key})]),
                Message(role="tool", content="ok"),
            ]
        made.append(Trajectory(id=f"lamp-{seed}-{number:03d}", task=task(keys[0]), messages=messages))
    return made


def tokenizer() -> PreTrainedTokenizerFast:
    """One token spells one whole call."""
    calls = [f'<tool_call>{{"name": "press", "arguments": {{"key": "{key}"}}}}</tool_call>' for key in KEYS]
    return call_tokenizer(calls)


def policy(seed: int = 0, layers: int = 1, hidden: int = 32, **options: Any) -> TransformersPolicy:
    """A tiny random Llama."""
    words = tokenizer()
    model = call_model(words, seed, hidden, num_hidden_layers=layers)
    return TransformersPolicy(model, words, name=f"tiny-{seed}", **options)


def whole_episodes(count: int = 60, seed: int = 1) -> list[Trajectory]:
    """Recordings that press the key once and then say so, which ends the episode."""
    said = Message(role="assistant", content="o")
    recorded = trajectories(count, turns=1, seed=seed)
    return [item.model_copy(update={"messages": [*item.messages, said]}) for item in recorded]


def supervised(folder: Path, epochs: float = 6) -> Path:
    """Weights in ``folder`` of a policy that plays whole episodes and is sometimes right."""
    config = SftConfig(lora=None, epochs=epochs, batch=8, optim=OptimOptions(lr=3e-3))
    return train_sft(whole_episodes(), policy(), config, folder).weights


def loaded(weights: Path) -> TransformersPolicy:
    """The policy with saved weights."""
    made = policy()
    made.model.load_state_dict(LlamaForCausalLM.from_pretrained(weights).state_dict())
    return made


def warm_weights(folder: Path, epochs: float) -> dict[str, Tensor]:
    """Weights after a few supervised steps on single turns: the policy presses keys, often the wrong ones."""
    torch.set_num_threads(1)
    made = policy()
    config = SftConfig(lora=None, epochs=epochs, batch=8, optim=OptimOptions(lr=3e-3))
    result = train_sft(trajectories(40, seed=1), made, config, folder)
    assert result.first_loss is not None and result.last_loss is not None and result.last_loss < result.first_loss
    return {name: tensor.clone() for name, tensor in made.model.state_dict().items()}


def started(weights: dict[str, Tensor]) -> TransformersPolicy:
    """A policy of its own with those weights."""
    made = policy()
    made.model.load_state_dict(weights)
    return made
