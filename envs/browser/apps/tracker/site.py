"""The tracker as an application: its visitors, what all its pages show, its notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pivotgym.envs.browser.apps.web import Routes, Visit, WebApp

__all__ = ["Tracker", "Visit", "note", "routes"]

routes = Routes()


class Tracker(WebApp):
    """Relay, a ticket tracker."""

    name = "tracker"
    folder = Path(__file__).parent
    rules = routes.rules
    user_query = "SELECT u.* FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.sid = ?"
    notices: ClassVar[dict[str, str]] = {
        "saved": "The ticket has been saved.",
        "created": "The ticket has been created.",
        "commented": "Your comment has been added.",
        "comment-saved": "Your comment has been changed.",
        "comment-deleted": "Your comment has been deleted.",
        "watching": "You are watching this ticket.",
        "unwatched": "You are no longer watching this ticket.",
        "duplicate": "The ticket has been closed as a duplicate.",
        "blocked": "The blocker has been added.",
        "unblocked": "The blocker has been removed.",
        "bulk": "The chosen tickets have been changed.",
        "label": "The label has been created.",
        "milestone": "The milestone has been saved.",
        "settings": "Your settings have been saved.",
        "out": "You are signed out.",
    }

    def shared(self, visit: Visit) -> dict[str, Any]:
        """The projects, for the navigation."""
        return {"projects": visit.all("SELECT * FROM projects ORDER BY name")}


def note(visit: Visit, ticket: int, text: str) -> None:
    """Writes a line of a ticket's history."""
    query = "INSERT INTO events (ticket_id, actor_id, text, created) VALUES (?, ?, ?, ?)"
    visit.run(query, ticket, visit.require_user()["id"], text, visit.now)
    visit.run("UPDATE tickets SET updated = ? WHERE id = ?", visit.now, ticket)
