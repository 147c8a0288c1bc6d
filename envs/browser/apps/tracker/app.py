"""The tracker with all its pages."""

from __future__ import annotations

from pivotgym.envs.browser.apps.tracker import account, lists, tickets
from pivotgym.envs.browser.apps.tracker.site import Tracker

__all__ = ["Tracker", "account", "lists", "tickets"]
