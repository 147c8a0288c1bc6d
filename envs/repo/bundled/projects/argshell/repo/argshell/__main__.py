"""Entry for ``python3 -m argshell``."""

import sys

from .main import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
