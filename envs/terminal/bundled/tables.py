"""Tasks about SQLite databases: reports, imports and indexes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from pivotgym.envs.terminal.bundled.draw import CITIES, PEOPLE, PRODUCTS, WORDS, ask
from pivotgym.envs.terminal.bundled.look import Look, Wrong, lines, same, table
from pivotgym.envs.terminal.bundled.spec import Built

Rows = Sequence[tuple[Any, ...]]


def _value(value: object) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def database(path: str, schema: str, **tables: Rows) -> str:
    """Bash source that makes a database."""
    sql = ["BEGIN;", schema]
    for name, rows in tables.items():
        sql += [f"INSERT INTO {name} VALUES ({', '.join(map(_value, row))});" for row in rows]
    return f"sqlite3 {path} <<'END_OF_SQL'\n" + "\n".join([*sql, "COMMIT;"]) + "\nEND_OF_SQL\n"


def columns_of(look: Look, path: str, name: str) -> list[str]:
    """The names of a table's columns."""
    return [str(row[1]) for row in look.query(path, f"PRAGMA table_info({name})")]


def city_report(rng: random.Random) -> Built:
    """Revenue by city over three tables; cities without orders are there with 0."""
    cities = sorted(rng.sample(CITIES, 5))
    customers = [
        (number + 1, name.title(), rng.choice(cities[:4])) for number, name in enumerate(rng.sample(PEOPLE, 9))
    ]
    customers.append((10, "Zoe", cities[4]))
    orders = [
        (
            number,
            rng.randrange(1, 10),
            f"2023-{rng.randrange(10, 13)}-0{rng.randrange(1, 10)}"
            if rng.random() < 0.4
            else f"2024-0{rng.randrange(1, 9)}-1{rng.randrange(10)}",
        )
        for number in range(1, 31)
    ]
    items = [(rng.randrange(1, 31), rng.choice(PRODUCTS), rng.randrange(1, 6), rng.randrange(3, 90)) for _ in range(60)]
    home, year = {id: city for id, _, city in customers}, {id: when[:4] for id, _, when in orders}
    owner = {id: customer for id, customer, _ in orders}
    total = dict.fromkeys(cities, 0)
    for order, _, quantity, price in items:
        total[home[owner[order]]] += quantity * price * (year[order] == "2024")
    rows = [("city", "revenue"), *sorted(total.items(), key=lambda row: (-row[1], row[0]))]
    schema = (
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT);\n"
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers, day TEXT);\n"
        'CREATE TABLE items ("order" INTEGER REFERENCES orders, product TEXT, quantity INTEGER, price INTEGER);'
    )
    sql = (
        "SELECT c.city, coalesce(sum(i.quantity * i.price), 0) AS revenue FROM customers c\n"
        "LEFT JOIN orders o ON o.customer = c.id AND o.day LIKE '2024-%'\n"
        'LEFT JOIN items i ON i."order" = o.id\n'
        "GROUP BY c.city ORDER BY revenue DESC, c.city"
    )

    def check(look: Look) -> None:
        same(look.query("shop.db", "SELECT * FROM customers ORDER BY id"), customers, "customers")
        same(look.query("shop.db", "SELECT * FROM orders ORDER BY id"), orders, "orders")
        same(look.query("shop.db", "SELECT * FROM items ORDER BY rowid"), items, "items")

    return Built(
        ask(
            rng,
            "From shop.db I need the revenue of 2024 (quantity times price of all items of orders whose day is "
            "in 2024) "
            "by the customer's city, as report.csv with the header `city,revenue`, largest revenue first, equal "
            "ones by "
            "city.",
            "Every city that occurs among the customers has to be in it, with 0 if nothing was sold. Only read the "
            "database.",
        ),
        (
            ("The schema.", "sqlite3 shop.db .schema"),
            (
                "Some rows, and the years.",
                'sqlite3 shop.db "SELECT * FROM orders LIMIT 3; SELECT * FROM items LIMIT 3; SELECT substr(day, '
                '1, 4), count(*) FROM orders GROUP BY 1;"',
            ),
            (
                "Left joins keep the cities without orders; the condition on the year belongs into the join.",
                f"sqlite3 -csv -header shop.db <<'EOF' > report.csv\n{sql};\nEOF",
            ),
            (
                "Check: the sum, and all cities.",
                'cat report.csv; sqlite3 shop.db "SELECT count(DISTINCT city) FROM customers; SELECT '
                'sum(quantity * price) FROM items JOIN orders ON orders.id = \\"order\\" WHERE day >= \'2024\'"',
            ),
        ),
        "report.csv has the revenue of 2024 of every city.",
        script=database("shop.db", schema, customers=customers, orders=orders, items=items),
        after={"report.csv": table(rows)},
        check=check,
    )


