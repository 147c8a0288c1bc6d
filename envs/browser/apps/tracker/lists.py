"""Lists: the dashboard, all tickets with filters and changes to several at once, projects, people, labels."""

from __future__ import annotations

from werkzeug.wrappers import Response

from pivotgym.envs.browser.apps.tracker.site import Visit, note, routes
from pivotgym.envs.browser.apps.tracker.world import OPEN, PRIORITIES, STATUSES
from pivotgym.envs.browser.apps.web import Row

PAGE = 12
"""Tickets on one page of the list."""
SORTS = {
    "newest": ("Newest first", "t.created DESC, t.id DESC"),
    "oldest": ("Oldest first", "t.created, t.id"),
    "updated": ("Last changed", "t.updated DESC, t.id DESC"),
    "priority": ("Priority", "instr('Urgent High Normal Low', t.priority), t.created"),
}
TICKETS = """
    SELECT t.*, p.key || '-' || t.number AS name, p.key, p.name AS project, c.name AS component, m.name AS milestone,
        r.name AS reporter, r.username AS reporter_username, a.name AS assignee, a.username AS assignee_username,
        (SELECT coalesce(group_concat(l.name, ', '), '') FROM ticket_labels x JOIN labels l ON l.id = x.label_id
            WHERE x.ticket_id = t.id) AS labels
    FROM tickets t JOIN projects p ON p.id = t.project_id JOIN users r ON r.id = t.reporter_id
    LEFT JOIN components c ON c.id = t.component_id LEFT JOIN milestones m ON m.id = t.milestone_id
    LEFT JOIN users a ON a.id = t.assignee_id
"""
IS_OPEN = f"t.status IN {OPEN}"


@routes.get("/")
def dashboard(visit: Visit) -> Response:
    """What is on the user's desk."""
    user = visit.require_user()
    mine = visit.all(f"{TICKETS} WHERE t.assignee_id = ? AND {IS_OPEN} ORDER BY {SORTS['priority'][1]}", user["id"])
    watched = "t.id IN (SELECT ticket_id FROM watchers WHERE user_id = ?)"
    recent = visit.all(f"{TICKETS} WHERE {watched} ORDER BY {SORTS['updated'][1]} LIMIT 5", user["id"])
    return visit.page("dashboard.html.jinja", mine=mine, watched=recent)


@routes.get("/tickets")
def tickets(visit: Visit) -> Response:
    """All tickets that match the filters, a page of them."""
    return _show(visit, {}, 200)


