"""Nothing lost: stages killed with SIGKILL at random moments, then resumed, give what an undisturbed run gives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import lamps
import loop_worker
import pytest
import torch

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import write_jsonl
from pivotgym.harness.options import OptimOptions
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
    assert [p.name for p in sorted((killed / "checkpoints").iterdir())] == ["step-000022", "step-000024"]
    last = "checkpoints/step-000024/adapter_model.safetensors"
    assert (calm / last).read_bytes() == (calm / weights).read_bytes()


def test_training_on_asynchronous_rollouts_survives_kills(start: Path) -> None:
    calm, killed, hits = disturb("ahead", start, 6, 4)
    assert hits == 6, "kills came too late to disturb anything"
    same(calm, killed, ["metrics.jsonl", "summary.json", "settings.json", "final/adapter_model.safetensors"])


def test_sft_survives_kills(start: Path) -> None:
    calm, killed, hits = disturb("sft", start, 4, 3)
    assert hits == 4
    same(calm, killed, ["metrics.jsonl", "summary.json", "final/model.safetensors"])


def command(*words: object) -> subprocess.Popen[str]:
    """A real ``pivotgym`` command in a process of its own, which knows the domain of these tests."""
    program = "import lamps; from pivotgym.harness.cli import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said[-3000:]


def kill_when_grown(process: subprocess.Popen[str], file: Path, times: int) -> None:
    loop_worker.wait_for_growth(file, times, lambda: process.poll() is not None)
    process.kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said[-3000:]


@pytest.mark.parametrize("stage", ["profile", "train"])
def test_a_killed_command_given_again_goes_on(start: Path, tmp_path: Path, stage: str) -> None:
    model = shutil.copytree(start / "sft" / "final", tmp_path / "model")
    lamps.tokenizer().save_pretrained(str(model))
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    if stage == "profile":
        write_jsonl(tmp_path / "recorded.jsonl", lamps.trajectories(120, seed=2))
        words = ["profile", tmp_path / "recorded.jsonl", "--policy", model, "--rollouts", 4, "--max-tokens", 4]
        outs, again, results = (calm / "profile.jsonl", killed / "profile.jsonl"), [], "profile.jsonl"
        wanted = ["profile.jsonl", "profile.trajectories.jsonl"]
    else:
        words = ["train", start / "pivots.jsonl", "--policy", model, "--steps", 30, "--batch", 4, "--group", 4]
        words += ["--max-tokens", 4, "--save-every", 2, "--eval-every", 4, "--lora.rank", 4, "--lr", 1e-2]
        outs, again, results = (calm, killed), ["--resume"], "metrics.jsonl"
        wanted = ["metrics.jsonl", "summary.json", "final/adapter_model.safetensors"]
    finish(command(*words, "--out", outs[0]))
    kill_when_grown(command(*words, "--out", outs[1]), killed / results, 4)
    assert (killed / results).stat().st_size < (calm / results).stat().st_size
    finish(command(*words, "--out", outs[1], *again))
    same(calm, killed, wanted)


def test_other_settings_are_refused_by_name(start: Path) -> None:
    recordings = lamps.trajectories(12, seed=2)
    with pytest.raises(BadInput, match=r"rollouts was 8, now 4"):
        profile(recordings, lamps.policy(), ProfileConfig(max_tokens=4, rollouts=4), start / "first.jsonl")
    with pytest.raises(BadInput, match=r"candidates was"):
        profile(recordings[:-1], lamps.policy(), ProfileConfig(max_tokens=4), start / "first.jsonl")


def test_a_second_process_is_refused(start: Path) -> None:
    with exclusive(start / "first.jsonl"), pytest.raises(BadInput, match="another process"):
        profile(lamps.trajectories(12, seed=2), lamps.policy(), ProfileConfig(max_tokens=4), start / "first.jsonl")
