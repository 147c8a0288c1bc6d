"""Nothing lost: stages killed with SIGKILL at random moments, then resumed, give what an undisturbed run gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import lamps
import pytest
import torch

from pivotgym.envs.errors import BadInput
from pivotgym.harness.learner import OptimOptions
from pivotgym.harness.pivots import FilterConfig, filter_file
from pivotgym.harness.profiling import ProfileConfig, profile
from pivotgym.harness.runs import exclusive, total_costs
from pivotgym.harness.sft import SftConfig, train_sft

WORKER = Path(__file__).with_name("loop_worker.py")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a warmed-up model and its pivots."""
    folder = tmp_path_factory.mktemp("loop")
    torch.set_num_threads(1)
    policy = lamps.policy()
    warm = SftConfig(lora=None, epochs=6, batch=8, optim=OptimOptions(lr=3e-3))
    train_sft(lamps.trajectories(40, seed=1), policy, warm, folder / "sft")
    profile(lamps.trajectories(12, seed=2), policy, ProfileConfig(max_tokens=4), folder / "first.jsonl")
    report = filter_file(folder / "first.jsonl", folder / "pivots.jsonl", FilterConfig(max_mean=0.9))
    assert report.train > 4 and report.heldout > 0
    return folder


def disturb(stage: str, start: Path, kills: int, seed: int) -> tuple[Path, Path, int]:
    calm, killed = start / f"{stage}-calm", start / f"{stage}-killed"
    command = [sys.executable, str(WORKER), stage, str(calm), str(killed), str(kills), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return calm, killed, int(json.loads(done.stdout.splitlines()[-1])["hits"])


def same(left: Path, right: Path, names: list[str]) -> None:
    for name in names:
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


def test_profile_survives_ten_kills(start: Path) -> None:
    calm, killed, hits = disturb("profile", start, 10, 1)
    assert hits == 10, "kills came too late to disturb anything"
    same(calm, killed, ["profile.jsonl", "profile.trajectories.jsonl", "profile.settings.json"])
    # The work was interrupted in earnest: some chunks were paid for twice or the pieces are spread over attempts.
    assert total_costs(killed)["profile"].rollout_turns >= total_costs(calm)["profile"].rollout_turns


def test_train_survives_ten_kills(start: Path) -> None:
    calm, killed, hits = disturb("train", start, 10, 2)
    assert hits == 10, "kills came too late to disturb anything"
    weights = "final/adapter_model.safetensors"
    same(calm, killed, ["metrics.jsonl", "summary.json", "settings.json", weights, "final/adapter_config.json"])
    assert [p.name for p in sorted((killed / "checkpoints").iterdir())] == ["step-000014", "step-000016"]
    last = "checkpoints/step-000016/adapter_model.safetensors"
    assert (calm / last).read_bytes() == (calm / weights).read_bytes()


def test_sft_survives_kills(start: Path) -> None:
    calm, killed, hits = disturb("sft", start, 4, 3)
    assert hits == 4
    same(calm, killed, ["metrics.jsonl", "summary.json", "final/model.safetensors"])


def test_other_settings_are_refused_by_name(start: Path) -> None:
    recordings = lamps.trajectories(12, seed=2)
    with pytest.raises(BadInput, match=r"rollouts was 8, now 4"):
        profile(recordings, lamps.policy(), ProfileConfig(max_tokens=4, rollouts=4), start / "first.jsonl")
    with pytest.raises(BadInput, match=r"candidates was"):
        profile(recordings[:-1], lamps.policy(), ProfileConfig(max_tokens=4), start / "first.jsonl")


def test_a_second_process_is_refused(start: Path) -> None:
    with exclusive(start / "first.jsonl"), pytest.raises(BadInput, match="another process"):
        profile(lamps.trajectories(12, seed=2), lamps.policy(), ProfileConfig(max_tokens=4), start / "first.jsonl")
