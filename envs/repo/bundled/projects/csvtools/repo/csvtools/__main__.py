"""Command line of the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .dialects import DIALECTS
from .reading import FormatError, read_rows
from .writing import write_rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="csvtools")
    commands = parser.add_subparsers(dest="command", required=True)
    convert = commands.add_parser("convert", help="write a file in another dialect")
    convert.add_argument("--from", dest="source", choices=DIALECTS, default="excel")
    convert.add_argument("--to", dest="target", choices=DIALECTS, default="unix")
    convert.add_argument("file", type=Path)
    columns = commands.add_parser("columns", help="print the header, one name a line")
    columns.add_argument("--from", dest="source", choices=DIALECTS, default="excel")
    columns.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    text = options.file.read_bytes().decode("utf-8")
    try:
        rows = list(read_rows(text, DIALECTS[options.source]))
    except FormatError as problem:
        print(f"{options.file.name}: {problem}", file=sys.stderr)
        return 1
    if options.command == "convert":
        sys.stdout.write(write_rows(rows, DIALECTS[options.target]))
    else:
        print(*rows[0] if rows else [], sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
