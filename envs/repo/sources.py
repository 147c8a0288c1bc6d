"""Repository tasks by the name of a set, from a file or from a Hugging Face dataset."""

from __future__ import annotations

from pathlib import Path

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo import swebench_parsers
from pivotgym.envs.repo.swebench import SweBenchTasks
from pivotgym.envs.terminal.tasks import TaskSet, get_task_set, task_set_names

BUNDLED = "bundled-repos"
"""Name of this package's own repository tasks; in ``pivotgym/Repo-v0`` ``bundled`` means them too."""


swebench_parsers.register()


def open_repo_tasks(where: str | Path, *, repositories: str | Path | None = None, tables: bool = False) -> TaskSet:
    """The task set of that name, or the SWE-bench rows of a file, folder or dataset.

    Args:
        where: ``bundled``, the name of a registered task set, a JSON, JSONL or Parquet file or a folder of them, or a
            Hugging Face dataset (``princeton-nlp/SWE-bench_Lite``, with ``:dev`` for a split).
        repositories: where rows' repositories are, see :func:`pivotgym.envs.repo.swebench.read_rows`.
        tables: install clones as the ``swebench`` package's tables say where a row does not.

    Raises:
        BadInput: none of these.
    """
    name = str(where)
    if name in ("bundled", BUNDLED):
        return get_task_set(BUNDLED)
    if name in task_set_names() and not Path(where).exists():
        return get_task_set(name)
    if not Path(where).exists() and "/" not in name and not name.startswith("hf:"):
        known = ", ".join(sorted({BUNDLED, *task_set_names()}))
        raise BadInput(f"{name!r} is no task set ({known}), no file and no dataset (owner/name)", field="tasks")
    return SweBenchTasks(where, repositories=repositories, tables=tables)
