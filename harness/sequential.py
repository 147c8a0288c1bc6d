"""How many samples a candidate needs: sequential testing instead of a fixed K.

Most candidates of a recording are always right or always wrong (PivotRL, arXiv:2603.21383, reports 71 % of random
turns without a signal), and show it long before all K samples are drawn. Two rules stop early:

- *Equal outcomes* (:func:`samples_to_stop`). A candidate whose first ``n`` rewards are all 0, or all 1, is given up.
  The error is to give up a pivot: a candidate with success probability ``p`` does so with probability
  ``p^n + (1-p)^n``, which over all ``p`` in ``[margin, 1 - margin]`` is largest at the ends. ``n`` is the smallest
  number for which that is at most ``error``. This is Wald's test (Wald 1945, "Sequential tests of statistical
  hypotheses", Annals of Mathematical Statistics 16) of "always equal" against "success probability ``margin``": its
  likelihood ratio after ``n`` equal outcomes is ``(1 - margin)^n``, and a single unequal outcome decides for the other.
- *Curtailment* (:func:`too_easy_for_sure`). A candidate whose rewards so far make it certain that its mean over K
  samples is above the filter's ``max_mean`` is given up too. Rewards are in [0, 1], so this has no error at all
  (the same idea in inspection by attributes: Phatak & Bhatt 1967, "Estimation of the fraction defective in curtailed
  sampling plans by attributes", Technometrics 9).

Candidates that are kept always have all K samples: the mean that a curriculum goes by is not biased by stopping.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject

Stop = Literal["all_right", "all_wrong", "too_easy"]
TINY = 1e-12
"""Rewards nearer than this to 0 or 1 are."""


class SequentialOptions(BaseModel):
    """When to stop sampling a candidate.

    Attributes:
        error: largest probability of giving up a candidate whose success probability is in ``[margin, 1 - margin]``
            for equal outcomes; None gives up none for that.
        margin: how far from 0 and 1 a success probability has to be for the candidate to count as a pivot that must
            not be lost.
        max_mean: the filter's; None gives up no candidate for being too easy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    error: float | None = Field(0.2, gt=0, lt=1)
    margin: float = Field(0.25, gt=0, le=0.5)
    max_mean: float | None = Field(None, ge=0, le=1)


def miss_probability(samples: int, success: float) -> float:
    """Probability that ``samples`` outcomes of a candidate with this success probability are all equal."""
    return success**samples + (1 - success) ** samples


def samples_to_stop(error: float | None, margin: float, rollouts: int) -> int | None:
    """After how many equal outcomes a candidate is given up.

    Args:
        error: see :class:`SequentialOptions`.
        margin: see :class:`SequentialOptions`.
        rollouts: K.

    Returns:
        The smallest ``n >= 2`` with ``margin^n + (1 - margin)^n <= error``; None where that is not below K, so that
        nothing can be saved at this error.

    Raises:
        BadInput: an error or margin outside its range.
    """
    if error is None:
        return None
    if not 0 < error < 1 or not 0 < margin <= 0.5:
        raise BadInput(f"error {error} and margin {margin}: wanted 0 < error < 1 and 0 < margin <= 0.5", field="error")
    # One step below the solution for the larger term alone, then exactly.
    samples = max(2, math.floor(math.log(error) / math.log(1 - margin)) - 1)
    while miss_probability(samples, margin) > error:
        samples += 1
    while samples > 2 and miss_probability(samples - 1, margin) <= error:
        samples -= 1
    return samples if samples < rollouts else None


def too_easy_for_sure(rewards: Sequence[float], rollouts: int, max_mean: float) -> bool:
    """Whether the mean over ``rollouts`` rewards will be above ``max_mean`` whatever is still to come."""
    return sum(rewards) / rollouts > max_mean + TINY


def decide(rewards: Sequence[float], rollouts: int, options: SequentialOptions) -> Stop | None:
    """Why a candidate with these rewards is given up now, or None: go on to all ``rollouts``."""
    if len(rewards) >= rollouts:
        return None
    needed = samples_to_stop(options.error, options.margin, rollouts)
    if needed is not None and len(rewards) >= needed:
        if max(rewards) <= TINY:
            return "all_wrong"
        if min(rewards) >= 1 - TINY:
            return "all_right"
    if options.max_mean is not None and too_easy_for_sure(rewards, rollouts, options.max_mean):
        return "too_easy"
    return None


def looks(rollouts: int, options: SequentialOptions) -> list[int]:
    """How many samples each candidate has in all after each round; the last is ``rollouts``.

    A round costs one more restore of every candidate still open, so there are few: one where equal outcomes stop, and
    with ``max_mean`` one half way from there.
    """
    first = samples_to_stop(options.error, options.margin, rollouts)
    places = [] if first is None else [first]
    if options.max_mean is not None:
        # Before so many samples no mean can be above max_mean for sure.
        earliest = math.floor(options.max_mean * rollouts + TINY) + 1
        middle = max(earliest, math.ceil(((first or 0) + rollouts) / 2))
        if middle < rollouts:
            places.append(middle)
    return [*places, rollouts]


@dataclass(frozen=True)
class Savings:
    """What stopping early saved.

    Attributes:
        candidates: with rewards.
        rollouts: samples a fixed K would have drawn for them.
        sampled: samples drawn.
        stopped: candidates given up early, by reason.
        error: the stated probability of giving up a candidate with a success probability in the margin's range; 0
            where no equal outcomes stop a candidate.
    """

    candidates: int
    rollouts: int
    sampled: int
    stopped: dict[str, int]
    error: float

    @property
    def saved(self) -> float:
        """Share of the samples that were not drawn."""
        return 1 - self.sampled / self.rollouts if self.rollouts else 0.0

    def row(self) -> JsonObject:
        """As a JSON object."""
        return {**asdict(self), "saved": self.saved}


def savings(rows: Iterable[JsonObject], rollouts: int, options: SequentialOptions) -> Savings:
    """What a profile's rows say was saved against ``rollouts`` samples for each.

    Args:
        rows: rows of ``profile.jsonl``.
        rollouts: K.
        options: those of the profile.
    """
    judged = [row for row in rows if row["status"] == "ok"]
    stopped: dict[str, int] = {}
    for row in judged:
        if row.get("stopped"):
            stopped[row["stopped"]] = stopped.get(row["stopped"], 0) + 1
    needed = samples_to_stop(options.error, options.margin, rollouts)
    error = 0.0 if needed is None else miss_probability(needed, options.margin)
    sampled = sum(len(row["rewards"]) for row in judged)
    return Savings(len(judged), rollouts * len(judged), sampled, stopped, error)
