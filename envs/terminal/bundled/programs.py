"""Tasks that ask for a small program, which is then run on inputs nobody saw."""

from __future__ import annotations

import json
import random
from typing import Any

from pivotgym.envs.terminal.bundled.draw import PEOPLE, SERVICES, WORDS, address, ask, moments
from pivotgym.envs.terminal.bundled.look import Look, Wrong, parse_csv, parse_json, same
from pivotgym.envs.terminal.bundled.spec import Built


def flatten_json(rng: random.Random) -> Built:
    """A program that makes a table of nested JSON records, with the union of their columns."""
    separator = rng.choice((".", "_", "/"))

    def record(number: int) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": number,
            "name": rng.choice(PEOPLE),
            "address": {"city": rng.choice(WORDS), "geo": {"lat": rng.randrange(-90, 90)}},
        }
        if rng.random() < 0.5:
            row["note"] = rng.choice(('said "yes", twice', "plain", "a, b"))
        if rng.random() < 0.4:
            row["address"]["zip"] = f"0{rng.randrange(1000, 9999)}"
        return row

    data, hidden = [record(n) for n in range(1, 6)], [record(n) for n in range(50, 59)]
    hidden.append({"id": 99, "deep": {"a": {"b": {"c": "x, y"}}}})

    def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            found |= flat(item, f"{prefix}{key}{separator}") if isinstance(item, dict) else {prefix + key: item}
        return found

    def rows(records: list[dict[str, Any]]) -> list[list[str]]:
        flats = [flat(item) for item in records]
        columns = sorted({key for item in flats for key in item})
        return [columns, *([str(item.get(column, "")) for column in columns] for item in flats)]

    program = (
        '"""Writes the records of a JSON file as CSV."""\nimport csv\nimport json\nimport sys\n\n\n'
        'def flat(value, prefix=""):\n    found = {}\n    for key, item in value.items():\n'
        f'        if isinstance(item, dict):\n            found.update(flat(item, f"{{prefix}}{{key}}{separator}"))\n'
        "        else:\n            found[prefix + key] = item\n    return found\n\n\n"
        "with open(sys.argv[1]) as file:\n    records = [flat(record) for record in json.load(file)]\n"
        "columns = sorted({key for record in records for key in record})\n"
        'writer = csv.DictWriter(sys.stdout, columns, restval="", lineterminator="\\n")\n'
        "writer.writeheader()\nwriter.writerows(records)\n"
    )

    def check(look: Look) -> None:
        look.write("/tmp/unseen.json", json.dumps(hidden))
        for path, records in (("people.json", data), ("/tmp/unseen.json", hidden)):
            output = look.run(f"python3 flatten.py {path}").output
            same(parse_csv(output), rows(records), f"the output for {path.rsplit('/', 1)[-1]}")
        same(parse_csv(look.text("people.csv")), rows(data), "people.csv")

    return Built(
        ask(
            rng,
            "Write a Python program flatten.py that takes the path of a JSON file (a list of objects, such as "
            "people.json) and prints it as CSV:",
            f"- nested objects become columns whose names are joined with `{separator}`, at any depth\n"
            "- the header has all columns that occur in any record, sorted; what a record lacks is empty\n"
            "- values with commas or quotes are quoted as usual in CSV",
            "Use only the standard library, and write its output for people.json to people.csv.",
        ),
        (
            ("Look at the data.", "python3 -m json.tool people.json | head -n 24"),
            ("Write the program; csv does the quoting.", f"cat > flatten.py <<'EOF'\n{program}EOF"),
            ("Run it.", "python3 flatten.py people.json > people.csv && cat people.csv"),
            (
                "Try deeper nesting and quotes.",
                'echo \'[{"a": {"b": {"c": "x,\\"y\\""}}}, {"z": 1}]\' > /tmp/t.json && python3 flatten.py /tmp/t.json',
            ),
        ),
        "flatten.py is written, and people.csv is its output for people.json.",
        files={"people.json": json.dumps(data)},
        check=check,
    )


