"""The benchmark of repositories, run: its figures are of states that were checked, in both ways to them."""

from __future__ import annotations

import pytest
from needs import missing, require

from pivotgym.envs.errors import InfrastructureError
from pivotgym.envs.sandbox import get_backend
from pivotgym.envs.trajectory import ToolCall
from pivotgym.harness import bench_repo as module
from pivotgym.harness.bench_repo import FASTER, TURN, bench_repo

require("docker", "docker")


def test_the_figures_of_one_repetition() -> None:
    try:
        get_backend("docker")
    except InfrastructureError as error:
        missing(str(error))
    left_out: list[str] = []
    rows = {row.name: row for row in bench_repo(1, ["bubblewrap"], left_out=left_out.append)}
    assert left_out == []
    restored = rows[f"restore of turn {TURN} to first output"].median
    replayed = rows[f"docker run and replay of {TURN} turns to first output"].median
    assert rows[FASTER].median == pytest.approx(replayed / restored)
    assert rows[FASTER].at_least and rows[FASTER].met is (rows[FASTER].median >= rows[FASTER].target)
    parts = [row for name, row in rows.items() if name.startswith("reward: ")]
    assert {"reward: fork", "reward: change", "reward: tests"} <= {row.name for row in parts}
    assert all(row.median >= 0 for row in parts)


def test_an_edit_as_the_program_that_makes_it() -> None:
    """Quotes and line feeds of an edit survive two shells."""
    arguments = {"command": "str_replace", "path": "/tmp/it's", "old_str": "a'\n", "new_str": 'b"\\n'}
    box = get_backend("bubblewrap").start(module.SandboxConfig())
    try:
        box.write_file("/tmp/it's", b"a'\nrest\n")
        box.run(module._command(ToolCall(name="str_replace_editor", arguments=arguments)))
        assert box.read_file("/tmp/it's") == b'b"\\nrest\n'
    finally:
        box.stop()
