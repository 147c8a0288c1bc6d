"""Success in the other domains: a few bundled tasks each, played to their end and judged by execution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pivotgym.envs.errors import InfrastructureError
from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.trajectory import JsonObject, Task
from pivotgym.harness.evaluate import EPISODES, EpisodeConfig, evaluate_episodes
from pivotgym.harness.forgetting.config import DOMAINS
from pivotgym.harness.forgetting.items import Metric
from pivotgym.harness.policies.base import Policy
from pivotgym.harness.runs import Progress


@dataclass(frozen=True)
class EpisodeOptions:
    """How episodes are played; see :class:`~pivotgym.harness.forgetting.suite.ForgettingConfig`."""

    tasks: int
    max_turns: int
    max_tokens: int
    temperature: float
    seed: int


def success_metric(domain: str) -> Metric:
    """The share of episodes that succeed."""
    return Metric(f"episodes_{domain}", f"Episodes: {domain}", over="success")


def spread(tasks: list[Task], count: int) -> list[Task]:
    """``count`` tasks from the whole list, evenly: neighbours in a bundled list resemble each other."""
    if count >= len(tasks):
        return tasks
    return [tasks[place * len(tasks) // count] for place in range(count)]


def play_domain(
    domain: str, policy: Policy, options: EpisodeOptions, folder: Path, progress: Progress, name: str
) -> list[JsonObject]:
    """Plays tasks of a domain's held-out split (of all where it has none); a row an episode that was judged.

    Raises:
        MissingExtra: a package of the domain is not installed.
        InfrastructureError: the domain cannot be played on this machine, or an episode failed to the last attempt:
            a change over fewer tasks than asked would look like a figure.
    """
    from pivotgym.harness.commands import split_of
    from pivotgym.harness.turns import make_env

    env_id = DOMAINS[domain]
    env = make_env(env_id, {})
    try:
        every = list(env.tasks())
    finally:
        env.close()
    tasks = spread([task for task in every if split_of(task) == "heldout"] or every, options.tasks)
    config = EpisodeConfig(
        max_turns=options.max_turns,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        seed=options.seed,
        chunk=4,
        batch=4,
        keep_messages=False,
        workers=2,
    )
    evaluate_episodes(env_id, policy, tasks, config, folder, _named(progress, f"{name}: {domain}"))
    rows = list(read_rows(folder / EPISODES))
    failed = next((row for row in rows if row["reward"] is None), None)
    if failed is not None:
        (folder / EPISODES).unlink()  # the next call tries again
        raise InfrastructureError(f"task {failed['task']}: {failed['error']}")
    return [
        {
            "id": f"{row['task']}/{row['trial']}",
            "group": row["task"],
            "kind": domain,
            "scores": {"success": float(row["reward"] >= 1)},
        }
        for row in rows
    ]


def _named(progress: Progress, stage: str) -> Progress:
    return lambda _, done, total, figures: progress(stage, done, total, figures)
