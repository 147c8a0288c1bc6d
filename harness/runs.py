"""What every stage of a run shares: its files, its settings, its cost, its seeds.

Two kinds of files. *Results* (``profile.jsonl``, ``metrics.jsonl``, checkpoints) depend on settings and seeds alone:
a run that was killed and went on writes the same bytes as one that was not. What depends on the machine and the
day, the seconds above all, goes to ``timings.jsonl``, one row for each piece of work done, redone work included: the
cost of a run is the sum of that file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.jsonl import append_row, read_rows
from pivotgym.envs.trajectory import JsonObject, canonical_json
from pivotgym.harness.policies.base import Policy, Usage

TIMINGS = "timings.jsonl"
Progress = Callable[[str, int, int, Mapping[str, Any]], None]
"""``progress(stage, done, total, figures)``, called after each piece of work."""


def no_progress(stage: str, done: int, total: int, figures: Mapping[str, Any]) -> None:
    """Shows nothing."""


def derive_seed(seed: int, *parts: object) -> int:
    """A seed for one piece of work: depends on the run's seed and the piece's name, not on what ran before it.

    Returns:
        An integer in ``[0, 2**31)`` (what every generator in use accepts).
    """
    text = canonical_json([seed, *parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def shuffled_batch(count: int, batch: int, number: int, seed: int, name: str) -> list[int]:
    """Batch ``number`` (from 1) of endless epochs over ``count`` items, each epoch in an order of its own.

    A function of its arguments alone: a resumed run needs no memory of the order.
    """
    chosen: list[int] = []
    orders: dict[int, list[int]] = {}
    for place in range((number - 1) * batch, number * batch):
        epoch, index = divmod(place, count)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng(derive_seed(seed, name, epoch)).permutation(count).tolist()
        chosen.append(orders[epoch][index])
    return chosen


# Cost ---------------------------------------------------------------------------------------------------------------


@dataclass
class Cost:
    """What a piece of work cost.

    Attributes:
        rollout_turns: actions sampled from a policy and judged (or executed in an episode).
        model_calls: completions asked of the policy's backend: ``n`` for ``n`` completions of one prompt, however
            many requests carried them.
        prompt_tokens: tokens of those prompts.
        sampled_tokens: tokens the policy sampled.
        trained_tokens: action tokens a loss was computed on, times the passes over them.
        env_actions: actions executed in environments: replayed ones and distinct judged ones.
        seconds: wall-clock time.
    """

    rollout_turns: int = 0
    model_calls: int = 0
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    trained_tokens: int = 0
    env_actions: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})

    def row(self) -> JsonObject:
        """As a JSON object, seconds to the millisecond."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class CostMeter:
    """Measures the cost of one piece of work and appends it to ``timings.jsonl``.

    Use as a context manager; work that raises is recorded too (it was paid for), with ``failed``. Without a folder
    nothing is written: another process of the run does it.
    """

    def __init__(self, folder: Path | None, stage: str, part: str | int, policy: Policy | None = None) -> None:
        self.cost = Cost()
        self._folder, self._stage, self._part, self._policy = folder, stage, part, policy

    def __enter__(self) -> CostMeter:
        self._began, self._processor = time.perf_counter(), time.process_time()
        self._before = _copy(self._policy.usage) if self._policy is not None else Usage()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.cost.seconds = time.perf_counter() - self._began
        if self._policy is not None:
            now = self._policy.usage
            self.cost.model_calls += now.calls - self._before.calls
            self.cost.prompt_tokens += now.prompt_tokens - self._before.prompt_tokens
            self.cost.sampled_tokens += now.sampled_tokens - self._before.sampled_tokens
        row: JsonObject = {"stage": self._stage, "part": self._part, **self.cost.row()}
        # On a machine that others use too, what is fair to compare: time on the processor, of all threads.
        row["cpu_seconds"] = round(time.process_time() - self._processor, 3)
        if kind is not None:
            row["failed"] = kind.__name__
        if self._folder is not None:
            append_row(self._folder / TIMINGS, row)


