"""Tasks about several tickets at once, about finding out, and about everything beside tickets."""

from __future__ import annotations

import sqlite3

from pivotgym.envs.browser.apps.draw import Draw
from pivotgym.envs.browser.apps.spec import (
    Built,
    Step,
    added,
    changed,
    choose,
    fill,
    find,
    link,
    press,
    say,
    tick,
)
from pivotgym.envs.browser.apps.tracker.lists import COLOURS, IS_OPEN
from pivotgym.envs.browser.apps.tracker.picking import (
    FOUND,
    Row,
    name_of,
    open_groups,
    people,
    quoted,
    report,
    search,
    tickets,
    two,
)
from pivotgym.envs.browser.apps.tracker.world import USER

FILTER, CHANGE = press("Apply filters"), press("Change selected tickets")
ALL = tick("Select all tickets on this page")


def listed(*filters: Step) -> list[Step]:
    """A filtered list of tickets."""
    return [link("All tickets"), *filters, FILTER]


def label_component(db: sqlite3.Connection, draw: Draw) -> Built:
    """All open tickets of a component get a label."""
    ((component, *_), *_) = draw.some(open_groups(db, "component_id", 3), 1)
    label = draw.pick(db.execute("SELECT * FROM labels ORDER BY id").fetchall())
    found = tickets(db, f"t.component_id = ? AND {IS_OPEN}", component)
    done = tickets(db, f"t.component_id = ? AND NOT {IS_OPEN}", component)
    if not done:
        db.execute("UPDATE tickets SET status = 'Closed' WHERE id = ?", (found[0]["id"],))
        found = found[1:]
    db.execute(
        "DELETE FROM ticket_labels WHERE label_id = ? AND ticket_id IN (SELECT id FROM tickets WHERE component_id = ?)",
        (label["id"], component),
    )
    name = name_of(db, "components", component)

    def script(*filters: Step) -> list[Step]:
        return [
            *listed(choose("Component", name), *filters),
            ALL,
            choose("Add label", label["name"]),
            CHANGE,
            say("Done."),
        ]

    return Built(
        f"Put the label “{label['name']}” on every open ticket of the component {name} (open means: new, open or in "
        "progress).",
        script(choose("Status", "Any open")),
        {
            "the closed ones, too": script(),
            "one of them": [
                *listed(choose("Component", name)),
                tick(f"Select {found[0]['name']}"),
                choose("Add label", label["name"]),
                CHANGE,
                say("Done."),
            ],
        },
        [added("ticket_labels", ticket_id=row["id"], label_id=label["id"]) for row in found],
    )


def hand_over(db: sqlite3.Connection, draw: Draw) -> Built:
    """Somebody leaves a project; their open tickets in it go to a colleague."""
    groups = [group for group in open_groups(db, "project_id, assignee_id") if group[1] != USER]
    project, person = draw.pick(groups)
    new, wrong = people(db, draw, 2, {int(str(person))})
    found = tickets(db, f"t.project_id = ? AND t.assignee_id = ? AND {IS_OPEN}", project, person)
    elsewhere = tickets(
        db, "t.assignee_id = ? AND t.id NOT IN (SELECT id FROM tickets WHERE project_id = ?)", person, project
    )
    if not any(row["status"] in {"New", "Open", "In progress"} for row in elsewhere):
        (row, *_) = tickets(db, f"t.project_id <> ? AND {IS_OPEN}", project)
        db.execute("UPDATE tickets SET assignee_id = ? WHERE id = ?", (person, row["id"]))
    where = name_of(db, "projects", project)
    who = choose("Assignee", name_of(db, "users", person))

    def script(to: Row, *filters: Step) -> list[Step]:
        return [
            *listed(*filters, who, choose("Status", "Any open")),
            ALL,
            choose("Set assignee", to["name"]),
            CHANGE,
            say(f"{to['name']} has the tickets now."),
        ]

    return Built(
        f"{who.value} is leaving the project {where}. Hand over all their open tickets there (new, open or in "
        "progress) to "
        f"{new['name']}; their tickets in other projects stay with them.",
        script(new, choose("Project", where)),
        {"all projects": script(new), "to somebody else": script(wrong, choose("Project", where))},
        [changed("tickets", {"id": row["id"]}, assignee_id=new["id"]) for row in found],
    )


