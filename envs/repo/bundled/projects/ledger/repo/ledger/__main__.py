"""Command line: `python3 -m ledger report FILE [--account NAME]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .report import balance_sheet, load_csv, statement


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ledger")
    commands = parser.add_subparsers(required=True)
    report = commands.add_parser("report", help="print balances")
    report.add_argument("file", type=Path)
    report.add_argument("--currency", default="EUR")
    report.add_argument("--account", help="print one account's entries instead")
    options = parser.parse_args(arguments)
    book = load_csv(options.file, options.currency)
    print(statement(book, options.account) if options.account else balance_sheet(book))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
