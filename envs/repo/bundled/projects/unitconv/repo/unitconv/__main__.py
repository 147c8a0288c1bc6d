"""Converts one value: `python3 -m unitconv 90 km/h m/s`."""

import argparse
import sys

from .convert import convert
from .errors import UnitError


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="unitconv")
    parser.add_argument("value", type=float)
    parser.add_argument("source")
    parser.add_argument("target")
    options = parser.parse_args(argv)
    try:
        print(f"{convert(options.value, options.source, options.target):.10g}")
    except UnitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
