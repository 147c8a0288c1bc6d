"""SFT, end-to-end GRPO and PivotRL from the same start, on the same tasks, with several seeds.

The start is a policy that can do the job and often slips. SFT imitates every turn of the recordings; GRPO plays the
recordings' tasks from beginning to end; PivotRL profiles the recordings' turns and trains on the pivots among them.
GRPO and PivotRL may sample equally many actions, those of profiling included. Then every policy plays the same tasks
with the same random numbers.

Every piece of work is a phase with a folder of its own: ``start``, for each seed ``seed-S/start``, ``seed-S/profile``
and ``seed-S/ARM``, and in the end ``forgetting`` where it is asked for. A phase that is finished says so in
``phase.json`` and is never done again; one that was killed goes on as its stage does
(:mod:`~pivotgym.harness.train` and the others). ``metrics.json`` therefore has the same bytes after any number of
kills; what depends on the day (seconds) is in ``compare.json`` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import JsonObject, Task, Trajectory
from pivotgym.harness.compare_config import Arm, CompareConfig, TaskSet
from pivotgym.harness.compare_forgetting import measure_forgetting
from pivotgym.harness.evaluate import EPISODES, EpisodeConfig, evaluate_episodes
from pivotgym.harness.grpo_episodes import EpisodeTrainConfig, train_episodes
from pivotgym.harness.pivots import FilterConfig, Pivot, filter_file, load_pivots
from pivotgym.harness.policies.transformers_policy import load_transformers_policy
from pivotgym.harness.profiling import ProfileConfig, candidates_of, profile
from pivotgym.harness.reprofiling import Base, LegsConfig, train_in_legs, zero_variance_share
from pivotgym.harness.runs import (
    TIMINGS,
    Cost,
    CostMeter,
    Progress,
    claim,
    derive_seed,
    exclusive,
    no_progress,
    whole_folder,
    write_json,
)
from pivotgym.harness.sequential import savings
from pivotgym.harness.sft import SftConfig, train_sft
from pivotgym.harness.train import METRICS, TrainConfig, train

ENV = "pivotgym/Tools-v0"
PHASE = "phase.json"
_BY_CHANCE = ("seconds", "env_actions")
"""Costs that depend on the day and on what was cached."""


def run_compare(
    config: CompareConfig, out: Path, progress: Progress = no_progress, *, seeds: Sequence[int] | None = None
) -> JsonObject | None:
    """Runs the comparison into ``out``; called again it goes on where it stopped.

    Args:
        config: what is compared.
        out: the folder of all phases.
        progress: called after each piece of work.
        seeds: only these, so that other processes can run the others at the same time; the start is then made by the
            first that comes.

    Returns:
        The figures (:func:`pivotgym.harness.compare_report.figures`), also written to ``compare.json``; None while
        seeds are missing.

    Raises:
        BadInput: settings of a method that are wrong, a seed that is not in ``config``, or ``out`` was begun with
            other settings.
        InfrastructureError: something outside the policies failed for good; what was finished is kept.
    """
    import torch

    from pivotgym.harness.compare_report import write_results

    unknown = sorted(set(seeds or ()) - set(config.seeds))
    if unknown:
        raise BadInput(f"the comparison has no seed {unknown[0]}", field="seeds")
    for named in config.arms:
        arm_settings(config, named, config.seeds[0])
    out = Path(out)
    torch.set_num_threads(config.threads)
    with exclusive(out / "settings"):
        claim(out / "settings.json", config.model_dump(mode="json"))
    base = make_base(config, out, progress)
    chosen = config.seeds if seeds is None else seeds
    works = [_Seed(config, base, seed, out / f"seed-{seed}", progress) for seed in chosen]
    # Each arm with all seeds before the next one: what is finished of a comparison that was given up can be compared.
    for arm in (None, *config.arms):
        for work in works:
            with exclusive(work.out / "run"):
                work.run(arm)
    if not all((out / f"seed-{seed}" / arm.name / PHASE).exists() for seed in config.seeds for arm in config.arms):
        return None
    if config.forgetting is not None:
        measure_forgetting(config, base, out, progress)
    return write_results(config, out)


def phase(folder: Path, work: Callable[[], JsonObject]) -> JsonObject:
    """The result of a piece of work, done once: ``folder/phase.json`` says that it is finished and what came of it."""
    file = folder / PHASE
    if not file.exists():
        write_json(file, work())
    found: JsonObject = json.loads(file.read_text(encoding="utf-8"))
    return found


def nominal_cost(*folders: Path) -> JsonObject:
    """What the work below these folders costs when nothing is done twice: of each piece the last time it was done.

    Returns:
        What the settings and seeds fix, and under ``measured`` what they do not.
    """
    total, processor = Cost(), 0.0
    for file in sorted(file for folder in folders for file in folder.rglob(TIMINGS)):
        last = {(row["stage"], row["part"]): row for row in read_rows(file) if "failed" not in row}
        for row in last.values():
            total += Cost(**{name: row.get(name, 0) for name in Cost.__dataclass_fields__})
            processor += row.get("cpu_seconds", 0.0)
    told = total.row()
    measured = {**{name: told.pop(name) for name in _BY_CHANCE}, "cpu_seconds": round(processor, 3)}
    return {**told, "measured": measured}


# Tasks --------------------------------------------------------------------------------------------------------------


def desk_tasks(wanted: TaskSet) -> list[Task]:
    """The service-desk tasks of a set: the first ``count`` of its kinds, in the order of their index.

    Raises:
        BadInput: there is no such kind of request in the split.
    """
    from pivotgym.envs.tools.servicedesk import make_task
    from pivotgym.envs.tools.servicedesk.scenario import kind_of

    variants: list[str] = []
    while kind_of(len(variants), wanted.split) not in variants:
        variants.append(kind_of(len(variants), wanted.split))
    unknown = sorted({*wanted.kinds, *wanted.without} - set(variants))
    if unknown:
        raise BadInput(f"no requests of kind {unknown[0]!r} in split {wanted.split}", field=f"{wanted.name}.kinds")
    kept = [
        place
        for place, kind in enumerate(variants)
        if (not wanted.kinds or kind in wanted.kinds) and kind not in wanted.without
    ]
    if not kept:
        raise BadInput("no kind of request is left", field=f"{wanted.name}.without")
    indices = (round_ * len(variants) + place for round_ in range(wanted.count) for place in kept)
    return [make_task(wanted.split, index, wanted.seed) for _, index in zip(range(wanted.count), indices, strict=False)]


def desk_recordings(tasks: Iterable[Task]) -> list[Trajectory]:
    """The scripted expert's recordings of these tasks."""
    from pivotgym.envs.snapshots import SnapshotStore
    from pivotgym.envs.tools.env import ToolsEnv
    from pivotgym.envs.tools.servicedesk.generate import record

    env = ToolsEnv(domain="servicedesk", snapshots=SnapshotStore(max_bytes=0))
    try:
        return [record(task, env) for task in tasks]
    finally:
        env.close()


