"""Records expert trajectories by playing the scripted experts in ``pivotgym/Browser-v0``.

``python -m pivotgym.envs.browser.apps.generate`` writes the file that ships with the package; ``--kind shop.weigh
--seed 7 --out more.jsonl`` records further instances.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from pivotgym.envs.browser.apps.shop import ShopTasks
from pivotgym.envs.browser.apps.spec import GENERATOR, Step
from pivotgym.envs.browser.apps.taskset import SEEDS, AppTasks
from pivotgym.envs.browser.apps.tracker import TrackerTasks
from pivotgym.envs.browser.env import BrowserEnv
from pivotgym.envs.errors import BadInput, PivotGymError
from pivotgym.envs.formats.packed import pack, write_packed
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import JsonObject, Message, Outcome, ToolCall, Trajectory

SETS: tuple[AppTasks, ...] = (ShopTasks(), TrackerTasks())
KINDS = {f"{tasks.name}.{kind}": (tasks, kind) for tasks in SETS for kind in tasks.builders}
"""Every kind of task by its full name."""


@dataclass
class Options:
    """What to record."""

    kind: str | None = None
    """Only this kind, such as ``shop.weigh`` (default: all)."""
    seed: int | None = None
    """Only this seed (default: those that the task sets list)."""
    out: Path = Path(__file__).parent / "trajectories.jsonl.gz"
    """A .jsonl or .jsonl.gz file."""


def element(page: str, step: Step) -> str:
    """The id of the one element with the step's role and name in an observation.

    Raises:
        PivotGymError: there is none, or several.
    """
    wanted = f"] {step.role} {step.name!r}"
    ends = (wanted, f"{wanted}, ", f"{wanted} value=")
    lines = [line.strip() for line in page.splitlines()]
    found = [
        line[1 : line.index("]")] for line in lines if line.endswith(wanted) or any(end in line for end in ends[1:])
    ]
    if len(found) != 1:
        raise PivotGymError(f"{len(found)} elements are a {step.role} named {step.name!r} on this page:\n{page}")
    return found[0]


def act(step: Step, page: str, turn: int) -> Message:
    """A step of a script as an action on the page that is shown."""
    arguments: JsonObject
    if step.action == "send_msg_to_user":
        arguments = {"text": step.value}
    elif step.action == "click":
        arguments = {"bid": element(page, step)}
    elif step.action == "fill":
        arguments = {"bid": element(page, step), "value": step.value}
    else:
        arguments = {"bid": element(page, step), "options": step.value}
    call = ToolCall(name=step.action, arguments=arguments, id=f"call_{turn}")
    return Message(role="assistant", content=step.thought, tool_calls=[call])


def play(env: BrowserEnv, steps: Sequence[Step]) -> tuple[float, bool, JsonObject]:
    """Plays a script from where the environment stands; the last reward, whether the episode ended, and ``info``."""
    reward, terminated, info = 0.0, False, JsonObject()
    for turn, step in enumerate(steps):
        _, reward, terminated, _, info = env.step(act(step, env.messages[-1].text, turn))
    return reward, terminated, info


def record(tasks: AppTasks, kind: str, seed: int, env: BrowserEnv) -> Trajectory:
    """One expert episode.

    Raises:
        PivotGymError: the expert did not reach the goal.
    """
    task = tasks.make(kind, seed)
    built, _, _ = tasks.build(kind, seed)
    env.reset(options={"task": task})
    reward, terminated, info = play(env, built.expert)
    if not terminated or reward != 1.0:
        raise PivotGymError(f"task {task.id}: the expert failed: {info}")
    return Trajectory(
        id=f"bundled-{task.id}",
        task=task,
        tools=env.tools,
        messages=env.messages,
        outcome=Outcome(reward=reward, termination=info["termination"]),
        source={"made_by": "pivotgym.envs.browser.apps.generate", "generator": GENERATOR},
    )


def generate(names: Sequence[str], seeds: Sequence[int]) -> Iterable[Trajectory]:
    """Expert trajectories of these kinds, all seeds of the first one first.

    Raises:
        BadInput: there is no such kind.
    """
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise BadInput(f"no kind of task {unknown[0]!r}; there are {', '.join(KINDS)}", field="kind")
    env = BrowserEnv(tasks="shop", snapshots=SnapshotStore(max_bytes=0))
    try:
        for name in names:
            for seed in seeds:
                yield record(*KINDS[name], seed, env)
    finally:
        env.close()


def main(options: Options) -> None:
    """Writes the file."""
    names = [options.kind] if options.kind is not None else list(KINDS)
    seeds = [options.seed] if options.seed is not None else range(SEEDS)
    packed = pack(generate(names, seeds))
    write_packed(options.out, packed)
    sys.stdout.write(f"{len(names) * len(seeds)} trajectories, {options.out.stat().st_size} bytes: {options.out}\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
