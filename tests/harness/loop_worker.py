"""Runs a stage of the loop in processes that are killed: ``loop_worker.py STAGE UNDISTURBED DISTURBED KILLS SEED``.

Each attempt is a forked child that runs the stage from the beginning, as the same command given again would; the
parent ends it with SIGKILL when its results have grown a random number of times, and a random few milliseconds later.
So the kills are spread over the work on a fast machine as on a busy one. Forking spares the imports. Prints how many
kills met a live child.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lamps
import torch

from pivotgym.harness.options import LoraOptions, OptimOptions
from pivotgym.harness.pivots import load_pivots
from pivotgym.harness.policies.transformers_policy import TransformersPolicy
from pivotgym.harness.profiling import ProfileConfig, profile
from pivotgym.harness.sft import SftConfig, train_sft
from pivotgym.harness.train import TrainConfig, train


def run_profile(out: Path, start: Path) -> None:
    config = ProfileConfig(rollouts=4, max_tokens=4, chunk=2, seed=3)
    profile(lamps.trajectories(40, seed=2), policy(start), config, out / "profile.jsonl")


def run_ahead(out: Path, start: Path) -> None:
    run_train(out, start, async_rollouts=True)


def run_train(out: Path, start: Path, *, async_rollouts: bool = False) -> None:
    config = TrainConfig(
        steps=24,
        batch=4,
        group=4,
        inner_epochs=2,
        max_tokens=4,
        optim=OptimOptions(lr=1e-2, warmup=3),
        lora=LoraOptions(rank=4),
        beta=0.01,
        eval_every=5,
        save_every=2,
        seed=5,
        async_rollouts=async_rollouts,
    )
    train(load_pivots(start / "pivots.jsonl"), policy(start), config, out)


def run_sft(out: Path, start: Path) -> None:
    config = SftConfig(lora=None, epochs=6, batch=8, optim=OptimOptions(lr=3e-3), save_every=2)
    train_sft(lamps.trajectories(40, seed=1), lamps.policy(), config, out)


def policy(start: Path) -> TransformersPolicy:
    from transformers import LlamaForCausalLM

    made = lamps.policy()
    made.model.load_state_dict(LlamaForCausalLM.from_pretrained(start / "sft" / "final").state_dict())
    return made


RESULTS = {"profile": "profile.jsonl", "train": "metrics.jsonl", "ahead": "metrics.jsonl", "sft": "metrics.jsonl"}
STAGES = {"profile": run_profile, "train": run_train, "ahead": run_ahead, "sft": run_sft}


def wait_for_growth(file: Path, times: int, ended: Callable[[], bool]) -> None:
    """Returns when ``file`` was seen to grow so many times, or the process that writes it has ended."""
    before, limit = size(file), time.monotonic() + 120
    while times > 0 and not ended():
        assert time.monotonic() < limit, f"{file} does not grow"
        now = size(file)
        times -= now > before
        before = now
        time.sleep(0.001)


def size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def attempt(stage: str, out: Path, start: Path, rng: random.Random | None) -> bool:
    """One run; True when the kill met it alive. Without ``rng`` it may end by itself."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            STAGES[stage](out, start)
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    status: int | None = None

    def ended() -> bool:
        nonlocal status
        if status is None:
            found, said = os.waitpid(child, os.WNOHANG)
            status = said if found else None
        return status is not None

    if rng is not None:
        wait_for_growth(out / RESULTS[stage], rng.randint(0, 2), ended)
        time.sleep(rng.uniform(0, 0.02))
        if not ended():
            os.kill(child, signal.SIGKILL)
    if status is None:
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status) != 0:
        sys.exit(f"{stage} failed")
    return False


def main() -> None:
    stage, undisturbed, disturbed, kills, seed = sys.argv[1:]
    torch.set_num_threads(1)
    start = Path(undisturbed).parent
    attempt(stage, Path(undisturbed), start, None)
    rng = random.Random(int(seed))
    hits = sum(attempt(stage, Path(disturbed), start, rng) for _ in range(int(kills)))
    attempt(stage, Path(disturbed), start, None)
    print(json.dumps({"hits": hits}))


if __name__ == "__main__":
    main()
