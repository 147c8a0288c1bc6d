"""Tasks about one ticket, or two that belong together."""

from __future__ import annotations

import sqlite3

from pivotgym.envs.browser.apps.draw import Draw, earlier, insert
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
    removed,
    say,
    tick,
)
from pivotgym.envs.browser.apps.tracker.picking import (
    FOUND,
    Row,
    name_of,
    owner,
    people,
    quoted,
    report,
    search,
    ticket_link,
    tickets,
    two,
)
from pivotgym.envs.browser.apps.tracker.world import OPEN, PRIORITIES, USER

SAVE = press("Save details")
_UNSOLVED = f"t.status IN {OPEN}"


def resolve(db: sqlite3.Connection, draw: Draw) -> Built:
    """A ticket is resolved, with a comment that says why."""
    ticket, other = two(db, draw, _UNSOLVED)
    comment = f"Fixed in build {draw.number(300, 900)}."

    def script(which: Row, status: str) -> list[Step]:
        return [
            *search(which),
            choose("Status", status),
            SAVE,
            fill("Comment", comment),
            press("Add comment"),
            say(f"{which['name']} is resolved."),
        ]

    expert = script(ticket, "Resolved")
    return Built(
        f"Set {quoted(ticket)} to Resolved and leave this comment: {comment}",
        expert,
        {
            "another ticket": script(other, "Resolved"),
            "another status": script(ticket, "Closed"),
            "not saved": [*expert[:4], *expert[5:]],
        },
        [
            changed("tickets", {"id": ticket["id"]}, status="Resolved"),
            added("comments", ticket_id=ticket["id"], author_id=USER, body=comment),
        ],
    )


def give_to_owner(db: sqlite3.Connection, draw: Draw) -> Built:
    """A ticket goes to the owner of its component, whom the project's page names."""
    ticket = draw.pick([row for row in tickets(db, _UNSOLVED) if row["assignee_id"] != owner(db, row)["id"]])
    right = owner(db, ticket)
    (wrong,) = people(db, draw, 1, {right["id"], ticket["assignee_id"]})

    def script(person: Row) -> list[Step]:
        return [
            *search(ticket)[:2],
            search(ticket)[2]("I look which component it belongs to."),
            link(ticket["project"])("The project's page lists the owners."),
            *search(ticket),
            choose("Assignee", person["name"]),
            SAVE,
            say(f"{ticket['name']} is assigned to {person['name']}."),
        ]

    return Built(
        f"Assign {quoted(ticket)} to whoever owns the component it is in.",
        script(right),
        {"somebody else": script(wrong), "not saved": [*script(right)[:-2], say("Done.")]},
        [changed("tickets", {"id": ticket["id"]}, assignee_id=right["id"])],
    )


def triage(db: sqlite3.Connection, draw: Draw) -> Built:
    """A new ticket gets priority and assignee by the project's own rules."""
    component = draw.pick(db.execute("SELECT * FROM components ORDER BY id").fetchall())
    ticket = report(
        db,
        draw,
        component,
        f"{component['name']}: trouble after the update of Friday",
        "Several customers called. See the label for what kind of trouble it is.",
        days=1,
    )
    guide = db.execute("SELECT guide FROM projects WHERE id = ?", (ticket["project_id"],)).fetchone()[0]
    label = draw.pick(("security", "regression", "feature"))
    first = guide.split("label security are ")[1].split(",")[0]
    second = guide.split("label regression are ")[1].split(",")[0]
    right = {"security": first, "regression": second, "feature": "Low"}[label]
    query = "UPDATE tickets SET status = 'New', priority = 'Normal', assignee_id = NULL WHERE id = ?"
    db.execute(query, (ticket["id"],))
    db.execute("DELETE FROM ticket_labels WHERE ticket_id = ?", (ticket["id"],))
    number = db.execute("SELECT id FROM labels WHERE name = ?", (label,)).fetchone()[0]
    insert(db, "ticket_labels", ticket_id=ticket["id"], label_id=number)
    person = owner(db, ticket)
    (stranger,) = people(db, draw, 1, {person["id"]})

    def script(priority: str, who: Row) -> list[Step]:
        return [
            link(ticket["project"])("First the project's rules."),
            *search(ticket),
            choose("Status", "Open"),
            choose("Priority", priority),
            choose("Assignee", who["name"]),
            SAVE,
            say(f"{ticket['name']} is sorted in."),
        ]

    wrong = next(priority for priority in ("Urgent", "High") if priority != right)
    return Built(
        f"Please triage {quoted(ticket)} by the rules on the page of its project: set priority and assignee, and the "
        "status to Open.",
        script(right, person),
        {"another priority": script(wrong, person), "another person": script(right, stranger)},
        [changed("tickets", {"id": ticket["id"]}, status="Open", priority=right, assignee_id=person["id"])],
    )


