"""Which rows are compared before they are used, and models that take places of the row for those of the sequence."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from tiny_models import make_model, make_tokenizer, make_unusual

from pivotgym.harness import ways
from pivotgym.harness.forgetting.likelihood import Likelihood
from pivotgym.harness.forward import _filling, group_logprobs, padded_logprobs, why_not_packed, why_not_shared
from pivotgym.harness.learner import Learner
from pivotgym.harness.options import OptimOptions
from pivotgym.harness.packing import Group, PrefixTree, positions_of
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.sft import Example, _accumulate
from pivotgym.harness.ways import Ways

WINDOW = 256


def draw(count: int, seed: int) -> list[int]:
    return torch.randint(0, 261, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def group(prompt: int, count: int, length: int, seed: int = 1, start: int = 0) -> Group:
    common = draw(start, 99)
    return common + draw(prompt - start, seed), [draw(length, 100 * seed + n) for n in range(count)]


def neo(dtype: torch.dtype = torch.float32) -> Any:
    """Half of its layers see 256 places of the row back, wherever the sequence's tokens are."""
    return make_unusual("gpt-neo", window_size=WINDOW, max_position_embeddings=1024).to(dtype)


def padded(model: Any, groups: list[Group]) -> torch.Tensor:
    return torch.cat([padded_logprobs(model, *one).logprobs_NT for one in groups]).detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_windows_over_places_of_the_row_are_found(dtype: torch.dtype) -> None:
    model = neo(dtype)
    one = group(100, 8, 64)
    assert positions_of([one]) == 612 and why_not_shared(model) is None
    # The two completions that are compared are near their prompt, so the row has to have the size of the real one.
    pair = one[1][:2]
    assert why_not_packed(model, one[0], pair, "dense") is None
    assert "in a row of 612" in str(why_not_packed(model, one[0], pair, "dense", positions=612))
    with pytest.warns(UserWarning, match="padded batches.* in a row of 765"):
        found = Learner(model, None, OptimOptions()).logprobs([one]).logprobs_NT.detach()
    wanted = padded(model, [one])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    packed = group_logprobs(model, [one], kernel="dense").logprobs_NT
    assert (packed - wanted).abs().max() > 1, "packed is wrong here"


def test_also_where_only_several_groups_make_the_row_long() -> None:
    model = neo()
    learner = Learner(model, None, OptimOptions())
    groups = [group(80, 2, 30, seed, start=60) for seed in range(1, 6)]
    assert positions_of(groups) == 60 + 5 * 80
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="attention also computes what is masked")
        short = learner.packs(groups, 150)
        assert [len(pack.groups) for pack in short] == [1] * 5 and learner.shares_prompts(groups, 150)
        for pack in short:
            found = learner.logprobs(pack.groups).logprobs_NT.detach()
            torch.testing.assert_close(found, padded(model, pack.groups), rtol=1e-4, atol=1e-4)
    with pytest.warns(UserWarning, match="padded batches"):
        packs = learner.packs(groups, 4096)
    assert [pack.tokens for pack in packs] == [2 * 110] * 5, "planned anew, as batches"
    assert not learner.shares_prompts(groups)
    torch.testing.assert_close(learner.logprobs(groups).logprobs_NT.detach(), padded(model, groups))
    assert (group_logprobs(model, groups, kernel="dense").logprobs_NT - padded(model, groups)).abs().max() > 1


@pytest.mark.parametrize("calls", ["logprobs", "way", "shares_prompts"])
def test_whoever_asks_gets_a_row_of_the_size_compared(calls: str) -> None:
    learner = Learner(neo(), None, OptimOptions())
    groups = [group(80, 2, 30, seed, start=60) for seed in range(1, 6)]
    with pytest.warns(UserWarning, match="padded batches.* in a row of 575"):
        getattr(learner, calls)(groups)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_no_reason_against_long_rows(dtype: torch.dtype, kind: str) -> None:
    for prompt, length, rows in ((30, 16, 120), (100, 64, 612), (40, 3, 900), (90, 1, 200)):
        model = make_model(kind, num_hidden_layers=6, max_position_embeddings=1024).to(dtype)
        tokens, completions = group(prompt, 2, length)
        assert why_not_packed(model, tokens, completions, positions=rows) is None


