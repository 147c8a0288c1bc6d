"""The tracker's tasks as the task set ``tracker``."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import ClassVar

from pivotgym.envs.browser.apps.spec import Builder
from pivotgym.envs.browser.apps.taskset import AppTasks
from pivotgym.envs.browser.apps.tracker import several, single
from pivotgym.envs.browser.apps.tracker.app import Tracker
from pivotgym.envs.browser.apps.tracker.world import USER, tracker_world

_BUILDERS: list[Builder] = [
    single.resolve,
    single.give_to_owner,
    single.triage,
    single.close_duplicate,
    single.add_blocker,
    single.comment_due_date,
    single.reopen,
    single.retitle,
    single.correct_comment,
    single.swap_labels,
    several.label_component,
    several.hand_over,
    several.postpone,
    several.raise_priority,
    several.new_ticket,
    several.watch_both,
    several.create_label,
    several.go_away,
    several.count_tickets,
    several.oldest_reporter,
    several.owner_zone,
]


class TrackerTasks(AppTasks):
    """Twenty-one kinds of tasks in the tracker."""

    name = "tracker"
    app = Tracker
    user = USER
    builders: ClassVar[Mapping[str, Builder]] = {builder.__name__: builder for builder in _BUILDERS}

    @classmethod
    def world(cls, seed: str) -> sqlite3.Connection:
        """A tracker for a seed."""
        return tracker_world(seed)
