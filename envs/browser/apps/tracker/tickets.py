"""One ticket: reporting it, its page, its details, comments, duplicates, blockers, watching."""

from __future__ import annotations

import re

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from pivotgym.envs.browser.apps.forms import Form
from pivotgym.envs.browser.apps.tracker.lists import TICKETS, choices
from pivotgym.envs.browser.apps.tracker.site import Visit, note, routes
from pivotgym.envs.browser.apps.tracker.world import PRIORITIES, STATUSES
from pivotgym.envs.browser.apps.web import Row


def _find(visit: Visit, name: str) -> Row:
    visit.require_user()
    parts = re.fullmatch(r"([A-Za-z]{3})-([0-9]{1,6})", name)
    if parts is None:
        raise NotFound()
    return visit.get(f"{TICKETS} WHERE p.key = ? AND t.number = ?", parts[1].upper(), int(parts[2]))


@routes.get("/t/<name>")
def ticket(visit: Visit, name: str) -> Response:
    """A ticket's page."""
    return _show(visit, _find(visit, name), {}, 200)


def _show(visit: Visit, row: Row, errors: dict[str, str], status: int) -> Response:
    user, id = visit.require_user(), row["id"]
    lists = choices(visit)
    own: list[Row] = lists["components"]  # type: ignore[assignment]
    steps: list[Row] = lists["milestones"]  # type: ignore[assignment]
    lists["components"] = [component for component in own if component["project_id"] == row["project_id"]]
    lists["milestones"] = [milestone for milestone in steps if milestone["project_id"] == row["project_id"]]
    return visit.page(
        "ticket.html.jinja",
        status,
        ticket=row,
        own_labels={line["label_id"] for line in visit.all("SELECT * FROM ticket_labels WHERE ticket_id = ?", id)},
        comments=visit.all(
            "SELECT c.*, u.name AS author FROM comments c JOIN users u ON u.id = c.author_id WHERE ticket_id = ? "
            "ORDER BY c.created, c.id",
            id,
        ),
        history=visit.all(
            "SELECT e.*, u.name AS actor FROM events e JOIN users u ON u.id = e.actor_id WHERE ticket_id = ? "
            "ORDER BY e.id",
            id,
        ),
        blockers=visit.all(f"{TICKETS} JOIN blockers b ON b.blocker_id = t.id WHERE b.ticket_id = ? ORDER BY t.id", id),
        original=visit.one(f"{TICKETS} WHERE t.id = ?", row["duplicate_of"]),
        watching=visit.one("SELECT 1 FROM watchers WHERE ticket_id = ? AND user_id = ?", id, user["id"]) is not None,
        watchers=visit.value("SELECT count(*) FROM watchers WHERE ticket_id = ?", id),
        errors=errors,
        sent=visit.form,
        **lists,
    )


@routes.post("/t/<name>")
def save(visit: Visit, name: str) -> Response:
    """Changes a ticket's details."""
    row, form = _find(visit, name), visit.form
    values = _details(visit, form, row["project_id"])
    known = {line["id"]: line["name"] for line in visit.all("SELECT * FROM labels")}
    wanted = {number for number in known if str(number) in form.many("label")}
    if form.errors:
        return _show(visit, row, form.errors, 422)
    for column, value in values.items():
        if str(row[column] or "") != value:
            visit.run(f"UPDATE tickets SET {column} = ? WHERE id = ?", value or None, row["id"])
            note(visit, row["id"], f"changed the {column.removesuffix('_id')}")
    old = {line["label_id"] for line in visit.all("SELECT * FROM ticket_labels WHERE ticket_id = ?", row["id"])}
    for label in sorted(wanted ^ old):
        adds = label in wanted
        query = (
            "INSERT INTO ticket_labels VALUES (?, ?)"
            if adds
            else "DELETE FROM ticket_labels WHERE ticket_id = ? AND label_id = ?"
        )
        visit.run(query, row["id"], label)
        note(visit, row["id"], f"{'added' if adds else 'removed'} the label {known[label]}")
    return visit.redirect(f"/t/{row['name']}", "saved")


