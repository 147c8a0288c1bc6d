"""Whether each task's own solution is rewarded and the state before it is not: the engine of ``pivotgym validate``.

Published sets hold tasks that cannot be won in a given image: a test that fails there whatever the code, one that
passes anyway, a solution that touches what no change may touch. Their rewards are constant, so they cost rollouts and
teach nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, InfrastructureError, NotRestorable
from pivotgym.envs.formats.jsonl import RowAppender, read_rows, write_rows
from pivotgym.envs.trajectory import JsonObject, Task, canonical_json, digest
from pivotgym.envs.validation import Validating
from pivotgym.harness.runs import Progress, claim, exclusive, no_progress

ROWS = "validation.jsonl"
_STAGE = "validate tasks"


def validate_tasks(
    make: Callable[[], AgentEnv],
    tasks: Sequence[Task],
    out: Path,
    settings: JsonObject,
    *,
    workers: int = 2,
    attempts: int = 2,
    progress: Progress = no_progress,
) -> list[JsonObject]:
    """Validates each task once, with ``workers`` environments at a time.

    Writes a row a task into ``OUT/validation.jsonl``: ``task``, ``status``, ``problems`` and ``left_out`` (see
    :class:`~pivotgym.envs.validation.Validation`), ``error``, ``seconds``. The status is ``usable``, ``unusable``
    (its own solution is not rewarded, or doing nothing is), ``bad_input`` (the task cannot be judged at all) or
    ``failed`` (the infrastructure did, ``attempts`` times: this says nothing of the task). Called again it goes on, and
    tries the failed ones anew.

    Args:
        make: makes an environment, once a worker.
        tasks: with ids of their own.
        out: the run's folder.
        settings: what the results depend on; a folder begun with others is refused.
        workers: environments at a time.
        attempts: tries of a task whose sandbox fails.
        progress: told after each task.

    Returns:
        The rows in the tasks' order.

    Raises:
        BadInput: the environment's tasks have no solutions, two tasks have one id, or ``out`` holds other settings.
    """
    ids = [task.id for task in tasks]
    if not ids:
        raise BadInput("no tasks to validate", field="tasks")
    doubles = [name for name, count in Counter(ids).items() if count > 1]
    if doubles:
        raise BadInput(f"two tasks have the id {doubles[0]!r}", field="tasks")
    file = Path(out) / ROWS
    with exclusive(Path(out) / "run"):
        claim(Path(out) / "settings.json", {**settings, "tasks": digest(canonical_json([task.key for task in tasks]))})
        rows = {row["task"]: row for row in _finished(file)}
        left = [task for task in tasks if task.id not in rows]
        progress(_STAGE, len(rows), len(tasks), _counts(rows.values()))
        with RowAppender(file, fsync=True) as appender, _Pool(make, workers, attempts) as pool:
            for row in pool.work(left):
                appender.append(row)
                rows[row["task"]] = row
                progress(_STAGE, len(rows), len(tasks), _counts(rows.values()))
        found = [rows[name] for name in ids]
        write_rows(file, found)
    return found


def _finished(file: Path) -> list[JsonObject]:
    """The rows that need not be made again; the others are taken out of the file."""
    if not file.exists():
        return []
    rows = [row for row in read_rows(file) if row["status"] != "failed"]
    write_rows(file, rows)
    return rows


def _counts(rows: Iterable[JsonObject]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    return counts


class _Pool:
    """Threads with an environment each."""

    def __init__(self, make: Callable[[], AgentEnv], workers: int, attempts: int) -> None:
        self._make, self._workers, self._attempts = make, workers, attempts
        self._mine = threading.local()
        self._made: list[AgentEnv] = []
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="validate")

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        # What runs is waited for: an environment must not be closed under a thread that uses it.
        self._threads.shutdown(wait=True, cancel_futures=True)
        for env in self._made:
            with suppress(InfrastructureError):
                env.close()

    def work(self, tasks: Sequence[Task]) -> Iterable[JsonObject]:
        """A row a task, in the order they finish."""
        for future in as_completed([self._threads.submit(self._row, task) for task in tasks]):
            yield future.result()

    def _env(self) -> AgentEnv:
        if not hasattr(self._mine, "env"):
            self._mine.env = self._make()
            self._made.append(self._mine.env)
        env: AgentEnv = self._mine.env
        return env

    def _row(self, task: Task) -> JsonObject:
        began = time.monotonic()
        row: JsonObject = {"task": task.id, "status": "", "problems": {}, "left_out": {}, "error": ""}
        env = self._env()
        if not isinstance(env, Validating):
            raise BadInput(f"the tasks of {type(env).__name__} bring no solution that could be tried", field="env")
        retrying = Retrying(
            retry=retry_if_exception_type(InfrastructureError),
            stop=stop_after_attempt(self._attempts),
            wait=wait_exponential_jitter(initial=0.2, max=5.0),
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    env.reset(options={"task": task})
                    found = env.validate()
            row |= {"status": "usable" if found.usable else "unusable", "problems": found.problems}
            row["left_out"] = found.left_out
        except (BadInput, NotRestorable) as error:
            row |= {"status": "bad_input", "error": str(error)}
        except InfrastructureError as error:
            row |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        return {**row, "seconds": round(time.monotonic() - began, 3)}