def import_readings(rng: random.Random) -> Built:
    """A CSV file goes into a table; lines that are no readings go to a file of their own."""
    sensors = rng.sample(WORDS, 4)
    good, bad, rows = list[str](), list[str](), ["sensor,time,value"]
    for number in range(32):
        sensor, time = rng.choice(sensors), f"2024-04-{number // 4 + 1:02}T{number % 4 * 6:02}:00"
        value = f"{rng.randrange(-100, 400) / 10}"
        kind = (
            rng.choice(("good", "good", "good", "text", "empty", "unknown"))
            if number > 4
            else ("text", "empty", "unknown", "good", "good")[number]
        )
        if kind == "text":
            value = rng.choice(("n/a", "error", "--"))
        elif kind == "empty":
            value = ""
        elif kind == "unknown":
            sensor = "spare"
        line = f"{sensor},{time},{value}"
        rows.append(line)
        (good if kind == "good" else bad).append(line)
    stored = sorted((s, t, float(v)) for s, t, v in (line.split(",") for line in good))
    old = [(sensors[0], "2024-03-31T18:00", 1.5)]
    schema = (
        "CREATE TABLE sensors (name TEXT PRIMARY KEY);\nCREATE TABLE readings (sensor TEXT NOT NULL "
        "REFERENCES sensors, time TEXT NOT NULL, value REAL NOT NULL);"
    )
    code = (
        "import sqlite3\n"
        'db = sqlite3.connect("station.db")\n'
        'known = {name for (name,) in db.execute("SELECT name FROM sensors")}\n'
        'with open("readings.csv") as file, open("rejected.csv", "w") as rejected:\n'
        "    rejected.write(file.readline())\n"
        "    for line in file:\n"
        '        sensor, time, value = line.rstrip("\\n").split(",")\n'
        "        try:\n"
        "            number = float(value)\n"
        "        except ValueError:\n"
        "            number = None\n"
        "        if number is None or sensor not in known:\n"
        "            rejected.write(line)\n"
        "        else:\n"
        '            db.execute("INSERT INTO readings VALUES (?, ?, ?)", (sensor, time, number))\n'
        "db.commit()\n"
    )

    def check(look: Look) -> None:
        found = look.query(
            "station.db", "SELECT sensor, time, value, typeof(value) FROM readings ORDER BY sensor, time"
        )
        same(found, [(*row, "real") for row in sorted([*old, *stored])], "readings")
        same(
            look.query("station.db", "SELECT name FROM sensors ORDER BY name"),
            [(n,) for n in sorted(sensors)],
            "sensors",
        )

    return Built(
        ask(
            rng,
            "Import readings.csv (sensor, time, value; with a header) into the table readings of station.db, "
            "after what "
            "is in it already.",
            "Lines whose value is no number, or whose sensor is not in the table sensors, must not be imported: write "
            "them, unchanged and in their order, to rejected.csv under the same header.",
        ),
        (
            (
                "Look at both sides.",
                "head -n 6 readings.csv; wc -l < readings.csv; sqlite3 station.db .schema 'SELECT * FROM "
                "sensors' 'SELECT * FROM readings'",
            ),
            (
                "What values are there that are no numbers?",
                "tail -n +2 readings.csv | cut -d, -f3 | grep -vE '^-?[0-9]+(\\.[0-9]+)?$' | sort | uniq -c",
            ),
            ("Import line by line.", f"python3 - <<'EOF'\n{code}EOF"),
            (
                "Every line has to be in one of the two.",
                "cat rejected.csv; sqlite3 station.db 'SELECT count(*) FROM readings' 'SELECT DISTINCT "
                "typeof(value) FROM readings'",
            ),
        ),
        f"{len(good)} readings are imported, {len(bad)} lines are in rejected.csv.",
        files={"readings.csv": "\n".join(rows) + "\n"},
        script=database("station.db", schema, sensors=[(name,) for name in sensors], readings=old),
        after={"rejected.csv": lines([rows[0], *bad])},
        check=check,
    )


def fast_query(rng: random.Random) -> Built:
    """One index makes a given query run without scan and sort; data and other indexes stay."""
    first, second = rng.choice((("customer", "day"), ("store", "amount"), ("clerk", "day")))
    columns = ["id", "customer", "store", "clerk", "day", "amount"]
    rows = [
        (
            n,
            rng.randrange(40),
            rng.randrange(6),
            rng.randrange(12),
            f"2024-0{rng.randrange(1, 10)}-11",
            rng.randrange(1000),
        )
        for n in range(1, 121)
    ]
    schema = (
        "CREATE TABLE sales (id INTEGER PRIMARY KEY, customer INTEGER, store INTEGER, clerk INTEGER, day TEXT, "
        "amount INTEGER);\n"
        f"CREATE INDEX sales_{second} ON sales ({second});"
    )
    query = f"SELECT id, {first}, {second} FROM sales WHERE {first} = 3 ORDER BY {second} DESC LIMIT 5;"

    def check(look: Look) -> None:
        plan = [str(row[3]) for row in look.query("sales.db", f"EXPLAIN QUERY PLAN {query}")]
        if len(plan) != 1 or "SEARCH" not in plan[0] or "sales_lookup" not in plan[0] or "COVERING" not in plan[0]:
            raise Wrong(f"the query runs by {'; '.join(plan)}")
        same(look.query("sales.db", "SELECT * FROM sales ORDER BY id"), rows, "sales")
        same(columns_of(look, "sales.db", "sales"), columns, "the columns of sales")
        names = look.query("sales.db", "SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name")
        same(names, sorted([("sales_lookup",), (f"sales_{second}",)]), "the indexes")

    plan = "sqlite3 sales.db \"EXPLAIN QUERY PLAN $(cat query.sql)\" | sed 's/.*--//'"
    return Built(
        ask(
            rng,
            "The query in query.sql is slow on the real sales.db. Create one index named sales_lookup on the "
            "table sales "
            "so that SQLite answers the query from this index alone (a covering index), with a search instead of "
            "a scan "
            "and without sorting.",
            "Change neither the query nor the data, and keep the index that is there.",
        ),
        (
            ("Query and schema.", "cat query.sql; sqlite3 sales.db .schema"),
            ("How is it executed now?", plan),
            (
                f"Equality on {first} first, then the order by {second}; the id is in every index.",
                f"sqlite3 sales.db 'CREATE INDEX sales_lookup ON sales ({first}, {second})'",
            ),
            (
                "Now it should be a search with a covering index.",
                f"{plan}; sqlite3 sales.db < query.sql; sqlite3 sales.db .schema",
            ),
        ),
        f"sales_lookup on ({first}, {second}) covers the query.",
        files={"query.sql": query + "\n"},
        script=database("sales.db", schema, sales=rows),
        check=check,
    )
