"""Log-likelihoods of given text under a policy in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from pivotgym.envs.errors import BadInput
from pivotgym.harness.forward import Logprobs, group_logprobs, padded_logprobs
from pivotgym.harness.policies.base import Policy, PromptTooLong
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.ways import Ways

WINDOW = 1024
"""Longer texts are scored in windows of so many tokens."""


class NoLikelihoods(BadInput):
    """The policy's weights are not in this process, so it cannot say how likely a given text is."""


class Likelihood:
    """Scores text with a policy's model; counts what it reads in the policy's usage.

    Args:
        policy: its model, tokenizer and context are used, its chat template is not.

    Raises:
        NoLikelihoods: an endpoint, or anything else without weights here.
    """

    def __init__(self, policy: Policy) -> None:
        if not isinstance(policy, TransformersPolicy):
            raise NoLikelihoods(f"policy {policy.name!r} gives no log-likelihoods of given text")
        self.policy = policy
        self._ways = Ways()

    def options(self, context: str, continuations: Sequence[str]) -> list[float]:
        """Log-likelihood of each continuation of one text, in nats.

        Tokens are those of the whole text; those behind the context's own are the continuation's (as lm-eval cuts
        them, ``LM._encode_pair``): spaces at the end of the context belong to the continuation.

        Args:
            context: what stands before, not empty.
            continuations: not empty.

        Returns:
            One number each, in order: the sum over its tokens.

        Raises:
            PromptTooLong: context and continuation do not fit the model.
        """
        bare = context.rstrip()
        spaces = context[len(bare) :]
        before = self._ids(bare)
        rows: list[list[int]] = []
        for continuation in continuations:
            whole = self._ids(bare + spaces + continuation)
            rows.append(whole)
        sums = [0.0] * len(rows)
        # Where a token spans the border, texts differ in what stands before the continuation: then each on its own.
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for number, whole in enumerate(rows):
            by_prompt.setdefault(tuple(whole[: len(before)]), []).append(number)
        for prompt, numbers in by_prompt.items():
            found = self._score(list(prompt), [rows[number][len(prompt) :] for number in numbers])
            for number, value in zip(numbers, found.logprobs_NT.double().sum(-1).tolist(), strict=True):
                sums[number] = value
        return sums

    def text(self, text: str) -> tuple[float, int]:
        """Negative log-likelihood of a whole text in nats, and its number of tokens.

        The first token follows the beginning-of-text token (or the end-of-text token where there is none). A text of
        more tokens than :data:`WINDOW` is cut into windows, each of which sees one token of the one before (lm-eval's
        rolling log-likelihood).
        """
        ids = self._ids(text)
        first = self.policy.tokenizer.bos_token_id
        before = [first if first is not None else min(self.policy.end_ids)]
        size = min(WINDOW, self.policy.context - 1)
        nats = 0.0
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            nats -= float(self._score(before, [part]).logprobs_NT.double().sum())
            before = part[-1:]
        return nats, len(ids)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.policy.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _score(self, prompt: list[int], completions: list[list[int]]) -> Logprobs:
        policy = self.policy
        length = len(prompt) + max(map(len, completions))
        if length > policy.context:
            raise PromptTooLong(0, length, policy.context)
        started = time.perf_counter()
        with _evaluating(policy.model):
            group = (prompt, completions)
            way = self._ways.of(policy.model, [group])
            found = (
                group_logprobs(policy.model, [group], kernel=way.kernel)
                if way.shared
                else padded_logprobs(policy.model, prompt, completions)
            )
        policy.usage.calls += len(completions)
        policy.usage.prompt_tokens += len(prompt) + sum(map(len, completions))
        policy.usage.seconds += time.perf_counter() - started
        return found


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
