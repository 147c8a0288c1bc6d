"""Turn-level reinforcement learning: sample at pivots, judge in forks, update, save. The whole loop is in this file.

One step: take ``batch`` pivots; restore their states; sample ``group`` actions at each from the current policy;
judge every action by executing it in a fork; advantages within each pivot's group; one clipped policy-gradient
update on exactly the sampled token ids (``inner_epochs`` of them on request); append a row to ``metrics.jsonl``.

Every step is a function of the settings, the seed, its number and the weights before it. A checkpoint holds weights,
optimiser and how long ``metrics.jsonl`` was, so a run killed at any moment continues as if nothing had happened:
same metrics, same weights, to the byte (given the same machine and number of threads).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, pstdev

import torch
from torch import Tensor

from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import JsonObject, canonical_json, digest
from pivotgym.harness.adapters import start_settings
from pivotgym.harness.ahead import AHEAD, Ahead
from pivotgym.harness.checkpoints import Checkpoints, truncate
from pivotgym.harness.evaluate import PivotEvaluation, compare_means, evaluate_pivots
from pivotgym.harness.learner import Learner
from pivotgym.harness.losses import loss_denominator
from pivotgym.harness.packing import Group
from pivotgym.harness.pivots import Pivot, pass_rate, thin
from pivotgym.harness.policies.base import Policy, Sampling
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.profiling import split_key, trajectory_digest
from pivotgym.harness.ranks import Ranks
from pivotgym.harness.reference import ReferenceSource
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
from pivotgym.harness.seats import Place
from pivotgym.harness.shaping import Shaped, shape
from pivotgym.harness.train_config import TrainConfig
from pivotgym.harness.turns import Candidate, TurnResult, TurnRunner
from pivotgym.harness.update import FIGURES, NO_ADVANTAGE, Batch, Updater, make_learner
from pivotgym.verifiers.base import Verifier

METRICS = "metrics.jsonl"
__all__ = ["METRICS", "TrainConfig", "TrainResult", "Trainer", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What training came to.

    Attributes:
        folder: the run.
        weights: the trained adapter (or model), for ``load_policy``.
        steps: steps done.
        before: evaluation row before the first step; None without held-out pivots.
        after: evaluation row after the last.
        gain: how much the held-out reward rose, paired by pivot, as an :class:`Estimate` row.
    """

    folder: Path
    weights: Path
    steps: int
    before: JsonObject | None
    after: JsonObject | None
    gain: JsonObject | None


def train(
    pivots: Sequence[Pivot],
    policy: TransformersPolicy,
    config: TrainConfig,
    out: Path,
    progress: Progress = no_progress,
    *,
    verifier: Verifier | None = None,
    place: Place | None = None,
    ranks: Ranks | None = None,
) -> TrainResult:
    """Trains on the pivots of split ``train``, evaluates on those of split ``heldout``.

    Writes into the folder ``out``: ``metrics.jsonl`` (rows of kind ``train`` and ``eval``), ``checkpoints/``,
    ``final/`` (the weights), ``summary.json``, ``settings.json``, ``timings.jsonl``. Called again with the same
    settings it goes on after the last checkpoint.

    Args:
        pivots: of both splits.
        policy: what to train. Its model is changed in place.
        config: settings.
        out: the run's folder.
        progress: called after each step.
        verifier: instead of ``config.verifier``, for verifiers that have no spec.
        place: where the environments run; by default in this process.
        ranks: processes that share the work, weights included; each calls this with the same arguments, and all see
            the folder.

    Raises:
        BadInput: no pivots to train on, or ``out`` was begun with other settings.
        InfrastructureError: a whole batch failed, or several updates in a row had no finite gradient; what was
            finished is kept.
    """
    out = Path(out)
    ranks = ranks or Ranks()
    with exclusive(out / "run") if ranks.lead else nullcontext(), deterministic():
        trainer = Trainer(pivots, policy, config, out, verifier, place, ranks)
        try:
            return trainer.run(progress)
        finally:
            trainer.close()


