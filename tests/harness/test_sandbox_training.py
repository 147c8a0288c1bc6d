"""The whole loop on sandboxed domains, through the command line, with the embedded model and bundled recordings.

A few supervised steps teach it the form of an action, so that some of what it samples is right; then candidates are
profiled by execution, pivots kept, two steps trained, and the page made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pivotgym.envs.formats import load_trajectories, save_trajectories

DOMAINS = {"terminal": ("text.", 3), "repo": ("semver", 2)}
"""Beginning of the tasks' names, and how many recordings."""


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_loop(domain: str, tmp_path: Path) -> None:
    beginning, count = DOMAINS[domain]

    def pivotgym(*arguments: str) -> None:
        command = [sys.executable, "-m", "pivotgym.harness.cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500)
        assert done.returncode == 0, done.stdout + done.stderr

    pivotgym("convert", f"bundled:{domain}", "--split", "train", "--out", "all.jsonl")
    recordings = [
        one for one in load_trajectories(tmp_path / "all.jsonl") if one.task and one.task.id.startswith(beginning)
    ][:count]
    assert len(recordings) == count
    save_trajectories(tmp_path / "some.jsonl", recordings, "pivotgym")
    small = ["--policy", "embedded", "--lora.rank", "8"]
    pivotgym("train", "some.jsonl", "--method", "sft", *small, "--out", "sft", "--epochs", "10", "--batch", "1",
             "--lr", "1e-3")  # fmt: skip
    pivotgym("profile", "some.jsonl", "--policy", "embedded+sft/final", "--rollouts", "4", "--max-tokens", "96",
             "--limit", "8", "--out", "run/profile.jsonl")  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "profile.jsonl").read_text().splitlines()]
    candidates = [row for row in rows if "rewards" in row]
    assert candidates and all(row["status"] == "ok" for row in candidates)
    assert {reward for row in candidates for reward in row["rewards"]} >= {0.0, 1.0}
    pivotgym("filter", "run/profile.jsonl", "--max-mean", "0.95", "--heldout", "0", "--out", "run/pivots.jsonl")
    pivotgym("train", "run/pivots.jsonl", *small, "--warm-start", "sft/final", "--out", "run/train", "--steps", "2",
             "--batch", "2", "--group", "4", "--max-tokens", "96", "--lr", "3e-4")  # fmt: skip
    metrics = [json.loads(line) for line in (tmp_path / "run/train/metrics.jsonl").read_text().splitlines()]
    steps = [row for row in metrics if row["kind"] == "train"]
    assert [row["step"] for row in steps] == [1, 2]
    assert any((row["grad_norm"] or 0) > 0 for row in steps)
    pivotgym("report", "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "pivots" in page and recordings[0].id in page