def close_duplicate(db: sqlite3.Connection, draw: Draw) -> Built:
    """Two people reported the same; the later ticket is closed as a duplicate."""
    component = draw.pick(db.execute("SELECT * FROM components ORDER BY id").fetchall())
    code = f"E{draw.number(1000, 9999)}"
    old = report(db, draw, component, f"{component['name']} stops with {code}", f"It stops and says {code}.", days=12)
    new = report(db, draw, component, f"Message {code} in {component['name']}", f"I get {code} since today.", days=2)

    def script(which: Row, original: Row) -> list[Step]:
        return [
            *find(code, FOUND),
            link(ticket_link(which)),
            fill("Duplicate of", original["name"]),
            press("Close as duplicate"),
            say(f"{which['name']} is closed as a duplicate of {original['name']}."),
        ]

    return Built(
        f"There are two tickets about the message {code}. Close the one that was reported later as a duplicate of the "
        "earlier one.",
        script(new, old),
        {
            "the wrong way round": script(old, new),
            "only closed": [*find(code, FOUND), link(ticket_link(new)), choose("Status", "Closed"), SAVE, say("Done.")],
        },
        [changed("tickets", {"id": new["id"]}, status="Closed", duplicate_of=old["id"])],
    )


def add_blocker(db: sqlite3.Connection, draw: Draw) -> Built:
    """A ticket waits for another, of which only the words are known."""
    component = draw.pick(db.execute("SELECT * FROM components ORDER BY id").fetchall())
    word = draw.pick(("certificate", "firewall", "migration", "licence"))
    first = report(db, draw, component, f"Renew the {word} of {component['name']}", f"The {word} ends soon.", days=5)
    waiting, other = two(db, draw, f"{_UNSOLVED} AND t.id <> ?", first["id"])

    def script(which: Row, blocker: Row) -> list[Step]:
        return [
            *find(word, FOUND),
            *search(which),
            fill("Blocked by", blocker["name"]),
            press("Add blocker"),
            say(f"{which['name']} waits for {blocker['name']} now."),
        ]

    return Built(
        f"{quoted(waiting)} cannot go on before the {word} is renewed; there is a ticket about that. Mark it as "
        "blocked by "
        "that ticket.",
        script(waiting, first),
        {"the wrong way round": script(first, waiting), "another blocker": script(waiting, other)},
        [added("blockers", ticket_id=waiting["id"], blocker_id=first["id"])],
    )


def comment_due_date(db: sqlite3.Connection, draw: Draw) -> Built:
    """A comment with a date that stands on another page."""
    ticket = draw.pick(tickets(db, f"{_UNSOLVED} AND t.milestone_id IS NOT NULL"))
    query = "SELECT * FROM milestones WHERE project_id = ? ORDER BY id"
    rows = {row["id"]: row for row in db.execute(query, (ticket["project_id"],))}
    due = rows[ticket["milestone_id"]]["due"]
    wrong = next(row["due"] for row in rows.values() if row["due"] != due)

    def script(date: str) -> list[Step]:
        return [
            *search(ticket)[:2],
            search(ticket)[2]("I look which milestone it is in."),
            link(ticket["project"])("The project's page has the dates."),
            *search(ticket),
            fill("Comment", f"Due on {date}."),
            press("Add comment"),
            say("The comment is there."),
        ]

    return Built(
        f"People ask in {quoted(ticket)} when it will be done. Find out when its milestone is due and add exactly this "
        "comment, with the date in place of the dots, written as in 2026-01-31: Due on ….",
        script(due),
        {"another date": script(wrong), "only told": [link(ticket["project"]), say(f"Due on {due}.")]},
        [added("comments", ticket_id=ticket["id"], author_id=USER, body=f"Due on {due}.")],
    )