# The start ----------------------------------------------------------------------------------------------------------


def make_base(config: CompareConfig, out: Path, progress: Progress = no_progress) -> Base:
    """Makes the small policy (once) or names the one to load."""
    if config.policy != "small":
        return Base(config.policy, config.warm_start, config.lora is not None)
    from pivotgym.harness.options import OptimOptions
    from pivotgym.harness.policies.small import make_small_policy, parameters, save_policy
    from pivotgym.harness.warm_start import with_other_spellings, with_slips

    folder, options = out / "start", config.start

    def work() -> JsonObject:
        recordings = desk_recordings(desk_tasks(options.tasks))
        if options.other_spellings:
            recordings = with_other_spellings(recordings, options.other_spellings, options.tasks.seed)
        if not (folder / "made").exists():
            with CostMeter(folder, "make", 0), whole_folder(folder / "made") as made:
                save_policy(make_small_policy(recordings[:500], options.small), made)
        slipping = with_slips(recordings, options.slip_rate, options.tasks.seed)
        slipping = [item.model_copy(update={"id": f"{item.id}-slip"}) for item in slipping]
        weights, losses = folder / "made", []
        for stage, epochs, lr, shown in (
            ("expert", options.epochs, options.lr, recordings),
            ("slips", options.slip_epochs, options.slip_lr, [*recordings, *slipping]),
        ):
            settings = SftConfig(
                epochs=epochs,
                batch=options.batch,
                pack_tokens=options.pack_tokens,
                lora=None,
                optim=OptimOptions(lr=lr, warmup=20),
                seed=options.small.seed,
                save_every=20,
            )
            policy = load_transformers_policy(str(weights), name=stage)
            result = train_sft(shown, policy, settings, folder / stage, progress)
            weights = result.weights
            losses.append(result.last_loss)
        return {"parameters": parameters(policy), "losses": losses, "cost": nominal_cost(folder)}

    with exclusive(folder / "run"):
        phase(folder, work)
    return Base(str(folder / "slips" / "final"), None, config.lora is not None)


# One seed -----------------------------------------------------------------------------------------------------------


