"""What the methods of a comparison made the start forget: the held-out suite on every seed of an arm."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from pivotgym.harness.compare_config import CompareConfig
from pivotgym.harness.forgetting.suite import run_forgetting
from pivotgym.harness.reprofiling import Source
from pivotgym.harness.runs import Progress, no_progress

FORGETTING = "forgetting"


def measure_forgetting(config: CompareConfig, base: Source, out: Path, progress: Progress = no_progress) -> None:
    """Plays the suite with the start and with what each seed of each arm became; the seeds of an arm are pooled.

    Args:
        config: the comparison; ``config.forgetting`` says how much of the suite.
        base: the start.
        out: the comparison's folder, all of whose arms are finished. Writes ``out/forgetting/forgetting.json``.
        progress: called after each piece of work.
    """
    assert config.forgetting is not None
    names = config.forgetting_arms or tuple(arm.name for arm in config.arms)
    labels, trained = {}, {}
    for arm in names:
        for seed in config.seeds:
            folder = out / f"seed-{seed}"
            weights = json.loads((folder / arm / "phase.json").read_text(encoding="utf-8"))["weights"]
            labels[f"{arm}-{seed}"] = arm
            trained[f"{arm}-{seed}"] = partial(base.sampling, folder / weights)
    run_forgetting(base.sampling, trained, config.forgetting, out / FORGETTING, progress, labels)
