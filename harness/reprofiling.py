"""Training on pivots in legs: when most groups no longer have a signal, profile again with the policy of now.

Pivots are pivots of the policy that was profiled. As training succeeds they become always right, their groups have
equal rewards, and steps are paid for that teach nothing. NVIDIA's recipes profile again when accuracy saturates
(Nemotron 3 Ultra, arXiv:2606.15007, section 3.3.2); here the sign is the share of zero-variance groups itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import JsonObject, Trajectory
from pivotgym.harness.pivots import FilterConfig, Pivot, filter_file, load_pivots
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.profiling import ProfileConfig, candidates_of, profile
from pivotgym.harness.runs import Progress, derive_seed, no_progress, write_json
from pivotgym.harness.train import METRICS, TrainConfig, train


class Source(Protocol):
    """Where policies come from; ``weights`` is what a leg left in a folder, None what training starts from."""

    def sampling(self, weights: Path | None = None) -> TransformersPolicy:
        """The policy with these weights, to sample from."""
        ...

    def training(self, weights: Path | None = None) -> TransformersPolicy:
        """The same to train on: with LoRA without any adapter, which is the learner's to load."""
        ...


def zero_variance_share(rows: Iterable[JsonObject], window: int | None = None) -> float | None:
    """Share of the judged groups whose rewards are all equal, over the last steps.

    Args:
        rows: of ``metrics.jsonl``; rows of evaluations are passed over.
        window: how many steps; None takes all.

    Returns:
        The share; None where there was no judged group.
    """
    steps = [row for row in rows if "groups_with_signal" in row]
    steps = steps if window is None else steps[-window:]
    groups = sum(row["groups"] for row in steps)
    return 1 - sum(row["groups_with_signal"] for row in steps) / groups if groups else None


def needs_reprofiling(rows: Sequence[JsonObject], threshold: float, window: int) -> bool:
    """Whether over the last ``window`` steps, if there were as many, more than this share of groups taught nothing."""
    steps = [row for row in rows if "groups_with_signal" in row]
    share = zero_variance_share(steps, window)
    return len(steps) >= window and share is not None and share > threshold


class LegsConfig(BaseModel):
    """When to profile again.

    Attributes:
        threshold: largest share of zero-variance groups that training goes on with.
        window: steps it is taken over, and steps between two looks.
        legs: at most so many.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(0.6, ge=0, lt=1)
    window: int = Field(5, ge=1)
    legs: int = Field(4, ge=1)


@dataclass(frozen=True)
class LegsResult:
    """What training in legs came to.

    Attributes:
        weights: of the last leg.
        steps: of all legs.
        rollout_turns: actions sampled in training and in profiling again (the first profile is the caller's).
        legs: a row each: steps, share of zero-variance groups at its end, pivots.
    """

    weights: Path
    steps: int
    rollout_turns: int
    legs: list[JsonObject]


def train_in_legs(
    pivots: Sequence[Pivot],
    recordings: Sequence[Trajectory],
    source: Source,
    train_config: TrainConfig,
    profile_config: ProfileConfig,
    filter_config: FilterConfig,
    legs_config: LegsConfig,
    budget_turns: int,
    out: Path,
    progress: Progress = no_progress,
) -> LegsResult:
    """Trains until ``budget_turns`` actions were sampled, profiling again where the signal runs out.

    The budget is never exceeded: where it would not pay for a whole profile and a step after it, training goes on with
    the pivots at hand.

    Each leg is a run of :func:`pivotgym.harness.train.train` in ``out/leg-N`` on the pivots of its own profile, from
    the weights of the leg before, with a fresh optimiser. Which steps and legs there are follows from ``metrics.jsonl``
    and the profiles alone, so a killed run goes on to the same bytes.

    Args:
        pivots: of the first leg; only those to train on are used.
        recordings: what is profiled again.
        source: gives the policies.
        train_config: ``steps`` is not used; with LoRA each leg starts from the adapter of the one before.
        profile_config: of the profiles between legs; its seed is varied by leg.
        filter_config: of the filters between legs.
        legs_config: when to profile again.
        budget_turns: actions sampled in training and in profiles between legs.
        out: the folder.
        progress: passed on.

    Raises:
        BadInput: the budget does not allow one step.
    """
    cost_of_step = train_config.batch * train_config.group
    if budget_turns < cost_of_step:
        raise BadInput(f"{budget_turns} turns do not pay for one step of {cost_of_step}", field="budget_turns")
    dearest = len(candidates_of(recordings, profile_config)) * profile_config.rollouts
    chosen = [pivot for pivot in pivots if pivot.split == "train"]
    weights: Path | None = None
    spent, steps, told = 0, 0, list[JsonObject]()
    for number in range(1, legs_config.legs + 1):
        folder = out / f"leg-{number}"
        again = number > 1
        if again:
            assert weights is not None
            varied = {"seed": derive_seed(profile_config.seed, "leg", number)}
            file = folder / "profile" / "profile.jsonl"
            rows = profile(
                recordings, source.sampling(weights), profile_config.model_copy(update=varied), file, progress
            )
            spent += sum(len(row["rewards"]) for row in rows)
            filter_file(file, folder / "pivots.jsonl", filter_config)
            chosen = [pivot for pivot in load_pivots(folder / "pivots.jsonl") if pivot.split == "train"]
        most = (budget_turns - spent) // cost_of_step
        # The last step at which a profile without early stops could still be paid for.
        latest = (budget_turns - spent - dearest) // cost_of_step - 1
        if not chosen or most < 1:
            break
        leg = _Leg(chosen, source, weights, train_config, folder / "train", progress)
        done = leg.train(most, None if number == legs_config.legs else legs_config, latest)
        weights, steps, spent = leg.weights, steps + done, spent + done * cost_of_step
        share = zero_variance_share(leg.rows(), legs_config.window)
        told.append({"leg": number, "steps": done, "pivots": len(chosen), "zero_variance": share})
        if done == most:
            break
    assert weights is not None
    write_json(out / "legs.json", {"legs": told, "rollout_turns": spent, "steps": steps})
    return LegsResult(weights, steps, spent, told)


@dataclass
class _Leg:
    pivots: list[Pivot]
    source: Source
    start: Path | None
    config: TrainConfig
    out: Path
    progress: Progress

    def train(self, most: int, until: LegsConfig | None, latest: int) -> int:
        """Trains up to ``most`` steps, or until a look up to step ``latest`` finds the signal gone; the steps done."""
        done = self._done()
        while True:
            # A leg that was ended by a look must not be gone on with by a second start.
            looked = until is not None and 0 < done <= latest and done % until.window == 0
            if looked and until is not None and needs_reprofiling(self.rows()[:done], until.threshold, until.window):
                return done
            if done >= most:
                return done
            looks_again = until is not None and done - done % until.window + until.window <= latest
            done = done - done % until.window + until.window if looks_again and until is not None else most
            train(self.pivots, self.source.training(self.start), self._settings(done), self.out, self.progress)

    def _done(self) -> int:
        """Steps of whole looks that are finished."""
        summary = self.out / "summary.json"
        if not summary.is_file():
            return 0
        return int(json.loads(summary.read_text(encoding="utf-8"))["steps"])

    def rows(self) -> list[JsonObject]:
        return [row for row in read_rows(self.out / METRICS) if row["kind"] == "train"]

    def _settings(self, steps: int) -> TrainConfig:
        changed: dict[str, Any] = {"steps": steps, "eval_every": 0}
        if self.start is not None and self.config.lora is not None:
            changed["warm_start"] = self.start
        return self.config.model_copy(update=changed)

    @property
    def weights(self) -> Path:
        return self.out / "final"