def arm_settings(config: CompareConfig, arm: Arm, seed: int, steps: int = 1) -> BaseModel:
    """The settings of an arm's training run.

    Raises:
        BadInput: options the method does not have, or with wrong values (names the arm and the field).
    """
    given: JsonObject = {"lora": config.lora, "warm_start": config.warm_start, "seed": seed}
    options = config.options(arm)
    kinds: dict[str, tuple[type[BaseModel], JsonObject]] = {
        "sft": (SftConfig, {}),
        "grpo": (
            EpisodeTrainConfig,
            {
                "steps": 100_000,
                "budget_turns": config.budget_turns,
                "max_turns": config.max_turns,
                "max_tokens": config.max_tokens,
            },
        ),
        "pivotrl": (TrainConfig, {"steps": steps, "max_tokens": config.max_tokens, "eval_every": 0}),
    }
    kind, fixed = kinds[arm.method]
    taken = sorted(set(options) & {*given, *fixed})
    if taken:
        raise BadInput("is set for all arms, or follows from the budget", field=f"{arm.name}.{taken[0]}")
    try:
        return kind.model_validate({**given, **fixed, **options})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(first["msg"], field=".".join([arm.name, *map(str, first["loc"])])) from error
    except BadInput as error:
        raise BadInput(error.problem, field=f"{arm.name}.{error.field}") from error


