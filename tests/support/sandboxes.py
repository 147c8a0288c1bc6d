"""Helpers for tests that use sandboxes."""

from __future__ import annotations

from pivotgym.envs.sandbox import Sandbox, Snapshot


def taken(box: Sandbox) -> Snapshot:
    """A snapshot, or a failed test that says why there is none."""
    snapshot = box.snapshot()
    assert snapshot is not None, box.incomplete
    return snapshot


def output(box: Sandbox, command: str) -> str:
    """What a command that ends by itself prints."""
    result = box.run(command)
    assert result.ending == "exit", result
    return result.output
