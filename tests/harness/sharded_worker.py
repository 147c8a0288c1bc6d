"""Training in one process or, under ``torchrun``, in several: ``sharded_worker.py START OUT FULL STEPS BETA T``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lamps
import torch
from torch import Tensor

from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.ranks import Ranks, torchrun_ranks
from pivotgym.harness.runs import CostMeter
from pivotgym.harness.sharded import full_tensor
from pivotgym.harness.train import TrainConfig, Trainer, train


def started(start: Path) -> TransformersPolicy:
    policy = lamps.policy(layers=2)
    policy.model.load_state_dict(torch.load(start, weights_only=True))
    return policy


def pivots() -> list[Pivot]:
    recorded = lamps.trajectories(14, turns=1, seed=2)
    return [Pivot(trajectory=t, turn=0, split="heldout" if i < 3 else "train") for i, t in enumerate(recorded)]


def config(full: bool, steps: int, beta: float, temperature: float) -> TrainConfig:
    # Few positions in a pass, so that there are several, and an odd number for two processes now and then.
    return TrainConfig(
        steps=steps,
        batch=5,
        group=4,
        max_tokens=4,
        inner_epochs=2,
        micro_tokens=24,
        gradient_checkpointing=full,
        beta=beta,
        temperature=temperature,
        lora=None if full else LoraOptions(rank=4),
        optim=OptimOptions(lr=1e-3 if full else 1e-2, warmup=2),
        eval_every=2,
        eval_rollouts=2,
        save_every=2,
        seed=5,
    )


def gradients(start: Path, out: Path, settings: TrainConfig, ranks: Ranks) -> dict[str, Tensor]:
    """Of the first update of a step, before it is clipped."""
    trainer = Trainer(pivots(), started(start), settings, out / "gradients", ranks=ranks)
    found: dict[str, Tensor] = {}

    def keep(number: int) -> float:
        for name, parameter in trainer.learner.model.named_parameters():
            if parameter.grad is not None and name not in found:
                found[name] = full_tensor(parameter.grad).clone()
            parameter.grad = None
        return 0.0

    learner: Any = trainer.learner
    learner.update = keep
    with CostMeter(None, "train", 1) as meter:
        row = trainer.step(1, meter)
    assert row["groups_with_signal"] >= 2
    trainer.close()
    return found


def main() -> None:
    start, out = Path(sys.argv[1]), Path(sys.argv[2])
    settings = config(sys.argv[3] == "full", int(sys.argv[4]), float(sys.argv[5]), float(sys.argv[6]))
    torch.set_num_threads(1)
    with torchrun_ranks() as ranks:
        if not (out / "gradients.pt").exists():
            found = gradients(start, out, settings, ranks)
            if ranks.lead:
                torch.save(found, out / "gradients.pt")
        train(pivots(), started(start), settings, out / "run", ranks=ranks)
        if ranks.lead:
            print(json.dumps({"ranks": ranks.count}))


if __name__ == "__main__":
    main()
