"""Python that reads what a policy wrote, run in a process of its own.

A parser that a hostile text brings down, or keeps busy, must take nothing else with it.
"""

from __future__ import annotations

import subprocess
import sys

_SECONDS = 60
_MEMORY = 2 << 30
_LIMITS = (
    "import resource\n"
    f"resource.setrlimit(resource.RLIMIT_CPU, ({_SECONDS}, {_SECONDS}))\n"
    f"resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY}, {_MEMORY}))\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
)


def run_python(source: str, data: bytes) -> str | None:
    """What ``source`` prints with ``data`` as its input; None where it crashed or took too long.

    Args:
        source: trusted Python, run by this interpreter without the user's settings.
        data: untrusted.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _LIMITS + source],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=2 * _SECONDS,
            check=False,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode < 0 else done.stdout.decode("utf-8", "replace")
