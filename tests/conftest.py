"""Fixtures shared by the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from needs import missing

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of recorded data made by others (τ²-bench runs and more), beside the checkout."""
    if not SHARED_DATA.is_dir():
        missing(f"recorded data not found at {SHARED_DATA}")
    return SHARED_DATA
