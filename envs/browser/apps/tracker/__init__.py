"""Relay: a small ticket tracker with projects, components, milestones, comments and bulk changes."""

from pivotgym.envs.browser.apps.tracker.tasks import TrackerTasks

__all__ = ["TrackerTasks"]