def postpone(db: sqlite3.Connection, draw: Draw) -> Built:
    """What is not done in a milestone moves to the next one; the milestone is closed."""
    steps = db.execute(
        "SELECT m.*, p.name AS project FROM milestones m JOIN projects p ON p.id = m.project_id ORDER BY m.id"
    ).fetchall()
    counts = {group[0] for group in open_groups(db, "milestone_id")}
    old = draw.pick([row for row in steps if row["id"] in counts and not row["name"].endswith(".2")])
    new = next(row for row in steps if row["id"] == old["id"] + 1)
    found = tickets(db, f"t.milestone_id = ? AND {IS_OPEN}", old["id"])
    if not tickets(db, f"t.milestone_id = ? AND NOT {IS_OPEN}", old["id"]):
        db.execute("UPDATE tickets SET status = 'Resolved' WHERE id = ?", (found[-1]["id"],))
        found = found[:-1]

    def script(*filters: Step) -> list[Step]:
        return [
            *listed(choose("Milestone", old["name"]), *filters),
            ALL,
            choose("Set milestone", new["name"]),
            CHANGE,
            link(old["project"]),
            link(old["name"]),
            press("Close milestone"),
            say(f"{old['name']} is closed."),
        ]

    expert = script(choose("Status", "Any open"))
    return Built(
        f"We ship {old['name']}. Move its tickets that are not done (new, open or in progress) to "
        f"{new['name']}, then close "
        f"the milestone {old['name']}.",
        expert,
        {"the finished ones, too": script(), "not closed": [*expert[:7], say("Done.")]},
        [
            *(changed("tickets", {"id": row["id"]}, milestone_id=new["id"]) for row in found),
            changed("milestones", {"id": old["id"]}, closed=1),
        ],
    )


def raise_priority(db: sqlite3.Connection, draw: Draw) -> Built:
    """Two tickets of a search get another priority, a third does not."""
    component = draw.pick(db.execute("SELECT * FROM components ORDER BY id").fetchall())
    city = draw.pick(("Oslo", "Porto", "Quito", "Riga"))
    rows = [
        report(
            db, draw, component, f"{what} for the office in {city}", f"Asked for by the office in {city}.", days=days
        )
        for what, days in (("Slow pages", 9), ("New accounts", 6), ("Missing reports", 3))
    ]
    db.executemany("UPDATE tickets SET priority = 'Normal' WHERE id = ?", [(row["id"],) for row in rows])
    db.execute("UPDATE tickets SET status = 'Resolved' WHERE id = ?", (rows[1]["id"],))

    def script(*chosen: Row) -> list[Step]:
        ticks = [tick(f"Select {row['name']}") for row in chosen]
        return [*find(city, FOUND), *ticks, choose("Set priority", "Urgent"), CHANGE, say("They are urgent now.")]

    return Built(
        f"The office in {city} waits for us. Make their tickets urgent, except those that are resolved already.",
        script(rows[0], rows[2]),
        {"all": script(*rows), "one": script(rows[0])},
        [changed("tickets", {"id": row["id"]}, priority="Urgent") for row in (rows[0], rows[2])],
    )


