"""Command line of diffmerge."""

import sys
from pathlib import Path

from diffmerge import FormatError, dump, load, three_way


def describe(conflict):
    """Return a conflict as one line."""
    if conflict.field is None:
        return f"conflict: [{conflict.record}] removed and changed"
    sides = " | ".join("-" if value is None else repr(value) for value in (conflict.ours, conflict.theirs))
    return f"conflict: [{conflict.record}] {conflict.field}: {sides}"


def main(argv):
    """Merge three files; return the exit status."""
    if len(argv) != 3:
        print("usage: diffmerge BASE OURS THEIRS", file=sys.stderr)
        return 2
    try:
        result = three_way(*(load(Path(name).read_text(encoding="utf-8")) for name in argv))
    except (OSError, FormatError) as error:
        print(f"diffmerge: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(dump(result.records))
    for conflict in result.conflicts:
        print(describe(conflict), file=sys.stderr)
    return 1 if result.conflicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