@dataclass
class _Seed:
    config: CompareConfig
    base: Base
    seed: int
    out: Path
    progress: Progress

    def run(self, arm: Arm | None) -> None:
        """What all arms need, or one arm, as far as it is not finished."""
        if arm is not None:
            self.tell(arm.name, lambda folder: self.arm(arm, folder))
            return
        self.tell("start", lambda folder: self.evaluate(None, folder))
        if any(arm.turns == "pivots" and arm.method == "pivotrl" for arm in self.config.arms):
            self.tell("profile", self.profile)

    @cached_property
    def recordings(self) -> list[Trajectory]:
        """What SFT and PivotRL learn from."""
        return desk_recordings(desk_tasks(self.config.train))

    def tell(self, name: str, work: Callable[[Path], JsonObject]) -> None:
        """One phase, with its name in front of what its stages tell."""

        def progress(stage: str, done: int, total: int, figures: Any) -> None:
            self.progress(f"seed {self.seed}, {name}: {stage}", done, total, figures)

        self.told = progress
        phase(self.out / name, lambda: work(self.out / name))

    def evaluate(self, weights: Path | None, folder: Path) -> JsonObject:
        """Plays every set; the rewards of each task's trials, and what the episodes were like."""
        config, policy = self.config, self.base.sampling(weights)
        sets: JsonObject = {}
        for wanted in config.evaluate:
            tasks = desk_tasks(wanted)
            settings = EpisodeConfig(
                trials=config.trials,
                max_turns=config.max_turns,
                temperature=config.temperature,
                max_tokens=config.max_tokens,
                seed=derive_seed(self.seed, "evaluate", wanted.name),
                chunk=50,
                batch=50 * config.trials,
                keep_messages=False,
            )
            place = folder / "evaluate" / wanted.name
            found = evaluate_episodes(ENV, policy, tasks, settings, place, self.told)
            rewards: dict[str, list[float | None]] = {}
            for row in read_rows(place / EPISODES):
                rewards.setdefault(row["task"], []).append(row["reward"])
            sets[wanted.name] = {
                "rewards": rewards,
                "success": found.success.mean,
                "excluded": found.excluded,
                "turns_mean": found.turns_mean,
                "malformed": found.malformed,
                "ended": found.ended,
            }
        return {"sets": sets}

    def profile_config(self) -> ProfileConfig:
        """How this seed profiles."""
        options = self.config.profile
        stopping = options.stop_error is not None
        return ProfileConfig(
            rollouts=options.rollouts,
            chunk=options.chunk,
            max_tokens=self.config.max_tokens,
            seed=self.seed,
            stop_error=options.stop_error,
            stop_margin=options.stop_margin,
            stop_above=options.max_mean if stopping else None,
        )

    def filter_config(self) -> FilterConfig:
        """What this seed keeps: held-out tasks are other tasks, so no pivot is held out."""
        return FilterConfig(max_mean=self.config.profile.max_mean, heldout=0.0, seed=self.seed)

    def profile(self, folder: Path) -> JsonObject:
        """Profiles the start and keeps its pivots."""
        settings = self.profile_config()
        rows = profile(self.recordings, self.base.sampling(), settings, folder / "profile.jsonl", self.told)
        report = filter_file(folder / "profile.jsonl", folder / "pivots.jsonl", self.filter_config())
        options = settings.sequential
        saved = None if options is None else savings(rows, settings.rollouts, options).row()
        turns = sum(len(row["rewards"]) for row in rows)
        return {
            "turns": turns,
            "candidates": report.candidates,
            "pivots": report.kept,
            "dropped": report.dropped,
            "savings": saved,
            "cost": nominal_cost(folder),
        }

    def arm(self, arm: Arm, folder: Path) -> JsonObject:
        """Trains an arm and evaluates what it became."""
        trained = {"sft": self.sft, "grpo": self.grpo, "pivotrl": self.pivotrl}[arm.method](arm, folder / "train")
        weights = Path(trained.pop("weights"))
        profiled = arm.turns == "pivots" and arm.method == "pivotrl"
        cost = nominal_cost(folder / "train", *([self.out / "profile"] if profiled else []))
        evaluated = self.evaluate(weights, folder)
        kept = weights.relative_to(self.out).as_posix()
        return {"method": arm.method, "weights": kept, **trained, "cost": cost, **evaluated}

    def sft(self, arm: Arm, folder: Path) -> JsonObject:
        """Imitates every turn of the recordings."""
        settings = arm_settings(self.config, arm, self.seed)
        assert isinstance(settings, SftConfig)
        result = train_sft(self.recordings, self.base.training(), settings, folder, self.told)
        curve = [
            {"step": row["step"], "turns": 0, "loss": row["loss"]}
            for row in read_rows(folder / METRICS)
            if row["kind"] == "sft"
        ]
        return {"steps": result.steps, "zero_variance": None, "curve": curve, "weights": str(result.weights)}

    def grpo(self, arm: Arm, folder: Path) -> JsonObject:
        """Plays whole episodes of the recordings' tasks."""
        settings = arm_settings(self.config, arm, self.seed)
        assert isinstance(settings, EpisodeTrainConfig)
        tasks = desk_tasks(self.config.train)
        result = train_episodes(tasks, self.base.training(), settings, folder, self.told)
        rows = [row for row in read_rows(folder / METRICS) if row["kind"] == "episodes"]
        curve = _curve(rows, 0, [row["rollout_turns"] for row in rows])
        told = {"steps": result.steps, "zero_variance": zero_variance_share(rows), "curve": curve}
        return {**told, "weights": str(result.weights)}

    def pivotrl(self, arm: Arm, folder: Path) -> JsonObject:
        """Trains on single turns: pivots, or all turns of the recordings."""
        first = arm_settings(self.config, arm, self.seed)
        assert isinstance(first, TrainConfig)
        spent = 0
        if arm.turns == "pivots":
            spent = int(json.loads((self.out / "profile" / PHASE).read_text(encoding="utf-8"))["turns"])
            pivots = load_pivots(self.out / "profile" / "pivots.jsonl")
        else:
            pivots = [
                Pivot(trajectory=candidate.trajectory, turn=candidate.turn)
                for candidate in candidates_of(self.recordings, self.profile_config())
            ]
        size = first.batch * first.group
        left = self.config.budget_turns - spent
        if left < size:
            raise BadInput(
                f"profiling took {spent} of {self.config.budget_turns} turns, which leaves no step of {size}",
                field="budget_turns",
            )
        if arm.reprofile is not None:
            legs = train_in_legs(
                pivots,
                self.recordings,
                self.base,
                first,
                self.profile_config(),
                self.filter_config(),
                LegsConfig(threshold=arm.reprofile),
                left,
                folder,
                self.told,
            )
            rows = [row for number in range(len(legs.legs)) for row in _rows(folder / f"leg-{number + 1}" / "train")]
            weights, steps, told = legs.weights, legs.steps, {"legs": legs.legs}
        else:
            settings = arm_settings(self.config, arm, self.seed, left // size)
            assert isinstance(settings, TrainConfig)
            result = train(pivots, self.base.training(), settings, folder, self.told)
            rows, weights, steps, told = _rows(folder), result.weights, result.steps, {}
        return {
            "steps": steps,
            "pivots": len(pivots),
            "zero_variance": zero_variance_share(rows),
            "curve": _curve(rows, spent, [size] * len(rows)),
            **told,
            "weights": str(weights),
        }


def _rows(folder: Path) -> list[JsonObject]:
    return [row for row in read_rows(folder / METRICS) if row["kind"] == "train"]


def _curve(rows: Sequence[JsonObject], spent: int, turns: Sequence[int]) -> list[JsonObject]:
    """Reward and signal along the sampled turns, ``spent`` of them before the first step."""
    curve = []
    for row, more in zip(rows, turns, strict=True):
        spent += more
        signal = row["groups_with_signal"] / row["groups"] if row["groups"] else 0.0
        curve.append({"step": row["step"], "turns": spent, "reward": row["reward_mean"], "signal": signal})
    return curve