def log_summary(rng: random.Random) -> Built:
    """A command-line program with options and defined failures."""
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")

    def log(count: int, day: str) -> str:
        rows = []
        for when in moments(rng, count, f"{day} 07:00", 900):
            rows.append(
                f"{when:%Y-%m-%dT%H:%M:%S} {rng.choice(levels)} {rng.choice(SERVICES)} took {rng.randrange(900)} ms"
            )
        rows.insert(3, "  a line that continues the one before")
        return "\n".join(rows) + "\n"

    logs = {"monday.log": log(24, "2024-07-01"), "tuesday.log": log(20, "2024-07-02")}
    hidden = log(30, "2024-07-03")

    def summary(texts: list[str], level: str, since: str) -> str:
        count: dict[str, int] = {}
        for line in "".join(texts).splitlines():
            words = line.split()
            if not line.startswith(" ") and levels.index(words[1]) >= levels.index(level) and words[0] >= since:
                count[words[2]] = count.get(words[2], 0) + 1
        return "".join(
            f"{name} {number}\n" for name, number in sorted(count.items(), key=lambda row: (-row[1], row[0]))
        )

    program = (
        '"""Counts log lines by service."""\nimport argparse\nimport sys\nfrom collections import Counter\n\n'
        'LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]\n\nparser = argparse.ArgumentParser(description=__doc__)\n'
        'parser.add_argument("files", nargs="+")\nparser.add_argument("--level", choices=LEVELS, default="INFO")\n'
        'parser.add_argument("--since", default="")\noptions = parser.parse_args()\n\ncount = Counter()\n'
        "for path in options.files:\n    try:\n        with open(path) as file:\n            lines = file.readlines()\n"
        '    except OSError as error:\n        print(f"{path}: {error.strerror}", file=sys.stderr)\n        '
        "sys.exit(3)\n"
        "    for line in lines:\n        words = line.split()\n"
        "        if line[:1].isspace() or len(words) < 3 or words[1] not in LEVELS:\n            continue\n"
        "        if LEVELS.index(words[1]) >= LEVELS.index(options.level) and words[0] >= options.since:\n"
        "            count[words[2]] += 1\n"
        "for name, number in sorted(count.items(), key=lambda row: (-row[1], row[0])):\n    print(name, number)\n"
    )

    def check(look: Look) -> None:
        look.write("/tmp/unseen.log", hidden)
        both = list(logs.values())
        for arguments, texts, level, since in (
            ("monday.log tuesday.log", both, "INFO", ""),
            ("--level WARNING monday.log", both[:1], "WARNING", ""),
            ("--since 2024-07-02T08:00:00 --level DEBUG monday.log tuesday.log", both, "DEBUG", "2024-07-02T08:00:00"),
            ("/tmp/unseen.log --level ERROR --since 2024-07-03T08:30:00", [hidden], "ERROR", "2024-07-03T08:30:00"),
        ):
            result = look.run(f"python3 summary.py {arguments} 2> /dev/null")
            same(
                (result.status, result.output.strip()),
                (0, summary(texts, level, since).strip()),
                f"summary.py {arguments}",
            )
        same(
            look.run("python3 summary.py monday.log nothing.log > /tmp/o 2> /tmp/e").status,
            3,
            "the status for a missing file",
        )
        same((look.text("/tmp/o"), "nothing.log" in look.text("/tmp/e")), ("", True), "the output for a missing file")

    return Built(
        ask(
            rng,
            "Write summary.py, which counts lines of logs such as monday.log by service (the third word):",
            "`python3 summary.py [--level LEVEL] [--since TIME] FILE...`",
            "- output: `SERVICE COUNT`, most first, equal counts by name\n- only lines of at least that level count "
            "(DEBUG < INFO < WARNING < ERROR; INFO if not given), and only from TIME on (as in the logs, included)\n"
            "- lines that begin with a blank continue the one before and do not count\n- if a file cannot be read: "
            "nothing on standard output, a message with its name on standard error, exit status 3",
        ),
        (
            ("The format.", "head -n 5 monday.log; cut -d' ' -f2 monday.log tuesday.log | sort | uniq -c"),
            ("Write it with argparse.", f"cat > summary.py <<'EOF'\n{program}EOF"),
            ("Try it.", "python3 summary.py monday.log tuesday.log"),
            (
                "Compare one figure with grep.",
                "python3 summary.py --level ERROR monday.log; grep -c '^[^ ]* ERROR' monday.log",
            ),
            (
                "And the failure.",
                'python3 summary.py monday.log nothing.log; echo "status $?"; python3 summary.py --since '
                "2024-07-02T08:00:00 monday.log tuesday.log | head -n 3",
            ),
        ),
        "summary.py does what you described.",
        files=logs,
        check=check,
    )


