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
from pivotgym.harness.evaluate import compare_means, pivot_clusters
from pivotgym.harness.pivots import FilterConfig, Pivot, filter_file, load_pivots, state_key, thin
from pivotgym.harness.policies.transformers_policy import TransformersPolicy, load_transformers_policy
from pivotgym.harness.profiling import ProfileConfig, candidates_of, profile, split_key
from pivotgym.harness.runs import Progress, derive_seed, no_progress, write_json
from pivotgym.harness.seats import Place
from pivotgym.harness.train import METRICS, TrainConfig, train


class Source(Protocol):
    """Where policies come from; ``weights`` is what a leg left in a folder, None what training starts from."""

    def sampling(self, weights: Path | None = None) -> TransformersPolicy:
        """The policy with these weights, to sample from."""
        ...

    def training(self, weights: Path | None = None) -> TransformersPolicy:
        """The same to train on: with LoRA without any adapter, which is the learner's to load."""
        ...


@dataclass(frozen=True)
class Base:
    """The policy that runs start from, and the policies they become; a :class:`Source`.

    Attributes:
        source: model folder or name.
        adapter: LoRA adapter of the start.
        lora: whether adapters train.
    """

    source: str
    adapter: Path | None
    lora: bool

    def sampling(self, weights: Path | None = None) -> TransformersPolicy:
        """The start, or the policy with the weights a run left in a folder, to sample from."""
        if self.lora:
            return load_transformers_policy(self.source, adapter=weights or self.adapter, name="policy")
        return self.training(weights)

    def training(self, weights: Path | None = None) -> TransformersPolicy:
        """The same to train on; with LoRA without any adapter."""
        source = self.source if self.lora or weights is None else str(weights)
        return load_transformers_policy(source, name="start")


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
    return sum(map(_zero_variance, steps)) / groups if groups else None


def _zero_variance(row: JsonObject) -> int:
    """Groups of a step whose rewards are all equal.

    Not those without a gradient: what becomes of malformed and over-long actions gives gradients to groups of equal
    rewards and takes them from others. Rows of earlier versions count only these.
    """
    found = row.get("groups_zero_variance")
    return int(row["groups"] - row["groups_with_signal"] if found is None else found)


