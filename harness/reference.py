"""Log-probabilities of a frozen policy's samples, kept on disk as a reference for the KL.

Profiling samples from the very policy that the KL refers to, and a sharp policy repeats itself: what was profiled at a
pivot covers much of what is sampled there later. Each token's log-probability given what stands before it is kept in a
prefix tree, so a completion is known as far as it agrees with any profiled one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import RowAppender, read_rows
from pivotgym.envs.trajectory import JsonObject, canonical_json, digest
from pivotgym.harness.learner import Learner
from pivotgym.harness.packing import Pack
from pivotgym.harness.policies.base import Completion
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.runs import policy_fingerprint
from pivotgym.harness.update_config import UpdateConfig

Tree = dict[int, tuple[float, "Tree"]]
_GAP = 0.1
"""Mean difference in nats between stored and computed log-probabilities beyond which they are of two policies."""


def reference_rows(completions: Iterable[Completion]) -> list[JsonObject]:
    """Rows of a file of stored log-probabilities: prompt (a digest of its ids), token ids, log-probabilities.

    Equal completions of one prompt become one row; those without ids or log-probabilities (of endpoints that give
    none) are left out.
    """
    found: dict[tuple[str, tuple[int, ...]], JsonObject] = {}
    for item in completions:
        if item.prompt_ids and item.token_ids and len(item.logprobs) == len(item.token_ids):
            prompt = prompt_digest(item.prompt_ids)
            row = {"prompt": prompt, "token_ids": item.token_ids, "logprobs": item.logprobs}
            found.setdefault((prompt, tuple(item.token_ids)), row)
    return list(found.values())


def write_reference(path: Path, completions: Iterable[Completion], **labels: Any) -> int:
    """Appends :func:`reference_rows` to ``path``, each with these fields too; returns how many."""
    rows = reference_rows(completions)
    with RowAppender(path, fsync=True) as appender:
        for row in rows:
            appender.append({**labels, **row})
    return len(rows)


def prompt_digest(prompt_ids: Sequence[int]) -> str:
    """The name of a prompt in a file of stored log-probabilities."""
    return digest(canonical_json(list(prompt_ids)))


class StoredLogprobs:
    """Stored log-probabilities, natural logarithms at temperature 1, looked up by prompt and tokens.

    Args:
        path: a file of :func:`reference_rows`.

    Attributes:
        digest: of the file's bytes.

    Raises:
        BadInput: a row that is not one, with its line.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise BadInput("no such file of stored log-probabilities", file=self.path)
        self.digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:32]
        self._trees: dict[str, Tree] = {}
        for number, row in enumerate(read_rows(self.path), start=1):
            self._add(row, number)

    def _add(self, row: Any, number: int) -> None:
        try:
            prompt, ids, logprobs = str(row["prompt"]), list(row["token_ids"]), [float(x) for x in row["logprobs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"no row of stored log-probabilities ({error!r})", file=self.path, line=number) from error
        if len(ids) != len(logprobs) or not all(isinstance(token, int) for token in ids):
            raise BadInput("token_ids and logprobs do not fit", file=self.path, line=number, field="logprobs")
        node = self._trees.setdefault(prompt, {})
        for token, logprob in zip(ids, logprobs, strict=True):
            node = node.setdefault(token, (logprob, {}))[1]

    def lookup(self, prompt_ids: Sequence[int], completion: Sequence[int]) -> list[float]:
        """One log-probability a token; NaN from the first token on that was not sampled there when stored."""
        node: Tree | None = self._trees.get(prompt_digest(prompt_ids))
        found = []
        for token in completion:
            entry = None if node is None else node.get(token)
            found.append(math.nan if entry is None else entry[0])
            node = None if entry is None else entry[1]
        return found


class Reference:
    """The reference policy of a run, stored, computed, or stored where known and else computed.

    Args:
        learner: has the policy; made without one where nothing is computed.
        stored: log-probabilities stored at profiling.
        compute: whether to compute what is not stored; otherwise it is NaN.
    """

    def __init__(self, learner: Learner, stored: StoredLogprobs | None = None, *, compute: bool = True) -> None:
        self._learner, self._stored, self._compute = learner, stored, compute
        self._compared = False

    @torch.no_grad()
    def logprobs(self, packs: Sequence[Pack]) -> list[Tensor]:
        """Log-probabilities of the completions of each pack, ``(N, T)``, in the order of its groups.

        What is computed is compared with what is stored of the same tokens. One pack, the first time that any of it is
        stored, is computed for that alone: a file that covers everything would never be compared otherwise. Without
        ``compute`` there is nothing to compare with.

        Raises:
            BadInput: what is stored is far from what the reference policy computes for the same tokens.
        """
        stored = [None if self._stored is None else self._lookup(self._stored, pack) for pack in packs]
        found = list(stored)
        unchecked = self._unchecked(packs, stored)
        computed = [
            place
            for place, stored_NT in enumerate(stored)
            if stored_NT is None
            or place == unchecked
            or (self._compute and (self._learner.lockstep or bool(torch.isnan(stored_NT).any())))
        ]
        if computed:
            with self._learner.reference_model() as model:
                for place in computed:
                    computed_NT = self._learner.logprobs(packs[place].groups, model).logprobs_NT
                    self._compare(stored[place], computed_NT, packs[place])
                    known_NT = stored[place]
                    if known_NT is None or bool(torch.isnan(known_NT).any()):
                        found[place] = computed_NT
        return [logprobs_NT for logprobs_NT in found if logprobs_NT is not None]

    def _unchecked(self, packs: Sequence[Pack], stored: Sequence[Tensor | None]) -> int | None:
        """The pack of which most is stored; None where the file was compared before, or cannot be."""
        if self._compared or not self._compute:
            return None
        known = [
            0 if stored_NT is None else int((~torch.isnan(_completions(stored_NT, pack))).sum())
            for pack, stored_NT in zip(packs, stored, strict=True)
        ]
        return known.index(max(known)) if any(known) else None

    def _lookup(self, stored: StoredLogprobs, pack: Pack) -> Tensor:
        rows = [stored.lookup(prompt, completion) for prompt, completions in pack.groups for completion in completions]
        longest = max(map(len, rows))
        device = next(iter(self._learner.parameters)).device
        return torch.tensor([[*row, *[0.0] * (longest - len(row))] for row in rows], device=device)

    def _compare(self, stored_NT: Tensor | None, computed_NT: Tensor, pack: Pack) -> None:
        if stored_NT is None or self._stored is None:
            return
        gap = (_completions(stored_NT, pack) - _completions(computed_NT, pack)).abs()
        known = gap[~torch.isnan(gap)]
        if not len(known):
            return
        mean = float(known.mean())
        if mean > _GAP:
            raise BadInput(
                f"differ by {mean:.2f} nats a token from the reference policy's: stored with another one",
                file=self._stored.path,
                field="logprobs",
            )
        self._compared = True


def _completions(values_NT: Tensor, pack: Pack) -> Tensor:
    """What stands at the tokens of a pack's completions, without the padding, in one row."""
    lengths = [len(completion) for _, completions in pack.groups for completion in completions]
    return torch.cat([values_T[:length] for values_T, length in zip(values_NT, lengths, strict=True)])


class ReferenceSource:
    """Where a run's settings say that its reference policy is.

    Args:
        config: settings.
        policy: what is trained; the reference has its tokens.

    Attributes:
        model: another model's weights; None where training's own start is the reference.

    Raises:
        BadInput: a reference that is not there, has no weights here or has other tokens.
    """

    def __init__(self, config: UpdateConfig, policy: TransformersPolicy) -> None:
        self._config = config
        self._stored = None if config.reference_logprobs is None else StoredLogprobs(config.reference_logprobs)
        self._second = None if config.reference_model is None else _second_policy(config.reference_model, policy)
        self.model = None if self._second is None else self._second.model

    @property
    def computes(self) -> bool:
        """Whether the reference policy itself is needed, not only what is stored of it."""
        return self._config.wants_kl and self._config.reference_missing == "compute"

    def settings(self) -> JsonObject:
        """What the results depend on beside the names in the settings: other content is another reference."""
        found: JsonObject = {}
        if self._second is not None:
            found["reference_fingerprint"] = policy_fingerprint(self._second)
        if self._stored is not None:
            found["reference_digest"] = self._stored.digest
        return found

    def reference(self, learner: Learner) -> Reference | None:
        """The reference policy; None where the settings ask for no KL."""
        return Reference(learner, self._stored, compute=self.computes) if self._config.wants_kl else None


def _second_policy(name: str, policy: TransformersPolicy) -> TransformersPolicy:
    from pivotgym.harness.policies import load_policy

    found = load_policy(name, device=str(next(policy.model.parameters()).device))
    if not isinstance(found, TransformersPolicy):
        raise BadInput(f"{name!r} has no weights here", field="reference_model")
    if found.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise BadInput(f"{name!r} has other tokens", field="reference_model")
    return found
