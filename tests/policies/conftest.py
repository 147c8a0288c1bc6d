"""Fixtures of the policy tests."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import make_model, make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture
def model() -> Any:
    return make_model()
