"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def missing(reason: str) -> None:
    """Skip for a part this machine lacks; on CI that is a failure, because there every part can be had."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"a part is missing on CI: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of recorded data made by others (τ²-bench runs and more), beside the checkout."""
    if not SHARED_DATA.is_dir():
        missing(f"recorded data not found at {SHARED_DATA}")
    return SHARED_DATA
