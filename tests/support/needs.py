"""What a test does where a part is missing on this machine."""

from __future__ import annotations

import importlib.util
import os

import pytest


def missing(reason: str) -> None:
    """Skips, with the reason in the summary; on CI that is a failure, because there every part can be had."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"a part is missing on CI: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def require(package: str, extra: str) -> None:
    """Goes on only where ``package`` is installed."""
    if importlib.util.find_spec(package) is None:
        missing(f"{package} is not installed: pip install 'pivotgym[{extra}]'")