def reopen(db: sqlite3.Connection, draw: Draw) -> Built:
    """A ticket that was done comes back, with higher priority, to the user."""
    ticket = draw.pick(tickets(db, "t.status IN ('Resolved', 'Closed')"))
    priority = draw.pick([p for p in PRIORITIES[1:] if p != ticket["priority"]])
    wrong = next(p for p in PRIORITIES if p not in {priority, ticket["priority"]})
    db.execute("UPDATE tickets SET assignee_id = 2 WHERE id = ?", (ticket["id"],))
    me = name_of(db, "users", USER)

    def script(level: str, status: str) -> list[Step]:
        return [
            *search(ticket),
            choose("Status", status),
            choose("Priority", level),
            choose("Assignee", me),
            SAVE,
            say(f"{ticket['name']} is open again."),
        ]

    return Built(
        f"{quoted(ticket)} is back. Set it to Open with priority {priority} again and assign it to me.",
        script(priority, "Open"),
        {"another priority": script(wrong, "Open"), "another status": script(priority, "In progress")},
        [changed("tickets", {"id": ticket["id"]}, status="Open", priority=priority, assignee_id=USER)],
    )


def retitle(db: sqlite3.Connection, draw: Draw) -> Built:
    """A ticket gets a better title."""
    ticket, other = two(db, draw)
    title = (
        f"{ticket['component']}: "
        f"{draw.pick(('needs a second look', 'does not do what the manual says', 'is confusing'))}"
    )

    def script(which: Row, text: str) -> list[Step]:
        return [
            *search(which),
            link("Edit title and description"),
            fill("Title", text),
            press("Save changes"),
            say("The title is changed."),
        ]

    return Built(
        f"Change the title of {quoted(ticket)} to “{title}”. The description stays.",
        script(ticket, title),
        {"another ticket": script(other, title), "not all of it": script(ticket, title[:-2])},
        [changed("tickets", {"id": ticket["id"]}, title=title)],
    )


def correct_comment(db: sqlite3.Connection, draw: Draw) -> Built:
    """The user's comment has a mistake in it; somebody else's has not."""
    ticket = draw.pick(tickets(db))
    wrong, right = (f"10.{draw.number(0, 9)}.{draw.number(10, 99)}" for _ in range(2))
    insert(db, "comments", ticket_id=ticket["id"], author_id=3, body="Which version is it?", created=earlier(900))
    old = insert(
        db, "comments", ticket_id=ticket["id"], author_id=USER, body=f"Seen with version {wrong}.", created=earlier(800)
    )

    def script(text: str) -> list[Step]:
        return [
            *search(ticket),
            link(f"Edit comment of {earlier(800)}"),
            fill("Comment", text),
            press("Save comment"),
            say("Your comment is corrected."),
        ]

    return Built(
        f"In my comment on {quoted(ticket)} I named the wrong version: it is {right}, not {wrong}. Correct the comment "
        "itself, without adding another one.",
        script(f"Seen with version {right}."),
        {
            "as it was": script(f"Seen with version {wrong}."),
            "a further comment": [
                *search(ticket),
                fill("Comment", f"Seen with version {right}."),
                press("Add comment"),
                say("Done."),
            ],
        },
        [changed("comments", {"id": old}, body=f"Seen with version {right}.")],
    )


def swap_labels(db: sqlite3.Connection, draw: Draw) -> Built:
    """One label off, another on."""
    ticket = draw.pick(tickets(db))
    old, new, wrong = draw.some(db.execute("SELECT * FROM labels ORDER BY id").fetchall(), 3)
    db.execute("DELETE FROM ticket_labels WHERE ticket_id = ?", (ticket["id"],))
    insert(db, "ticket_labels", ticket_id=ticket["id"], label_id=old["id"])

    def script(*names: str) -> list[Step]:
        return [*search(ticket), *map(tick, names), SAVE, say("The labels are changed.")]

    return Built(
        f"{quoted(ticket)} has the wrong label: take “{old['name']}” off and put “{new['name']}” on.",
        script(old["name"], new["name"]),
        {"both": script(new["name"]), "another": script(old["name"], wrong["name"])},
        [
            removed("ticket_labels", ticket_id=ticket["id"], label_id=old["id"]),
            added("ticket_labels", ticket_id=ticket["id"], label_id=new["id"]),
        ],
    )
