"""Turn-level reinforcement learning: sample at pivots, judge in forks, update, save. The whole loop is in this file.

One step: take ``batch`` pivots; restore their states; sample ``group`` actions at each from the current policy;
judge every action by executing it in a fork; advantages within each pivot's group; one clipped policy-gradient
update on exactly the sampled token ids (``inner_epochs`` of them on request); append a row to ``metrics.jsonl``.

Every step is a function of the settings, the seed, its number and the weights before it. A checkpoint holds weights,
optimiser and how long ``metrics.jsonl`` was, so a run killed at any moment continues as if nothing had happened:
same metrics, same weights, to the byte (given the same machine and number of threads).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.formats.jsonl import append_row, read_rows
from pivotgym.envs.trajectory import JsonObject, canonical_json, digest
from pivotgym.harness.evaluate import PivotEvaluation, compare_means, evaluate_pivots
from pivotgym.harness.learner import Checkpoints, Learner, start_settings, truncate
from pivotgym.harness.losses import (
    Aggregate,
    Baseline,
    LossMetrics,
    Scale,
    group_advantages,
    grpo_loss,
    loss_denominator,
    merge_metrics,
)
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import Pivot, thin
from pivotgym.harness.policies.base import Sampling
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.profiling import split_key, trajectory_digest
from pivotgym.harness.runs import (
    CostMeter,
    Progress,
    claim,
    derive_seed,
    deterministic,
    exclusive,
    no_progress,
    policy_fingerprint,
    shuffled_batch,
    whole_folder,
    write_json,
)
from pivotgym.harness.turns import TurnResult, TurnRunner
from pivotgym.verifiers.base import Verifier

METRICS = "metrics.jsonl"


class TrainConfig(BaseModel):
    """How to train on pivots.

    Attributes:
        steps: rollout batches in all; a finished run goes on when this is raised.
        batch: pivots in a step.
        group: actions sampled at each pivot.
        inner_epochs: updates on each batch; from the second on the clip matters.
        micro_batch: pivots in one forward and backward pass; the gradient does not depend on it.
        temperature: of the sampling; what is trained is the model's distribution at this temperature.
        top_p: of the sampling; the loss takes the sampled tokens as drawn from the whole distribution, so below 1
            training is slightly off-policy.
        max_tokens: longest action.
        lora: adapter settings; None trains all weights.
        warm_start: folder of a LoRA adapter to start from; it is then the reference policy too. Its rank and targets
            replace those of ``lora``; where all weights train it is merged into them first.
        merged_sampler: sample from a copy of the weights with the adapter added in (faster, more memory).
        optim: the optimiser.
        clip_low: how far the probability ratio may fall below 1.
        clip_high: how far it may rise above 1.
        beta: weight of the KL to the reference policy.
        measure_kl: compute that KL even where ``beta`` is 0 (costs one forward pass).
        scale: what advantages are divided by.
        baseline: what is subtracted from rewards.
        aggregate: how token losses are averaged.
        verifier: spec, ``default`` for the environment's own.
        env_options: keyword arguments of ``gym.make``.
        seed: fixes everything random.
        eval_every: held-out pivots are evaluated before, every so many steps, and after; 0 only before and after.
        eval_rollouts: actions sampled at each held-out pivot.
        eval_limit: at most so many held-out pivots.
        save_every: steps between checkpoints.
        keep: checkpoints kept.
        workers: threads that restore and judge.
        attempts: tries before a failure of the infrastructure is recorded as one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(50, ge=1)
    batch: int = Field(8, ge=1)
    group: int = Field(8, ge=2)
    inner_epochs: int = Field(1, ge=1)
    micro_batch: int = Field(2, ge=1)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(128, ge=1)
    lora: LoraOptions | None = LoraOptions()
    warm_start: Path | None = None
    merged_sampler: bool = True
    optim: OptimOptions = OptimOptions()
    clip_low: float = Field(0.2, ge=0, lt=1)
    clip_high: float = Field(0.2, ge=0)
    beta: float = Field(0.0, ge=0)
    measure_kl: bool = False
    scale: Scale = "group"
    baseline: Baseline = "mean"
    aggregate: Aggregate = "token"
    verifier: str = "default"
    env_options: JsonObject = Field(default_factory=dict)
    seed: int = 0
    eval_every: int = Field(10, ge=0)
    eval_rollouts: int = Field(4, ge=1)
    eval_limit: int | None = Field(None, ge=1)
    save_every: int = Field(5, ge=1)
    keep: int = Field(2, ge=1)
    workers: int = Field(2, ge=1)
    attempts: int = Field(3, ge=1)

    def results_depend_on(self) -> JsonObject:
        """The fields that change the results of a step."""
        return self.model_dump(mode="json", exclude={"steps", "save_every", "keep", "workers", "attempts"})


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

    Raises:
        BadInput: no pivots to train on, or ``out`` was begun with other settings.
        InfrastructureError: a whole batch failed; what was finished is kept.
    """
    out = Path(out)
    with exclusive(out / "run"), deterministic():
        trainer = Trainer(pivots, policy, config, out, verifier)
        try:
            return trainer.run(progress)
        finally:
            trainer.runner.close()


class Trainer:
    """One run of :func:`train`; :meth:`step` is the algorithm."""

    def __init__(
        self,
        pivots: Sequence[Pivot],
        policy: TransformersPolicy,
        config: TrainConfig,
        out: Path,
        verifier: Verifier | None = None,
    ) -> None:
        self.config, self.out = config, out
        self.pivots = [pivot for pivot in pivots if pivot.split == "train"]
        self.heldout = thin([pivot for pivot in pivots if pivot.split == "heldout"], config.eval_limit, config.seed)
        if not self.pivots:
            raise BadInput(
                f"no pivots to train on ({len(pivots)} given, all held out)"
                if pivots
                else "no pivots: profile and filter first, and see what the filter dropped",
                field="pivots",
            )
        claim(out / "settings.json", self._settings(policy, verifier), [out / METRICS, out / "checkpoints"])
        self.learner = Learner(
            policy.model,
            config.lora,
            config.optim,
            warm_start=config.warm_start,
            seed=derive_seed(config.seed, "adapter"),
            reference=config.beta > 0 or config.measure_kl,
            merged_sampler=config.merged_sampler,
            temperature=config.temperature,
        )
        self.policy = TransformersPolicy(
            self.learner.sampler(),
            policy.tokenizer,
            name=policy.name,
            template_args=policy.format.template_args,
            limits=policy.limits,
        )
        self.runner = TurnRunner(
            verifier or config.verifier,
            env_options=config.env_options,
            workers=config.workers,
            attempts=config.attempts,
        )
        self.checkpoints = Checkpoints(out / "checkpoints", config.keep)
        self.updates = 0

    def run(self, progress: Progress) -> TrainResult:
        """All steps that are still to do."""
        config, metrics = self.config, self.out / METRICS
        state = self.checkpoints.resume(self.learner)
        done = 0 if state is None else int(state["step"])
        self.updates = 0 if state is None else int(state["updates"])
        truncate(metrics, 0 if state is None else int(state["metrics_bytes"]))
        if state is None:
            self.evaluate(0, progress)
            self._save(0)
        progress("train", done, config.steps, {})
        for number in range(done + 1, config.steps + 1):
            with CostMeter(self.out, "train", number, self.policy) as meter:
                row = self.step(number, meter)
            append_row(metrics, row, fsync=True)
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
        config = self.config
        batch = self.batch(number)
        sampling = Sampling(
            config.temperature, config.top_p, config.max_tokens, derive_seed(config.seed, "step", number)
        )
        self.learner.sampler()  # takes over the last update
        results = self.runner.run(self.policy, [pivot.candidate for pivot in batch], config.group, sampling)
        meter.cost.rollout_turns += sum(len(result.completions) for result in results)
        meter.cost.env_actions += sum(result.env_actions for result in results)
        groups = [result for result in results if result.status == "ok"]
        if not groups:
            raise InfrastructureError(f"no action of step {number} got a verdict: {results[0].error}")

        rewards_N = torch.tensor([reward for result in groups for reward in result.rewards], dtype=torch.float64)
        advantages_N = group_advantages(rewards_N, config.group, scale=config.scale, baseline=config.baseline).float()
        judged = list(zip(groups, torch.split(advantages_N, config.group), strict=True))
        signal = [(result, advantages_G) for result, advantages_G in judged if len(set(result.rewards)) > 1]
        # Equal rewards have advantage 0: no gradient, so no forward pass either, unless the KL asks for one.
        chosen = judged if config.beta > 0 else signal
        # One denominator, over all judged groups: how large a step is must not depend on how many have a gradient.
        # The micro-batches' gradients add up to the batch's.
        denominator = sum(loss_denominator(_mask(result), config.aggregate, config.max_tokens) for result in groups)
        figures = self.update(chosen, denominator, meter) if chosen else dict.fromkeys(_FIGURES, None)

        completions = [completion for result in groups for completion in result.completions]
        rewards = rewards_N.tolist()
        return {
            "kind": "train",
            "step": number,
            "epoch": (number * config.batch - 1) // len(self.pivots),
            "reward_mean": fmean(rewards),
            "reward_std": pstdev(rewards),
            "groups": len(groups),
            "groups_with_signal": len(signal),
            "groups_all_right": sum(min(result.rewards) >= 1 for result in groups),
            "groups_all_wrong": sum(max(result.rewards) <= 0 for result in groups),
            "groups_excluded": len(results) - len(groups),
            "malformed": sum(result.malformed for result in groups) / len(completions),
            "cut_off": sum(completion.stop_reason == "length" for completion in completions) / len(completions),
            "prompt_tokens": sum(len(result.completions[0].prompt_ids) for result in groups),
            "sampled_tokens": sum(len(completion.token_ids) for completion in completions),
            **figures,
        }

    def update(self, judged: list[tuple[TurnResult, Tensor]], denominator: float, meter: CostMeter) -> JsonObject:
        """The gradient updates on one batch of judged groups.

        Args:
            judged: each pivot's result with the advantages of its completions, ``(G,)``; groups that have no gradient
                may be left out.
            denominator: what the summed token losses are divided by, of the whole batch.
            meter: counts the trained tokens.
        """
        config = self.config
        micro = [judged[start : start + config.micro_batch] for start in range(0, len(judged), config.micro_batch)]
        references = self._reference_logprobs(micro)
        losses: list[float] = []
        norms: list[float | None] = []
        parts: list[LossMetrics] = []
        olds: list[Tensor] = []  # log-probabilities of the policy that sampled, of each micro-batch
        entropy = 0.0
        for epoch in range(config.inner_epochs):
            loss_sum = 0.0
            for place, (groups, reference_NT) in enumerate(zip(micro, references, strict=True)):
                logprobs_NT, mask_NT, entropy_NT = self.learner.logprobs(_tokens(groups))
                if epoch == 0:
                    # The sampler records temperature 1. At another one the learner, still unchanged, says it itself.
                    recorded = config.temperature == 1
                    olds.append(_sampled_logprobs(groups, mask_NT) if recorded else logprobs_NT.detach())
                loss, part = grpo_loss(
                    logprobs_NT,
                    olds[place],
                    torch.cat([advantages_G for _, advantages_G in groups]).to(logprobs_NT.device),
                    mask_NT,
                    ref_logprobs_NT=reference_NT,
                    clip_low=config.clip_low,
                    clip_high=config.clip_high,
                    beta=config.beta,
                    aggregate=config.aggregate,
                    denominator=denominator,
                    max_length=config.max_tokens,
                )
                loss.backward()  # type: ignore[no-untyped-call]
                loss_sum += float(loss.detach())
                parts.append(part)
                meter.cost.trained_tokens += part.tokens
                if epoch == 0 and entropy_NT is not None:
                    entropy += float(entropy_NT.sum())
            losses.append(loss_sum)
            self.updates += 1
            norms.append(self.learner.update(self.updates))
        tokens = sum(part.tokens for part in parts)
        merged = merge_metrics(parts)
        return {
            "loss": fmean(losses),
            "kl": merged.kl if references[0] is not None else None,
            "clip_fraction": merged.clip_fraction,
            "ratio_max": merged.ratio_max,
            "old_kl": merged.old_kl,
            "entropy": entropy * config.inner_epochs / tokens,
            "grad_norm": norms[-1],
            "lr": self.learner.lr_at(self.updates),
            "trained_tokens": tokens,
        }

    def _reference_logprobs(self, micro: list[list[tuple[TurnResult, Tensor]]]) -> list[Tensor | None]:
        if not (self.config.beta > 0 or self.config.measure_kl):
            return [None] * len(micro)
        with self.learner.reference_model() as model, torch.no_grad():
            return [self.learner.logprobs(_tokens(groups), model).logprobs_NT for groups in micro]

    # Around the steps -----------------------------------------------------------------------------------------

    def batch(self, number: int) -> list[Pivot]:
        """The pivots of step ``number``: consecutive slices of seed-shuffled epochs."""
        config = self.config
        return [self.pivots[i] for i in shuffled_batch(len(self.pivots), config.batch, number, config.seed, "epoch")]

    def evaluate(self, number: int, progress: Progress) -> None:
        """Evaluates the held-out pivots, with the same random numbers each time, into ``metrics.jsonl``."""
        if not self.heldout:
            return
        config = self.config
        self.learner.sampler()
        with CostMeter(self.out, "evaluate pivots", number, self.policy) as meter:
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
        append_row(self.out / METRICS, row, fsync=True)

    def _save(self, number: int) -> None:
        metrics = self.out / METRICS
        size = metrics.stat().st_size if metrics.exists() else 0
        self.checkpoints.save(self.learner, number, {"updates": self.updates, "metrics_bytes": size})

    def _finish(self, steps: int) -> TrainResult:
        with whole_folder(self.out / "final") as folder:
            self.learner.save_weights(folder)
            if not self.learner.lora:  # a whole model is loaded by its folder, an adapter beside its base
                self.policy.tokenizer.save_pretrained(str(folder))
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

    def _settings(self, policy: TransformersPolicy, verifier: Verifier | None) -> JsonObject:
        settings = self.config.results_depend_on()
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


_FIGURES = ("loss", "kl", "clip_fraction", "ratio_max", "old_kl", "entropy", "grad_norm", "lr", "trained_tokens")


def _tokens(groups: list[tuple[TurnResult, Tensor]]) -> list[tuple[list[int], list[list[int]]]]:
    """Prompt and completions of each pivot: the very ids the sampler returned; text never enters."""
    found = []
    for result, _ in groups:
        prompt_ids = result.completions[0].prompt_ids
        assert prompt_ids and all(completion.prompt_ids == prompt_ids for completion in result.completions)
        found.append((prompt_ids, [completion.token_ids for completion in result.completions]))
    return found


def _mask(result: TurnResult) -> Tensor:
    lengths_G = torch.tensor([len(completion.token_ids) for completion in result.completions])
    return torch.arange(int(lengths_G.max()))[None] < lengths_G[:, None]


def _sampled_logprobs(groups: list[tuple[TurnResult, Tensor]], mask_NT: Tensor) -> Tensor:
    """What the sampler said of each token, laid out like ``mask_NT``."""
    old_NT = torch.zeros(mask_NT.shape, dtype=torch.float32)
    completions = [completion for result, _ in groups for completion in result.completions]
    for row, completion in enumerate(completions):
        assert len(completion.logprobs) == len(completion.token_ids) == int(mask_NT[row].sum())
        old_NT[row, : len(completion.logprobs)] = torch.tensor(completion.logprobs)
    return old_NT.to(mask_NT.device)