def _details(visit: Visit, form: Form, project: int) -> dict[str, str]:
    def ids(query: str, *values: object) -> list[int]:
        return [row["id"] for row in visit.all(query, *values)]

    parts = ids("SELECT id FROM components WHERE project_id = ?", project)
    steps = ids("SELECT id FROM milestones WHERE project_id = ?", project)
    return {
        "status": form.choice("status", "a status", STATUSES),
        "priority": form.choice("priority", "a priority", PRIORITIES),
        "assignee_id": form.choice("assignee", "a person", ids("SELECT id FROM users"), required=False),
        "component_id": form.choice("component", "a component of the project", parts),
        "milestone_id": form.choice("milestone", "a milestone of the project", steps, required=False),
    }


@routes.get("/tickets/new")
def new(visit: Visit) -> Response:
    """The form for a new ticket."""
    return _show_new(visit, {}, 200)


def _show_new(visit: Visit, errors: dict[str, str], status: int) -> Response:
    visit.require_user()
    return visit.page("new.html.jinja", status, errors=errors, sent=visit.form, **choices(visit))


@routes.post("/tickets/new")
def create(visit: Visit) -> Response:
    """Reports a ticket."""
    user, form = visit.require_user(), visit.form
    key = form.choice("project", "a project", [row["key"] for row in visit.all("SELECT key FROM projects")])
    title = form.text("title", "a title", longest=100)
    body = form.text("body", "a description", longest=4000)
    project = visit.one("SELECT * FROM projects WHERE key = ?", key)
    form.sent.setdefault("status", "New")
    values = _details(visit, form, project["id"] if project else 0)
    if form.errors or project is None:
        return _show_new(visit, form.errors, 422)
    number = visit.value("SELECT coalesce(max(number), 100) + 1 FROM tickets WHERE project_id = ?", project["id"])
    row = {**values, "project_id": project["id"], "number": number, "title": title, "body": body}
    row |= {"reporter_id": user["id"], "created": visit.now, "updated": visit.now}
    columns, marks = ", ".join(row), ", ".join("?" for _ in row)
    id = visit.run(f"INSERT INTO tickets ({columns}) VALUES ({marks})", *(value or None for value in row.values()))
    visit.run("INSERT INTO watchers VALUES (?, ?)", id, user["id"])
    note(visit, id, "reported the ticket")
    return visit.redirect(f"/t/{key}-{number}", "created")


@routes.get("/t/<name>/edit")
def edit(visit: Visit, name: str) -> Response:
    """The form for title and description."""
    return visit.page("edit.html.jinja", ticket=_find(visit, name), errors={}, sent=visit.form)


@routes.post("/t/<name>/edit")
def save_text(visit: Visit, name: str) -> Response:
    """Changes title and description."""
    row, form = _find(visit, name), visit.form
    title, body = form.text("title", "a title", longest=100), form.text("body", "a description", longest=4000)
    if form.errors:
        return visit.page("edit.html.jinja", 422, ticket=row, errors=form.errors, sent=form)
    visit.run("UPDATE tickets SET title = ?, body = ? WHERE id = ?", title, body, row["id"])
    note(visit, row["id"], "changed title or description")
    return visit.redirect(f"/t/{row['name']}", "saved")


@routes.post("/t/<name>/comments")
def comment(visit: Visit, name: str) -> Response:
    """Adds a comment."""
    row, form = _find(visit, name), visit.form
    body = form.text("comment", "a comment", longest=2000)
    if form.errors:
        return _show(visit, row, form.errors, 422)
    query = "INSERT INTO comments (ticket_id, author_id, body, created) VALUES (?, ?, ?, ?)"
    visit.run(query, row["id"], visit.require_user()["id"], body, visit.now)
    note(visit, row["id"], "commented")
    return visit.redirect(f"/t/{row['name']}", "commented")


def _own_comment(visit: Visit, comment: int) -> Row:
    user = visit.require_user()
    row = visit.get(
        "SELECT c.*, p.key || '-' || t.number AS name FROM comments c JOIN tickets t ON t.id = c.ticket_id "
        "JOIN projects p ON p.id = t.project_id WHERE c.id = ?",
        comment,
    )
    if row["author_id"] != user["id"]:
        visit.forbid("Only the author can change a comment.")
    return row


