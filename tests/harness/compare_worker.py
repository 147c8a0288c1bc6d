"""As ``loop_worker.py``, for end-to-end GRPO: ``compare_worker.py grpo UNDISTURBED DISTURBED KILLS SEED``."""

from __future__ import annotations

from pathlib import Path

import lamps
import loop_worker

from pivotgym.harness.grpo_episodes import EpisodeTrainConfig, train_episodes
from pivotgym.harness.options import OptimOptions


def run_grpo(out: Path, start: Path) -> None:
    config = EpisodeTrainConfig(
        steps=14,
        batch=2,
        group=4,
        inner_epochs=2,
        max_turns=3,
        max_tokens=4,
        lora=None,
        optim=OptimOptions(lr=1e-3),
        beta=0.01,
        save_every=2,
        seed=5,
    )
    train_episodes([lamps.task(key) for key in lamps.KEYS], loop_worker.policy(start), config, out)


if __name__ == "__main__":
    loop_worker.STAGES["grpo"] = run_grpo
    loop_worker.RESULTS["grpo"] = "metrics.jsonl"
    loop_worker.main()
