"""The packed forward pass against the model's own, values and gradients."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from tiny_models import make_model
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from pivotgym.envs.errors import BadInput
from pivotgym.harness import forward
from pivotgym.harness.attention import tree_mask
from pivotgym.harness.forward import (
    Logprobs,
    PrefixTree,
    completion_logprobs,
    group_logprobs,
    padded_logprobs,
    supports_shared_prompt,
    tree_logprobs,
    why_not_shared,
)
from pivotgym.harness.learner import Learner
from pivotgym.harness.options import OptimOptions

VOCABULARY = 101
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,  # far from uniform outputs, so that a wrong mask shows
}
MODELS: dict[str, dict[str, Any]] = {"llama": {"tie_word_embeddings": True}, "qwen2": {}, "qwen3": {"head_dim": 8}}
PROMPT = [7, 3, 99, 14, 15, 9, 2, 6]
COMPLETIONS = [[5, 35, 8], [5, 35, 9, 79, 3], [23], [5, 35, 8], [5], [84, 62, 6, 4, 3, 38, 3]]


def make(name: str, lora: bool = False, layers: list[int] | None = None) -> nn.Module:
    model: nn.Module = make_model(name, **SIZES, **MODELS[name])
    if not lora:
        return model
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, layers_to_transform=layers)
    peft = get_peft_model(model, config)
    for parameter_name, parameter in peft.named_parameters():
        if "lora_B" in parameter_name:  # zero at start: adapters would not matter and lora_A would get no gradient
            nn.init.normal_(parameter, std=0.1)
    return peft


def gradients(model: nn.Module, output: Logprobs) -> dict[str, torch.Tensor]:
    weights_NT = torch.randn(output.logprobs_NT.shape, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    (output.logprobs_NT * weights_NT).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model: nn.Module, shared: Logprobs, plain: Logprobs) -> None:
    assert torch.equal(shared.mask_NT, plain.mask_NT)
    torch.testing.assert_close(shared.logprobs_NT, plain.logprobs_NT, rtol=1e-5, atol=1e-5)
    got, wanted = gradients(model, shared), gradients(model, plain)
    assert got.keys() == wanted.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name in wanted:
        assert wanted[name].norm() > 0, name
        assert (got[name] - wanted[name]).norm() < 1e-5 * wanted[name].norm(), name


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_shared_prompt_equals_padded_batch(name: str, lora: bool) -> None:
    model = make(name, lora)
    shared = completion_logprobs(model, PROMPT, COMPLETIONS, with_entropy=True)
    plain = padded_logprobs(model, PROMPT, COMPLETIONS, with_entropy=True)
    assert shared.entropy_NT is not None and plain.entropy_NT is not None
    torch.testing.assert_close(shared.entropy_NT, plain.entropy_NT, rtol=1e-5, atol=1e-5)
    assert_same(model, shared, plain)


def test_equals_each_row_alone_by_plain_indexing() -> None:
    # The yardstick has its own yardstick: one row at a time, no padding, nothing shared.
    model = make("llama")
    shared = completion_logprobs(model, PROMPT, COMPLETIONS, temperature=0.7)
    for row, completion in enumerate(COMPLETIONS):
        logits_TV = model(input_ids=torch.tensor([PROMPT + completion])).logits[0] / 0.7
        logp_TV = torch.log_softmax(logits_TV, -1)
        for place, token in enumerate(completion):
            assert shared.logprobs_NT[row, place].item() == pytest.approx(
                logp_TV[len(PROMPT) + place - 1, token].item(), rel=1e-5
            )
        assert shared.mask_NT[row].tolist() == [place < len(completion) for place in range(7)]
        assert not shared.logprobs_NT[row, len(completion) :].any()


def test_one_completion() -> None:
    model = make("llama")
    assert_same(model, completion_logprobs(model, PROMPT, [[4, 4, 8]]), padded_logprobs(model, PROMPT, [[4, 4, 8]]))


def test_eager_attention() -> None:
    model = make("llama")
    model.set_attn_implementation("eager")
    assert_same(model, completion_logprobs(model, PROMPT, COMPLETIONS), padded_logprobs(model, PROMPT, COMPLETIONS))


def test_several_prompts_with_a_common_start() -> None:
    model = make("qwen3", lora=True)
    other = [*PROMPT[:5], 77, 78]
    groups = [(PROMPT, COMPLETIONS), (other, COMPLETIONS), (PROMPT, [[1, 2]])]
    shared = group_logprobs(model, groups)
    plain = [padded_logprobs(model, prompt, completions) for prompt, completions in groups]
    pads = [7 - part.logprobs_NT.shape[1] for part in plain]
    joined = Logprobs(
        torch.cat([nn.functional.pad(p.logprobs_NT, (0, n)) for p, n in zip(plain, pads, strict=True)]),
        torch.cat([nn.functional.pad(p.mask_NT, (0, n)) for p, n in zip(plain, pads, strict=True)]),
        None,
    )
    assert_same(model, shared, joined)


def test_gradient_checkpointing_and_head_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    plain = padded_logprobs(model, PROMPT, COMPLETIONS)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    monkeypatch.setattr(forward, "HEAD_BYTES", 4 * VOCABULARY * 3)
    assert_same(model, completion_logprobs(model, PROMPT, COMPLETIONS), plain)


def test_frozen_lower_layers_get_no_graph() -> None:
    model = make("llama", lora=True, layers=[2])
    seen: dict[int, bool] = {}
    layers = model.get_base_model().model.layers
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda _m, _i, out, n=number: seen.__setitem__(n, out.requires_grad))
    completion_logprobs(model, PROMPT, COMPLETIONS)
    assert seen == {0: False, 1: False, 2: True}


def test_head_runs_on_distinct_action_positions_only() -> None:
    model = make("llama")
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda _m, inputs, _o: rows.append(inputs[0].shape[0]))
    tokens: list[int] = []
    model.model.embed_tokens.register_forward_hook(lambda _m, inputs, _o: tokens.append(inputs[0].numel()))
    completion_logprobs(model, PROMPT, COMPLETIONS)
    # distinct prefixes: 5, 5 35, 5 35 8 | 9, 79, 3 | 23 | 84 62 6 4 3 38 3
    assert rows == [14]
    assert tokens == [len(PROMPT) + 14]


def test_conversation_with_several_assistant_turns() -> None:
    model = make("qwen2")
    token_ids = [*PROMPT, 20, 21, 22, 30, 31, 40, 41]
    mask = [False] * 8 + [True, True, True, False, False, True, True]
    got_A = tree_logprobs(model, [token_ids], [mask]).logprobs_NT[0]
    logp = torch.log_softmax(model(input_ids=torch.tensor([token_ids])).logits[0], -1)
    places = [place for place, scored in enumerate(mask) if scored]
    wanted_A = torch.stack([logp[place - 1, token_ids[place]] for place in places])
    torch.testing.assert_close(got_A, wanted_A, rtol=1e-5, atol=1e-5)
    both = tree_logprobs(model, [token_ids, token_ids[:11]], [mask, mask[:11]])
    torch.testing.assert_close(both.logprobs_NT[0], wanted_A, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both.logprobs_NT[1, :3], wanted_A[:3], rtol=1e-5, atol=1e-5)
    assert both.mask_NT.tolist() == [[True] * 5, [True] * 3 + [False] * 2]


def test_tree_against_brute_force() -> None:
    rng = random.Random(0)
    for _ in range(50):
        sequences = [[rng.randrange(3) for _ in range(rng.randint(1, 6))] for _ in range(rng.randint(1, 8))]
        tree = PrefixTree.build(sequences)
        prefixes = {tuple(s[: n + 1]) for s in sequences for n in range(len(s))}
        assert len(tree.token_ids) == len(prefixes)
        spelled: dict[int, tuple[int, ...]] = {}
        for sequence, path in zip(sequences, tree.paths, strict=True):
            assert [tree.token_ids[node] for node in path] == sequence
            assert [tree.depths[node] for node in path] == list(range(len(sequence)))
            spelled.update({node: tuple(sequence[: n + 1]) for n, node in enumerate(path)})
        sees = tree_mask(tree, torch.device("cpu"))[0, 0]
        for i, a in spelled.items():
            for j, b in spelled.items():
                assert bool(sees[i, j]) == (a[: len(b)] == b)


@pytest.mark.parametrize("name", MODELS)
def test_support_is_found(name: str) -> None:
    model = make(name, lora=True).train()
    assert supports_shared_prompt(model)
    assert model.training
    assert supports_shared_prompt(make(name).to(torch.bfloat16))


@pytest.mark.parametrize("name", ["mamba", "softcap", "window"])
def test_unsupported_models_are_found(name: str) -> None:
    torch.manual_seed(0)
    if name == "mamba":  # state runs along the packed row through other branches
        sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
        model: nn.Module = MambaForCausalLM(MambaConfig(**sizes))
    elif name == "softcap":  # the logits are changed after the head
        model = Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=0.5))
    else:
        model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4))
    reason = why_not_shared(model)
    assert reason is not None and not supports_shared_prompt(model)
    wanted = {"mamba": "RuntimeError", "softcap": "differ by", "window": "window of 4"}[name]
    assert wanted in reason
    with pytest.warns(UserWarning, match=f"padded batches.*{wanted}"):
        Learner(model, None, OptimOptions()).logprobs([(PROMPT, COMPLETIONS)])
    assert padded_logprobs(model, PROMPT, COMPLETIONS).logprobs_NT.isfinite().all()


def test_only_what_the_model_cannot_do_makes_batches_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model raises is a reason; a bug of ours and a lack of memory are none."""
    model: Any = make("llama")
    forward = model.model.forward

    def refuse(*arguments: Any, **named: Any) -> Any:
        if named["attention_mask"] is not None and named["attention_mask"].dim() == 4:
            raise problem
        return forward(*arguments, **named)

    monkeypatch.setattr(model.model, "forward", refuse)
    # Raised here, outside the package, as a model would.
    problem: Exception = NotImplementedError("masks of two dimensions only")
    assert why_not_shared(model) == "NotImplementedError: masks of two dimensions only"
    problem = torch.OutOfMemoryError("full")
    with pytest.raises(torch.OutOfMemoryError):
        why_not_shared(model)
    monkeypatch.undo()
    monkeypatch.setattr("pivotgym.harness.attention._use_packed", lambda lm: None)
    monkeypatch.setattr("pivotgym.harness.attention.tree_mask", lambda tree, device: None)
    monkeypatch.setattr("pivotgym.harness.attention.rows_of", lambda tree, device: None)
    with pytest.raises(AttributeError):
        why_not_shared(model, "blocks")


def test_bad_input() -> None:
    model = make("llama")
    with pytest.raises(BadInput, match=r"masks\.1.*no action token"):
        completion_logprobs(model, PROMPT, [[1], []])
    with pytest.raises(BadInput, match=r"masks\.1.*no action token"):
        padded_logprobs(model, PROMPT, [[1], []])
    with pytest.raises(BadInput, match="nothing before it"):
        completion_logprobs(model, [], [[1, 2]])
    with pytest.raises(BadInput, match="no sequence"):
        completion_logprobs(model, PROMPT, [])
    with pytest.raises(BadInput, match="temperature"):
        completion_logprobs(model, PROMPT, [[1]], temperature=0.0)
    with pytest.raises(BadInput, match="attention window of 4"):
        completion_logprobs(MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4)), PROMPT, [[1]])
    tuned = get_peft_model(model, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=2))
    with pytest.raises(BadInput, match="LoRA"):
        completion_logprobs(tuned, PROMPT, [[1]])