def new_ticket(db: sqlite3.Connection, draw: Draw) -> Built:
    """A ticket is reported, with everything that belongs to it."""
    parts = db.execute(
        "SELECT c.*, p.name AS project, p.key FROM components c JOIN projects p ON p.id = c.project_id ORDER BY c.id"
    )
    part = draw.pick(parts.fetchall())
    other = db.execute(
        "SELECT * FROM components WHERE project_id = ? AND id <> ? ORDER BY id", (part["project_id"], part["id"])
    )
    title = draw.pick(("Crash on opening a large file", "Wrong time zone in e-mails", "Typing is delayed"))
    body = draw.pick(("Reported by phone this morning.", "Three customers so far.", "Started after the last update."))
    priority = draw.pick(("Low", "High", "Urgent"))
    (person,) = people(db, draw, 1, set())

    def script(component: str, level: str) -> list[Step]:
        return [
            link("New ticket"),
            choose("Project", part["project"]),
            choose("Component", component),
            fill("Title", title),
            fill("Description", body),
            choose("Priority", level),
            choose("Assignee", person["name"]),
            press("Create ticket"),
            say("The ticket is there."),
        ]

    expert = script(part["name"], priority)
    return Built(
        f"Report a new ticket in {part['project']}, component {part['name']}: title “{title}”, description "
        f"“{body}”, priority "
        f"{priority}, assigned to {person['name']}.",
        expert,
        {
            "another component": script(other.fetchone()["name"], priority),
            "another priority": script(part["name"], "Normal"),
            "not sent": [*expert[:7], say("Done.")],
        },
        [
            added(
                "tickets",
                project_id=part["project_id"],
                component_id=part["id"],
                title=title,
                body=body,
                status="New",
                priority=priority,
                assignee_id=person["id"],
                reporter_id=USER,
                milestone_id=None,
            ),
            added("watchers", user_id=USER),
        ],
    )


def watch_both(db: sqlite3.Connection, draw: Draw) -> Built:
    """The user watches two tickets."""
    first, second = two(db, draw, "t.id NOT IN (SELECT ticket_id FROM watchers WHERE user_id = ?)", USER)
    expert = [*search(first), press("Watch"), *search(second), press("Watch"), say("You are watching both.")]
    return Built(
        f"I want to watch {quoted(first)} and {quoted(second)}.",
        expert,
        {"one of them": [*expert[:4], say("Done.")], "on and off": [*expert[:4], press("Stop watching"), *expert[4:]]},
        [added("watchers", ticket_id=row["id"], user_id=USER) for row in (first, second)],
    )


def create_label(db: sqlite3.Connection, draw: Draw) -> Built:
    """A new label, and a ticket that gets it."""
    ticket, other = two(db, draw)
    name = draw.pick(("onboarding", "accessibility", "performance", "translation"))
    colour = draw.pick(COLOURS)

    def script(which: Row, paint: str) -> list[Step]:
        return [
            link("Labels"),
            fill("Name", name),
            choose("Colour", paint),
            press("Create label"),
            *search(which),
            tick(name),
            press("Save details"),
            say("The label is there and in use."),
        ]

    number = db.execute("SELECT max(id) + 1 FROM labels").fetchone()[0]
    wrong = next(paint for paint in COLOURS if paint != colour)
    return Built(
        f"Create a label “{name}” in {colour} and put it on {quoted(ticket)}.",
        script(ticket, colour),
        {
            "another colour": script(ticket, wrong),
            "another ticket": script(other, colour),
            "not used": [*script(ticket, colour)[:4], say("Done.")],
        },
        [
            added("labels", name=name, colour=colour),
            added("ticket_labels", ticket_id=ticket["id"], label_id=number),
        ],
    )


def go_away(db: sqlite3.Connection, draw: Draw) -> Built:
    """Signing in; an away note; the lead of a project stands in."""
    user = db.execute("SELECT * FROM users WHERE id = ?", (USER,)).fetchone()
    project = draw.pick(db.execute("SELECT * FROM projects ORDER BY id").fetchall())
    lead = name_of(db, "users", project["lead_id"])
    (wrong,) = people(db, draw, 1, {project["lead_id"]})
    text = f"Back on {draw.number(2, 28)} April."

    def script(deputy: str) -> list[Step]:
        return [
            fill("User name", user["username"]),
            fill("Password", user["password"]),
            press("Sign in"),
            link(project["name"])("The project's page names its lead."),
            link("Settings"),
            fill("Away note", text),
            choose("Deputy", deputy),
            press("Save settings"),
            say(f"{deputy} stands in for you."),
        ]

    return Built(
        f"Sign in as {user['username']} with the password {user['password']}. I am going on holiday: set my "
        "away note to "
        f"“{text}” and make the lead of {project['name']} my deputy.",
        script(lead),
        {"somebody else": script(wrong["name"]), "not saved": [*script(lead)[:7], say("Done.")]},
        [changed("users", {"id": USER}, away=text, deputy_id=project["lead_id"])],
        signed_in=False,
    )


