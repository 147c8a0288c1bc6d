"""Tasks about text: logs, CSV, configuration files, reports."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from pivotgym.envs.terminal.bundled.draw import CITIES, PEOPLE, PRODUCTS, SERVICES, WORDS, address, ask, moments, prose
from pivotgym.envs.terminal.bundled.look import lines, table
from pivotgym.envs.terminal.bundled.spec import Builder, Built, Expected


def top_clients(rng: random.Random) -> Built:
    """Which clients got most answers of one status, from an access log and its rotated predecessor."""
    status, count = rng.choice((404, 500, 403)), 3
    clients = list(dict.fromkeys(address(rng) for _ in range(9)))
    weights = [2.0**-number for number in range(len(clients))]
    hits: Counter[str] = Counter()
    logs: dict[str, list[str]] = {"access.log": [], "access.log.1": []}
    for number, when in enumerate(moments(rng, 90, "2024-03-04 06:00", 40)):
        client, code = rng.choices(clients, weights)[0], rng.choice((200, 200, 301, status, status))
        size = rng.choice((status, rng.randrange(100, 9000)))  # a size may look like the status
        path = rng.choice(("/", "/login", f"/item/{status}", "/cart", "/img/logo.png"))
        line = f'{client} - - [{when:%d/%b/%Y:%H:%M:%S} +0000] "GET {path} HTTP/1.1" {code} {size} "-" "curl/8.0"'
        logs["access.log.1" if number < 40 else "access.log"].append(line)
        hits[client] += code == status
    for client in clients:  # no ties among the first
        while hits[client] and list(hits.values()).count(hits[client]) > 1:
            logs["access.log"].append(
                f'{client} - - [04/Mar/2024:09:59:59 +0000] "GET /x HTTP/1.1" {status} 17 "-" "curl/8.0"'
            )
            hits[client] += 1
    wanted = [f"{client} {number}" for client, number in hits.most_common(count)]
    command = (
        f"cat access.log.1 access.log | awk '$9 == {status} {{ print $1 }}' | sort | uniq -c | sort -rn | "
        f"head -n {count}"
    )
    return Built(
        ask(
            rng,
            f"access.log and the older access.log.1 are web server logs. Which {count} client addresses got the most "
            f"responses with status {status}, over both files?",
            "Write them to top.txt, most first, one a line as `ADDRESS COUNT` (one blank between).",
        ),
        (
            ("Look at the format.", "head -n 3 access.log; wc -l access.log access.log.1"),
            ("The status is field 9; a plain grep would also match sizes and paths. Count by client.", command),
            ("Bring it into the format asked for.", f"{command} | awk '{{ print $2, $1 }}' > top.txt && cat top.txt"),
        ),
        f"top.txt has the {count} clients with the most {status} responses.",
        files={name: "\n".join(rows) + "\n" for name, rows in logs.items()},
        after={"top.txt": lines(wanted)},
    )


def regional_sales(rng: random.Random) -> Built:
    """Sums by region of a CSV file with quoted commas; cancelled orders do not count."""
    cities = rng.sample(CITIES, 4)
    totals: Counter[str] = Counter()
    rows = ["order,customer,region,quantity,unit_price,state"]
    for number in range(40):
        city, state = rng.choice(cities), rng.choice(("paid", "paid", "paid", "cancelled"))
        quantity, price = rng.randrange(1, 9), rng.randrange(100, 5000)
        customer = f'"{rng.choice(PEOPLE).title()}, {rng.choice(("Ltd", "Inc", "& Sons"))}"'
        rows.append(f"{1000 + number},{customer},{city},{quantity},{price / 100:.2f},{state}")
        totals[city] += quantity * price * (state == "paid")
    wanted = [("region", "revenue")] + [(city, f"{totals[city] / 100:.2f}") for city in sorted(cities)]
    code = (
        "import csv\nfrom collections import defaultdict\nfrom decimal import Decimal\n"
        "total = defaultdict(Decimal)\n"
        'for row in csv.DictReader(open("orders.csv")):\n'
        '    total[row["region"]] += 0\n'
        '    if row["state"] == "paid":\n'
        '        total[row["region"]] += int(row["quantity"]) * Decimal(row["unit_price"])\n'
        'with open("revenue.csv", "w") as out:\n'
        '    print("region,revenue", file=out)\n'
        "    for region in sorted(total):\n"
        '        print(f"{region},{total[region]:.2f}", file=out)\n'
    )
    return Built(
        ask(
            rng,
            "orders.csv lists orders. I need the revenue (quantity times unit_price) of the paid orders for each "
            "region.",
            "Write revenue.csv with the header `region,revenue` and one row for every region, sorted by name, amounts "
            "with two decimals.",
        ),
        (
            (
                "See the columns and the states.",
                "head -n 4 orders.csv; tail -n +2 orders.csv | sed 's/.*,//' | sort | uniq -c",
            ),
            (
                "Customers have quoted commas, so awk -F, would count columns wrongly: I use Python's csv module.",
                f"python3 - <<'EOF'\n{code}EOF",
            ),
            ("Check the result.", "cat revenue.csv"),
        ),
        "revenue.csv has the revenue of the paid orders by region.",
        files={"orders.csv": "\n".join(rows) + "\n"},
        after={"revenue.csv": table(wanted)},
    )


def one_section(rng: random.Random) -> Built:
    """Two keys change in one section of an INI file; equal keys elsewhere and comments stay."""
    names = rng.sample(SERVICES, 4)
    target = rng.choice(names[1:3])
    port, level = rng.randrange(8100, 8999), rng.choice(("debug", "warning"))
    text = new = "; service settings, edited by hand\n"
    for number, name in enumerate(names):
        old_port = 8000 + 10 * number
        section = (
            f"\n[{name}]\n# port = {old_port + 1}\nport = {old_port}\nhost = {name}.internal\n"
            f"log_level = info  ; see the manual\nworkers = {rng.randrange(1, 9)}\n"
        )
        text += section
        if name == target:
            section = section.replace(f"\nport = {old_port}\n", f"\nport = {port}\n")
            section = section.replace("log_level = info", f"log_level = {level}")
        new += section
    begin = f"/^\\[{target}\\]/,/^\\[/"
    command = (
        f"sed -i -e '{begin} s/^port = .*/port = {port}/' -e '{begin} s/^log_level = [a-z]*/log_level = "
        f"{level}/' services.ini"
    )
    return Built(
        ask(
            rng,
            f"In services.ini, set the port of the {target} service to {port} and its log_level to {level}.",
            "All other sections, all comments (also the one behind the value) and blank lines have to stay exactly as "
            "they are; our config review shows every changed line.",
        ),
        (
            ("Read the file.", "cat services.ini"),
            ("Keep a copy to compare with, outside the work directory.", "cp services.ini /tmp/services.before"),
            (
                f"Edit only between [{target}] and the next section; the commented-out port does not match ^port.",
                command,
            ),
            ("Exactly two lines should differ.", "diff /tmp/services.before services.ini"),
            ("Remove the copy.", "rm /tmp/services.before"),
        ),
        f"{target} has port {port} and log_level {level}; nothing else changed.",
        files={"services.ini": text},
        after={"services.ini": new},
    )


def errors_by_hour(rng: random.Random) -> Built:
    """A histogram of errors, with the hours without any."""
    day = f"2024-0{rng.randrange(1, 10)}-1{rng.randrange(0, 10)}"
    start, end = 8, 16
    count: Counter[int] = Counter()
    rows = []
    for when in moments(rng, 80, f"{day} {start:02}:00", 700):
        if when.hour >= end or f"{when:%Y-%m-%d}" != day:
            break
        level = rng.choice(("INFO", "INFO", "WARN", "ERROR", "ERROR"))
        if when.hour == start + 3 and level == "ERROR":
            level = "WARN"  # an hour with none
        message = rng.choice(
            ("no ERROR so far", "request served", "retrying after ERROR from peer", "connection closed")
        )
        rows.append(f"{when:%Y-%m-%d %H:%M:%S} {level:5} [{rng.choice(SERVICES)}] {message}")
        count[when.hour] += level == "ERROR"
    wanted = [f"{hour:02} {count[hour]}" for hour in range(start, end)]
    command = (
        f'awk \'$3 == "ERROR" {{ n[substr($2, 1, 2)]++ }}\n'
        f'END {{ for (h = {start}; h < {end}; h++) {{ k = sprintf("%02d", h); print k, n[k] + 0 }} }}\' service.log'
    )
    return Built(
        ask(
            rng,
            f"service.log is of one day. Count the lines of level ERROR for each hour from {start:02} to {end - 1} and "
            "write the counts to histogram.txt: one line an hour, `HH COUNT`, in order, with 0 for hours without any.",
            "Only the level counts, not the word in a message.",
        ),
        (
            ("Look at the format.", "head -n 5 service.log"),
            (
                "The level is the third field. Which levels are there?",
                "awk '{ print $3 }' service.log | sort | uniq -c",
            ),
            ("Count by hour, zeros included.", f"{command} > histogram.txt"),
            (
                "The sum has to be the number of ERROR lines.",
                "cat histogram.txt; awk '{ s += $2 } END { print s }' histogram.txt",
            ),
        ),
        "histogram.txt has the number of errors of every hour.",
        files={"service.log": "\n".join(rows) + "\n"},
        after={"histogram.txt": lines(wanted)},
    )


def join_tables(rng: random.Random) -> Built:
    """Orders with the names of their customers, and those whose customer is unknown apart."""
    people = rng.sample(PEOPLE, 8)
    ids = rng.sample(range(10, 99), 10)
    customers = dict(zip(ids[:8], people, strict=True))
    files = {
        "customers.tsv": "".join(f"{id}\t{name.title()}\t{rng.choice(CITIES)}\n" for id, name in customers.items())
    }
    rows, joined, unknown = [], [], []
    for number in range(24):
        id, item = rng.choice(ids if number > 1 else ids[8:]), rng.choice(PRODUCTS)
        rows.append(f"{number + 100}\t{id}\t{item}\n")
        if id in customers:
            joined.append(f"{number + 100}\t{customers[id].title()}\t{item}")
        else:
            unknown.append(f"{number + 100}")
    rng.shuffle(rows)
    files["orders.tsv"] = "".join(rows)
    command = (
        "awk -F'\\t' -v OFS='\\t' 'NR == FNR { name[$1] = $2; next }\n"
        '$2 in name { print $1, name[$2], $3 > "joined.tsv"; next }\n'
        '{ print $1 > "unknown.txt" }\' customers.tsv orders.tsv'
    )
    return Built(
        ask(
            rng,
            "orders.tsv (order, customer id, item) and customers.tsv (id, name, city) are tab-separated, without "
            "header.",
            "Write joined.tsv with `order<TAB>customer name<TAB>item` for all orders whose customer exists, sorted by "
            "order number, and unknown.txt with the numbers of the other orders, one a line, sorted.",
        ),
        (
            ("Look at both tables.", "head -n 3 orders.tsv customers.tsv; wc -l orders.tsv customers.tsv"),
            ("Read the customers into a table, then go through the orders.", command),
            ("Now the order.", "sort -n -o joined.tsv joined.tsv; sort -n -o unknown.txt unknown.txt"),
            (
                "Every order should be in one of the two.",
                "wc -l joined.tsv unknown.txt; head -n 3 joined.tsv; cat unknown.txt",
            ),
        ),
        f"{len(joined)} orders are in joined.tsv, {len(unknown)} without a known customer in unknown.txt.",
        files=files,
        after={"joined.tsv": lines(sorted(joined)), "unknown.txt": lines(sorted(unknown))},
    )


def line_endings(rng: random.Random) -> Built:
    """Markdown files get Unix line ends and lose trailing blanks; batch files keep theirs."""
    files: dict[str, str] = {}
    after: dict[str, Expected] = {}
    for number in range(7):
        rows = prose(rng, 4).splitlines()
        name = f"docs/{rng.choice(('', 'guide/', 'api/'))}{rng.choice(WORDS)}{number}.md"
        end = "\r\n" if number % 2 else "\n"
        files[name] = end.join(row + rng.choice(("", "", "  ", "\t", " \t ")) for row in rows) + end
        after[name] = "\n".join(rows) + "\n"
    for name in ("docs/build.bat", "docs/guide/run.bat"):
        files[name] = f"@echo off\r\necho {rng.choice(WORDS)} \r\n"
    files["docs/api/sample.txt"] = "keep these blanks   \nand this return\r\n"
    return Built(
        ask(
            rng,
            "Our Markdown files below docs/ have mixed line ends. Convert all *.md files there to Unix line ends and "
            "remove blanks and tabs at the ends of lines.",
            "Other files must not change: the *.bat files need their CRLF.",
        ),
        (
            ("Which files have carriage returns?", "grep -rlI $'\\r' docs | sort"),
            (
                "And which Markdown files have blanks at line ends?",
                "grep -rlE --include='*.md' $'[ \\t]+\\r?$' docs | sort",
            ),
            (
                "One expression does both: strip any blank, tab or return at the end.",
                "find docs -name '*.md' -exec sed -i 's/[ \\t\\r]*$//' {} +",
            ),
            (
                "No Markdown file should match any more, and the others should still have their returns.",
                "grep -rlE --include='*.md' '[[:blank:]]+$' docs; grep -rlI $'\\r' docs | sort",
            ),
        ),
        "All Markdown files have Unix line ends and no trailing blanks; other files are unchanged.",
        files=files,
        after=after,
        closed=("docs",),
    )


def redact(rng: random.Random) -> Built:
    """Mail addresses and card numbers are masked in the logs."""
    files: dict[str, str] = {}
    after: dict[str, Expected] = {}
    for name in ("support.log", "checkout.log", "audit/2024.log"):
        text = new = ""
        for when in moments(rng, 10, "2024-05-06 08:00", 900):
            mail = f"{rng.choice(PEOPLE)}.{rng.choice(WORDS)}@{rng.choice(('example.org', 'mail.example.com'))}"
            card = " ".join(f"{rng.randrange(10000):04}" for _ in range(4))
            order, stamp = f"{rng.randrange(10**7):07}", f"{when:%Y-%m-%dT%H:%M:%SZ}"
            pattern = rng.choice(
                (
                    "{t} mail from {m}: where is order {o}?",
                    "{t} charged card {c} for order {o}",
                    "{t} card {c} refused, told <{m}>",
                    "{t} order {o} packed @ station 4",
                )
            )
            text += pattern.format(t=stamp, m=mail, c=card, o=order) + "\n"
            masked = f"**** **** **** {card[-4:]}"
            new += pattern.format(t=stamp, m="[mail]", c=masked, o=order) + "\n"
        files[f"logs/{name}"], after[f"logs/{name}"] = text, new
    mail = r"s/[A-Za-z0-9._-]+@[A-Za-z0-9.-]+\.[A-Za-z]+/[mail]/g"
    card = r"s/[0-9]{4} [0-9]{4} [0-9]{4} ([0-9]{4})/**** **** **** \1/g"

    return Built(
        ask(
            rng,
            "Before we hand over the logs below logs/, mask personal data in place:",
            "- every mail address becomes `[mail]`\n- every card number (four groups of four digits with blanks "
            "between) becomes `**** **** **** ` and its last group, e.g. `**** **** **** 1234`",
            "Everything else (times, order numbers, a lone @) stays.",
        ),
        (
            ("Which forms occur?", "find logs -name '*.log' | sort; grep -hE '@|[0-9]{4} [0-9]{4}' logs/support.log"),
            ("Try both expressions on one file first.", f"sed -E -e '{mail}' -e '{card}' logs/support.log"),
            (
                "That is right; now in place for all logs.",
                f"find logs -name '*.log' -exec sed -i -E -e '{mail}' -e '{card}' {{}} +",
            ),
            ("Nothing may be left.", "grep -rhoE '[^ ]+@[^ ]+|[0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4}' logs | wc -l"),
        ),
        "Mail addresses and card numbers are masked in all logs.",
        files=files,
        after=after,
        closed=("logs",),
    )


TASKS: Sequence[Builder] = (
    top_clients,
    regional_sales,
    one_section,
    errors_by_hour,
    join_tables,
    line_endings,
    redact,
)
