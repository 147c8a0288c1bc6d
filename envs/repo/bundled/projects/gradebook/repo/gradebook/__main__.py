"""Command line: `python3 -m gradebook REPORT FILE [--term TERM] [--course COURSE]`."""

from __future__ import annotations

import argparse
import sys

from .layout import ranking_text, summary_text
from .records import BadRecord, read_records, select
from .reports import failing, ranking, summarise


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="gradebook")
    parser.add_argument("report", choices=["summary", "ranking", "failed"])
    parser.add_argument("file")
    parser.add_argument("--term")
    parser.add_argument("--course")
    options = parser.parse_args(argv)
    try:
        records = read_records(options.file)
    except (BadRecord, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    chosen = select(records, course=options.course, term=options.term) if options.course or options.term else records
    if options.report == "summary":
        print(summary_text(summarise(chosen)))
    elif options.report == "ranking":
        print(ranking_text(ranking(chosen)))
    else:
        print("\n".join(failing(chosen)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
