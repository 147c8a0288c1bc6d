"""Import of HAR archives (version 1.2, plain or Playwright's ``.har.zip``): what was visited, as a skeleton.

An archive holds requests and responses, not what was clicked: the skeleton's actions are the addresses that were opened
after the first one, and its task replays the archive offline. :func:`pivotgym.envs.browser.skeleton.record` runs it and
gives the trajectory with what is seen. Forms that were posted cannot be opened by address; they are in ``source``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pivotgym.envs.browser.actions import TOOLS
from pivotgym.envs.browser.har import har_task, read_archive
from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import OnError, PathLike, Problems
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory

FORMAT = "har"


def is_har(row: Any) -> bool:
    """Whether a document is an archive."""
    return isinstance(row, dict) and isinstance(row.get("log"), dict) and "entries" in row["log"]


def is_har_zip(path: Path) -> bool:
    """Whether a file is a zip with an archive in it."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".har") for name in archive.namelist())
    except Exception:  # what a broken zip raises is not documented
        return False


def read_har(path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None) -> Iterator[Trajectory]:
    """The skeleton of an archive.

    Raises:
        BadInput: no archive, a broken entry (``log.entries.N``, counted from 0), or no page in it.
    """
    problems = Problems(on_error, errors)
    try:
        archive = read_archive(str(path))
        opened = [url for method, url in archive.navigations if method == "GET"]
        if not opened:
            raise BadInput("the archive holds no page", file=path, field="log.entries")
        task = har_task(path, opened[0])
    except BadInput as problem:
        problems.report(problem)
        return
    calls = [ToolCall(name="goto", arguments={"url": url}, id=f"call_{at}") for at, url in enumerate(opened[1:])]
    messages = [Message(role="assistant", content="", tool_calls=[call]) for call in calls]
    posted = [url for method, url in archive.navigations if method != "GET"]
    source = {"format": FORMAT, "skeleton": True, "url": opened[0], "posted": posted}
    yield Trajectory(id=Path(path).name.partition(".")[0], task=task, tools=TOOLS, messages=messages, source=source)
