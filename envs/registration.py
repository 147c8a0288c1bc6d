"""Registers environments with Gymnasium: our own, and those of installed packages that build on this one.

A package declares an entry point of the group ``gymnasium.envs``; its name is the namespace, its value a function that
calls ``gymnasium.register``. Gymnasium 1.0 stopped loading that group by itself, so ``import pivotgym.envs`` does
it. Without an import of ours, name the module: ``gymnasium.make("pivotgym.envs:pivotgym/Tools-v0")``.
"""

from __future__ import annotations

import re
import warnings
from importlib.metadata import Distribution, entry_points

import gymnasium as gym
from gymnasium.envs.registration import namespace

GROUP = "gymnasium.envs"
NAMESPACE = "pivotgym"


def register_envs() -> None:
    """Registers every environment of this package, in the namespace that the caller has set."""
    gym.register("Tools-v0", entry_point="pivotgym.envs.tools.env:ToolsEnv")
    gym.register("Terminal-v0", entry_point="pivotgym.envs.terminal.env:TerminalEnv")
    gym.register("Repo-v0", entry_point="pivotgym.envs.repo.env:RepoEnv")
    gym.register("Browser-v0", entry_point="pivotgym.envs.browser.env:BrowserEnv")
    gym.register("Search-v0", entry_point="pivotgym.envs.search.env:SearchEnv")


def register_all() -> None:
    """Registers our environments and those of every installed package that requires this one.

    A package whose registration fails is named in a warning; the others are registered all the same.
    """
    if f"{NAMESPACE}/Tools-v0" not in gym.registry:
        with namespace(NAMESPACE):
            register_envs()
    for point in entry_points(group=GROUP):
        known = any(name.startswith(f"{point.name}/") for name in gym.registry)
        if known or not _builds_on_us(point.dist):
            continue
        try:
            register = point.load()
            with namespace(point.name):
                register()
        except Exception as error:
            warnings.warn(f"environments of {point.value!r} not registered: {error!r}", RuntimeWarning, stacklevel=2)


def _builds_on_us(distribution: Distribution | None) -> bool:
    # Others use the group too, and expect Gymnasium's rules of old; loading them is not our business.
    required = distribution.requires if distribution is not None else None
    return any(re.match(r"pivotgym(?![\w.-])", requirement, re.IGNORECASE) for requirement in required or ())
