"""The command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .archive import ArchiveError, pack, read_table, unpack
from .codes import canonical_codes


def show(packed: bytes) -> str:
    """The table of codes, shortest first."""
    size, lengths, _ = read_table(packed)
    rows = [f"{size} bytes, {len(lengths)} different"]
    for byte, (code, length) in canonical_codes(lengths).items():
        rows.append(f"{bytes([byte])!r} {code:0{length}b}")
    return "\n".join(rows)


def main(argv: list[str] | None = None) -> int:
    """0, or 1 for an archive that cannot be read."""
    parser = argparse.ArgumentParser(prog="huffpack", description="Packs files with a Huffman code.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("pack", "unpack"):
        command = commands.add_parser(name)
        command.add_argument("source", type=Path)
        command.add_argument("target", type=Path)
    commands.add_parser("show").add_argument("source", type=Path)
    args = parser.parse_args(argv)
    data = args.source.read_bytes()
    try:
        if args.command == "show":
            print(show(data))
        else:
            args.target.write_bytes(pack(data) if args.command == "pack" else unpack(data))
    except ArchiveError as error:
        print(f"huffpack: {args.source.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
