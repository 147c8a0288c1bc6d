"""Records expert trajectories by running the scripted expert through ``pivotgym/Tools-v0``.

``python -m pivotgym.envs.tools.servicedesk.generate --seed 0 --count 240 --out desk.jsonl``; without ``--count`` and
``--out`` it writes the files that ship with the package, which the same seed makes again byte for byte.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tyro

from pivotgym.envs.errors import PivotGymError
from pivotgym.envs.formats.packed import pack, write_packed
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.tools.env import ToolsEnv
from pivotgym.envs.tools.servicedesk import _BUNDLES, COUNTS, act, make_task
from pivotgym.envs.tools.servicedesk.scenario import GENERATOR
from pivotgym.envs.trajectory import JsonObject, Outcome, Task, Trajectory


@dataclass
class Options:
    """What to record."""

    seed: int = 0
    """Seeds everything that is drawn."""
    count: int | None = None
    """Trajectories of the train split (default: as bundled, with those of the other splits)."""
    heldout: int = 0
    """With --count: trajectories of the heldout split."""
    long: int = 0
    """With --count: trajectories of the long split."""
    out: Path | None = None
    """A .jsonl or .jsonl.gz file for all of them, or a folder for a file of each kind (default: the bundled files)."""


def record(task: Task, env: ToolsEnv) -> Trajectory:
    """One expert episode of a task.

    Raises:
        PivotGymError: the expert did not reach the goal.
    """
    env.reset(options={"task": task})
    terminated = truncated = False
    reward, info = 0.0, JsonObject()
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step(act(env.conversation))
    if not terminated or reward != 1.0:
        raise PivotGymError(f"task {task.id}: the expert failed: {info}")
    seed = task.data["seed"]
    return Trajectory(
        id=f"servicedesk-{task.id}",
        task=task,
        tools=env.tools,
        messages=env.messages,
        outcome=Outcome(reward=reward, termination=info["termination"]),
        source={"made_by": "pivotgym.envs.tools.servicedesk.generate", "generator": GENERATOR, "seed": seed},
    )


def generate(seed: int, counts: dict[str, int]) -> Iterable[Trajectory]:
    """Expert trajectories, ``counts[split]`` of each split."""
    env = ToolsEnv(domain="servicedesk", snapshots=SnapshotStore(max_bytes=0))
    try:
        for split, count in counts.items():
            for index in range(count):
                yield record(make_task(split, index, seed), env)
    finally:
        env.close()


def main(options: Options) -> None:
    """Writes the file, or the files of a folder."""
    counts = dict(COUNTS)
    if options.count is not None:
        counts = {"train": options.count, "heldout": options.heldout, "long": options.long}
    out = options.out or Path(__file__).parent
    parts = {out / name: splits for name, splits in _BUNDLES.items()} if out.is_dir() else {out: tuple(counts)}
    for path, splits in parts.items():
        wanted = {split: counts[split] for split in splits}
        packed = pack(generate(options.seed, wanted))
        write_packed(path, packed)
        sys.stdout.write(f"{sum(wanted.values())} trajectories, {path.stat().st_size} bytes: {path}\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
