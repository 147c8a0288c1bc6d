"""Shows a CSV file as a table."""

import argparse
import csv
import sys
from pathlib import Path

from .columns import Column
from .styles import STYLES
from .table import Table


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tabular")
    parser.add_argument("file", type=Path)
    parser.add_argument("--style", choices=sorted(STYLES), default="plain")
    parser.add_argument("--limit", type=int, help="most terminal columns of a column")
    options = parser.parse_args(argv)
    with options.file.open(encoding="utf-8", newline="") as source:
        rows = list(csv.reader(source))
    if not rows:
        print("error: the file is empty", file=sys.stderr)
        return 1
    table = Table(Column(title, limit=options.limit) for title in rows[0])
    for row in rows[1:]:
        table.append(*row)
    print(table.render(options.style))
    return 0


if __name__ == "__main__":
    sys.exit(main())
