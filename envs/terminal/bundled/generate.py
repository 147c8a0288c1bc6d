"""Records expert trajectories by running the scripted experts through ``pivotgym/Terminal-v0``.

``python -m pivotgym.envs.terminal.bundled.generate`` writes the file that ships with the package, which the same
programs make again byte for byte; ``--task text.top_clients --seed 7 --out more.jsonl`` records further instances.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from pivotgym.envs.errors import PivotGymError
from pivotgym.envs.formats.packed import pack, write_packed
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.terminal.bundled import BUILDERS, SEEDS, build, make_task
from pivotgym.envs.terminal.bundled.spec import GENERATOR
from pivotgym.envs.terminal.env import TerminalEnv
from pivotgym.envs.trajectory import JsonObject, Message, Outcome, ToolCall, Trajectory


@dataclass
class Options:
    """What to record."""

    task: str | None = None
    """Only this task (default: all)."""
    seed: int | None = None
    """Only this seed (default: those that the task set lists)."""
    out: Path = Path(__file__).parent / "trajectories.jsonl.gz"
    """A .jsonl or .jsonl.gz file."""
    backend: Literal["bubblewrap", "docker"] = "bubblewrap"
    """What the sandboxes run in; the result is the same."""


def script(name: str, seed: int) -> list[Message]:
    """The expert's messages."""
    built = build(name, seed)
    actions = [
        Message(
            role="assistant",
            content=thought,
            tool_calls=[ToolCall(name="bash", arguments={"command": command}, id=f"call_{turn}")],
        )
        for turn, (thought, command) in enumerate(built.turns)
    ]
    return [*actions, Message(role="assistant", content=built.final)]


def record(name: str, seed: int, env: TerminalEnv) -> Trajectory:
    """One expert episode.

    Raises:
        PivotGymError: the expert did not reach the goal.
    """
    task = make_task(name, seed)
    env.reset(options={"task": task})
    reward, terminated, info = 0.0, False, JsonObject()
    for action in script(name, seed):
        _, reward, terminated, _, info = env.step(action)
    if not terminated or reward != 1.0:
        raise PivotGymError(f"task {task.id}: the expert failed: {info}")
    return Trajectory(
        id=f"bundled-{task.id}",
        task=task,
        tools=env.tools,
        messages=env.messages,
        outcome=Outcome(reward=reward, termination=info["termination"]),
        source={"made_by": "pivotgym.envs.terminal.bundled.generate", "generator": GENERATOR},
    )


def generate(
    names: Sequence[str], seeds: Sequence[int], backend: Literal["bubblewrap", "docker"]
) -> Iterable[Trajectory]:
    """Expert trajectories of these tasks, all seeds of the first one first."""
    env = TerminalEnv(backend=backend, snapshots=SnapshotStore(max_bytes=0))
    try:
        for name in names:
            for seed in seeds:
                yield record(name, seed, env)
    finally:
        env.close()


def main(options: Options) -> None:
    """Writes the file."""
    names = [options.task] if options.task is not None else list(BUILDERS)
    seeds = [options.seed] if options.seed is not None else range(SEEDS)
    packed = pack(generate(names, seeds, options.backend))
    write_packed(options.out, packed)
    sys.stdout.write(f"{len(names) * len(seeds)} trajectories, {options.out.stat().st_size} bytes: {options.out}\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
