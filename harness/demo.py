"""The whole loop on one CPU: restore, profile, filter, evaluate, train, evaluate, forgetting, report.

Bundled service-desk recordings, the embedded 135 M parameter model, and a shipped warm-start adapter made by
:mod:`pivotgym.harness.warm_start` from a disjoint set of trajectories, a part of them with slips; its cost is told
apart. Every stage is resumable, so a killed demo goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from pivotgym.envs.trajectory import JsonObject
from pivotgym.harness.runs import Progress, claim, write_json
from pivotgym.harness.warm_start import shipped_adapter, splits


class DemoConfig(BaseModel):
    """What the demo does; the defaults fit two cores and 20 minutes.

    Attributes:
        seed: fixes everything random. The settings below were chosen with seed 0; results are reported with others.
        trajectories: recordings profiled (of those the warm start has not seen).
        candidates: turns profiled, drawn at random.
        rollouts: actions sampled at each (K).
        max_mean: filter: candidates above this mean reward are too easy.
        heldout: share of the trajectories whose pivots are held out.
        steps: training steps.
        batch: pivots in a step.
        group: actions sampled at each (G).
        lr: learning rate.
        eval_rollouts: actions sampled at each held-out pivot, before and after.
        eval_limit: at most so many held-out pivots.
        episodes: tasks of the ``heldout`` split played to the end, before and after.
        max_tokens: longest action.
        forgetting: items in each part of a short held-out suite, asked of the base model, the warm start and the
            trained policy (``pivotgym forget`` asks more); 0 leaves it out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 1
    trajectories: int = Field(200, ge=2)
    candidates: int = Field(112, ge=2)
    rollouts: int = Field(8, ge=2)
    max_mean: float = Field(0.8, gt=0, le=1)
    heldout: float = Field(0.4, gt=0, lt=1)
    steps: int = Field(16, ge=1)
    batch: int = Field(6, ge=1)
    group: int = Field(8, ge=2)
    lr: float = Field(3e-4, gt=0)
    eval_rollouts: int = Field(8, ge=1)
    eval_limit: int = Field(32, ge=1)
    episodes: int = Field(24, ge=1)
    max_tokens: int = Field(72, ge=8)
    forgetting: int = Field(12, ge=0)


@dataclass(frozen=True)
class DemoResult:
    """Where the demo's results are, and the figures of its report."""

    folder: Path
    page: Path
    figures: JsonObject


def run_demo(config: DemoConfig, out: Path, progress: Progress, console: Console) -> DemoResult:
    """Runs the loop into ``out`` and writes ``out/report.html``; called again it goes on where it stopped.

    Raises:
        BadInput: ``out`` was begun with other settings.
        InfrastructureError: the embedded model cannot be had.
    """
    from pivotgym.envs.formats import save_trajectories
    from pivotgym.harness.pivots import FilterConfig, filter_file, load_pivots
    from pivotgym.harness.policies import load_policy
    from pivotgym.harness.profiling import ProfileConfig, profile
    from pivotgym.harness.report import build_report, report_figures

    out.mkdir(parents=True, exist_ok=True)
    claim(out / "demo.settings.json", config.model_dump(mode="json"))
    _write_run(out, config)
    adapter = shipped_adapter()
    reference = f"embedded+{adapter}"
    recordings = splits()[0][: config.trajectories]
    save_trajectories(out / "trajectories.jsonl", recordings)
    console.rule("restore: every turn, compared with its recording")
    _restore(out, progress)

    console.rule("profile: K actions of the frozen reference at each candidate, judged by execution")
    profile_config = ProfileConfig(
        rollouts=config.rollouts, max_tokens=config.max_tokens, limit=config.candidates, seed=config.seed, chunk=8
    )
    (out / "profile").mkdir(exist_ok=True)
    policy = load_policy(reference)
    profile(recordings, policy, profile_config, out / "profile" / "profile.jsonl", progress)

    pivots_file = out / "profile" / "pivots.jsonl"
    filter_config = FilterConfig(max_mean=config.max_mean, heldout=config.heldout, seed=config.seed)
    filtered = filter_file(out / "profile" / "profile.jsonl", pivots_file, filter_config)
    write_json(pivots_file.with_suffix(".filter.json"), filtered.row())
    console.print(
        f"{filtered.kept} pivots of {filtered.candidates} candidates: {filtered.train} to train on, "
        f"{filtered.heldout} held out (no trajectory in both); dropped: "
        + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in filtered.dropped.items() if count),
        highlight=False,
    )

    console.rule("evaluate: whole episodes on held-out tasks, before training")
    _episodes(policy, config, out / "evaluate" / "before", progress)
    del policy

    console.rule("train: GRPO on single turns, held-out pivots evaluated before and after")
    result = _train(load_pivots(pivots_file), adapter, config, out / "train", progress)

    console.rule("evaluate: the same episodes after training")
    _episodes(load_policy(f"embedded+{result}"), config, out / "evaluate" / "after", progress)

    if config.forgetting:
        console.rule("forgetting: a short held-out suite, asked of the base model too")
        _forgetting(config, reference, f"embedded+{result}", out / "forgetting", progress)
    return DemoResult(out, build_report(out), report_figures(out))


