"""Tasks about small programs: correcting, porting, speeding up, and those of :mod:`.programs`."""

from __future__ import annotations

import random
import shlex
from collections.abc import Sequence

from pivotgym.envs.terminal.bundled.draw import PRODUCTS, ask
from pivotgym.envs.terminal.bundled.look import Look, Wrong, parse_json, same
from pivotgym.envs.terminal.bundled.programs import flatten_json, log_summary, merge_settings, retry_script
from pivotgym.envs.terminal.bundled.spec import Builder, Built

_TESTS = "python3 -m unittest 2>&1 | grep -oE '^(OK|FAILED.*|(FAIL|ERROR): \\w+)'"


def _any(data: bytes) -> None:
    """The file may be as it likes: what it does is checked."""


def fix_functions(rng: random.Random) -> Built:
    """Two wrong functions of a module are corrected; the tests that are there are not the only ones."""
    window = rng.randrange(3, 6)
    good = {
        "median": (
            "def median(values):\n"
            '    """The middle value; of an even number of values the mean of the two in the middle."""\n'
            "    ordered = sorted(values)\n    middle = len(ordered) // 2\n    if len(ordered) % 2:\n"
            "        return ordered[middle]\n    return (ordered[middle - 1] + ordered[middle]) / 2\n"
        ),
        "moving": (
            "def moving(values, width):\n"
            '    """Means of all runs of ``width`` neighbours."""\n'
            "    return [sum(values[i:i + width]) / width for i in range(len(values) - width + 1)]\n"
        ),
        "mode": (
            "def mode(values):\n"
            '    """The most frequent value, the smallest of those if there are several."""\n'
            "    return min(values, key=lambda value: (-values.count(value), value))\n"
        ),
    }
    bugs = {
        "median": (
            "    return (ordered[middle - 1] + ordered[middle]) / 2\n",
            "    return (ordered[middle - 1] + ordered[middle]) // 2\n",
        ),
        "moving": ("len(values) - width + 1)", "len(values) - width)"),
        "mode": ("(-values.count(value), value))", "-values.count(value))"),
    }
    wrong = rng.sample(sorted(bugs), 2)
    module = '"""Small statistics."""\n\n\n' + "\n\n".join(good.values())
    broken, edits = module, []
    for name in wrong:
        right, bad = bugs[name]
        broken = broken.replace(right, bad)
        edits.append((bad.strip(), right.strip()))
    numbers = [rng.randrange(1, 30) for _ in range(7)]
    test = (
        "import unittest\n\nimport stats\n\n\nclass TestStats(unittest.TestCase):\n"
        "    def test_median(self):\n        self.assertEqual(stats.median([4, 1, 3]), 3)\n        "
        "self.assertEqual(stats.median([1, 2]), 1.5)\n\n"
        f"    def test_moving(self):\n        self.assertEqual(len(stats.moving({numbers}, {window})), "
        f"{len(numbers) - window + 1})\n\n"
        "    def test_mode(self):\n        self.assertEqual(stats.mode([5, 2, 2, 5, 7]), 2)\n"
    )
    replace = "".join(f"text = text.replace({bad!r}, {right!r})\n" for bad, right in edits)
    hidden = (
        "import json, stats; print(json.dumps([stats.median([9, 2, 4, 7]), stats.median([5]), stats.median([3, 8, 1]), "
        f"stats.moving([1, 2, 3, 4, 8], {window}), stats.moving([1, 2], 2), stats.mode([3, 9, 9, 3, 1]), "
        f"stats.mode([7, 7, 2]), stats.mode([4, 1, 4, 1]), stats.mode([9, 8, 8, 9])]))"
    )
    values = [1, 2, 3, 4, 8]
    wanted = [5.5, 5, 3, [sum(values[i : i + window]) / window for i in range(6 - window)], [1.5], 3, 7, 1, 8]

    def check(look: Look) -> None:
        result = look.run(f"python3 -c {shlex.quote(hidden)}")
        same(parse_json(result.output), wanted, "what the functions return")

    return Built(
        ask(
            rng,
            "Two functions of stats.py do not do what their docstrings say; `python3 -m unittest` shows it. "
            "Correct them.",
            "Do not change test_stats.py, and keep names and docstrings.",
        ),
        (
            ("Which tests fail?", _TESTS),
            ("Read module and tests.", "cat stats.py test_stats.py"),
            (
                f"The errors are in {' and '.join(wrong)}.",
                f"python3 - <<'EOF'\nfrom pathlib import Path\n\ntext = "
                f"Path('stats.py').read_text()\n{replace}Path('stats.py').write_text(text)\nEOF",
            ),
            (
                "Again.",
                f"{_TESTS}; python3 -c 'import stats; print(stats.median([1, 2, 3, 4]), stats.moving([1, 2, 3, "
                f"4], 2), stats.mode([4, 4, 1, 1]))'",
            ),
        ),
        f"{wrong[0]} and {wrong[1]} are corrected; all tests succeed.",
        files={"stats.py": broken, "test_stats.py": test},
        after={"stats.py": _any},
        check=check,
    )


