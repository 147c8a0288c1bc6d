"""Command line: list what is kept, or ask why."""

from __future__ import annotations

import argparse
from pathlib import Path

from .walking import kept_files, rules_for


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="pathglob")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the files that are kept").add_argument("directory", type=Path)
    why = commands.add_parser("why", help="print the rule that decides about a path")
    why.add_argument("directory", type=Path)
    why.add_argument("path")
    options = parser.parse_args(arguments)
    if options.command == "list":
        print("\n".join(kept_files(options.directory)))
        return 0
    is_directory = (options.directory / options.path).is_dir()
    rule = rules_for(options.directory, options.path).deciding(options.path, is_directory)
    print("no rule" if rule is None else f"{rule.base or '.'}: {rule.text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
