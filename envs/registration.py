"""Registers the environments; called by Gymnasium through the ``gymnasium.envs`` entry point."""

from __future__ import annotations

import gymnasium as gym


def register_envs() -> None:
    """Registers every environment of this package. Gymnasium supplies the ``pivotgym`` namespace."""
    gym.register("Tools-v0", entry_point="pivotgym.envs.tools.env:ToolsEnv")