def port_to_python3(rng: random.Random) -> Built:
    """A Python 2 program runs under Python 3 with the same output, integer division included."""
    divisor = rng.randrange(3, 8)
    old = (
        '# -*- coding: utf-8 -*-\n"""Stock report: report.py FILE"""\nimport sys\n\n'
        "def read(path):\n    stock = {}\n    for line in file(path):\n        name, count = line.split()\n"
        "        if not stock.has_key(name):\n            stock[name] = 0\n        stock[name] += int(count)\n   "
        " return stock\n\n"
        "def main():\n    try:\n        stock = read(sys.argv[1])\n    except IOError, error:\n"
        '        print >> sys.stderr, "cannot read:", error.filename\n        sys.exit(1)\n'
        "    names = stock.keys()\n    names.sort()\n    for name in names:\n"
        f'        print "%-10s %4d items, %3d boxes" % (name, stock[name], stock[name] / {divisor})\n'
        "    total = 0\n    for name, count in stock.iteritems():\n        total += count\n"
        f'    print "total", total, "boxes", total / {divisor}\n'
        "    best = sorted(stock.items(), cmp=lambda a, b: cmp(b[1], a[1]) or cmp(a[0], b[0]))[0]\n"
        '    print "most:", best[0]\n\nmain()\n'
    )
    edits = (
        ("for line in file(path)", "for line in open(path)"),
        ("not stock.has_key(name)", "name not in stock"),
        ("except IOError, error", "except IOError as error"),
        (
            'print >> sys.stderr, "cannot read:", error.filename',
            'print("cannot read:", error.filename, file=sys.stderr)',
        ),
        ("    names = stock.keys()\n    names.sort()\n", "    names = sorted(stock)\n"),
        (
            f'print "%-10s %4d items, %3d boxes" % (name, stock[name], stock[name] / {divisor})',
            f'print("%-10s %4d items, %3d boxes" % (name, stock[name], stock[name] // {divisor}))',
        ),
        ("stock.iteritems()", "stock.items()"),
        (f'print "total", total, "boxes", total / {divisor}', f'print("total", total, "boxes", total // {divisor})'),
        (
            "sorted(stock.items(), cmp=lambda a, b: cmp(b[1], a[1]) or cmp(a[0], b[0]))[0]",
            "min(stock.items(), key=lambda row: (-row[1], row[0]))",
        ),
        ('print "most:", best[0]', 'print("most:", best[0])'),
    )

    def stock() -> str:
        return "".join(f"{rng.choice(PRODUCTS)} {rng.randrange(1, 60)}\n" for _ in range(12))

    def output(text: str) -> str:
        count: dict[str, int] = {}
        for line in text.splitlines():
            name, number = line.split()
            count[name] = count.get(name, 0) + int(number)
        total = sum(count.values())
        rows = [f"{name:10} {count[name]:4} items, {count[name] // divisor:3} boxes" for name in sorted(count)]
        best = min(count.items(), key=lambda row: (-row[1], row[0]))[0]
        return "\n".join([*rows, f"total {total} boxes {total // divisor}", f"most: {best}"]) + "\n"

    shown, hidden = stock(), stock()
    new = "".join(f"text = text.replace({a!r}, {b!r})\n" for a, b in edits)

    def check(look: Look) -> None:
        look.write("/tmp/unseen.txt", hidden)
        for path, text in (("stock.txt", shown), ("/tmp/unseen.txt", hidden)):
            result = look.run(f"python3 report.py {path}")
            same(
                (result.status, result.output.strip()),
                (0, output(text).strip()),
                f"the report of {path.rsplit('/', 1)[-1]}",
            )
        result = look.run("python3 report.py /tmp/nowhere 2>&1 > /dev/null")
        same((result.status, result.output.strip()), (1, "cannot read: /tmp/nowhere"), "what happens to a missing file")

    return Built(
        ask(
            rng,
            "report.py was written for Python 2. Make it run under Python 3 with the output it had: expected.txt "
            "is what "
            "it printed for stock.txt.",
            "A missing file still gives `cannot read: FILE` on standard error and status 1.",
        ),
        (
            ("Read it.", "cat report.py; cat expected.txt"),
            (
                "Besides the syntax: / on integers was a floor division, and sorted has no cmp any more.",
                f"python3 - <<'EOF'\nfrom pathlib import Path\n\ntext = "
                f"Path('report.py').read_text()\n{new}Path('report.py').write_text(text)\nEOF",
            ),
            ("Same output?", "python3 report.py stock.txt | diff - expected.txt && echo same"),
            ("And a missing file.", 'python3 report.py nothing; echo "status $?"'),
        ),
        "report.py runs under Python 3 with the same output.",
        files={"report.py": old, "stock.txt": shown, "expected.txt": output(shown)},
        after={"report.py": _any},
        check=check,
    )