def merge_settings(rng: random.Random) -> Built:
    """A program that merges nested settings, later files first, with null as deletion."""
    base = {
        "name": rng.choice(SERVICES),
        "log": {"level": "info", "file": {"path": "/var/log/x", "rotate": rng.randrange(2, 9)}},
        "hosts": [address(rng), address(rng)],
        "debug": True,
    }
    local = {
        "log": {"level": rng.choice(("debug", "error")), "file": {"rotate": None}},
        "hosts": [address(rng)],
        "port": rng.randrange(1024, 9999),
    }
    third = {"debug": None, "log": {"file": "none"}, "extra": {"a": {"b": rng.randrange(9)}}, "name": {"first": "x"}}

    def merge(low: Any, high: Any) -> Any:
        if not isinstance(low, dict) or not isinstance(high, dict):
            return merge({}, high) if isinstance(high, dict) else high
        found = {**low}
        for key, value in high.items():
            if value is None:
                found.pop(key, None)
            else:
                found[key] = merge(low.get(key), value)
        return found

    program = (
        '"""Merges JSON settings; later files win, null deletes."""\nimport json\nimport sys\n\n\n'
        "def merge(low, high):\n    if not isinstance(high, dict):\n        return high\n"
        "    found = dict(low) if isinstance(low, dict) else {}\n    for key, value in high.items():\n"
        "        if value is None:\n            found.pop(key, None)\n        else:\n"
        "            found[key] = merge(found.get(key), value)\n    return found\n\n\n"
        "result = {}\nfor path in sys.argv[1:]:\n    with open(path) as file:\n        result = merge(result, "
        "json.load(file))\n"
        "json.dump(result, sys.stdout, indent=2, sort_keys=True)\nprint()\n"
    )
    deep = {"new": {"keep": 1, "drop": None}}

    def check(look: Look) -> None:
        both = merge(merge({}, base), local)
        same(parse_json(look.text("merged.json")), both, "merged.json")
        look.write("/tmp/third.json", json.dumps(third))
        look.write("/tmp/deep.json", json.dumps(deep))
        for arguments, wanted in (
            ("base.json local.json", both),
            ("base.json local.json /tmp/third.json", merge(both, third)),
            ("local.json base.json /tmp/deep.json", merge(merge(merge({}, local), base), deep)),
            ("base.json", base),
        ):
            result = look.run(f"python3 merge.py {arguments}")
            same((result.status, parse_json(result.output)), (0, wanted), f"merge.py {arguments}")

    return Built(
        ask(
            rng,
            "Write merge.py: `python3 merge.py FILE...` reads JSON objects and prints their merger as JSON.",
            "- objects are merged key by key, at any depth; of everything else (numbers, texts, lists) the value "
            "of the "
            "later file replaces the one before\n- a null deletes the key from what was there before, and no null may "
            "be in the output\n- where an object meets something else, the later one wins",
            "Write the merger of base.json and local.json (which has priority) to merged.json.",
        ),
        (
            ("The two files.", "cat base.json; echo; cat local.json; echo"),
            (
                "A recursive merge; a new object is merged into an empty one, so that nulls in it go too.",
                f"cat > merge.py <<'EOF'\n{program}EOF",
            ),
            ("Run it.", "python3 merge.py base.json local.json | tee merged.json"),
            (
                "Try the special cases.",
                'echo \'{"a": 1, "l": [1]}\' > /tmp/a.json; echo \'{"a": {"b": null, "c": 2}, "l": [2]}\' > '
                "/tmp/b.json; python3 merge.py /tmp/a.json /tmp/b.json; python3 merge.py /tmp/b.json /tmp/a.json",
            ),
        ),
        "merge.py is written; merged.json has base.json with local.json over it.",
        files={"base.json": json.dumps(base), "local.json": json.dumps(local)},
        check=check,
    )


