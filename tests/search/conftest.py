"""Everything here needs the extra."""

from __future__ import annotations

import pytest
from needs import require


@pytest.fixture(scope="session", autouse=True)
def _extra() -> None:
    require("bm25s", "search")
    require("bs4", "search")
