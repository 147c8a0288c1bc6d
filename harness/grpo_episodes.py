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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.formats.jsonl import append_row
from pivotgym.envs.trajectory import JsonObject, Task, canonical_json, digest
from pivotgym.harness.learner import Checkpoints, Learner, start_settings, truncate
from pivotgym.harness.losses import (
    Aggregate,
    Baseline,
    KLEstimator,
    LossMetrics,
    PolicyLoss,
    Scale,
    group_advantages,
    grpo_loss,
    loss_denominator,
    merge_metrics,
)
from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.policies.base import Sampling
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.rollouts import EpisodeResult, run_episodes
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
from pivotgym.harness.turns import make_env

METRICS = "metrics.jsonl"


class EpisodeTrainConfig(BaseModel):
    """How to train on whole episodes.

    Attributes:
        steps: rollout batches at most; a finished run goes on when this is raised.
        budget_turns: no step begins once so many turns were sampled; None leaves it to ``steps``.
        batch: tasks in a step.
        group: episodes of each task.
        inner_epochs: updates on each batch; from the second on the clip matters.
        pack_tokens: episodes go through the model together up to so many tokens; the gradient does not depend on it.
        max_turns: an episode is cut off and scored after so many actions.
        temperature: of the sampling; what is trained is the model's distribution at this temperature.
        top_p: of the sampling; below 1 training is slightly off-policy.
        max_tokens: longest action.
        lora: adapter settings; None trains all weights.
        warm_start: folder of a LoRA adapter to start from, the reference policy too.
        merged_sampler: sample from a copy of the weights with the adapter added in (faster, more memory).
        optim: the optimiser.
        loss: as in :class:`~pivotgym.harness.train_config.TrainConfig`; a completion is a whole episode.
        clip_low: how far the probability ratio may fall below 1.
        clip_high: how far it may rise above 1.
        clip_cap: largest ratio of all, also where the advantage is negative; None is no bound.
        beta: weight of the KL to the reference policy.
        kl: its estimator.
        scale: what advantages are divided by.
        baseline: what is subtracted from rewards.
        aggregate: how token losses are averaged; a sequence is a whole episode.
        env_options: keyword arguments of ``gym.make``.
        seed: fixes everything random.
        save_every: steps between checkpoints.
        keep: checkpoints kept.
        workers: threads that reset and step environments.
        attempts: tries of an episode whose infrastructure fails; then it is excluded and counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(50, ge=1)
    budget_turns: int | None = Field(None, ge=1)
    batch: int = Field(4, ge=1)
    group: int = Field(8, ge=2)
    inner_epochs: int = Field(1, ge=1)
    pack_tokens: int = Field(1024, ge=1)
    max_turns: int = Field(12, ge=1)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(128, ge=1)
    lora: LoraOptions | None = LoraOptions()
    warm_start: Path | None = None
    merged_sampler: bool = True
    optim: OptimOptions = OptimOptions()
    loss: PolicyLoss = "clip"
    clip_low: float = Field(0.2, ge=0, le=1)
    clip_high: float = Field(0.2, ge=0)
    clip_cap: float | None = Field(None, gt=1)
    beta: float = Field(0.0, ge=0)
    kl: KLEstimator = "k3"
    scale: Scale = "group"
    baseline: Baseline = "mean"
    aggregate: Aggregate = "token"
    env_options: JsonObject = Field(default_factory=dict)
    seed: int = 0
    save_every: int = Field(2, ge=1)
    keep: int = Field(2, ge=1)
    workers: int = Field(2, ge=1)
    attempts: int = Field(2, ge=1)

    def results_depend_on(self) -> JsonObject:
        """The fields that change the results of a step."""
        left_out = {"steps", "budget_turns", "save_every", "keep", "workers", "attempts"}
        return self.model_dump(mode="json", exclude=left_out)


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

    Raises:
        BadInput: no tasks, or ``out`` was begun with other settings.
        InfrastructureError: every episode of a step failed; what was finished is kept.
    """
    out = Path(out)
    with exclusive(out / "run"), deterministic():
        return EpisodeTrainer(tasks, policy, config, out).run(progress)


