"""Packed rows or padded batches: what a model was seen to compute rightly, as fast as that."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from pivotgym.harness.attention import Kernel, skips_masked, window_of
from pivotgym.harness.forward import causal_lm, why_not_packed, why_not_shared
from pivotgym.harness.packing import Group, positions_of


@dataclass
class Way:
    """Whether a model takes packed rows, with which kernel, and up to which sizes that was checked.

    Attributes:
        shared: packed rows are right.
        kernel: how they attend; None where the size chooses.
        checked: longest sequence compared, in tokens.
        rows: longest row compared, in positions.
        told: whether a warning said that longer sequences than an attention window are padded.
    """

    shared: bool
    kernel: Kernel | None = None
    checked: int = 64
    rows: int = 0
    told: bool = False


class Ways:
    """How log-probabilities are computed with each model."""

    def __init__(self) -> None:
        self._ways: dict[int, Way] = {}

    def of(self, model: nn.Module, groups: Sequence[Group], rows: int | None = None) -> Way:
        """How log-probabilities of these groups are computed with ``model``.

        The packed pass is compared with the padded one on a few tokens first; again on a real group whenever one is
        twice as long as any compared before; and on a real group in a row of other branches whenever a row is longer
        than any compared before, with a quarter more than that row has, so that rows that grow are not compared each
        time. What disagrees is not used again.

        Args:
            model: a causal language model.
            groups: prompts and completions.
            rows: positions of the longest row that will be computed; by default all groups are one row. 0 if that
                is not known yet: then no group is compared, only a few tokens.
        """
        way = self._ways.get(id(model))
        if way is None:
            way = self._ways[id(model)] = _first(model)
        prompt, completions = max(groups, key=lambda group: len(group[0]) + max(map(len, group[1])))
        length = len(prompt) + max(map(len, completions))
        limit = window_of(causal_lm(model).config)
        if not way.shared:
            return Way(False)
        if limit is not None and length > limit:
            if not way.told:
                way.told = True
                _warn_padded(f"sequences beyond the attention window of {limit} tokens")
            return Way(False)
        if rows is None:
            rows = sum(len(prompt) + sum(map(len, completions)) for prompt, completions in groups)
            if rows > way.rows:  # beginnings in common are counted only where that matters
                rows = positions_of(groups)
        if rows > way.rows or (rows and length >= 2 * way.checked):
            two = sorted({tuple(completion) for completion in completions}, key=len)[-2:]
            if len(two) < 2:  # the last token branches off, so that there is something to mask
                two.append((*two[0][:-1], 1 if two[0][-1] == 0 else 0))
            pair = [list(completion) for completion in two]
            filled = max(rows + rows // 4, way.rows)
            while way.shared:
                if (reason := why_not_packed(model, prompt, pair, way.kernel, positions=filled)) is None:
                    break
                if way.kernel is None:
                    way.kernel = "dense"
                else:
                    way.shared = False
                    _warn_padded(reason)
            way.checked, way.rows = max(length, way.checked), filled
        return way if way.shared else Way(False)


def _first(model: nn.Module) -> Way:
    """What a few tokens say."""
    # They are too short for the kernel of long rows to be chosen, so it is asked for.
    long: Kernel = "flex" if next(model.parameters()).device.type == "cuda" else "blocks"
    if (slow := why_not_shared(model, long)) is None:
        return Way(True)
    reason = why_not_shared(model)
    if reason is not None:
        _warn_padded(reason)
    elif skips_masked(causal_lm(model)):
        warnings.warn(f"attention also computes what is masked: {slow}", stacklevel=4)
    return Way(reason is None, "dense")


def _warn_padded(reason: str) -> None:
    warnings.warn(f"training on padded batches, which takes more time and memory: {reason}", stacklevel=4)