def _show(visit: Visit, errors: dict[str, str], status: int) -> Response:
    visit.require_user()
    where, values = ["1"], list[object]()
    for word in visit.arg("q").split()[:6]:
        where.append("(t.title LIKE ? OR t.body LIKE ? OR p.key || '-' || t.number LIKE ?)")
        values += [f"%{word}%", f"%{word}%", word]
    for field, column in (
        *(("project", "p.key"), ("priority", "t.priority"), ("component", "t.component_id")),
        *(("milestone", "t.milestone_id"), ("reporter", "r.username")),
    ):
        if visit.arg(field):
            where.append(f"{column} = ?")
            values.append(visit.arg(field))
    if visit.arg("status"):
        where.append(IS_OPEN if visit.arg("status") == "open" else "t.status = ?")
        values += [] if visit.arg("status") == "open" else [visit.arg("status")]
    if visit.arg("assignee"):
        where.append("t.assignee_id IS NULL" if visit.arg("assignee") == "nobody" else "a.username = ?")
        values += [] if visit.arg("assignee") == "nobody" else [visit.arg("assignee")]
    if visit.arg("label"):
        where.append("t.id IN (SELECT ticket_id FROM ticket_labels WHERE label_id = ?)")
        values.append(visit.arg("label"))
    sort = visit.arg("sort") if visit.arg("sort") in SORTS else "newest"
    found = visit.all(f"{TICKETS} WHERE {' AND '.join(where)} ORDER BY {SORTS[sort][1]}", *values)
    pages = max(1, -(-len(found) // PAGE))
    page = min(max(1, visit.number("page", 1)), pages)
    return visit.page(
        "tickets.html.jinja",
        status,
        tickets=found[(page - 1) * PAGE : page * PAGE],
        count=len(found),
        page=page,
        pages=pages,
        sort=sort,
        sorts=SORTS,
        errors=errors,
        sent=visit.form,
        back=visit.href(),
        **choices(visit),
    )


def choices(visit: Visit) -> dict[str, object]:
    """What can be chosen in filters and forms."""
    return {
        "statuses": STATUSES,
        "priorities": PRIORITIES,
        "people": visit.all("SELECT * FROM users ORDER BY name"),
        "labels": visit.all("SELECT * FROM labels ORDER BY name"),
        "components": visit.all(
            "SELECT c.*, p.key, p.name AS project FROM components c JOIN projects p ON p.id = c.project_id "
            "ORDER BY p.name, c.name"
        ),
        "milestones": visit.all(
            "SELECT m.*, p.key FROM milestones m JOIN projects p ON p.id = m.project_id ORDER BY p.name, m.name"
        ),
    }


@routes.post("/tickets/bulk")
def bulk(visit: Visit) -> Response:
    """The same change to several tickets."""
    user, form = visit.require_user(), visit.form
    ids = form.many("listed") if form.flag("all") else form.many("ticket")
    back = visit.local(form.raw("back"), "/tickets")
    chosen = [visit.get(f"{TICKETS} WHERE t.id = ?", id) for id in dict.fromkeys(ids)]
    status = form.choice("set_status", "a status", STATUSES, required=False)
    priority = form.choice("set_priority", "a priority", PRIORITIES, required=False)
    lists = choices(visit)
    people: list[Row] = lists["people"]  # type: ignore[assignment]
    labels: list[Row] = lists["labels"]  # type: ignore[assignment]
    milestones: list[Row] = lists["milestones"]  # type: ignore[assignment]
    assignee = form.choice("set_assignee", "a person", [row["id"] for row in people], required=False)
    label = form.choice("add_label", "a label", [row["id"] for row in labels], required=False)
    milestone = form.choice("set_milestone", "a milestone", [row["id"] for row in milestones], required=False)
    if not chosen:
        form.errors["ticket"] = "Select at least one ticket."
    if not any((status, priority, assignee, label, milestone)):
        form.errors["set_status"] = "Choose what to change."
    projects = {row["id"]: row["project_id"] for row in milestones}
    if milestone and any(row["project_id"] != projects[int(milestone)] for row in chosen):
        form.errors["set_milestone"] = "The milestone belongs to another project than some of the tickets."
    if form.errors:
        return _show(visit, form.errors, 422)
    for row in chosen:
        for column, value in (
            *(("status", status), ("priority", priority), ("assignee_id", assignee), ("milestone_id", milestone)),
        ):
            if value:
                visit.run(f"UPDATE tickets SET {column} = ? WHERE id = ?", value, row["id"])
        if label:
            visit.run("INSERT OR IGNORE INTO ticket_labels VALUES (?, ?)", row["id"], int(label))
        note(visit, row["id"], f"changed together with {len(chosen) - 1} other tickets by {user['name']}")
    return visit.redirect(back, "bulk")


@routes.get("/projects/<key>")
def project(visit: Visit, key: str) -> Response:
    """A project: what it is, how its tickets are sorted, its components and milestones."""
    visit.require_user()
    query = "SELECT p.*, u.name AS lead, u.username FROM projects p JOIN users u ON u.id = p.lead_id WHERE key = ?"
    row = visit.get(query, key)
    components = visit.all(
        f"SELECT c.*, u.name AS owner, u.username, (SELECT count(*) FROM tickets t WHERE t.component_id = c.id "
        f"AND {IS_OPEN}) "
        "AS open FROM components c JOIN users u ON u.id = c.owner_id WHERE c.project_id = ? ORDER BY c.name",
        row["id"],
    )
    milestones = visit.all(
        f"SELECT m.*, (SELECT count(*) FROM tickets t WHERE t.milestone_id = m.id AND {IS_OPEN}) AS open FROM "
        "milestones m "
        "WHERE m.project_id = ? ORDER BY m.due",
        row["id"],
    )
    return visit.page("project.html.jinja", project=row, components=components, milestones=milestones)


@routes.get("/milestones/<int:milestone>")
def milestone(visit: Visit, milestone: int) -> Response:
    """A milestone and its tickets."""
    visit.require_user()
    query = (
        "SELECT m.*, p.name AS project, p.key FROM milestones m JOIN projects p ON p.id = m.project_id WHERE m.id = ?"
    )
    row = visit.get(query, milestone)
    inside = visit.all(f"{TICKETS} WHERE t.milestone_id = ? ORDER BY t.number", milestone)
    return visit.page("milestone.html.jinja", milestone=row, tickets=inside)


@routes.post("/milestones/<int:milestone>")
def change_milestone(visit: Visit, milestone: int) -> Response:
    """Closes a milestone, or opens it again."""
    visit.require_user()
    row = visit.get("SELECT * FROM milestones WHERE id = ?", milestone)
    visit.run("UPDATE milestones SET closed = ? WHERE id = ?", 1 - row["closed"], milestone)
    return visit.redirect(f"/milestones/{milestone}", "milestone")


@routes.get("/people")
def people(visit: Visit) -> Response:
    """Everybody."""
    visit.require_user()
    return visit.page("people.html.jinja", people=visit.all("SELECT * FROM users ORDER BY name"))


@routes.get("/people/<username>")
def person(visit: Visit, username: str) -> Response:
    """One person and what they are working on."""
    visit.require_user()
    row = visit.get(
        "SELECT u.*, d.name AS deputy FROM users u LEFT JOIN users d ON d.id = u.deputy_id WHERE u.username = ?",
        username,
    )
    assigned = visit.all(f"{TICKETS} WHERE t.assignee_id = ? AND {IS_OPEN} ORDER BY t.created", row["id"])
    return visit.page("person.html.jinja", person=row, tickets=assigned)


COLOURS = ("red", "green", "orange", "blue", "purple", "teal", "olive", "grey")


@routes.get("/labels")
def labels(visit: Visit) -> Response:
    """All labels."""
    return _show_labels(visit, {}, 200)


def _show_labels(visit: Visit, errors: dict[str, str], status: int) -> Response:
    visit.require_user()
    rows = visit.all(
        "SELECT l.*, (SELECT count(*) FROM ticket_labels x WHERE x.label_id = l.id) AS used FROM labels l ORDER BY name"
    )
    return visit.page("labels.html.jinja", status, labels=rows, colours=COLOURS, errors=errors, sent=visit.form)


@routes.post("/labels")
def create_label(visit: Visit) -> Response:
    """Creates a label."""
    visit.require_user()
    form = visit.form
    name = form.text("name", "a name", longest=30)
    colour = form.choice("colour", "a colour", COLOURS)
    if visit.one("SELECT 1 FROM labels WHERE lower(name) = lower(?)", name):
        form.errors["name"] = "There is a label of this name."
    if form.errors:
        return _show_labels(visit, form.errors, 422)
    visit.run("INSERT INTO labels (name, colour) VALUES (?, ?)", name, colour)
    return visit.redirect("/labels", "label")
