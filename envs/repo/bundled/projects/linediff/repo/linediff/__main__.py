"""The command line."""

import argparse
import sys
from pathlib import Path

from linediff.unified import unified


def main(argv=None):
    """Prints the difference of two files; 1 where there is one, else 0."""
    parser = argparse.ArgumentParser(prog="linediff", description="Differences of two files.")
    parser.add_argument("-U", dest="context", metavar="LINES", type=int, default=3, help="lines of context")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    args = parser.parse_args(argv)
    old, new = (path.read_text().splitlines() for path in (args.old, args.new))
    text = unified(old, new, str(args.old), str(args.new), args.context)
    sys.stdout.write(text)
    return 1 if text else 0


if __name__ == "__main__":
    sys.exit(main())
