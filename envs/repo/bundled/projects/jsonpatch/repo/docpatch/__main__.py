"""Prints a patched document."""

import json
import sys
from pathlib import Path

from .errors import PatchError
from .patch import apply_patch


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit status."""
    if len(arguments) != 2:
        print("usage: python3 -m docpatch DOCUMENT PATCH", file=sys.stderr)
        return 2
    document, operations = (json.loads(Path(name).read_text(encoding="utf-8")) for name in arguments)
    try:
        print(json.dumps(apply_patch(document, operations), sort_keys=True))
    except PatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
