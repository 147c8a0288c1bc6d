"""Sets a file in lines: `python3 -m galley --width 60 FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .text import least_width, set_text


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="galley")
    parser.add_argument("file", type=Path)
    parser.add_argument("--width", type=int, default=72, help="most characters of a line; 0: so that no word is cut")
    options = parser.parse_args(argv)
    text = options.file.read_text(encoding="utf-8")
    try:
        sys.stdout.write(set_text(text, options.width or least_width(text)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
