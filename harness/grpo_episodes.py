"""End-to-end GRPO: whole episodes sampled in the environment, judged by its goal. The baseline of turn-level training.

One step: take ``batch`` tasks; play each ``group`` times to its end with the current policy, every episode with an
environment seed of its own; the reward is the environment's verdict on the outcome; advantages within each task's
group; one clipped policy-gradient update on every action token of every turn (GRPO, Shao et al. 2024,
arXiv:2402.03300, section 4.1.3, outcome supervision, with observations masked out of the loss).

An episode is one completion to the losses of :mod:`pivotgym.harness.losses`, its turns laid end to end: what the user
and the tools said between them is read but never trained on. Each turn is scored behind the very prompt it was sampled
behind, so a template that renders earlier turns differently later on changes nothing; where it does not, the turns
share their beginnings in the packed forward pass.

Like :mod:`pivotgym.harness.train` a step is a function of the settings, the seed, its number and the weights before
it, and a killed run goes on to the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import torch
from pydantic import Field

from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.trajectory import JsonObject, Task, canonical_json, digest
from pivotgym.harness.adapters import start_settings
from pivotgym.harness.checkpoints import Checkpoints, truncate
from pivotgym.harness.losses import group_advantages, loss_denominator
from pivotgym.harness.packing import Group
from pivotgym.harness.policies.base import Policy, Sampling
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.reference import ReferenceSource
from pivotgym.harness.rollouts import EpisodeResult, run_episodes
from pivotgym.harness.runs import (
    CostMeter,
    Progress,
    append_figures,
    claim,
    derive_seed,
    deterministic,
    exclusive,
    no_progress,
    policy_fingerprint,
    shuffled_batch,
    write_json,
)
from pivotgym.harness.samplers import make_sampler
from pivotgym.harness.seats import Here, Place
from pivotgym.harness.update import FIGURES, NO_ADVANTAGE, Batch, Updater, make_learner
from pivotgym.harness.update_config import UpdateConfig

METRICS = "metrics.jsonl"


class EpisodeTrainConfig(UpdateConfig):
    """How to train on whole episodes. A completion is an episode; a ``group`` are the episodes of one task.

    Attributes:
        budget_turns: no step begins once so many turns were sampled; None leaves it to ``steps``.
        max_turns: an episode is cut off and scored after so many actions.
    """

    budget_turns: int | None = Field(None, ge=1)
    max_turns: int = Field(12, ge=1)
    batch: int = Field(4, ge=1)
    micro_tokens: int = Field(1024, ge=1)
    save_every: int = Field(2, ge=1)
    attempts: int = Field(2, ge=1)

    @property
    def longest(self) -> int:
        """Most sampled tokens of an episode."""
        return self.max_turns * self.max_tokens

    def results_depend_on(self) -> JsonObject:
        """The fields that change the results of a step."""
        return {name: value for name, value in super().results_depend_on().items() if name != "budget_turns"}


@dataclass(frozen=True)
class EpisodeTrainResult:
    """What training came to: the run's folder, its weights, steps, and turns sampled."""

    folder: Path
    weights: Path
    steps: int
    turns: int


def train_episodes(
    tasks: Sequence[Task],
    policy: TransformersPolicy,
    config: EpisodeTrainConfig,
    out: Path,
    progress: Progress = no_progress,
    *,
    place: Place | None = None,
) -> EpisodeTrainResult:
    """Trains on whole episodes of ``tasks``.

    Writes the same files into ``out`` as :func:`pivotgym.harness.train.train`, rows of kind ``episodes``, and goes on
    where it stopped when called again.

    Args:
        tasks: what to play; batches are slices of seed-shuffled passes over them.
        policy: what to train. Its model is changed in place.
        config: settings.
        out: the run's folder.
        progress: called after each step.
        place: where the environments run; by default in this process.

    Raises:
        BadInput: no tasks, or ``out`` was begun with other settings.
        InfrastructureError: every episode of a step failed, or several updates in a row had no finite gradient; what
            was finished is kept.
    """
    out = Path(out)
    with exclusive(out / "run"), deterministic():
        trainer = EpisodeTrainer(tasks, policy, config, out, place)
        try:
            return trainer.run(progress)
        finally:
            trainer.sampler.close()


