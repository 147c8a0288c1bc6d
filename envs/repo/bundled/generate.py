"""Records expert trajectories by running the scripted experts through ``pivotgym/Repo-v0``.

``python -m pivotgym.envs.repo.bundled.generate`` writes the file that ships with the package, which the same programs
make again byte for byte; ``--project ledger --seed 7 --out more.jsonl`` records further instances.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gymnasium as gym
import tyro

from pivotgym.envs.errors import PivotGymError
from pivotgym.envs.formats.packed import pack, write_packed
from pivotgym.envs.repo.bundled import GENERATOR, SEEDS, build, load_projects, make_task
from pivotgym.envs.repo.env import RepoEnv
from pivotgym.envs.repo.tasks import ENV_ID
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import JsonObject, Message, Outcome, ToolCall, Trajectory

# How long tests took is the machine's business. A fixed duration makes the file the same wherever it is recorded, and
# counts as equal to any other when a state is restored.
_DURATION = re.compile(r"(?<= in )\d+\.\d+s\b")
_FIXED = "0.05s"


@dataclass
class Options:
    """What to record."""

    project: str | None = None
    """Only this project (default: all)."""
    seed: int | None = None
    """Only this seed (default: those that the task set lists)."""
    out: Path = Path(__file__).parent / "trajectories.jsonl.gz"
    """A .jsonl or .jsonl.gz file."""
    backend: Literal["bubblewrap", "docker"] = "bubblewrap"
    """What the sandboxes run in; the result is the same."""


def script(name: str, seed: int) -> list[Message]:
    """The expert's messages."""
    return [
        Message(
            role="assistant",
            content=turn.say,
            tool_calls=[ToolCall(name=turn.tool, arguments=turn.call, id=f"call_{number}")],
        )
        for number, turn in enumerate(build(name, seed).project.spec.turn)
    ]


def record(name: str, seed: int, env: RepoEnv) -> Trajectory:
    """One expert episode.

    Raises:
        PivotGymError: the expert did not solve its task.
    """
    task = make_task(name, seed)
    env.reset(options={"task": task})
    reward, terminated, info = 0.0, False, JsonObject()
    for action in script(name, seed):
        if terminated:
            raise PivotGymError(f"task {task.id}: the expert goes on after it has handed in")
        _, reward, terminated, _, info = env.step(action)
    if not terminated or reward != 1.0:
        raise PivotGymError(f"task {task.id}: the expert failed: {info}")
    return Trajectory(
        id=f"bundled-{task.id}",
        task=task,
        tools=env.tools,
        messages=[_without_durations(message) for message in env.messages],
        outcome=Outcome(reward=reward, termination=info["termination"]),
        source={"made_by": "pivotgym.envs.repo.bundled.generate", "generator": GENERATOR},
    )


def _without_durations(message: Message) -> Message:
    if message.role != "tool":
        return message
    return message.model_copy(update={"content": _DURATION.sub(_FIXED, message.text)})


def generate(
    names: Sequence[str], seeds: Sequence[int], backend: Literal["bubblewrap", "docker"]
) -> Iterable[Trajectory]:
    """Expert trajectories of these projects, all seeds of the first one first."""
    made = gym.make(ENV_ID, tasks="bundled", backend=backend, snapshots=SnapshotStore(max_bytes=0))
    env = made.unwrapped
    assert isinstance(env, RepoEnv)
    try:
        for name in names:
            for seed in seeds:
                yield record(name, seed, env)
    finally:
        made.close()


def main(options: Options) -> None:
    """Writes the file."""
    names = [options.project] if options.project is not None else list(load_projects())
    seeds = [options.seed] if options.seed is not None else range(SEEDS)
    packed = pack(generate(names, seeds, options.backend))
    write_packed(options.out, packed)
    sys.stdout.write(f"{len(names) * len(seeds)} trajectories, {options.out.stat().st_size} bytes: {options.out}\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