def count_tickets(db: sqlite3.Connection, draw: Draw) -> Built:
    """How many open tickets of a priority somebody has."""
    project, priority = draw.pick(open_groups(db, "project_id, priority", 2, 30))
    right = len(tickets(db, f"t.project_id = ? AND t.priority = ? AND {IS_OPEN}", project, priority))
    every = len(tickets(db, "t.project_id = ? AND t.priority = ?", project, priority))
    if right == every:
        row = tickets(db, f"t.project_id = ? AND t.priority = ? AND {IS_OPEN}", project, priority)[0]
        db.execute("UPDATE tickets SET status = 'Closed' WHERE id = ?", (row["id"],))
        right -= 1
    where = name_of(db, "projects", project)
    look = listed(choose("Project", where), choose("Priority", str(priority)), choose("Status", "Any open"))
    return Built(
        f"How many open tickets (new, open or in progress) with priority {priority} does the project {where} "
        "have? Answer "
        "with the number only.",
        [*look, say(str(right))],
        {
            "the closed ones, too": [*look, say(str(every))],
            "all numbers": [say(" ".join(map(str, range(20))))],
            "none": [*look, say("none")],
        },
        answer=[str(right)],
    )


def oldest_reporter(db: sqlite3.Connection, draw: Draw) -> Built:
    """Who reported the oldest open ticket of a component."""
    ((component, *_), *_) = draw.some(open_groups(db, "component_id"), 1)
    found = sorted(tickets(db, f"t.component_id = ? AND {IS_OPEN}", component), key=lambda row: str(row["created"]))
    name = name_of(db, "components", component)
    others = [
        row["name"] for row in db.execute("SELECT name FROM users ORDER BY id") if row["name"] != found[0]["reporter"]
    ]
    look = listed(choose("Component", name), choose("Status", "Any open"), choose("Sort by", "Oldest first"))
    return Built(
        f"Who reported the oldest ticket of the component {name} that is still open (new, open or in progress)? "
        "Answer with "
        "the full name.",
        [*look, say(found[0]["reporter"])],
        {"somebody else": [*look, say(others[0])], "two names": [*look, say(f"{found[0]['reporter']} or {others[0]}")]},
        answer=[found[0]["reporter"]],
        not_said=others,
    )


def owner_zone(db: sqlite3.Connection, draw: Draw) -> Built:
    """In which time zone the owner of the busiest component works."""
    query = (
        f"SELECT c.*, u.name AS owner, u.timezone, (SELECT count(*) FROM tickets t WHERE t.component_id = c.id "
        f"AND {IS_OPEN}) "
        "AS open FROM components c JOIN users u ON u.id = c.owner_id WHERE c.project_id = ? ORDER BY open DESC, c.id"
    )
    project = draw.pick(db.execute("SELECT * FROM projects ORDER BY id").fetchall())
    best, second, *_ = db.execute(query, (project["id"],)).fetchall()
    while second["open"] >= best["open"]:  # so that there is one busiest component
        (row, *_) = tickets(db, f"t.component_id = ? AND {IS_OPEN}", second["id"])
        db.execute("UPDATE tickets SET component_id = ? WHERE id = ?", (best["id"], row["id"]))
        best, second, *_ = db.execute(query, (project["id"],)).fetchall()
    zones = sorted({row["timezone"] for row in db.execute("SELECT timezone FROM users")} - {best["timezone"]})
    look = [link(project["name"]), link(best["owner"])]
    return Built(
        f"Which component of {project['name']} has the most open tickets, and in which time zone does its owner "
        "work? Tell me "
        "the time zone, as the tracker writes it.",
        [*look, say(best["timezone"])],
        {"another zone": [*look, say(zones[0])], "all zones": [*look, say(", ".join([best["timezone"], *zones]))]},
        answer=[best["timezone"]],
        not_said=zones,
    )
