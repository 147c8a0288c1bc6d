"""Makes the environment and its verifier known where the package does not yet register them."""

from __future__ import annotations

import gymnasium as gym
import pytest
from needs import require

import pivotgym.envs
from pivotgym.verifiers.registry import register_verifier, verifier_names

assert pivotgym.envs
if "pivotgym/Search-v0" not in gym.registry:
    gym.register("pivotgym/Search-v0", entry_point="pivotgym.envs.search.env:SearchEnv")
if "search_effects" not in verifier_names():
    from pivotgym.envs.search.effects import SearchEffects

    register_verifier("search_effects", lambda options: SearchEffects(max_extra_calls=options.max_extra_calls))


@pytest.fixture(scope="session", autouse=True)
def _extra() -> None:
    """Everything here needs the extra."""
    require("bm25s", "search")
    require("bs4", "search")
