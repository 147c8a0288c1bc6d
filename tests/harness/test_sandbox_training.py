"""The whole loop on sandboxed domains, through the command line, with the embedded model and bundled recordings.

A few supervised steps teach it the form of an action, so that some of what it samples is right; then candidates are
profiled by execution, pivots kept, three steps trained, and the page made. Groups of eight, because what is right once
in four profiled actions may well be right in none of four others, and such a group teaches nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pivotgym.envs.formats import load_trajectories, save_trajectories

DOMAINS = {"terminal": "text.", "repo": "semver"}
"""Beginning of the tasks' names. What is profiled is not what was imitated: that would be known by heart."""


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_loop(domain: str, tmp_path: Path) -> None:
    def pivotgym(*arguments: str) -> None:
        command = [sys.executable, "-m", "pivotgym.harness.cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500)
        assert done.returncode == 0, done.stdout + done.stderr

    pivotgym("convert", f"bundled:{domain}", "--split", "train", "--out", "all.jsonl")
    recordings = [
        one for one in load_trajectories(tmp_path / "all.jsonl") if one.task and one.task.id.startswith(DOMAINS[domain])
    ]
    assert len(recordings) >= 3
    save_trajectories(tmp_path / "imitated.jsonl", recordings[:2], "pivotgym")
    save_trajectories(tmp_path / "profiled.jsonl", recordings[2:3], "pivotgym")
    small = ["--policy", "embedded", "--lora.rank", "8"]
    pivotgym("train", "imitated.jsonl", "--method", "sft", *small, "--out", "sft", "--epochs", "6", "--batch", "1",
             "--lr", "5e-4")  # fmt: skip
    pivotgym("profile", "profiled.jsonl", "--policy", "embedded+sft/final", "--rollouts", "4", "--max-tokens", "96",
             "--limit", "8", "--out", "run/profile.jsonl")  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "profile.jsonl").read_text().splitlines()]
    candidates = [row for row in rows if "rewards" in row]
    assert candidates and all(row["status"] == "ok" for row in candidates)
    pivotgym("filter", "run/profile.jsonl", "--max-mean", "0.95", "--heldout", "0", "--out", "run/pivots.jsonl")
    pivotgym("train", "run/pivots.jsonl", *small, "--warm-start", "sft/final", "--out", "run/train", "--steps", "3",
             "--batch", "2", "--group", "8", "--max-tokens", "96", "--lr", "3e-4")  # fmt: skip
    metrics = [json.loads(line) for line in (tmp_path / "run/train/metrics.jsonl").read_text().splitlines()]
    steps = [row for row in metrics if row["kind"] == "train"]
    assert [row["step"] for row in steps] == [1, 2, 3]
    assert any((row["grad_norm"] or 0) > 0 for row in steps)
    pivotgym("report", "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "pivots" in page and recordings[2].id in page
