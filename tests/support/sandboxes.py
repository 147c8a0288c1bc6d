"""Helpers for tests that use sandboxes."""

from __future__ import annotations

from pivotgym.envs.sandbox import Sandbox, Snapshot


def taken(box: Sandbox) -> Snapshot:
    """A snapshot, or a failed test that says why there is none."""
    snapshot = box.snapshot()
    assert snapshot is not None, box.incomplete
    return snapshot