def retry_script(rng: random.Random) -> Built:
    """A shell script that repeats a command until it succeeds, and keeps its arguments and status."""
    base = rng.randrange(10, 40)
    flaky = (
        "#!/bin/bash\n# Fails so many times, then succeeds: flaky.sh COUNTER TIMES\n"
        'n=$(cat "$1" 2> /dev/null || echo 0)\necho $((n + 1)) > "$1"\n'
        f'if [ "$n" -lt "$2" ]; then exit $(({base} + n)); fi\necho done\n'
    )
    script = (
        "#!/bin/bash\n# Runs a command up to TRIES times until it succeeds: retry.sh TRIES COMMAND [ARGUMENT...]\n"
        'if [ $# -lt 2 ] || ! [[ "$1" =~ ^[1-9][0-9]*$ ]]; then\n  echo "usage: retry.sh TRIES COMMAND '
        '[ARGUMENT...]" >&2\n  exit 64\nfi\n'
        'tries="$1"; shift\nfor ((i = 1; i <= tries; i++)); do\n  "$@" && exit 0\n  status=$?\n'
        '  echo "try $i failed ($status)" >&2\ndone\nexit "$status"\n'
    )

    def check(look: Look) -> None:
        found = look.tree().get("retry.sh")
        if found is None or not found.mode & 0o100:
            raise Wrong("retry.sh cannot be executed")
        for line, status, output in (
            ("./retry.sh 5 bash flaky.sh /tmp/c1 2 2> /dev/null", 0, "done"),
            ("./retry.sh 3 bash flaky.sh /tmp/c2 9 2> /dev/null", base + 2, ""),
            ("./retry.sh 1 printf '[%s]' 'a  b' '' '*' 2> /dev/null", 0, "[a  b][][*]"),
            ("./retry.sh 2>&1 > /dev/null | wc -l", 0, None),
            ("./retry.sh x true 2> /dev/null", 64, ""),
            ("./retry.sh 0 true 2> /dev/null", 64, ""),
            ("./retry.sh 3 2> /dev/null", 64, ""),
            ("./retry.sh 2 false 2>&1 > /dev/null", 1, "try 1 failed (1)\ntry 2 failed (1)"),
        ):
            result = look.run(line)
            same(result.status, status, f"the status of {line}")
            if output is not None:
                same(result.output.strip(), output, f"the output of {line}")
        same((look.text("/tmp/c1").strip(), look.text("/tmp/c2").strip()), ("3", "3"), "how often the command ran")

    return Built(
        ask(
            rng,
            "Write an executable bash script retry.sh: `./retry.sh TRIES COMMAND [ARGUMENT...]` runs the command "
            "until it "
            "succeeds, at most TRIES times.",
            "- arguments with blanks, empty ones and ones like * arrive at the command unchanged\n- after each "
            "failure it "
            "writes `try N failed (STATUS)` to standard error\n- its exit status is 0 as soon as the command succeeds, "
            "otherwise that of the last try\n- without a command, or if TRIES is no number from 1 up: a line of "
            "usage on "
            "standard error, exit status 64; nothing is run",
            "There is flaky.sh to try it with.",
        ),
        (
            ("See what flaky.sh does.", "cat flaky.sh"),
            ("Write the script.", f"cat > retry.sh <<'EOF'\n{script}EOF\nchmod +x retry.sh"),
            (
                "Success at the third try, and no success.",
                './retry.sh 5 bash flaky.sh /tmp/a 2; echo "status $?"; ./retry.sh 2 bash flaky.sh /tmp/b 9; '
                'echo "status $?"; rm /tmp/a /tmp/b',
            ),
            (
                "Arguments and wrong usage.",
                "./retry.sh 1 printf '[%s]' 'a  b' '' '*'; echo; for t in 0 x -1; do ./retry.sh $t true; echo "
                '"status $?"; done; ./retry.sh 3; echo "status $?"',
            ),
        ),
        "retry.sh is written and tried with failures, odd arguments and wrong usage.",
        files={"flaky.sh": flaky},
        check=check,
    )