class EpisodeTrainer:
    """One run of :func:`train_episodes`; :meth:`step` is the algorithm."""

    def __init__(
        self, tasks: Sequence[Task], policy: TransformersPolicy, config: EpisodeTrainConfig, out: Path
    ) -> None:
        if not tasks:
            raise BadInput("no tasks to train on", field="tasks")
        if len({task.env for task in tasks}) > 1:
            raise BadInput("tasks of several environments: train on one at a time", field="tasks")
        self.tasks, self.config, self.out = list(tasks), config, out
        settings = {
            "method": "grpo",
            **config.results_depend_on(),
            **start_settings(config.lora, config.warm_start),
            "policy": policy.name,
            "policy_fingerprint": policy_fingerprint(policy),
            "tasks": digest(canonical_json([task.key for task in tasks])),
        }
        claim(out / "settings.json", settings, [out / METRICS, out / "checkpoints"])
        self.learner = Learner(
            policy.model,
            config.lora,
            config.optim,
            warm_start=config.warm_start,
            seed=derive_seed(config.seed, "adapter"),
            reference=config.beta > 0,
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
        self.checkpoints = Checkpoints(out / "checkpoints", config.keep)
        self.updates = 0
        self.turns = 0

    def run(self, progress: Progress) -> EpisodeTrainResult:
        """All steps that are still to do."""
        config, metrics = self.config, self.out / METRICS
        state = self.checkpoints.resume(self.learner)
        number = 0 if state is None else int(state["step"])
        self.updates = 0 if state is None else int(state["updates"])
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
            append_row(metrics, row, fsync=True)
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
        self.learner.sampler()  # takes over the last update
        results = run_episodes(
            _factory(batch[0].env, config.env_options),
            batch,
            self.policy,
            trials=config.group,
            max_turns=config.max_turns,
            batch=len(batch) * config.group,
            sampling=Sampling(config.temperature, config.top_p, config.max_tokens),
            seed=derive_seed(config.seed, "step", number),
            workers=config.workers,
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
        groups = [judged_group for judged_group in _grouped(results, config.group) if judged_group]
        longest = config.max_turns * config.max_tokens
        denominator = sum(loss_denominator(_mask(result), config.aggregate, longest) for result in judged)
        # Advantage 0 has no gradient, so it needs no forward pass either, unless the KL asks for one.
        trained = pairs if config.beta > 0 else [pair for pair in pairs if pair[1] != 0]
        figures = self.update(trained, denominator, meter) if trained else dict.fromkeys(_FIGURES, None)
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
            "groups_all_right": sum(min(group) >= 1 for group in groups),
            "groups_all_wrong": sum(max(group) <= 0 for group in groups),
            "episodes": len(judged),
            "episodes_excluded": len(results) - len(judged),
            "rollout_turns": turns,
            "malformed": sum(result.malformed for result in results) / max(turns, 1),
            "cut_off": sum(result.termination == "max_turns" for result in judged) / len(judged),
            "prompt_tokens": sum(len(completion.prompt_ids) for completion in completions),
            "sampled_tokens": sum(len(completion.token_ids) for completion in completions),
            **figures,
        }

    def update(self, episodes: list[tuple[EpisodeResult, float]], denominator: float, meter: CostMeter) -> JsonObject:
        """The gradient updates on one batch of judged episodes.

        Args:
            episodes: each with its advantage; those without a gradient may be left out.
            denominator: what the summed token losses are divided by, of the whole batch.
            meter: counts the trained tokens.
        """
        config = self.config
        micro = _packs(episodes, config.pack_tokens)
        references = self._reference_logprobs(micro)
        losses: list[float] = []
        norms: list[float | None] = []
        parts: list[LossMetrics] = []
        olds: list[Tensor] = []  # log-probabilities of the policy that sampled, of each micro-batch
        entropy = 0.0
        for epoch in range(config.inner_epochs):
            loss_sum = 0.0
            for place, (pack, reference_ET) in enumerate(zip(micro, references, strict=True)):
                found = self.learner.logprobs(_turns(pack))
                logprobs_ET, mask_ET = episode_rows(found.logprobs_NT, found.mask_NT, _counts(pack))
                if epoch == 0:
                    # The sampler records temperature 1. At another one the learner, still unchanged, says it itself.
                    recorded = config.temperature == 1
                    olds.append(_sampled_logprobs(pack, mask_ET) if recorded else logprobs_ET.detach())
                    entropy += 0.0 if found.entropy_NT is None else float(found.entropy_NT.sum())
                loss, part = grpo_loss(
                    logprobs_ET,
                    olds[place],
                    torch.tensor([advantage for _, advantage in pack], device=logprobs_ET.device),
                    mask_ET,
                    loss=config.loss,
                    ref_logprobs_NT=reference_ET,
                    clip_low=config.clip_low,
                    clip_high=config.clip_high,
                    clip_cap=config.clip_cap,
                    beta=config.beta,
                    kl=config.kl,
                    aggregate=config.aggregate,
                    denominator=denominator,
                    max_length=config.max_turns * config.max_tokens,
                )
                loss.backward()  # type: ignore[no-untyped-call]
                loss_sum += float(loss.detach())
                parts.append(part)
                meter.cost.trained_tokens += part.tokens
            losses.append(loss_sum)
            self.updates += 1
            norms.append(self.learner.update(self.updates))
        tokens = sum(part.tokens for part in parts)
        merged = merge_metrics(parts)
        return {
            "loss": fmean(losses),
            "kl": merged.kl if config.beta > 0 else None,
            "clip_fraction": merged.clip_fraction,
            "ratio_max": merged.ratio_max,
            "old_kl": merged.old_kl,
            "entropy": entropy * config.inner_epochs / tokens,
            "grad_norm": norms[-1],
            "lr": self.learner.lr_at(self.updates),
            "trained_tokens": tokens,
        }

    def _reference_logprobs(self, micro: list[list[tuple[EpisodeResult, float]]]) -> list[Tensor | None]:
        if not self.config.beta > 0:
            return [None] * len(micro)
        with self.learner.reference_model() as model, torch.no_grad():
            found = [self.learner.logprobs(_turns(pack), model) for pack in micro]
        return [
            episode_rows(item.logprobs_NT, item.mask_NT, _counts(pack))[0]
            for item, pack in zip(found, micro, strict=True)
        ]

    # Around the steps -----------------------------------------------------------------------------------------

    def _save(self, number: int) -> None:
        metrics = self.out / METRICS
        size = metrics.stat().st_size if metrics.exists() else 0
        state = {"updates": self.updates, "turns": self.turns, "metrics_bytes": size}
        self.checkpoints.save(self.learner, number, state)

    def _finish(self, steps: int) -> EpisodeTrainResult:
        with whole_folder(self.out / "final") as folder:
            self.learner.save_weights(folder)
            if not self.learner.lora:  # a whole model is loaded by its folder, an adapter beside its base
                self.policy.tokenizer.save_pretrained(str(folder))
        summary = {"method": "grpo", "steps": steps, "rollout_turns": self.turns, "tasks": len(self.tasks)}
        write_json(self.out / "summary.json", summary)
        return EpisodeTrainResult(self.out, self.out / "final", steps, self.turns)


_FIGURES = ("loss", "kl", "clip_fraction", "ratio_max", "old_kl", "entropy", "grad_norm", "lr", "trained_tokens")


def episode_rows(values_NT: Tensor, mask_NT: Tensor, turns: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The tokens of each episode's turns laid end to end.

    Args:
        values_NT: one row a turn, all turns of the first episode first, shape ``(N, T)``.
        mask_NT: which of them are sampled tokens, bool, shape ``(N, T)``.
        turns: of each of the ``E`` episodes; they sum to ``N``.

    Returns:
        Values and mask of shape ``(E, L)``, ``L`` being the most tokens of an episode; differentiable in the values.

    Raises:
        BadInput: the turns do not sum to the rows.
    """
    if sum(turns) != len(values_NT):
        raise BadInput(f"{sum(turns)} turns in {len(values_NT)} rows", field="turns")
    rows, masks, start = [], [], 0
    for count in turns:
        row = values_NT[start : start + count][mask_NT[start : start + count]]
        rows.append(row)
        masks.append(torch.ones(len(row), dtype=torch.bool, device=row.device))
        start += count
    return pad_sequence(rows, batch_first=True), pad_sequence(masks, batch_first=True)


def _factory(env_id: str, options: JsonObject) -> Callable[[], AgentEnv]:
    return lambda: make_env(env_id, options)


def _grouped(results: Sequence[EpisodeResult], size: int) -> list[list[float]]:
    """The rewards of each task's judged episodes."""
    slices = [results[start : start + size] for start in range(0, len(results), size)]
    return [[float(result.reward) for result in group if result.reward is not None] for group in slices]


def _packs(episodes: list[tuple[EpisodeResult, float]], limit: int) -> list[list[tuple[EpisodeResult, float]]]:
    """Neighbouring episodes up to ``limit`` tokens, at least one each.

    An episode is counted as its last turn's prompt and action; where the template renders it anew it is longer.
    """
    packs: list[list[tuple[EpisodeResult, float]]] = []
    held = 0
    for pair in episodes:
        last = pair[0].completions[-1]
        size = len(last.prompt_ids) + len(last.token_ids)
        if packs and held + size <= limit:
            packs[-1].append(pair)
            held += size
        else:
            packs.append([pair])
            held = size
    return packs


def _turns(pack: list[tuple[EpisodeResult, float]]) -> list[tuple[list[int], list[list[int]]]]:
    """Prompt and action of each turn: the very ids the sampler returned; text never enters."""
    return [(completion.prompt_ids, [completion.token_ids]) for result, _ in pack for completion in result.completions]


def _counts(pack: list[tuple[EpisodeResult, float]]) -> list[int]:
    return [len(result.completions) for result, _ in pack]


def _mask(result: EpisodeResult) -> Tensor:
    return torch.ones(1, sum(len(completion.token_ids) for completion in result.completions), dtype=torch.bool)


def _sampled_logprobs(pack: list[tuple[EpisodeResult, float]], mask_ET: Tensor) -> Tensor:
    """What the sampler said of each token, laid out like ``mask_ET``."""
    old_ET = torch.zeros(mask_ET.shape, dtype=torch.float32)
    for row, (result, _) in enumerate(pack):
        said = [logprob for completion in result.completions for logprob in completion.logprobs]
        assert len(said) == int(mask_ET[row].sum())
        old_ET[row, : len(said)] = torch.tensor(said)
    return old_ET.to(mask_ET.device)