def test_rows_are_compared_once_for_each_larger_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def watched(*given: Any, positions: int) -> str | None:
        asked.append(positions)
        return why_not_packed(*given, positions=positions)

    monkeypatch.setattr(ways, "why_not_packed", watched)
    learner = Learner(make_model(), None, OptimOptions())
    for count in (4, 4, 3, 5, 4, 1):  # rows of 120, 120, 110, 130, 120 and 90 positions
        groups = [group(80, count, 10)]
        packs = learner.packs(groups, 1000)
        learner.logprobs(packs[0].groups)
    assert asked == [150]
    for seed in (1, 2):
        learner.logprobs([group(80, 12, 10, seed)])
    assert asked == [150, 250]
    learner.logprobs([group(80, 2, 10), group(80, 2, 10, 2)])
    assert asked == [150, 250]
    learner.logprobs([group(180, 1, 10)])
    assert learner.shares_prompts([group(80, 12, 10)], 210) and learner.shares_prompts([group(80, 4, 10)], 900)
    assert asked == [150, 250, 250], "twice as long as any compared, in the longest row known"


@pytest.mark.parametrize("length", [1, 3, 20])
@pytest.mark.parametrize("first", [0, 1, 2, 50])
def test_the_filled_row_ends_with_the_completions(first: int, length: int) -> None:
    prompt, completions = draw(10, 0), [[first, *draw(length - 1, 1)], [60, *draw(length - 1, 2)]]
    for positions in (0, 31, 32, 100, 257):
        filling = _filling(prompt, completions, positions)
        rows = [*filling, *([*prompt, *completion] for completion in completions)]
        tree = PrefixTree.build(rows, in_order=True)
        assert len(tree.token_ids) == max(positions, 10 + 2 * length)
        assert max(tree.depths) < 10 + length, "no sequence is longer than those that are there"
        assert [path[:10] for path in tree.paths] == [list(range(10))] * len(rows)
        assert tree.paths[-1][-1] == len(tree.token_ids) - 1 and tree.paths[-2][-1] == tree.paths[-1][-1] - length


def test_trees_in_the_given_order_are_right_for_every_sequence() -> None:
    rng = random.Random(0)
    for _ in range(50):
        sequences = [[rng.randrange(3) for _ in range(rng.randint(1, 6))] for _ in range(rng.randint(1, 8))]
        tree = PrefixTree.build(sequences, in_order=True)
        for sequence, path in zip(sequences, tree.paths, strict=True):
            assert [tree.token_ids[node] for node in path] == sequence
            assert [tree.depths[node] for node in path] == list(range(len(sequence)))
            for node in range(len(tree.token_ids)):
                seen = [at for at in range(node + 1) if at <= node <= tree.last[at]]
                assert node != path[-1] or seen == path
        ends = [path[-1] for path in tree.paths]
        assert positions_of([([], sequences)]) <= len(tree.token_ids) == max(ends) + 1


def test_supervised_rows_become_padded_batches_too() -> None:
    model = neo()
    learner = Learner(model, None, OptimOptions())
    batch = []
    for seed in (1, 2, 3):
        ids = draw(110, seed)
        batch.append(Example(ids, [place >= 90 for place in range(110)]))
    with pytest.warns(UserWarning, match="padded batches.* in a row of 412"):
        loss = _accumulate(learner, batch, 1000)
    wanted = padded(model, [(item.token_ids[:90], [item.token_ids[90:]]) for item in batch])
    assert loss == pytest.approx(float(-wanted.sum()) / 60, rel=1e-5)


def test_likelihoods_of_given_text_are_those_of_each_text_alone() -> None:
    policy = TransformersPolicy(neo(), make_tokenizer(), name="neo")
    context = "".join(chr(97 + token % 26) for token in draw(100, 1))
    texts = [" " + "".join(chr(97 + token % 26) for token in draw(63, seed)) for seed in range(2, 10)]
    with pytest.warns(UserWarning, match="padded batches"):
        found = Likelihood(policy).options(context, texts)
    for text, value in zip(texts, found, strict=True):
        ids = policy.tokenizer.encode(context + text, add_special_tokens=False)
        start = len(policy.tokenizer.encode(context, add_special_tokens=False))
        assert value == pytest.approx(float(padded(policy.model, [(ids[:start], [ids[start:]])]).sum()), abs=1e-2)


def test_models_are_known_apart() -> None:
    known, one, windowed = Ways(), group(100, 8, 64), neo()
    with pytest.warns(UserWarning, match="padded batches"):
        assert not known.of(windowed, [one]).shared
    assert known.of(make_model(max_position_embeddings=1024), [one]).shared
