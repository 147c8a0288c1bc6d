"""The plug-in's domain through the whole command line: warm start, profile, filter, two training steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from library_plugin import install_plugin, record_plugin


def test_it_trains_two_steps(tmp_path: Path) -> None:
    variables = install_plugin(tmp_path)
    recorded = record_plugin(tmp_path, variables)

    def pivotgym(*arguments: str) -> None:
        command = [sys.executable, "-m", "pivotgym.harness.cli", *arguments]
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr

    # The embedded model answers no tool-call prompt untrained; a few supervised steps make it answer some.
    small = ["--policy", "embedded", "--lora.rank", "8", "--lora.layers", "10"]
    pivotgym("train", str(recorded), "--method", "sft", *small, "--out", "warm", "--epochs", "8", "--batch", "6",
             "--lr", "2e-3")  # fmt: skip
    pivotgym("profile", str(recorded), "--policy", "embedded+warm/final", "--rollouts", "4", "--max-tokens", "40",
             "--chunk", "9", "--out", "profile.jsonl")  # fmt: skip
    pivotgym("filter", "profile.jsonl", "--max-mean", "0.95", "--heldout", "0", "--out", "pivots.jsonl")
    pivotgym("train", "pivots.jsonl", *small, "--warm-start", "warm/final", "--out", "run", "--steps", "2",
             "--batch", "3", "--group", "4", "--max-tokens", "40", "--lr", "3e-4")  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in steps] == [1, 2]
    assert any((row["grad_norm"] or 0) > 0 for row in steps)
    before = (tmp_path / "warm" / "final" / "adapter_model.safetensors").read_bytes()
    assert (tmp_path / "run" / "final" / "adapter_model.safetensors").read_bytes() != before
