"""Tasks about SQLite databases: duplicates, migrations, orphans, balances, and those of :mod:`.tables`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from pivotgym.envs.terminal.bundled.draw import PEOPLE, WORDS, ask
from pivotgym.envs.terminal.bundled.look import Look, Wrong, same
from pivotgym.envs.terminal.bundled.spec import Builder, Built
from pivotgym.envs.terminal.bundled.tables import city_report, columns_of, database, fast_query, import_readings


def unique_contacts(rng: random.Random) -> Built:
    """Contacts with the same address but for case and blanks are merged; an index keeps it so."""
    people = rng.sample(PEOPLE, 8)
    rows: list[tuple[int, str, str, str | None]] = []
    for number in range(1, 19):
        name = people[number - 1] if number <= 8 else rng.choice(people)
        mail = f"{name}@example.org"
        mail = rng.choice((mail, mail, mail.title(), f" {mail}", f"{mail.upper()} "))
        rows.append((number, name.title(), mail, f"555-{rng.randrange(1000, 9999)}" if rng.random() < 0.6 else None))
    kept: dict[str, list[Any]] = {}
    for id, name, mail, phone in rows:
        key = mail.strip().lower()
        entry = kept.setdefault(key, [id, name, key, None])
        entry[3] = entry[3] or phone
    wanted = [tuple(entry) for entry in kept.values()]
    schema = (
        "CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT NOT NULL, mail TEXT NOT NULL, phone "
        "TEXT);\nCREATE TABLE log (line TEXT);"
    )
    sql = (
        "BEGIN;\n"
        "UPDATE contacts SET mail = lower(trim(mail));\n"
        "UPDATE contacts SET phone = (SELECT d.phone FROM contacts d WHERE d.mail = contacts.mail AND d.phone IS "
        "NOT NULL\n"
        "  ORDER BY d.id LIMIT 1) WHERE phone IS NULL;\n"
        "DELETE FROM contacts WHERE id NOT IN (SELECT min(id) FROM contacts GROUP BY mail);\n"
        "CREATE UNIQUE INDEX contacts_mail ON contacts (mail);\n"
        "COMMIT;"
    )

    def check(look: Look) -> None:
        same(look.query("contacts.db", "SELECT * FROM contacts ORDER BY id"), wanted, "contacts")
        same(look.query("contacts.db", "SELECT line FROM log"), [("imported",)], "log")
        unique = [
            str(row[1]) for row in look.query("contacts.db", "PRAGMA index_list(contacts)") if row[2] and not row[4]
        ]
        columns = [
            [str(row[2]) for row in look.query("contacts.db", f'PRAGMA index_info("{name}")')] for name in unique
        ]
        if ["mail"] not in columns:
            raise Wrong("there is no unique index on the address")

    return Built(
        ask(
            rng,
            "In contacts.db the table contacts has people more than once: their mail addresses differ only in "
            "upper and "
            "lower case and in blanks around them.",
            "- write every address in lower case without blanks around it\n- of several rows with the same "
            "address keep "
            "the one with the lowest id; if it has no phone, give it the phone of the next row by id that has one\n"
            "- create a unique index on mail",
            "Names and ids of the rows that stay do not change.",
        ),
        (
            ("Schema and data.", "sqlite3 contacts.db .schema 'SELECT * FROM contacts'"),
            (
                "How many are there really?",
                "sqlite3 contacts.db 'SELECT lower(trim(mail)) AS m, count(*), min(id) FROM contacts GROUP BY m'",
            ),
            (
                "First the addresses, then the phones, then delete; all in one transaction.",
                f"sqlite3 contacts.db <<'EOF'\n{sql}\nEOF",
            ),
            (
                "Check.",
                "sqlite3 contacts.db 'SELECT * FROM contacts ORDER BY id' 'PRAGMA index_list(contacts)' 'PRAGMA "
                "integrity_check'",
            ),
        ),
        f"{len(wanted)} contacts are left, each address once, with a unique index.",
        script=database("contacts.db", schema, contacts=rows, log=[("imported",)]),
        check=check,
    )


def split_names(rng: random.Random) -> Built:
    """A migration: one column becomes two, prices become integers, the version goes up, the view still works."""
    rows = [
        (
            n + 1,
            f"{rng.choice(PEOPLE).title()} {rng.choice(WORDS).title()}" if n % 5 else rng.choice(PEOPLE).title(),
            f"{rng.randrange(1, 300)}.{rng.randrange(100):02}",
        )
        for n in range(12)
    ]
    wanted = [
        (id, *(name.split(" ", 1) if " " in name else (name, "")), round(float(balance) * 100))
        for id, name, balance in rows
    ]
    schema = (
        "CREATE TABLE members (id INTEGER PRIMARY KEY, name TEXT NOT NULL, balance TEXT NOT NULL);\n"
        "CREATE TABLE visits (member INTEGER, day TEXT);\nPRAGMA user_version = 3;"
    )
    visits = [(rng.randrange(1, 13), f"2024-05-{rng.randrange(10, 31)}") for _ in range(15)]
    sql = (
        "BEGIN;\n"
        "CREATE TABLE new (id INTEGER PRIMARY KEY, first TEXT NOT NULL, last TEXT NOT NULL, cents INTEGER NOT NULL);\n"
        "INSERT INTO new SELECT id,\n"
        "  CASE WHEN instr(name, ' ') THEN substr(name, 1, instr(name, ' ') - 1) ELSE name END,\n"
        "  CASE WHEN instr(name, ' ') THEN substr(name, instr(name, ' ') + 1) ELSE '' END,\n"
        "  CAST(round(balance * 100) AS INTEGER) FROM members;\n"
        "DROP TABLE members;\nALTER TABLE new RENAME TO members;\nPRAGMA user_version = 4;\nCOMMIT;"
    )

    def check(look: Look) -> None:
        same(columns_of(look, "club.db", "members"), ["id", "first", "last", "cents"], "the columns of members")
        keys = look.query("club.db", "SELECT name FROM pragma_table_info('members') WHERE pk")
        same(keys, [("id",)], "the primary key")
        found = look.query("club.db", "SELECT id, first, last, cents, typeof(cents) FROM members ORDER BY id")
        same(found, [(*row, "integer") for row in wanted], "members")
        same(look.query("club.db", "SELECT member, day FROM visits ORDER BY rowid"), visits, "visits")
        same(look.query("club.db", "PRAGMA user_version"), [(4,)], "user_version")
        tables = look.query("club.db", "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        same(tables, [("members",), ("visits",)], "the tables")

    return Built(
        ask(
            rng,
            "Migrate club.db from version 3 to 4. The table members now has name and balance (text such as "
            "12.50). It is "
            "to have exactly the columns id (still the primary key), first, last, cents, in this order:",
            "- first is the name up to its first blank, last the rest; without a blank, last is an empty text\n- "
            "cents is "
            "the balance in cents as an integer",
            "Set PRAGMA user_version to 4. Other tables stay, and no further table is left behind.",
        ),
        (
            ("What is in it?", "sqlite3 club.db .schema 'PRAGMA user_version' 'SELECT * FROM members'"),
            (
                "A new table, filled from the old one, in a transaction; round, because 0.29 * 100 is not 29.",
                f"sqlite3 club.db <<'EOF'\n{sql}\nEOF",
            ),
            (
                "Check rows, types and version.",
                "sqlite3 club.db .schema 'PRAGMA user_version' 'SELECT *, typeof(cents) FROM members'",
            ),
        ),
        "club.db has version 4: first, last and cents instead of name and balance.",
        script=database("club.db", schema, members=rows, visits=visits),
        check=check,
    )


def remove_orphans(rng: random.Random) -> Built:
    """Rows whose parent is gone are deleted, over two levels."""
    projects = rng.sample(range(1, 40), 6)
    tasks = [(n, rng.choice(projects if n % 4 else [77, 78]), rng.choice(WORDS)) for n in range(1, 21)]
    notes = [(n, rng.randrange(1, 25), rng.choice(WORDS)) for n in range(1, 31)]
    notes.append((31, 4, "below an orphan"))
    kept_tasks = [row for row in tasks if row[1] in projects]
    ids = {row[0] for row in kept_tasks}
    kept_notes = [row for row in notes if row[1] in ids]
    gone = len(tasks) + len(notes) - len(kept_tasks) - len(kept_notes)
    schema = (
        "CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT);\n"
        "CREATE TABLE tasks (id INTEGER PRIMARY KEY, project INTEGER, title TEXT);\n"
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, task INTEGER, text TEXT);"
    )
    project_rows = [(id, rng.choice(WORDS)) for id in sorted(projects)]

    def check(look: Look) -> None:
        same(look.query("plan.db", "SELECT * FROM projects ORDER BY id"), project_rows, "projects")
        same(look.query("plan.db", "SELECT * FROM tasks ORDER BY id"), kept_tasks, "tasks")
        same(look.query("plan.db", "SELECT * FROM notes ORDER BY id"), kept_notes, "notes")

    sql = (
        "BEGIN;\nDELETE FROM tasks WHERE project NOT IN (SELECT id FROM projects);\nSELECT changes();\nDELETE "
        "FROM notes WHERE task NOT IN (SELECT id FROM tasks);\nSELECT changes();\nCOMMIT;"
    )
    return Built(
        ask(
            rng,
            "plan.db was used without foreign keys. Delete all tasks whose project does not exist (any more), "
            "and then all "
            "notes whose task does not exist, including those of the tasks you deleted.",
            "Then tell me how many rows (tasks and notes together) you deleted: the last line of your final "
            "message has "
            "to be `ANSWER: NUMBER`.",
        ),
        (
            (
                "Schema and sizes.",
                "sqlite3 plan.db .schema 'SELECT count(*) FROM projects' 'SELECT count(*) FROM tasks' 'SELECT "
                "count(*) FROM notes'",
            ),
            (
                "Which tasks have no project?",
                "sqlite3 plan.db 'SELECT * FROM tasks WHERE project NOT IN (SELECT id FROM projects)'",
            ),
            ("Tasks first: their notes become orphans by it.", f"sqlite3 plan.db <<'EOF'\n{sql}\nEOF"),
            (
                "Nothing may dangle now.",
                "sqlite3 plan.db 'SELECT count(*) FROM tasks WHERE project NOT IN (SELECT id FROM projects)' "
                "'SELECT count(*) FROM notes WHERE task NOT IN (SELECT id FROM tasks)' 'SELECT count(*) FROM notes'",
            ),
        ),
        f"{len(tasks) - len(kept_tasks)} tasks and {len(notes) - len(kept_notes)} notes were orphans and are "
        f"deleted.\n\nANSWER: {gone}",
        script=database("plan.db", schema, projects=project_rows, tasks=tasks, notes=notes),
        answer=str(gone),
        check=check,
    )


def book_transfers(rng: random.Random) -> Built:
    """Transfers are booked in order; those without cover are refused and marked."""
    names = rng.sample(PEOPLE, 5)
    accounts = [(name, rng.randrange(50, 300)) for name in names]
    balance = dict(accounts)
    transfers: list[tuple[Any, ...]] = [(1, names[0], names[1], 10, "booked")]
    wanted = [transfers[0]]
    for number in range(2, 22):
        source, target = rng.sample(names, 2)
        amount = rng.randrange(20, 260)
        transfers.append((number, source, target, amount, "new"))
        state = "booked" if balance[source] >= amount else "refused"
        if state == "booked":
            balance[source] -= amount
            balance[target] += amount
        wanted.append((number, source, target, amount, state))
    shuffled = transfers[:]
    rng.shuffle(shuffled)
    schema = (
        "CREATE TABLE accounts (name TEXT PRIMARY KEY, balance INTEGER NOT NULL);\n"
        "CREATE TABLE transfers (number INTEGER, source TEXT, target TEXT, amount INTEGER, state TEXT);"
    )
    code = (
        "import sqlite3\n"
        'db = sqlite3.connect("bank.db")\n'
        "rows = db.execute(\"SELECT number, source, target, amount FROM transfers WHERE state = 'new' ORDER BY "
        'number").fetchall()\n'
        "for number, source, target, amount in rows:\n"
        '    (have,) = db.execute("SELECT balance FROM accounts WHERE name = ?", (source,)).fetchone()\n'
        '    state = "booked" if have >= amount else "refused"\n'
        '    if state == "booked":\n'
        '        db.execute("UPDATE accounts SET balance = balance - ? WHERE name = ?", (amount, source))\n'
        '        db.execute("UPDATE accounts SET balance = balance + ? WHERE name = ?", (amount, target))\n'
        '    db.execute("UPDATE transfers SET state = ? WHERE number = ?", (state, number))\n'
        "    print(number, state)\n"
        "db.commit()\n"
    )

    def check(look: Look) -> None:
        same(
            look.query("bank.db", "SELECT name, balance FROM accounts ORDER BY name"),
            sorted(balance.items()),
            "accounts",
        )
        same(look.query("bank.db", "SELECT * FROM transfers ORDER BY number"), wanted, "transfers")

    return Built(
        ask(
            rng,
            "In bank.db book all transfers of state `new`, one after the other by number: take the amount from the "
            "source account, add it to the target, set the state to `booked`.",
            "A transfer whose source does not have enough at that moment is not booked; its state becomes `refused`. "
            "Transfers of another state have been dealt with.",
        ),
        (
            (
                "Look at the tables.",
                "sqlite3 bank.db .schema 'SELECT * FROM accounts' 'SELECT * FROM transfers ORDER BY number'",
            ),
            ("Keep the sum in mind: it must not change.", "sqlite3 bank.db 'SELECT sum(balance) FROM accounts'"),
            ("Each depends on those before, so I book in a loop.", f"python3 - <<'EOF'\n{code}EOF"),
            (
                "Check sum, balances and states.",
                "sqlite3 bank.db 'SELECT sum(balance), min(balance) FROM accounts' 'SELECT * FROM accounts' "
                "'SELECT state, count(*) FROM transfers GROUP BY state'",
            ),
        ),
        "All new transfers are booked or refused.",
        script=database("bank.db", schema, accounts=accounts, transfers=shuffled),
        check=check,
    )


TASKS: Sequence[Builder] = (
    city_report,
    unique_contacts,
    split_names,
    import_readings,
    remove_orphans,
    fast_query,
    book_transfers,
)
