"""Environments for LLM agents in which any state of a recorded trajectory is a reset.

Importing this package registers its environments, and those of installed packages that build on it, with Gymnasium.
"""

from pivotgym.envs.registration import register_all

register_all()
