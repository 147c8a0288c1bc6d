"""This process's Chromium, as the operating system sees it: what is there, and how it is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def descendants(parent: int) -> dict[int, str]:
    """Every process below ``parent``, with its command line."""
    found: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(folder.name))
        except (OSError, ValueError):
            continue
    waiting = [parent]
    while waiting:
        for child in children.get(waiting.pop(), []):
            try:
                found[child] = (Path("/proc") / str(child) / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            waiting.append(child)
    return found


def kill(which: str) -> int:
    """Kills this process's Chromium: ``browser`` all of it, ``renderer`` what shows pages, ``driver`` Playwright."""
    marks = {"renderer": "--type=renderer", "driver": "run-driver"}
    killed = 0
    for number, line in descendants(os.getpid()).items():
        chromium = "chrom" in line.split(" ")[0]
        root = which == "browser" and chromium and "--type=" not in line
        if root or (which in marks and marks[which] in line):
            os.kill(number, signal.SIGKILL)
            killed += 1
    assert killed, which
    return killed