@routes.get("/comments/<int:comment>")
def edit_comment(visit: Visit, comment: int) -> Response:
    """The form for a comment."""
    return visit.page("comment.html.jinja", comment=_own_comment(visit, comment), errors={}, sent=visit.form)


@routes.post("/comments/<int:comment>")
def save_comment(visit: Visit, comment: int) -> Response:
    """Changes a comment."""
    row, form = _own_comment(visit, comment), visit.form
    body = form.text("comment", "a comment", longest=2000)
    if form.errors:
        return visit.page("comment.html.jinja", 422, comment=row, errors=form.errors, sent=form)
    visit.run("UPDATE comments SET body = ? WHERE id = ?", body, comment)
    note(visit, row["ticket_id"], "changed a comment")
    return visit.redirect(f"/t/{row['name']}", "comment-saved")


@routes.post("/comments/<int:comment>/delete")
def delete_comment(visit: Visit, comment: int) -> Response:
    """Deletes a comment."""
    row = _own_comment(visit, comment)
    visit.run("DELETE FROM comments WHERE id = ?", comment)
    note(visit, row["ticket_id"], "deleted a comment")
    return visit.redirect(f"/t/{row['name']}", "comment-deleted")


@routes.post("/t/<name>/watch")
def watch(visit: Visit, name: str) -> Response:
    """Starts or stops watching."""
    row, user = _find(visit, name), visit.require_user()
    if visit.one("SELECT 1 FROM watchers WHERE ticket_id = ? AND user_id = ?", row["id"], user["id"]):
        visit.run("DELETE FROM watchers WHERE ticket_id = ? AND user_id = ?", row["id"], user["id"])
        return visit.redirect(f"/t/{row['name']}", "unwatched")
    visit.run("INSERT INTO watchers VALUES (?, ?)", row["id"], user["id"])
    return visit.redirect(f"/t/{row['name']}", "watching")


def _other(visit: Visit, form: Form, field: str, row: Row) -> Row | None:
    text = form.match(field, "a ticket", r"[A-Za-z]{3}-[0-9]{1,6}", "such as ABC-123")
    if form.errors:
        return None
    key, number = text.upper().split("-")
    other = visit.one(f"{TICKETS} WHERE p.key = ? AND t.number = ?", key, int(number))
    if other is None:
        form.errors[field] = f"There is no ticket {text}."
    elif other["id"] == row["id"]:
        form.errors[field] = "That is this ticket."
    return other


@routes.post("/t/<name>/duplicate")
def duplicate(visit: Visit, name: str) -> Response:
    """Closes a ticket as a duplicate of another."""
    row, form = _find(visit, name), visit.form
    other = _other(visit, form, "duplicate", row)
    if other is not None and not form.errors and other["duplicate_of"] == row["id"]:
        form.errors["duplicate"] = f"{other['name']} is a duplicate of this ticket."
    if form.errors or other is None:
        return _show(visit, row, form.errors, 422)
    visit.run("UPDATE tickets SET duplicate_of = ?, status = 'Closed' WHERE id = ?", other["id"], row["id"])
    note(visit, row["id"], f"closed the ticket as a duplicate of {other['name']}")
    return visit.redirect(f"/t/{row['name']}", "duplicate")


@routes.post("/t/<name>/blockers")
def block(visit: Visit, name: str) -> Response:
    """Adds or takes away a ticket that has to be done first."""
    row, form = _find(visit, name), visit.form
    other = _other(visit, form, "blocker", row)
    if form.errors or other is None:
        return _show(visit, row, form.errors, 422)
    if form.raw("remove"):
        visit.run("DELETE FROM blockers WHERE ticket_id = ? AND blocker_id = ?", row["id"], other["id"])
        return visit.redirect(f"/t/{row['name']}", "unblocked")
    visit.run("INSERT OR IGNORE INTO blockers VALUES (?, ?)", row["id"], other["id"])
    note(visit, row["id"], f"is blocked by {other['name']}")
    return visit.redirect(f"/t/{row['name']}", "blocked")
