"""Which attention a packed row gets: flex attention against dense, the checks that choose the padded batch."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import make_model, make_tokenizer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from pivotgym.envs.tools.servicedesk import bundled_trajectories
from pivotgym.harness import attention
from pivotgym.harness.attention import (
    PACKED,
    attention_weight,
    block_mask,
    choose_kernel,
    positions_depend_on_length,
    rows_of,
    tree_mask,
    window_of,
)
from pivotgym.harness.forward import (
    completion_logprobs,
    group_logprobs,
    padded_logprobs,
    supports_shared_prompt,
    why_not_packed,
)
from pivotgym.harness.learner import Learner
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.packing import Group, Pack, PrefixTree, plan_packs
from pivotgym.harness.policies.embedded import embedded_model

VOCABULARY = 97
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
}


def draw(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (count,), generator=generator).tolist()


def groups_of(prompt: int = 150, count: int = 4, length: int = 20, pivots: int = 2) -> list[Group]:
    return [(draw(prompt, seed), [draw(length - n, 10 * seed + n) for n in range(count)]) for seed in range(pivots)]


def llama(**options: Any) -> Any:
    return make_model(**{**SIZES, **options})


def test_the_block_mask_is_the_tree_mask() -> None:
    groups = groups_of()
    tree = PrefixTree.build([[*prompt, *completion] for prompt, completions in groups for completion in completions])
    dense_UU = tree_mask(tree, torch.device("cpu"))[0, 0]
    blocks = block_mask(tree, torch.device("cpu"))
    count, whole = len(tree.token_ids), blocks.shape[-1]
    assert whole % 128 == 0 and 0 <= whole - count < 128
    row_Q, key_K = torch.arange(whole)[:, None], torch.arange(whole)[None]
    sees_QK = blocks.mask_mod(torch.tensor(0), torch.tensor(0), row_Q, key_K)
    assert torch.equal(sees_QK[:count, :count], dense_UU)
    assert not sees_QK[:count, count:].any() and torch.equal(sees_QK[count:, count:], torch.eye(whole - count).bool())
    kept_BB = dense_UU.new_zeros(whole, whole)
    kept_BB[:count, :count] = dense_UU
    wanted = kept_BB.view(whole // 128, 128, whole // 128, 128).any(3).any(1) | torch.eye(whole // 128).bool()
    assert torch.equal(blocks.to_dense()[0, 0].bool(), wanted)
    assert not wanted.tril().all() or whole <= 256, "there are blocks to skip"


def test_blocks_of_rows_are_the_tree_mask() -> None:
    groups = groups_of()
    tree = PrefixTree.build([[*prompt, *completion] for prompt, completions in groups for completion in completions])
    dense_UU = tree_mask(tree, torch.device("cpu"))[0, 0]
    spelled_UU, keys = torch.zeros_like(dense_UU), 0
    for block in rows_of(tree, torch.device("cpu")):
        columns = [key for span in block.spans for key in range(*span)]
        assert len(set(columns)) == len(columns) and block.mask_RK.any(0).all(), "no key that nobody sees"
        for row in range(block.start, block.stop):
            spelled_UU[row, columns] = block.mask_RK[row - block.start]
        keys += len(columns) * (block.stop - block.start)
    assert torch.equal(spelled_UU, dense_UU)
    assert keys < 0.6 * dense_UU.numel(), "less than half of the square and a block is computed"


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("heads", [4, 3], ids=["grouped", "odd"])
def test_blocks_of_rows_give_the_padded_gradient(heads: int, checkpointing: bool) -> None:
    model = llama(num_attention_heads=heads, num_key_value_heads=2 if heads == 4 else 3, hidden_size=48)
    groups = groups_of(pivots=3)
    weights_NT = torch.randn(12, 20, generator=torch.Generator().manual_seed(1))
    padded = [([*range(4 * n, 4 * n + 4)], group) for n, group in enumerate(groups)]
    wanted = gradients(model, weights_NT, lambda group: padded_logprobs(model, *group).logprobs_NT, padded)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
    got = gradients(model, weights_NT, lambda part: group_logprobs(model, part).logprobs_NT, [([*range(12)], groups)])
    assert model.config._attn_implementation == PACKED, "this row is long enough"
    for name in wanted:
        assert (got[name] - wanted[name]).norm() < 1e-5 * wanted[name].norm(), name
    assert PACKED not in json.dumps(model.config.to_dict()), "which function attends is not saved with the model"


@pytest.mark.parametrize("heads", [4, 3], ids=["grouped", "odd"])
def test_flex_attention_gives_what_sdpa_gives(heads: int) -> None:
    """Values only: PyTorch has no backward pass of flex attention on the CPU."""
    model = llama(num_attention_heads=heads, num_key_value_heads=2 if heads == 4 else 3, hidden_size=48)
    groups = groups_of()
    with torch.no_grad():
        dense = group_logprobs(model, groups, kernel="dense").logprobs_NT
        flex = group_logprobs(model, groups, kernel="flex").logprobs_NT
        assert model.config._attn_implementation == PACKED
        torch.testing.assert_close(flex, dense, rtol=1e-4, atol=1e-5)
        assert supports_shared_prompt(model, "flex") and why_not_packed(model, *groups[0], kernel="flex") is None
    # With the function in place everything without a block mask is the model's own: dense rows, padded batches.
    again = group_logprobs(model, groups, kernel="dense").logprobs_NT
    blocks = group_logprobs(model, groups).logprobs_NT
    torch.testing.assert_close(blocks.detach(), dense, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again.detach(), dense, rtol=1e-6, atol=1e-6)
    plain = torch.cat([padded_logprobs(model, *group).logprobs_NT for group in groups])
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-5)
    plain.sum().backward()
    assert model.model.layers[0].self_attn.q_proj.weight.grad.norm() > 0


def test_kernels_are_chosen_by_device_and_size() -> None:
    model = llama()
    long, short, chain = ([[*draw(n, 0), 1], [*draw(n, 0), 2]][:count] for n, count in ((300, 2), (30, 2), (300, 1)))
    for sequences, device, wanted in (
        (long, "cuda", "flex"),
        (long, "cpu", "blocks"),
        (short, "cuda", "dense"),
        (chain, "cuda", "dense"),
    ):
        assert choose_kernel(model, PrefixTree.build(sequences), torch.device(device)) == wanted
    model.set_attn_implementation("eager")
    assert choose_kernel(model, PrefixTree.build(long), torch.device("cuda")) == "dense"
    assert not supports_shared_prompt(model, "flex") and supports_shared_prompt(model)


def test_limits_that_show_only_in_long_inputs() -> None:
    def config(**options: Any) -> Any:
        return SimpleNamespace(**options)

    assert window_of(config()) is None
    assert window_of(config(sliding_window=7)) == 7
    assert window_of(config(sliding_window=7, use_sliding_window=False)) is None
    assert window_of(config(sliding_window=7, layer_types=["full_attention"])) is None
    assert window_of(config(attention_chunk_size=5, sliding_window=7)) == 5
    assert window_of(config(attention_chunk_size=5, layer_types=["chunked_attention", "full_attention"])) == 5
    for kind in ("dynamic", "longrope"):
        assert positions_depend_on_length(config(rope_parameters={"rope_type": kind}))
        assert positions_depend_on_length(config(rope_parameters={"full_attention": {"rope_type": kind}}))
        assert positions_depend_on_length(config(rope_scaling={"type": kind}))
    assert not positions_depend_on_length(config(rope_parameters={"rope_type": "yarn", "factor": 2.0}))
    scaled = llama(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    assert not supports_shared_prompt(scaled)


def test_beyond_the_window_the_batch_is_padded() -> None:
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=40)).eval()
    learner = Learner(model, LoraOptions(rank=2), OptimOptions())
    for prompt, shared in ((20, True), (60, False)):
        group = (draw(prompt, 1), [draw(9, 2), draw(7, 3)])
        assert learner.packs([group], 1000)[0].tokens == (prompt + 16 if shared else 2 * (prompt + 9))
        torch.testing.assert_close(
            learner.logprobs([group]).logprobs_NT, padded_logprobs(model, *group).logprobs_NT, rtol=1e-4, atol=1e-5
        )


class Forgetful(LlamaForCausalLM):
    """Leaves out distant tokens in its own forward without its configuration saying so."""

    reach = 100

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **options: Any) -> Any:
        count = input_ids.shape[1]
        if attention_mask is not None and attention_mask.dim() == 2 and count > self.reach:
            place = torch.arange(count)
            near = (place[:, None] >= place) & (place[:, None] - place < self.reach)
            attention_mask = near[None, None] & attention_mask[:, None, None].bool()
            attention_mask = attention_mask | torch.eye(count).bool()
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **options)


def test_a_model_that_disagrees_on_long_inputs_only_is_found() -> None:
    torch.manual_seed(0)
    model = Forgetful(LlamaConfig(**SIZES)).eval()
    learner = Learner(model, None, OptimOptions())
    short, long = groups_of(prompt=50)[0], groups_of(prompt=200)[0]
    assert supports_shared_prompt(model)
    learner.logprobs([short])
    with pytest.warns(UserWarning, match="padded batches"):
        got = learner.logprobs([long]).logprobs_NT
    torch.testing.assert_close(got, padded_logprobs(model, *long).logprobs_NT)
    assert (got - completion_logprobs(model, *long).logprobs_NT).abs().max() > 1e-2, "packed is wrong here"
    assert learner.packs([short], 1000)[0].tokens == 4 * 70, "and not used again"


def all_rows(packs: list[Pack]) -> list[int]:
    return sorted(row for pack in packs for row in pack.rows)


def test_packs_keep_to_the_budget_and_have_everything_once() -> None:
    common = draw(40, 99)
    groups: list[Group] = [([*common, *draw(10, n)], [draw(3 + n, 7 * n + c) for c in range(5)]) for n in range(6)]
    flat = [(prompt, completion) for prompt, completions in groups for completion in completions]
    for budget in (1, 60, 90, 200, 10_000):
        for shared in (True, False):
            packs = plan_packs(groups, budget, shared=shared)
            assert all_rows(packs) == list(range(30))
            for pack in packs:
                inside = [(prompt, completion) for prompt, completions in pack.groups for completion in completions]
                assert inside == [flat[row] for row in pack.rows]
                rows = [[*prompt, *completion] for prompt, completion in inside]
                if shared:
                    assert len(PrefixTree.build(rows).token_ids) <= pack.tokens
                else:
                    assert len(pack.groups) == 1 and pack.tokens == len(rows) * max(map(len, rows))
                assert pack.tokens <= budget or len(rows) == 1
    whole = plan_packs(groups, 10_000)
    assert len(whole) == 1 and whole[0].tokens == 40 + sum(10 + 5 * (3 + n) for n in range(6)), "one start for all"
    assert [len(pack.groups) for pack in plan_packs(groups, 10_000, most=2)] == [2, 2, 2]


def test_unrelated_groups_stay_apart_under_dense_attention() -> None:
    start = draw(400, 5)
    alike: list[Group] = [([*start, n], [draw(10, n)]) for n in range(3)]
    unlike: list[Group] = [(draw(400, n), [draw(10, n)]) for n in range(3)]
    weight = 1 / 1000  # attention over a thousand positions costs as much as the matrices
    assert [len(plan_packs(groups, 5000, quadratic=weight)) for groups in (alike, unlike)] == [1, 3]
    assert len(plan_packs(unlike, 5000)) == 1, "attention that skips what is masked does not mind"
    # 2 · 4 heads · 16 · 2 layers products a key, beside one a parameter.
    model = llama()
    parameters = sum(p.numel() for name, p in model.model.named_parameters() if "embed" not in name)
    assert attention_weight(model) == pytest.approx(2 * 2 * 4 * 16 / parameters)


def gradients(model: nn.Module, weights_NT: torch.Tensor, logprobs: Any, parts: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for rows, part in parts:
        found_NT = logprobs(part)
        (found_NT * weights_NT[rows, : found_NT.shape[1]]).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_packs_add_up_to_the_padded_gradient() -> None:
    model = llama()
    groups = groups_of(prompt=60, count=5, pivots=3)
    weights_NT = torch.randn(15, 20, generator=torch.Generator().manual_seed(1))
    padded = [([*range(5 * n, 5 * n + 5)], group) for n, group in enumerate(groups)]
    wanted = gradients(model, weights_NT, lambda group: padded_logprobs(model, *group).logprobs_NT, padded)
    for budget in (100, 150, 1000):
        packs = [(pack.rows, pack.groups) for pack in plan_packs(groups, budget)]
        got = gradients(model, weights_NT, lambda part: group_logprobs(model, part).logprobs_NT, packs)
        for name in wanted:
            assert (got[name] - wanted[name]).norm() < 1e-5 * wanted[name].norm(), (budget, name)


@pytest.fixture(scope="module")
def recorded() -> list[Group]:
    """Two pivots of a recorded episode, with the actions taken there and at the same turn of other episodes."""
    tokenizer = make_tokenizer()

    def render(messages: Any, tools: Any, **options: Any) -> str:
        shown = [message.chat() for message in messages]
        return str(tokenizer.apply_chat_template(shown, tools=tools, tokenize=False, **options))

    found: list[Group] = []
    episodes = bundled_trajectories("train")[:3]
    for turn in (0, 1):
        prompts, actions = [], []
        for episode in episodes:
            place = [n for n, message in enumerate(episode.messages) if message.role == "assistant"][turn]
            prompts.append(render(episode.messages[:place], episode.tools, add_generation_prompt=True))
            actions.append(render(episode.messages[: place + 1], episode.tools).removeprefix(prompts[-1]))
        distinct = dict.fromkeys(actions)
        found.append((tokenizer.encode(prompts[0]), [tokenizer.encode(action) for action in distinct]))
    return found


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_recorded_pivots_packed_give_the_padded_gradient(kind: str, lora: bool, recorded: list[Group]) -> None:
    """Each family that is packed, whole prompts and actions of recorded episodes, float32, every parameter."""
    model: Any = make_model(kind, max_position_embeddings=1024)
    if lora:
        model = with_adapter(model, std=0.1)
    count = len(recorded[0][1])
    total = count + len(recorded[1][1])
    lengths = [len(prompt) + len(action) for prompt, actions in recorded for action in actions]
    longest = max(len(action) for _, actions in recorded for action in actions)
    assert (count, total) == (3, 6) and min(lengths) > 500 and max(lengths) < 1024 and longest < 150
    weights_NT = torch.randn(total, longest, generator=torch.Generator().manual_seed(0))
    padded = [([*range(count)], recorded[0]), ([*range(count, total)], recorded[1])]
    wanted = gradients(model, weights_NT, lambda group: padded_logprobs(model, *group).logprobs_NT, padded)
    [pack] = plan_packs(recorded, 4096)
    assert pack.tokens < sum(lengths) / 3, "both pivots are in one row, what they have in common once"
    packed = [(pack.rows, pack.groups)]
    got = gradients(model, weights_NT, lambda part: group_logprobs(model, part).logprobs_NT, packed)
    assert model.config._attn_implementation == PACKED, "this row is long enough"
    assert got.keys() == wanted.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name in wanted:
        assert wanted[name].norm() > 0, name
        assert (got[name] - wanted[name]).norm() < 1e-5 * wanted[name].norm(), name


def with_adapter(model: nn.Module, std: float) -> nn.Module:
    """All matrices of all layers adapted; B is drawn, as with zeros A would get no gradient."""
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted: nn.Module = get_peft_model(model, LoraConfig(r=4, target_modules=targets))  # type: ignore[arg-type]
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=std)
    return adapted


@pytest.fixture(scope="module")
def smollm() -> Path:
    return embedded_model()


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_smollm2_on_a_real_batch(smollm: Path, shared_data: Path, lora: bool) -> None:
    """SmolLM2-135M, prompts and agents' messages of recorded τ²-bench runs, all layers, float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(smollm)
    model: Any = AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32).eval()
    if lora:
        model = with_adapter(model, std=0.02)
    runs = json.loads((shared_data / "tau2" / "gpt-4.1_airline.json").read_text())["simulations"]
    spoken = [[m for m in run["messages"] if m.get("content")] for run in runs]
    replies = [next(m["content"] for m in run[2:] if m["role"] == "assistant") for run in spoken[:8]]
    prompts = ["\n".join(m["content"] for m in run[:3]) + "\n" for run in spoken[:2]]
    groups = [
        (tokenizer.encode(prompt)[:120], [tokenizer.encode(reply)[:24] for reply in replies[4 * n : 4 * n + 4]])
        for n, prompt in enumerate(prompts)
    ]
    generator = torch.Generator().manual_seed(0)
    weights_NT = torch.randn(8, 24, generator=generator)
    padded = [([*range(4 * n, 4 * n + 4)], group) for n, group in enumerate(groups)]
    wanted = gradients(model, weights_NT, lambda group: padded_logprobs(model, *group).logprobs_NT, padded)
    packs = [(pack.rows, pack.groups) for pack in plan_packs(groups, 4096)]
    assert len(packs) == 1 and packs[0][1][0][0] != packs[0][1][1][0]
    got = gradients(model, weights_NT, lambda part: group_logprobs(model, part).logprobs_NT, packs)
    assert got.keys() == wanted.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    flat = [torch.cat([found[name].flatten() for name in wanted]) for found in (got, wanted)]
    assert flat[1].norm() > 0 and (flat[0] - flat[1]).norm() < 1e-5 * flat[1].norm()
    assert attention.attention_weight(model.get_base_model() if lora else model) < 1 / 1000
