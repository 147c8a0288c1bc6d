"""What is in the tracker: people, projects with their components and milestones, tickets, drawn from a seed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pivotgym.envs.browser.apps.draw import Draw, database, earlier, insert, people

SCHEMA = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")
USER = 1
"""The user the tasks are about."""
DAY = 24 * 60
STATUSES = ("New", "Open", "In progress", "Resolved", "Closed")
OPEN = ("New", "Open", "In progress")
PRIORITIES = ("Low", "Normal", "High", "Urgent")
LABELS = ("bug", "feature", "regression", "documentation", "security", "customer", "good first ticket", "needs info")
NOTIFY = {"all": "Everything", "mentions": "Only tickets I watch", "none": "Nothing"}

_TITLES = ("Backend developer", "Frontend developer", "Support engineer", "Product manager", "Tester", "Site engineer")
_ZONES = ("Europe/Lisbon", "Europe/Oslo", "Europe/Athens", "America/Bogota", "Asia/Tokyo")
_COLOURS = ("red", "green", "orange", "blue", "purple", "teal", "olive", "grey")
_PROJECTS = (
    ("ATL", "Atlas maps", "Maps and routes for drivers.", ("Routing", "Rendering", "Import", "Accounts")),
    ("BEA", "Beacon alerts", "Alerts for people on call.", ("Mail", "Schedules", "Mobile app", "Billing")),
    ("CED", "Cedar archive", "Long-term storage of documents.", ("Upload", "Search", "Permissions", "Export")),
    ("DUN", "Dune reports", "Reports and dashboards.", ("Charts", "Queries", "Sharing", "Scheduler")),
    ("ECH", "Echo chat", "Chat for support teams.", ("Messages", "Notifications", "Bots", "History")),
)
_SYMPTOMS = (
    (
        "{c}: page stays empty after {a}",
        "After {a} the page stays empty. Nothing in the console. Happens about {n} times a day.",
    ),
    ("{c} fails with error {n} after {a}", "We see error {n} after {a}. A second try works most of the time."),
    ("{c} is slow when {b}", "When {b}, it takes more than {n} seconds. It used to be instant."),
    ("{c}: wrong totals when {b}", "The totals are off by {n} when {b}. The exported file has the right ones."),
    ("{c} loses settings after {a}", "My settings are gone after {a}. I have to enter all {n} of them again."),
    ("Add a shortcut to {c}", "People who use {c} all day ask for a keyboard shortcut. {n} requests so far."),
    ("{c}: button is hidden when {b}", "The button cannot be reached when {b}. Seen on {n} machines."),
    ("Document the limits of {c}", "Nobody knows that there is a limit of {n} entries. It should be in the manual."),
    ("{c} shows old data after {a}", "Old entries are shown for {n} minutes after {a}."),
    ("{c} crashes when {b}", "It crashes when {b}. {n} reports since Monday."),
)
_AFTER = (
    "signing in again",
    "an update",
    "switching projects",
    "a restart",
    "changing the language",
    "renaming a file",
)
_WHEN = ("two people edit", "the window is narrow", "the list is long", "the network is slow", "the name has an umlaut")
_COMMENTS = (
    *(
        "I can reproduce this.",
        "Same here since last week.",
        "Could you attach a screenshot?",
        "Looks like a timing problem.",
    ),
    *(
        "I will have a look tomorrow.",
        "Not seen on the test system.",
        "A restart helps for a while.",
        "Let us discuss this on Monday.",
    ),
)


def tracker_world(seed: str) -> sqlite3.Connection:
    """A tracker with ten people, three projects and sixty tickets; the same for the same seed."""
    return database(SCHEMA, Draw(seed, "tracker"), _fill)


def _fill(db: sqlite3.Connection, draw: Draw) -> None:
    for number, name in enumerate(people(draw, 10), USER):
        first, last = name.lower().split()
        password = f"{draw.pick(('amber', 'birch', 'coral', 'delta', 'ember'))}-{draw.number(1000, 9999)}"
        insert(
            db,
            "users",
            id=number,
            username=f"{first[0]}.{last}",
            name=name,
            password=password,
            title=draw.pick(_TITLES),
            timezone=draw.pick(_ZONES),
            notify=draw.pick(list(NOTIFY)),
        )
    for number, (name, colour) in enumerate(zip(LABELS, _COLOURS, strict=True), 1):
        insert(db, "labels", id=number, name=name, colour=colour)
    for number, (key, name, about, parts) in enumerate(draw.some(_PROJECTS, 3), 1):
        _project(db, draw, number, (key, name, about, parts))
    _tickets(db, draw)


def _project(db: sqlite3.Connection, draw: Draw, number: int, project: tuple[str, str, str, tuple[str, ...]]) -> None:
    key, name, about, parts = project
    first, second = draw.some(("Urgent", "High"), 2)
    guide = (
        f"Tickets with the label security are {first}, those with the label regression are {second}, requests with the "
        "label feature are Low, everything else is Normal. The owner of the component takes the ticket."
    )
    owners = draw.some(range(2, 11), 5)
    insert(db, "projects", id=number, key=key, name=name, description=about, lead_id=owners[4], guide=guide)
    for part, owner in zip(parts, owners, strict=False):
        insert(db, "components", project_id=number, name=part, owner_id=owner)
    version = draw.number(2, 8)
    for step in range(3):
        due = earlier(-(10 + 30 * step + draw.number(0, 9)) * DAY)[:10]
        insert(db, "milestones", project_id=number, name=f"{key} {version}.{step}", due=due)


def _tickets(db: sqlite3.Connection, draw: Draw) -> None:
    plans: dict[int, list[tuple[str, str, str]]] = {}
    for project in (1, 2, 3):
        parts = [row["name"] for row in db.execute("SELECT name FROM components WHERE project_id = ?", (project,))]
        plans[project] = [(part, *symptom) for part in parts for symptom in draw.some(_SYMPTOMS, 5)]
    order = draw.some([project for project in plans for _ in range(20)], 60)
    numbers = {project: draw.number(101, 180) for project in plans}
    for count, project in enumerate(order):
        plan = plans[project]
        part, title, body = plan.pop(draw.number(0, len(plan) - 1))
        words = {"c": part, "a": draw.pick(_AFTER), "b": draw.pick(_WHEN), "n": draw.number(3, 48)}
        numbers[project] += draw.number(1, 3)
        add_ticket(
            db,
            draw,
            project,
            numbers[project],
            title.format(**words),
            body.format(**words),
            part,
            ago=(90 - count) * DAY - draw.number(0, 600),
        )


def add_ticket(
    db: sqlite3.Connection, draw: Draw, project: int, number: int, title: str, body: str, part: str, *, ago: int
) -> int:
    """Adds a ticket with labels, comments and history, reported so many minutes ago; gives its id."""
    status = draw.pick((*OPEN, *OPEN, "Resolved", "Closed"))
    component = db.execute("SELECT * FROM components WHERE project_id = ? AND name = ?", (project, part)).fetchone()
    milestones = [row["id"] for row in db.execute("SELECT id FROM milestones WHERE project_id = ?", (project,))]
    reporter, assignee = draw.some(range(1, 11), 2)
    ticket = insert(
        db,
        "tickets",
        project_id=project,
        number=number,
        title=title,
        body=body,
        status=status,
        priority=draw.pick(("Low", "Normal", "Normal", "High", "Urgent")),
        component_id=component["id"],
        milestone_id=draw.pick([None, *milestones]),
        reporter_id=reporter,
        assignee_id=None if status == "New" else assignee,
        created=earlier(ago),
        updated=earlier(ago // 2),
    )
    insert(db, "events", ticket_id=ticket, actor_id=reporter, text="reported the ticket", created=earlier(ago))
    insert(db, "watchers", ticket_id=ticket, user_id=reporter)
    for label in draw.some(range(1, len(LABELS) + 1), draw.number(0, 2)):
        insert(db, "ticket_labels", ticket_id=ticket, label_id=label)
    for step in range(draw.number(0, 3)):
        author = draw.number(2, 10)
        insert(
            db,
            "comments",
            ticket_id=ticket,
            author_id=author,
            body=draw.pick(_COMMENTS),
            created=earlier(ago - 90 * step - 45),
        )
    return ticket
