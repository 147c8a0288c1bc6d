"""A stored reference against the policy itself: what is compared, when, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_model
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import Message
from pivotgym.harness.forward import padded_logprobs
from pivotgym.harness.learner import Learner
from pivotgym.harness.options import OptimOptions
from pivotgym.harness.packing import Group, Pack, plan_packs
from pivotgym.harness.policies.base import Completion
from pivotgym.harness.reference import Reference, StoredLogprobs, write_reference

VOCABULARY = 40
LENGTHS = ([3, 6, 2], [5, 1, 4])  # unequal: packs have padding, and it is not to be compared


def draw(count: int, seed: int) -> list[int]:
    return torch.randint(0, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


GROUPS: list[Group] = [
    (draw(12, 100 + n), [draw(length, 10 * n + place) for place, length in enumerate(lengths)])
    for n, lengths in enumerate(LENGTHS)
]


def tiny(seed: int = 0) -> Any:
    return make_model(seed=seed, vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1)


class Counted(Learner):
    """A learner that counts its forward passes."""

    passes = 0

    def logprobs(self, *arguments: Any) -> Any:
        self.passes += 1
        return super().logprobs(*arguments)


def learner() -> Counted:
    return Counted(tiny(), None, OptimOptions(), reference=True)


def packs() -> list[Pack]:
    """One pack for each group."""
    made = plan_packs(GROUPS, 1000, most=1)
    assert [pack.groups for pack in made] == [[group] for group in GROUPS]
    return made


def computed(model: Any, group: Group) -> list[Tensor]:
    """The log-probabilities of each completion."""
    with torch.no_grad():
        rows_NT = padded_logprobs(model, *group).logprobs_NT
    return [row_T[: len(completion)] for row_T, completion in zip(rows_NT, group[1], strict=True)]


def store(path: Path, model: Any, groups: list[Group]) -> StoredLogprobs:
    """What profiling would have stored if this model had sampled these completions."""
    message = Message(role="assistant", content="x")
    write_reference(
        path,
        [
            Completion(message, "x", list(group[0]), list(completion), logprobs_T.tolist(), "stop", None)
            for group in groups
            for completion, logprobs_T in zip(group[1], computed(model, group), strict=True)
        ],
    )
    return StoredLogprobs(path)


@pytest.mark.parametrize("covered", [[0, 1], [1]], ids=["everything", "one_pack"])
def test_a_foreign_file_is_refused_also_where_it_covers_whole_packs(tmp_path: Path, covered: list[int]) -> None:
    """Nothing of what it covers is missing, so nothing would be computed if it were not to be compared."""
    stored = store(tmp_path / "foreign.jsonl", tiny(seed=5), [GROUPS[n] for n in covered])
    with pytest.raises(BadInput, match="stored with another one") as caught:
        Reference(learner(), stored).logprobs(packs())
    assert (caught.value.file, caught.value.field) == (stored.path, "logprobs")


def test_a_file_that_covers_everything_is_compared_once(tmp_path: Path) -> None:
    stored, learns = store(tmp_path / "own.jsonl", tiny(), GROUPS), learner()
    reference = Reference(learns, stored)
    for wanted in (1, 1, 1):  # the first batch costs one pass, the others none
        found = reference.logprobs(packs())
        assert learns.passes == wanted
    for rows_NT, group in zip(found, GROUPS, strict=True):
        for row_T, exact_T in zip(rows_NT, computed(tiny(), group), strict=True):
            torch.testing.assert_close(row_T[: len(exact_T)], exact_T, rtol=1e-5, atol=1e-6)


def test_a_batch_of_which_nothing_is_stored_does_not_count_as_compared(tmp_path: Path) -> None:
    stored, learns = store(tmp_path / "foreign.jsonl", tiny(seed=5), GROUPS[1:]), learner()
    reference, (first, second) = Reference(learns, stored), packs()
    reference.logprobs([first])
    with pytest.raises(BadInput, match="stored with another one"):
        reference.logprobs([second])


def test_what_is_skipped_is_not_compared(tmp_path: Path) -> None:
    """No reference policy is there to compare with: the file is taken as it is, as the documentation says."""
    stored, learns = store(tmp_path / "foreign.jsonl", tiny(seed=5), GROUPS), learner()
    found = Reference(learns, stored, compute=False).logprobs(packs())
    assert learns.passes == 0
    for row_T, exact_T in zip(found[0], computed(tiny(seed=5), GROUPS[0]), strict=True):
        torch.testing.assert_close(row_T[: len(exact_T)], exact_T)
