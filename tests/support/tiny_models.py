"""Byte-level tokenizers and tiny random models, for every test that needs a model of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pivotgym.harness.policies.embedded import chat_template

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.tool_calls %}{% for c in m.tool_calls %}"
    '<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def call_tokenizer(calls: Sequence[str]) -> PreTrainedTokenizerFast:
    """Bytes, then :data:`ROLES`, then one token for each of these whole tool calls, so that one layer can act."""
    alphabet = {char: index for index, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(role, special=True, normalized=False) for role in ROLES])
    raw.add_tokens([AddedToken(call, special=False, normalized=False) for call in calls])
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>")
    made.chat_template = TEMPLATE
    return made


def call_model(words: PreTrainedTokenizerFast, seed: int = 0, hidden: int = 32, **changes: Any) -> Any:
    """A Llama of one layer over such a tokenizer."""
    settings: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 1,
        "initializer_range": 0.1,
        "eos_token_id": words.eos_token_id,
        "bos_token_id": None,
        "pad_token_id": words.pad_token_id,
    }
    return make_model(seed=seed, **{**settings, **changes})


def make_tokenizer() -> Any:
    """Ids 0-2 are special, 3-258 the bytes, 259-260 Qwen-like markup that is an added but not a special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: index for index, text in enumerate([*SPECIAL, *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(SPECIAL)
    raw.add_tokens(["<tool_response>", "</tool_response>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|im_start|>"
    )
    tokenizer.chat_template = chat_template()
    return tokenizer


MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
}


def make_model(kind: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """Two layers, grouped-query attention, random weights large enough for a peaked next-token distribution."""
    config_class, model_class, extra = MODELS[kind]
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 261,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.15,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return model_class(config_class(**{**settings, **extra, **changes})).eval()


_COMMON: dict[str, Any] = {
    "vocab_size": 261,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_ATTENTION: dict[str, Any] = _COMMON | {
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_ALTERNATING = {"head_dim": 16, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2}
_DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
_NEO = {
    "num_heads": 4,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 32,
    "max_position_embeddings": 512,
}
# Name of the classes, and their settings.
UNUSUAL: dict[str, tuple[str, str, dict[str, Any]]] = {
    # attention that counts places of the row
    "mistral-window": ("MistralForCausalLM", "MistralConfig", _ATTENTION | {"sliding_window": 32}),
    "qwen2-window": (
        "Qwen2ForCausalLM",
        "Qwen2Config",
        _ATTENTION | {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    ),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", _ATTENTION | _ALTERNATING),
    "gpt-oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        _ATTENTION | _ALTERNATING | {"num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "gpt-neo": ("GPTNeoForCausalLM", "GPTNeoConfig", _COMMON | _NEO),
    "llama4": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        _ATTENTION | {"head_dim": 16, "attention_chunk_size": 16, "num_local_experts": 2, "intermediate_size_mlp": 64},
    ),
    "mpt": ("MptForCausalLM", "MptConfig", {"vocab_size": 261, "d_model": 64, "n_layers": 2, "n_heads": 4}),
    # states that run along the row
    "mamba": ("MambaForCausalLM", "MambaConfig", _COMMON),
    "mamba2": (
        "Mamba2ForCausalLM",
        "Mamba2Config",
        _COMMON | {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1, "chunk_size": 8},
    ),
    "lfm2": ("Lfm2ForCausalLM", "Lfm2Config", _ATTENTION | {"layer_types": ["conv", "full_attention"] * 2}),
    "qwen3-next": ("Qwen3NextForCausalLM", "Qwen3NextConfig", _ATTENTION | _DELTA | _EXPERTS | {"head_dim": 16}),
    # no cache that can be used
    "rwkv": ("RwkvForCausalLM", "RwkvConfig", _COMMON | {"num_hidden_layers": 2, "attention_hidden_size": 64}),
    "recurrent-gemma": (
        "RecurrentGemmaForCausalLM",
        "RecurrentGemmaConfig",
        _ATTENTION | {"num_hidden_layers": 3, "attention_window_size": 16, "lru_width": 64},
    ),
}


def make_unusual(kind: str, seed: int = 0, **changes: Any) -> Any:
    """A small random model of an architecture that is not plain attention over everything."""
    model, config, settings = UNUSUAL[kind]
    torch.manual_seed(seed)
    return getattr(transformers, model)(getattr(transformers, config)(**settings | changes)).eval()