class EpisodeTrainer:
    """One run of :func:`train_episodes`; :meth:`step` is the algorithm."""

    def __init__(
        self,
        tasks: Sequence[Task],
        policy: TransformersPolicy,
        config: EpisodeTrainConfig,
        out: Path,
        place: Place | None = None,
    ) -> None:
        if not tasks:
            raise BadInput("no tasks to train on", field="tasks")
        if len({task.env for task in tasks}) > 1:
            raise BadInput("tasks of several environments: train on one at a time", field="tasks")
        self.tasks, self.config, self.out, self._place = list(tasks), config, out, place or Here()
        source = ReferenceSource(config, policy)
        settings = {
            "method": "grpo",
            **config.results_depend_on(),
            **source.settings(),
            **start_settings(config.lora, config.warm_start),
            "policy": policy.name,
            "policy_fingerprint": policy_fingerprint(policy),
            "tasks": digest(canonical_json([task.key for task in tasks])),
        }
        claim(out / "settings.json", settings, [out / METRICS, out / "checkpoints"])
        self.learner = make_learner(policy, config, source)
        self._tokenizer = policy.tokenizer
        self.sampler = make_sampler(config, self.learner, policy, out)
        self.policy: Policy = self.sampler.policy
        self.checkpoints = Checkpoints(out / "checkpoints", config.keep)
        self.updater = Updater(self.learner, config, source.reference(self.learner))
        self.turns = 0

    def run(self, progress: Progress) -> EpisodeTrainResult:
        """All steps that are still to do."""
        config, metrics = self.config, self.out / METRICS
        state = self.checkpoints.resume(self.learner)
        number = 0 if state is None else int(state["step"])
        self.updater.updates = 0 if state is None else int(state["updates"])
        self.learner.skipped_in_row = 0 if state is None else int(state.get("skipped_in_row", 0))
        self.turns = 0 if state is None else int(state["turns"])
        truncate(metrics, 0 if state is None else int(state["metrics_bytes"]))
        if state is None:
            self._save(0)
        done, total, shown = self._progress(number)
        progress("grpo", done, total, {})
        while number < config.steps and (config.budget_turns is None or self.turns < config.budget_turns):
            number += 1
            with CostMeter(self.out, "train", number, self.policy) as meter:
                row = self.step(number, meter)
            self.turns += int(row["rollout_turns"])
            append_figures(metrics, row)
            done, total, shown = self._progress(number)
            if shown or number % config.save_every == 0:
                self._save(number)
            progress("grpo", done, total, row)
        return self._finish(number)

    def _progress(self, number: int) -> tuple[int, int, bool]:
        """Pieces done and in all, by whichever of steps and turns is nearer to its end; whether that is reached."""
        config = self.config
        over = number >= config.steps
        if config.budget_turns is None or number / config.steps > self.turns / config.budget_turns:
            return number, config.steps, over
        return min(self.turns, config.budget_turns), config.budget_turns, over or self.turns >= config.budget_turns

    # One step -------------------------------------------------------------------------------------------------

    def step(self, number: int, meter: CostMeter) -> JsonObject:
        """Step ``number`` (from 1): returns its row of ``metrics.jsonl``."""
        config = self.config
        chosen = shuffled_batch(len(self.tasks), config.batch, number, config.seed, "tasks")
        batch = [self.tasks[index] for index in chosen]
        self.sampler.refresh()
        results = run_episodes(
            lambda: self._place.seat(batch[0].env, config.env_options),
            batch,
            self.policy,
            trials=config.group,
            max_turns=config.max_turns,
            batch=len(batch) * config.group,
            sampling=Sampling(config.temperature, config.top_p, config.max_tokens),
            seed=derive_seed(config.seed, "step", number),
            workers=self._place.width(config.workers),
            attempts=config.attempts,
        )
        turns = sum(result.turns for result in results)
        meter.cost.rollout_turns += turns
        meter.cost.env_actions += turns
        # An episode without a verdict says nothing: its reward is NaN, which enters no mean and has advantage 0.
        rewards_N = torch.tensor(
            [float("nan") if result.reward is None else result.reward for result in results], dtype=torch.float64
        )
        judged = [result for result in results if result.reward is not None and result.completions]
        if not judged:
            raise InfrastructureError(f"no episode of step {number} got a verdict: {results[0].error}")
        advantages_N = group_advantages(rewards_N, config.group, scale=config.scale, baseline=config.baseline).float()
        pairs = [
            (result, float(advantage))
            for result, advantage in zip(results, advantages_N.tolist(), strict=True)
            if result.reward is not None and result.completions
        ]
        # Rewards of what is left out of the loss stay in their group's mean.
        kept = [pair for pair in pairs if config.overlong == "keep" or not _cut_off(pair[0])]
        groups = [judged_group for judged_group in _grouped(results, config.group) if judged_group]
        skipped = self.learner.skipped
        figures = self.update(kept, meter, completions=len(judged))
        rewards = [float(result.reward) for result in judged if result.reward is not None]
        completions = [completion for result in results for completion in result.completions]
        return {
            "kind": "episodes",
            "step": number,
            "epoch": (number * config.batch - 1) // len(self.tasks),
            "reward_mean": fmean(rewards),
            "reward_std": pstdev(rewards),
            "groups": len(groups),
            "groups_with_signal": sum(len(set(group)) > 1 for group in groups),
            "groups_zero_variance": sum(len(set(group)) == 1 for group in groups),
            "groups_all_right": sum(min(group) >= 1 for group in groups),
            "groups_all_wrong": sum(max(group) <= 0 for group in groups),
            "episodes": len(judged),
            "episodes_excluded": len(results) - len(judged),
            "rollout_turns": turns,
            "malformed": sum(result.malformed for result in results) / max(turns, 1),
            "cut_off": sum(_cut_off(result) for result in judged) / len(judged),
            "masked": 1 - len(kept) / len(pairs),
            "prompt_tokens": sum(len(completion.prompt_ids) for completion in completions),
            "sampled_tokens": sum(len(completion.token_ids) for completion in completions),
            **figures,
            "updates_skipped": self.learner.skipped - skipped,
        }

    def update(
        self, episodes: Sequence[tuple[EpisodeResult, float]], meter: CostMeter, completions: int | None = None
    ) -> JsonObject:
        """The gradient updates on one batch of judged episodes: :data:`~pivotgym.harness.update.FIGURES`.

        Args:
            episodes: each with its advantage.
            meter: counts the trained tokens.
            completions: judged episodes of the batch, those left out of the loss with them; by default ``episodes``.
        """
        config = self.config
        lengths = [sum(len(turn.token_ids) for turn in result.completions) for result, _ in episodes]
        denominator = sum(
            loss_denominator(torch.ones(1, length, dtype=torch.bool), config.aggregate, config.longest)
            for length in lengths
        )
        left_out = 0 if completions is None else completions - len(episodes)
        denominator += left_out * loss_denominator(torch.zeros(1, 1), config.aggregate, config.longest)
        # Advantage 0 has no gradient, so it needs no forward pass either, unless the KL asks for one.
        trained = [pair for pair in episodes if config.beta > 0 or abs(pair[1]) > NO_ADVANTAGE]
        if not trained:
            return dict.fromkeys(FIGURES, None)
        turns = [turn for result, _ in trained for turn in result.completions]
        groups: list[Group] = [(turn.prompt_ids, [turn.token_ids]) for turn in turns]
        advantages_N = torch.tensor([advantage for _, advantage in trained])
        counts = [len(result.completions) for result, _ in trained]
        batch = Batch(groups, [turn.logprobs for turn in turns], advantages_N, denominator, counts)
        return self.updater.update(batch, meter)

    # Around the steps -----------------------------------------------------------------------------------------

    def _save(self, number: int) -> None:
        metrics = self.out / METRICS
        size = metrics.stat().st_size if metrics.exists() else 0
        state = {
            "updates": self.updater.updates,
            "skipped_in_row": self.learner.skipped_in_row,
            "turns": self.turns,
            "metrics_bytes": size,
        }
        self.checkpoints.save(self.learner, number, state)

    def _finish(self, steps: int) -> EpisodeTrainResult:
        self.learner.save_final(self.out / "final", self._tokenizer)
        summary = {"method": "grpo", "steps": steps, "rollout_turns": self.turns, "tasks": len(self.tasks)}
        write_json(self.out / "summary.json", summary)
        return EpisodeTrainResult(self.out, self.out / "final", steps, self.turns)


def _grouped(results: Sequence[EpisodeResult], size: int) -> list[list[float]]:
    """The rewards of each task's judged episodes."""
    slices = [results[start : start + size] for start in range(0, len(results), size)]
    return [[float(result.reward) for result in group if result.reward is not None] for group in slices]


def _cut_off(result: EpisodeResult) -> bool:
    """Whether the episode ended because it was too long, not because the policy or the environment ended it."""
    return result.termination in ("max_turns", "context")
