"""A small real tool domain and a tiny random Llama that can learn it, for the tests of the loop.

One token of the tokenizer spells one whole call (``press`` with one key), so that a model of one layer can act. The
user names a key, the right action presses it. Nothing here is faked: the environment, the verifier, the sampler and
the trainer are the project's own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pivotgym.envs.tools.domain import register_domain
from pivotgym.envs.tools.functions import FunctionDomain, ToolError
from pivotgym.envs.trajectory import Message, Task, ToolCall, Trajectory
from pivotgym.harness.policies.transformers_policy import TransformersPolicy

KEYS = "abcdefgh"
DOMAIN = "lamps"
ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.tool_calls %}{% for c in m.tool_calls %}"
    '<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class Panel(BaseModel):
    """Which lamp is lit, and how many presses there were."""

    lit: str = ""
    presses: int = 0


def press(panel: Panel, key: str) -> str:
    """Press a key.

    Args:
        key: one letter.
    """
    if key not in KEYS:
        raise ToolError(f"no key {key}")
    panel.lit = key
    panel.presses += 1
    return "ok"


class Lamps(FunctionDomain):
    """Press the key the user names."""

    name = DOMAIN
    functions = (press,)

    def tasks(self) -> Sequence[Task]:
        return [task(key) for key in KEYS]

    def initial(self, task: Task) -> Panel:
        return Panel()

    def first_message(self, task: Task) -> str:
        return str(task.data["key"])

    def reference(self, task: Task) -> Sequence[ToolCall]:
        return [ToolCall(name="press", arguments={"key": task.data["key"]})]


register_domain(DOMAIN, Lamps)


def task(key: str) -> Task:
    return Task(env="pivotgym/Tools-v0", id=f"press-{key}", data={"domain": DOMAIN, "key": key})


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
    alphabet = {char: index for index, char in enumerate(sorted(ByteLevel.alphabet()))}
    raw = Tokenizer(BPE(vocab=alphabet, merges=[]))
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False)
    raw.decoder = ByteLevelDecoder()
    raw.add_special_tokens([AddedToken(role, special=True, normalized=False) for role in ROLES])
    calls = [f'<tool_call>{{"name": "press", "arguments": {{"key": "{key}"}}}}</tool_call>' for key in KEYS]
    raw.add_tokens([AddedToken(call, special=False, normalized=False) for call in calls])
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>")
    made.chat_template = TEMPLATE
    return made


def policy(seed: int = 0, layers: int = 1, hidden: int = 32, **options: Any) -> TransformersPolicy:
    """A tiny random Llama."""
    words = tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        eos_token_id=words.eos_token_id,
        bos_token_id=None,
        pad_token_id=words.pad_token_id,
    )
    return TransformersPolicy(LlamaForCausalLM(config), words, name=f"tiny-{seed}", **options)
