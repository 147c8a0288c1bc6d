"""The whole loop on sandboxed domains, through the command line, with the embedded model and bundled recordings.

A few supervised steps teach it the form of an action, so that some of what it samples is right; then candidates are
profiled by execution, pivots kept, three steps trained, and the page made. Groups of eight, because what is right once
in four profiled actions may well be right in none of four others, and such a group teaches nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import needs
import pytest

from pivotgym.envs.formats import load_trajectories


@dataclass(frozen=True)
class Loop:
    """What one domain's loop is made of. What is profiled is not what was imitated: that would be known by heart.

    Attributes:
        imitated: the tasks whose recordings are imitated.
        profiled: the others.
        turns: so many turns of each; the first ones are enough, and cost little.
        epochs: passes over the imitated recordings.
        batch: recordings in an update.
        rollouts: actions a candidate.
        max_tokens: longest action.
    """

    imitated: tuple[str, ...]
    profiled: tuple[str, ...]
    turns: int | None = None
    epochs: int = 8
    batch: int = 2
    rollouts: int = 8
    max_tokens: int = 80

    @property
    def cut(self) -> tuple[str, ...]:
        """The option that cuts the recordings."""
        return () if self.turns is None else ("--turns", str(self.turns))


LOOPS = {
    "terminal": Loop(("text.top_clients-[01]",), ("text.top_clients-2",), epochs=6, batch=1, rollouts=4, max_tokens=96),
    # Projects whose experts begin with a short look around; the third instance has other names than the first two.
    "repo": Loop(
        ("ratelimit-[01]", "ledger-[01]", "inverter-[01]"), ("ratelimit-2", "ledger-2", "inverter-2"), turns=1
    ),
    # The search box of the shop: what to write there stands in the task.
    "browser": Loop(
        ("shop.critic-[01]", "shop.lower_rating-[01]", "shop.weigh-[01]"),
        ("shop.critic-2", "shop.lower_rating-2", "shop.weigh-2"),
        turns=1,
        epochs=4,
    ),
    # The first search: for what the question names.
    "search": Loop(("world-0-train-0?",), ("world-0-train-1?",), turns=1),
}


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("domain", LOOPS)
def test_the_loop(domain: str, tmp_path: Path) -> None:
    for package in {"browser": ("playwright", "h11", "werkzeug"), "search": ("bm25s",)}.get(domain, ()):
        needs.require(package, domain)
    loop = LOOPS[domain]

    def pivotgym(*arguments: str) -> None:
        command = [sys.executable, "-m", "pivotgym.harness.cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=2000)
        assert done.returncode == 0, done.stdout + done.stderr

    for name, tasks in (("imitated", loop.imitated), ("profiled", loop.profiled)):
        pivotgym("convert", f"bundled:{domain}", "--tasks", *tasks, *loop.cut, "--out", f"{name}.jsonl")
    profiled = list(load_trajectories(tmp_path / "profiled.jsonl"))
    small = ["--policy", "embedded", "--lora.rank", "8"]
    pivotgym("train", "imitated.jsonl", "--method", "sft", *small, "--out", "sft", "--epochs", str(loop.epochs),
             "--batch", str(loop.batch), "--lr", "5e-4", "--options", json.dumps({"pack_tokens": 4096}))  # fmt: skip
    pivotgym("profile", "profiled.jsonl", "--policy", "embedded+sft/final", "--rollouts", str(loop.rollouts),
             "--max-tokens", str(loop.max_tokens),
             "--limit", "8", "--out", "run/profile.jsonl")  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "profile.jsonl").read_text().splitlines()]
    candidates = [row for row in rows if "rewards" in row]
    assert candidates and all(row["status"] == "ok" for row in candidates)
    assert any(min(row["rewards"]) < max(row["rewards"]) for row in candidates)
    pivotgym("filter", "run/profile.jsonl", "--max-mean", "0.95", "--heldout", "0", "--out", "run/pivots.jsonl")
    pivotgym("train", "run/pivots.jsonl", *small, "--warm-start", "sft/final", "--out", "run/train", "--steps", "3",
             "--batch", "2", "--group", "8", "--max-tokens", str(loop.max_tokens), "--lr", "3e-4")  # fmt: skip
    metrics = [json.loads(line) for line in (tmp_path / "run/train/metrics.jsonl").read_text().splitlines()]
    steps = [row for row in metrics if row["kind"] == "train"]
    assert [row["step"] for row in steps] == [1, 2, 3]
    assert any((row["grad_norm"] or 0) > 0 for row in steps)
    pivotgym("report", "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "pivots" in page and any(one.id in page for one in profiled)
    if domain == "browser":  # what an example's page looked like before and after
        assert page.count("data:image/png") >= 3 and "No picture" not in page