def _copy(usage: Usage) -> Usage:
    return Usage(usage.calls, usage.prompt_tokens, usage.sampled_tokens, usage.seconds)


def total_costs(folder: Path) -> dict[str, Cost]:
    """The cost of each stage of a run, in the order the stages began; redone work counts again."""
    totals: dict[str, Cost] = {}
    names = [field.name for field in fields(Cost)]
    for row in read_rows(folder / TIMINGS):
        cost = Cost(**{name: row.get(name, 0) for name in names})
        totals[row["stage"]] = totals.get(row["stage"], Cost()) + cost
    return totals


# Files --------------------------------------------------------------------------------------------------------------


def append_figures(path: Path, row: JsonObject) -> None:
    """Appends a row of figures to a file of results. What is no finite number is null: JSON has no NaN."""
    append_row(path, _finite(row), fsync=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that is there completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False, default=str)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it appears under ``path`` only when complete, on disk, and replaces one already there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
        handle_id = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle_id)
        finally:
            os.close(handle_id)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds a lock file beside ``path`` so that no second process writes the same results.

    The operating system frees the lock when the process ends, however it ends.

    Raises:
        BadInput: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput("another process is writing these results", file=path) from None
        yield


# Settings -----------------------------------------------------------------------------------------------------------


def policy_fingerprint(policy: Policy) -> str:
    """What a policy's answers depend on: its ``fingerprint``, or its name where it has none."""
    return str(getattr(policy, "fingerprint", policy.name))


def adapter_digest(folder: Path) -> str:
    """A digest of a LoRA adapter's settings and weights: an adapter written anew at the same path is another one.

    Raises:
        BadInput: the folder holds no adapter.
    """
    hashed = hashlib.sha256()
    if not (folder / "adapter_config.json").is_file():
        raise BadInput("not a folder with an adapter (no adapter_config.json)", file=folder)
    for file in sorted(folder.glob("adapter_*")):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        hashed.update(f"{file.name} {content}\n".encode())
    return hashed.hexdigest()[:16]


def claim(file: Path, settings: JsonObject, results: Sequence[Path] = ()) -> bool:
    """Records the settings of results in ``file``, or compares them with those recorded there.

    The file also says with which versions and how many threads the results were made; on resuming, torch goes to that
    number of threads, because sums depend on it in the last digit.

    Args:
        file: where the settings are kept, beside the results.
        settings: everything the results depend on, JSON only.
        results: the files and folders of results that these settings are of.

    Returns:
        Whether the results were begun before.

    Raises:
        BadInput: they were begun with other settings (names each difference), or nobody knows with which.
    """
    settings = json.loads(canonical_json(settings))
    if not file.exists():
        for result in results:
            if result.exists():
                raise BadInput(
                    f"there are results, but not their settings ({file.name}): move them away or choose another place",
                    file=result,
                )
        write_json(file, {"settings": settings, "made_with": _made_with()})
        return False
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        before, threads = recorded["settings"], int(recorded["made_with"]["threads"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput("no settings file of this program", file=file) from error
    differing = sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name))
    if differing:
        told = "; ".join(
            f"{name} was {_short(before.get(name))}, now {_short(settings.get(name))}" for name in differing
        )
        raise BadInput(
            f"these results were begun with other settings ({told}): use the same settings or another place",
            file=file,
        )
    import torch  # slow to import, and not needed to read a command line

    torch.set_num_threads(threads)
    return True


def _short(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _made_with() -> JsonObject:
    import torch

    versions = {}
    for package in ("pivotgym", "torch", "transformers", "peft"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"threads": torch.get_num_threads(), "python": platform.python_version(), "versions": versions}


@contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic algorithms where torch has them; a warning, not an error, where it has not."""
    import torch

    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)