def speed_up(rng: random.Random) -> Built:
    """A quadratic program becomes fast enough; its output stays."""
    target = rng.randrange(900, 1100)
    slow = (
        '"""Finds pairs of numbers with a given sum: pairs.py FILE SUM"""\nimport sys\n\n'
        "numbers = [int(line) for line in open(sys.argv[1])]\ntarget = int(sys.argv[2])\n\npairs = []\n"
        "for i in range(len(numbers)):\n    for j in range(i + 1, len(numbers)):\n        if numbers[i] + "
        "numbers[j] == target:\n"
        "            pair = (min(numbers[i], numbers[j]), max(numbers[i], numbers[j]))\n            if pair not "
        "in pairs:\n"
        "                pairs.append(pair)\n"
        'for low, high in sorted(pairs):\n    print(low, high)\nprint(len(pairs), "pairs")\n'
    )
    fast = slow[: slow.index("pairs = []")] + (
        "seen, pairs = set(), set()\nfor number in numbers:\n    other = target - number\n    if other in seen:\n"
        "        pairs.add((min(number, other), max(number, other)))\n    seen.add(number)\n"
        'for low, high in sorted(pairs):\n    print(low, high)\nprint(len(pairs), "pairs")\n'
    )

    def output(numbers: Sequence[int], total: int) -> str:
        seen, pairs = set[int](), set[tuple[int, int]]()
        for number in numbers:
            if total - number in seen:
                pairs.add((min(number, total - number), max(number, total - number)))
            seen.add(number)
        return "".join(f"{low} {high}\n" for low, high in sorted(pairs)) + f"{len(pairs)} pairs\n"

    small = [rng.randrange(1000) for _ in range(300)]
    large = [(number * 7919) % 40_009 for number in range(40_000)]
    twice = [5, 5, 3, 7, 7, 3, 10, 0, 12, -2]

    def check(look: Look) -> None:
        for name, numbers, total in (
            ("small", small, target),
            ("twice", twice, 10),
            ("single", [5, 1], 10),
            ("large", large, 40_008),
        ):
            look.write(f"/tmp/{name}.txt", "".join(f"{number}\n" for number in numbers))
            result = look.run(f"python3 pairs.py /tmp/{name}.txt {total} > /tmp/{name}.out", timeout=4.0)
            if result.status != 0:
                raise Wrong(f"pairs.py on {name} input: status {result.status}, {result.ending}")
            same(look.text(f"/tmp/{name}.out"), output(numbers, total), f"the output for {name} input")

    return Built(
        ask(
            rng,
            f"pairs.py finds all different pairs of numbers in a file with a given sum (try "
            f"`python3 pairs.py numbers.txt {target}`). It is much too slow for our real files of 40000 numbers: "
            f"make it "
            "take a second at most for those.",
            "The output must stay exactly the same for every input, also with repeated and negative numbers. Only the "
            "standard library.",
        ),
        (
            (
                "Read it and keep an output to compare with.",
                f"cat pairs.py; python3 pairs.py numbers.txt {target} > /tmp/before; tail -n 2 /tmp/before",
            ),
            (
                "Two nested loops and a search in a list. A set of the numbers seen so far makes it linear.",
                f"cat > pairs.py <<'EOF'\n{fast}EOF",
            ),
            ("Same output?", f"python3 pairs.py numbers.txt {target} | cmp - /tmp/before && echo same"),
            (
                "Equal numbers, and a number that is half of the sum but there only once.",
                "printf '%s\\n' 5 5 3 7 7 -2 12 > /tmp/n; python3 pairs.py /tmp/n 10; printf '5\\n1\\n' > "
                "/tmp/n; python3 pairs.py /tmp/n 10",
            ),
            (
                "And a large file within the time.",
                "seq 1 40000 > /tmp/n; timeout 5 python3 pairs.py /tmp/n 40001 | tail -n 1; rm /tmp/n /tmp/before",
            ),
        ),
        "pairs.py is linear now, with the same output.",
        files={"pairs.py": slow, "numbers.txt": "".join(f"{number}\n" for number in small)},
        after={"pairs.py": _any},
        check=check,
    )


TASKS: Sequence[Builder] = (
    fix_functions,
    flatten_json,
    log_summary,
    port_to_python3,
    merge_settings,
    speed_up,
    retry_script,
)
