"""One of InterCode's bash tasks as a terminal task."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pivotgym.envs.terminal.intercode_reward import archive_nodes
from pivotgym.envs.terminal.intercode_shell import SECONDS, setup_script, shell
from pivotgym.envs.terminal.tasks import Setup, TerminalTask

_NUMBER = re.compile(r"fs_(\w+?)(?:\.\w+)*$")


def file_system_number(name: str) -> str | None:
    """The ``N`` of ``…fs_N.json``; None for another name."""
    found = _NUMBER.search(PurePosixPath(name).name)
    return found[1] if found else None


def intercode_task(
    query: str,
    number: str,
    archive: bytes | None,
    *,
    gold: str | None = None,
    hostname: str = "sandbox",
    missing: Iterable[str] = (),
    reward: Literal["strict", "paper"] = "strict",
    **definition: Any,
) -> TerminalTask:
    """One of InterCode's questions as a terminal task.

    Args:
        query: the question.
        number: of the file system.
        archive: of the file system; without it the task cannot be built, and says so.
        gold: the reference command; without it episodes cannot be judged.
        hostname: of the recorded container, where it is known.
        missing: programs that the recorded image did not have.
        reward: see :class:`pivotgym.envs.terminal.intercode.InterCodeTasks`.
        definition: kept beside.
    """
    if archive is None:
        name = f"fs_{number}.tar.gz"
        setup = Setup(script=f"echo 'the file system of this task is missing: {name} beside the imported file'; exit 1")
    else:
        folders = {path.split("/")[0] for path, node in archive_nodes(archive).items() if node.kind == "directory"}
        setup = Setup(archives=[b64encode(archive).decode()], script=setup_script(folders, missing))
    kept = {"gold": gold, "reward": reward, **definition}
    return TerminalTask(
        set="intercode",
        instruction=query,
        workdir="/",
        hostname=hostname,
        setup=setup,
        shell=shell(number),
        timeout=2.0 * SECONDS,
        observation="raw",
        definition={key: value for key, value in kept.items() if value is not None},
    )


def archive_beside(file: Path, number: str) -> bytes | None:
    """The file system's archive from the folder ``file`` is in, None where it is not there."""
    path = file.parent / f"fs_{number}.tar.gz"
    return path.read_bytes() if path.is_file() else None