def _restore(out: Path, progress: Progress) -> None:
    from pivotgym.harness.restoring import restore_file

    if not (out / "restore.json").exists():
        summary = restore_file(
            out / "trajectories.jsonl", progress=lambda done, total: progress("restore", done, total, {})
        )
        write_json(out / "restore.json", summary.model_dump(mode="json"))


def _train(pivots: Sequence[Any], adapter: Path, config: DemoConfig, out: Path, progress: Progress) -> Path:
    from pivotgym.harness.options import OptimOptions
    from pivotgym.harness.policies import load_policy
    from pivotgym.harness.policies.transformers_policy import TransformersPolicy
    from pivotgym.harness.train import TrainConfig, train

    policy = load_policy("embedded")
    assert isinstance(policy, TransformersPolicy)
    settings = TrainConfig(
        steps=config.steps,
        batch=config.batch,
        group=config.group,
        micro_batch=2,
        max_tokens=config.max_tokens,
        warm_start=adapter,
        optim=OptimOptions(lr=config.lr, warmup=1),
        seed=config.seed,
        eval_every=0,
        eval_rollouts=config.eval_rollouts,
        eval_limit=config.eval_limit,
        save_every=1,
    )
    return train(pivots, policy, settings, out, progress).weights


def _episodes(policy: Any, config: DemoConfig, out: Path, progress: Progress) -> None:
    from pivotgym.envs.tools.servicedesk import ServiceDesk
    from pivotgym.harness.evaluate import EpisodeConfig, evaluate_episodes

    tasks = ServiceDesk().tasks("heldout")[: config.episodes]
    # Greedy: an episode is a chain of turns, and at temperature 1 a small model breaks one of them nearly always.
    settings = EpisodeConfig(
        seed=config.seed, max_turns=10, max_tokens=config.max_tokens, temperature=0.0, chunk=24, batch=24
    )
    evaluate_episodes("pivotgym/Tools-v0", policy, tasks, settings, out, progress)


def _forgetting(config: DemoConfig, start: str, trained: str, out: Path, progress: Progress) -> None:
    from pivotgym.harness.forgetting.config import ForgettingConfig
    from pivotgym.harness.forgetting.suite import run_forgetting
    from pivotgym.harness.policies import load_policy

    items = config.forgetting
    suite = ForgettingConfig(
        instructions=items,
        arithmetic=items,
        word_problems=0,
        formats=items,
        facts=2 * items,
        text=items,
        episodes=0,
        max_tokens=64,
    )
    policies = {"warm start": partial(load_policy, start), "trained": partial(load_policy, trained)}
    run_forgetting(partial(load_policy, "embedded"), policies, suite, out, progress)


def _write_run(out: Path, config: DemoConfig) -> None:
    import torch

    warm = shipped_adapter() / "made_by.json"
    write_json(
        out / "run.json",
        {
            "command": f"pivotgym demo --seed {config.seed}",
            "seed": config.seed,
            "settings": config.model_dump(mode="json"),
            "machine": {
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "processor": platform.machine(),
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
            "warm_start": json.loads(warm.read_text(encoding="utf-8")) if warm.exists() else None,
        },
    )
