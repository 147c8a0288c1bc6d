"""Prints one value of a file."""

import argparse
import sys

from .errors import IniError
from .reader import load


def main(argv=None):
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="inifile")
    parser.add_argument("file")
    parser.add_argument("section")
    parser.add_argument("key")
    options = parser.parse_args(argv)
    try:
        print(load(options.file).get(options.section, options.key))
    except IniError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