class Trainer:
    """One run of :func:`train`; :meth:`step` is the algorithm."""

    def __init__(
        self,
        pivots: Sequence[Pivot],
        policy: TransformersPolicy,
        config: TrainConfig,
        out: Path,
        verifier: Verifier | None = None,
        place: Place | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.config, self.out, self.ranks = config, out, ranks or Ranks()
        if config.async_rollouts and self.ranks.count > 1:
            raise BadInput("asynchronous rollouts are for one process", field="async_rollouts")
        if config.sampler != "transformers" and self.ranks.count > 1:
            raise BadInput("an engine follows weights that one process holds whole", field="sampler")
        self.pivots = [pivot for pivot in pivots if pivot.split == "train"]
        self.heldout = thin([pivot for pivot in pivots if pivot.split == "heldout"], config.eval_limit, config.seed)
        if not self.pivots:
            raise BadInput(
                f"no pivots to train on ({len(pivots)} given, all held out)"
                if pivots
                else "no pivots: profile and filter first, and see what the filter dropped",
                field="pivots",
            )
        if config.curriculum is not None:
            for pivot in self.pivots:
                pass_rate(pivot)  # refuses pivots that were never profiled
        source = ReferenceSource(config, policy)
        settings = self._settings(policy, source, verifier)
        self.ranks.once(lambda: claim(out / "settings.json", settings, [out / METRICS, out / "checkpoints"]))
        torch.set_num_threads(self.ranks.once(torch.get_num_threads))
        self.learner = make_learner(
            policy, config, source, kind=self._learner_class(), own_sampler=config.async_rollouts
        )
        self._tokenizer = policy.tokenizer
        self.sampler = make_sampler(config, self.learner, policy, out, kind=self._policy_class())
        self.policy: Policy = self.sampler.policy
        self.runner = TurnRunner(
            verifier or config.verifier,
            env_options=config.env_options,
            workers=config.workers,
            attempts=config.attempts,
            place=place,
            ranks=self.ranks,
        )
        self.checkpoints = Checkpoints(out / "checkpoints", config.keep, self.ranks)
        self.updater = Updater(self.learner, config, source.reference(self.learner), self.ranks)
        self._ahead = Ahead() if config.async_rollouts else None

    def run(self, progress: Progress) -> TrainResult:
        """All steps that are still to do."""
        config, metrics = self.config, self.out / METRICS
        state = self.checkpoints.resume(self.learner)
        done = 0 if state is None else int(state["step"])
        self.updater.updates = 0 if state is None else int(state["updates"])
        self.learner.skipped_in_row = 0 if state is None else int(state.get("skipped_in_row", 0))
        self.ranks.once(lambda: truncate(metrics, 0 if state is None else int(state["metrics_bytes"])))
        if state is not None and self._ahead is not None:
            self._ahead.load(self.checkpoints.all()[-1] / AHEAD, self._candidates)
        if state is None:
            self.evaluate(0, progress)
            self._save(0)
        progress("train", done, config.steps, {})
        for number in range(done + 1, config.steps + 1):
            with CostMeter(self._timings, "train", number, self.policy) as meter:
                row = self.step(number, meter)
            self._append(row)
            last = number == config.steps
            if last or (config.eval_every and number % config.eval_every == 0):
                self.evaluate(number, progress)
            if last or number % config.save_every == 0:
                self._save(number)
            progress("train", number, config.steps, row)
        return self._finish(max(done, config.steps))

    # One step -------------------------------------------------------------------------------------------------

    def step(self, number: int, meter: CostMeter) -> JsonObject:
        """Step ``number`` (from 1): returns its row of ``metrics.jsonl``."""
        config, ahead = self.config, self._ahead
        found = None if ahead is None else ahead.take(number)
        if found is None:
            found = self.rollouts(number), self.updater.updates
            _count(found[0], meter)
        results, sampled_at = found
        if ahead is not None and number < config.steps:
            self.sampler.refresh()  # takes over the last update, and stays there during the next
            ahead.begin(number + 1, self.updater.updates, lambda: self.rollouts(number + 1, refresh=False))
        age = {} if ahead is None else {"updates_behind": self.updater.updates - sampled_at}
        groups = [result for result in results if result.status == "ok"]
        if not groups:
            raise InfrastructureError(f"no action of step {number} got a verdict: {results[0].error}")

        completions = [completion for result in groups for completion in result.completions]
        rewards = [reward for result in groups for reward in result.rewards]
        shaped = shape(
            completions,
            torch.tensor(rewards, dtype=torch.float64),
            config.group,
            scale=config.scale,
            baseline=config.baseline,
            max_length=config.max_tokens,
            overlong=config.overlong,
            overlong_buffer=config.overlong_buffer,
            overlong_weight=config.overlong_weight,
            malformed=config.malformed,
            malformed_advantage=config.malformed_advantage,
        )
        batch, signal = self._trained(groups, shaped)
        skipped = self.learner.skipped
        figures = self.updater.update(batch, meter) if batch.groups else dict.fromkeys(FIGURES, None)
        if ahead is not None:
            _count(ahead.wait(), meter)
        return {
            "kind": "train",
            "step": number,
            "epoch": (number * config.batch - 1) // len(self.pivots),
            "reward_mean": fmean(rewards),
            "reward_std": pstdev(rewards),
            "groups": len(groups),
            "groups_with_signal": signal,
            "groups_zero_variance": sum(len(set(result.rewards)) == 1 for result in groups),
            "groups_all_right": sum(min(result.rewards) >= 1 for result in groups),
            "groups_all_wrong": sum(max(result.rewards) <= 0 for result in groups),
            "groups_excluded": len(results) - len(groups),
            "malformed": sum(result.malformed for result in groups) / len(completions),
            "cut_off": sum(completion.stop_reason == "length" for completion in completions) / len(completions),
            "masked": 1 - float(shaped.trained_N.float().mean()),
            "prompt_tokens": sum(len(result.completions[0].prompt_ids) for result in groups),
            "sampled_tokens": sum(len(completion.token_ids) for completion in completions),
            **age,
            **figures,
            "updates_skipped": self.learner.skipped - skipped,
        }

    def rollouts(self, number: int, *, refresh: bool = True) -> list[TurnResult]:
        """Sampled and judged actions for step ``number``, from the sampler's weights.

        Args:
            number: of the step, from 1.
            refresh: the sampler takes over the last update first.
        """
        config = self.config
        sampling = Sampling(
            config.temperature, config.top_p, config.max_tokens, derive_seed(config.seed, "step", number)
        )
        if refresh:
            self.sampler.refresh()
        return self.runner.run(self.policy, self._candidates(number), config.group, sampling)

    def _candidates(self, number: int) -> list[Candidate]:
        return [pivot.candidate for pivot in self.batch(number)]

    def _trained(self, groups: list[TurnResult], shaped: Shaped) -> tuple[Batch, int]:
        """What the update needs of the judged groups, and how many of them have a gradient."""
        config = self.config
        found: list[Group] = []
        sampled: list[list[float]] = []
        advantages: list[Tensor] = []
        denominator, signal = 0.0, 0
        parts = zip(*(torch.split(x_N, config.group) for x_N in (shaped.advantages_N, shaped.trained_N)), strict=True)
        for result, (advantages_G, trained_G) in zip(groups, parts, strict=True):
            # One denominator, over all judged groups: how large a step is must not depend on how many have a gradient.
            # The packs' gradients add up to the batch's.
            mask_GT = _mask(result) & trained_G[:, None]
            denominator += loss_denominator(mask_GT, config.aggregate, config.max_tokens)
            has_gradient = bool((advantages_G[trained_G].abs() > NO_ADVANTAGE).any())
            signal += has_gradient
            # Equal rewards have advantage 0: no gradient, so no forward pass either, unless the KL asks for one.
            kept = [index for index in trained_G.nonzero()[:, 0].tolist() if has_gradient or config.beta > 0]
            if not kept:
                continue
            prompt_ids = result.completions[0].prompt_ids
            assert prompt_ids and all(completion.prompt_ids == prompt_ids for completion in result.completions)
            found.append((prompt_ids, [result.completions[index].token_ids for index in kept]))
            sampled += [result.completions[index].logprobs for index in kept]
            advantages.append(advantages_G[kept])
        together_N = torch.cat(advantages) if advantages else torch.zeros(0)
        return Batch(found, sampled, together_N, denominator), signal

    # Around the steps -----------------------------------------------------------------------------------------

    def batch(self, number: int) -> list[Pivot]:
        """The pivots of step ``number``: consecutive slices of seed-shuffled epochs, or the curriculum's draw."""
        config = self.config
        if config.curriculum is not None:
            return config.curriculum.batch(self.pivots, config.batch, number, config.seed)
        return [self.pivots[i] for i in shuffled_batch(len(self.pivots), config.batch, number, config.seed, "epoch")]

    def evaluate(self, number: int, progress: Progress) -> None:
        """Evaluates the held-out pivots, with the same random numbers each time, into ``metrics.jsonl``."""
        if not self.heldout:
            return
        config = self.config
        self.sampler.refresh()
        with CostMeter(self._timings, "evaluate pivots", number, self.policy) as meter:
            found: PivotEvaluation = evaluate_pivots(
                self.policy,
                self.heldout,
                config.eval_rollouts,
                derive_seed(config.seed, "eval"),
                runner=self.runner,
                sampling=Sampling(config.temperature, config.top_p, config.max_tokens),
                progress=progress,
                stage=f"held-out, step {number}",
            )
            meter.cost += found.cost
        row = {"kind": "eval", "step": number, **found.row()}
        self._append(row)

    def _save(self, number: int) -> None:
        metrics = self.out / METRICS
        size = metrics.stat().st_size if metrics.exists() else 0
        tables = None if self._ahead is None else {AHEAD: self._ahead.rows()}
        state = {
            "updates": self.updater.updates,
            "skipped_in_row": self.learner.skipped_in_row,
            "metrics_bytes": size,
        }
        self.checkpoints.save(self.learner, number, state, tables)

    def _append(self, row: JsonObject) -> None:
        self.ranks.once(lambda: append_figures(self.out / METRICS, row))

    @property
    def _timings(self) -> Path | None:
        return self.out if self.ranks.lead else None

    def _learner_class(self) -> Callable[..., Learner]:
        if self.ranks.count == 1:
            return Learner
        from pivotgym.harness.sharded import ShardedLearner

        return partial(ShardedLearner, ranks=self.ranks)

    def _policy_class(self) -> Callable[..., TransformersPolicy]:
        if self.ranks.count == 1:
            return TransformersPolicy
        from pivotgym.harness.sharded import SharedPolicy

        return partial(SharedPolicy, ranks=self.ranks)

    def close(self) -> None:
        """Ends all threads and what samples."""
        if self._ahead is not None:
            self._ahead.close()
        self.runner.close()
        self.sampler.close()

    def _finish(self, steps: int) -> TrainResult:
        self.learner.save_final(self.out / "final", self._tokenizer)
        return self.ranks.once(lambda: self._summary(steps))

    def _summary(self, steps: int) -> TrainResult:
        evaluations = [row for row in read_rows(self.out / METRICS) if row["kind"] == "eval"]
        before, after = (evaluations[0], evaluations[-1]) if evaluations else (None, None)
        gain = None
        if before is not None and after is not None:
            clusters = [split_key(pivot.trajectory, "task") for pivot in self.heldout]
            gain = compare_means(before["means"], after["means"], clusters, self.config.seed).row()
        write_json(
            self.out / "summary.json",
            {
                "method": "pivotrl",
                "steps": steps,
                "train_pivots": len(self.pivots),
                "heldout_pivots": len(self.heldout),
                "before": before and before["reward"],
                "after": after and after["reward"],
                "gain": gain,
            },
        )
        return TrainResult(self.out, self.out / "final", steps, before, after, gain)

    def _settings(self, policy: TransformersPolicy, source: ReferenceSource, verifier: Verifier | None) -> JsonObject:
        settings = {**self.config.results_depend_on(), **source.settings()}
        if verifier is not None:
            settings["verifier"] = f"{type(verifier).__name__} {verifier.name}".strip()
        pivots = (*self.pivots, *self.heldout)
        rows = [[pivot.trajectory.id, trajectory_digest(pivot.trajectory), pivot.turn, pivot.split] for pivot in pivots]
        return {
            "method": "pivotrl",
            **settings,
            **start_settings(self.config.lora, self.config.warm_start),
            "policy": policy.name,
            "policy_fingerprint": policy_fingerprint(policy),
            "pivots": digest(canonical_json(rows)),
        }


def _count(results: Sequence[TurnResult], meter: CostMeter) -> None:
    meter.cost.rollout_turns += sum(len(result.completions) for result in results)
    meter.cost.env_actions += sum(result.env_actions for result in results)


def _mask(result: TurnResult) -> Tensor:
    lengths_G = torch.tensor([len(completion.token_ids) for completion in result.completions])
    return torch.arange(int(lengths_G.max()))[None] < lengths_G[:, None]