def needs_reprofiling(rows: Sequence[JsonObject], threshold: float, window: int) -> bool:
    """Whether over the last ``window`` steps, if there were as many, more than this share had equal rewards."""
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
        before: evaluation row before the first step; None without held-out pivots.
        after: evaluation row after the last.
        gain: how much the held-out reward rose, paired by pivot, as an ``Estimate`` row.
    """

    weights: Path
    steps: int
    rollout_turns: int
    legs: list[JsonObject]
    before: JsonObject | None = None
    after: JsonObject | None = None
    gain: JsonObject | None = None


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
    *,
    place: Place | None = None,
) -> LegsResult:
    """Trains until ``budget_turns`` actions were sampled, profiling again where the signal runs out.

    The budget is never exceeded: where it would not pay for a whole profile and a step after it, training goes on with
    the pivots at hand.

    Each leg is a run of :func:`pivotgym.harness.train.train` in ``out/leg-N`` on the pivots of its own profile, from
    the weights of the leg before, with a fresh optimiser. Which steps and legs there are follows from ``metrics.jsonl``
    and the profiles alone, so a killed run goes on to the same bytes.

    Args:
        pivots: of the first leg. Those held out are evaluated before, after and at every look of each leg, and neither
            their tasks (or trajectories, as ``filter_config`` splits) nor their states are ever trained on.
        recordings: what is profiled again.
        source: gives the policies.
        train_config: ``steps`` is not used; with LoRA each leg starts from the adapter of the one before.
        profile_config: of the profiles between legs; its seed is varied by leg.
        filter_config: of the filters between legs.
        legs_config: when to profile again.
        budget_turns: actions sampled in training and in profiles between legs.
        out: the folder.
        progress: passed on.
        place: where the environments run; by default in this process.

    Raises:
        BadInput: the budget does not allow one step.
    """
    if train_config.reference_logprobs is not None and train_config.reference_missing == "compute":
        # With LoRA each leg's reference is where it starts; what is stored is of the first leg's alone.
        raise BadInput("stored log-probabilities are not of every leg's reference", field="reference_logprobs")
    cost_of_step = train_config.batch * train_config.group
    if budget_turns < cost_of_step:
        raise BadInput(f"{budget_turns} turns do not pay for one step of {cost_of_step}", field="budget_turns")
    chosen = [pivot for pivot in pivots if pivot.split == "train"]
    heldout = [pivot for pivot in pivots if pivot.split == "heldout"]
    held = {split_key(pivot.trajectory, filter_config.split_by) for pivot in heldout}
    held_states = {state_key(pivot) for pivot in heldout}
    recordings = [item for item in recordings if split_key(item, filter_config.split_by) not in held]
    filter_config = filter_config.model_copy(update={"heldout": 0.0})
    dearest = len(candidates_of(recordings, profile_config)) * profile_config.rollouts
    weights: Path | None = None
    spent, steps, told = 0, 0, list[JsonObject]()
    for number in range(1, legs_config.legs + 1):
        folder = out / f"leg-{number}"
        again = number > 1
        if again:
            assert weights is not None
            varied = {"seed": derive_seed(profile_config.seed, "leg", number)}
            file = folder / "profile" / "profile.jsonl"
            again_config = profile_config.model_copy(update=varied)
            rows = profile(recordings, source.sampling(weights), again_config, file, progress, place=place)
            spent += sum(len(row["rewards"]) for row in rows)
            filter_file(file, folder / "pivots.jsonl", filter_config)
            fresh = load_pivots(folder / "pivots.jsonl")
            chosen = [pivot for pivot in fresh if pivot.split == "train" and state_key(pivot) not in held_states]
        most = (budget_turns - spent) // cost_of_step
        # The last step at which a profile without early stops could still be paid for.
        latest = (budget_turns - spent - dearest) // cost_of_step - 1
        if not chosen or most < 1:
            break
        leg = _Leg([*chosen, *heldout], source, weights, train_config, folder / "train", progress, place)
        done = leg.train(most, None if number == legs_config.legs else legs_config, latest)
        weights, steps, spent = leg.weights, steps + done, spent + done * cost_of_step
        share = zero_variance_share(leg.rows(), legs_config.window)
        told.append({"leg": number, "steps": done, "pivots": len(chosen), "zero_variance": share})
        if done == most:
            break
    assert weights is not None
    before, after, gain = _gain(out, len(told), thin(heldout, train_config.eval_limit, train_config.seed))
    summary = {"legs": told, "rollout_turns": spent, "steps": steps, "before": before, "after": after, "gain": gain}
    write_json(out / "legs.json", summary)
    return LegsResult(weights, steps, spent, told, before, after, gain)


def _gain(
    out: Path, legs: int, heldout: Sequence[Pivot]
) -> tuple[JsonObject | None, JsonObject | None, JsonObject | None]:
    """The first and the last evaluation on held-out pivots, and how much the reward rose, paired by pivot."""
    evaluations = [
        row
        for number in range(1, legs + 1)
        for row in read_rows(out / f"leg-{number}" / "train" / METRICS)
        if row["kind"] == "eval"
    ]
    if not evaluations:
        return None, None, None
    before, after = evaluations[0], evaluations[-1]
    return before, after, compare_means(before["means"], after["means"], pivot_clusters(heldout)).row()


@dataclass
class _Leg:
    pivots: list[Pivot]
    source: Source
    start: Path | None
    config: TrainConfig
    out: Path
    progress: Progress
    place: Place | None

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
            policy, config = self.source.training(self.start), self._settings(done)
            train(self.pivots, policy, config, self.out, self.progress, place=self.place)

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
        if self.start is not None:  # weights that all train already have in them what they started from
            changed["warm_start"] = self.start if self.config.lora is not None else None
        return self.config.model_copy(update=changed)

    @property
    def weights(self) -> Path:
        return self.out / "final"
