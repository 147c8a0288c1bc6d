"""Rows in SWE-bench's form: the recorded files, and one made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILES = (
    "swe-bench-dev-easy.json",
    "swe-bench-lite-test.json",
    "nemo_gym_swebench_rows.jsonl",
    "nemo_gym_mini_swe_rollouts.jsonl",
)


def stored(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    assert isinstance(rows, list) and len(rows) == 5
    return rows


def listed(value: str | list[str]) -> list[str]:
    return json.loads(value) if isinstance(value, str) else value


ROW: dict[str, Any] = {
    "instance_id": "owner__calc-1",
    "repo": "owner/calc",
    "base_commit": "a" * 40,
    "problem_statement": "It subtracts.",
    "patch": "diff --git a/calc.py b/calc.py\n--- a/calc.py\n+++ b/calc.py\n@@ -1 +1 @@\n-1\n+2\n",
    "test_patch": "diff --git a/t/test_a.py b/t/test_a.py\n--- /dev/null\n+++ b/t/test_a.py\n@@ -0,0 +1 @@\n+1\n",
    "FAIL_TO_PASS": ["t/test_a.py::test_b"],
    "PASS_TO_PASS": [],
    "version": "1.0",
}
