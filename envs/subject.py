"""What the laws are checked on, and what they share: restoring, comparing, saying where."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import takewhile
from typing import Any

import numpy as np

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import InfrastructureError
from pivotgym.envs.probes import random_action
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.trajectory import Message, Trajectory

Checked = tuple[int, str]


class LawBroken(Exception):
    """A law does not hold; the message says how that shows."""

    def __init__(self, reason: str, checked: int = 0) -> None:
        super().__init__(reason)
        self.checked = checked


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is being checked: the environment, the turns to restore, and how thorough to be."""

    env_id: str
    kwargs: Mapping[str, Any]
    make: Callable[[SnapshotStore | None], AgentEnv]
    turns: Sequence[tuple[Trajectory, int]]
    horizon: int
    resets: int
    seconds_of_resets: float
    seed: int

    @contextmanager
    def at(self, trajectory: Trajectory, turn: int, store: SnapshotStore | None = None) -> Iterator[AgentEnv]:
        """A new environment, restored to a turn (without ``store``: by replay); closed afterwards."""
        with closing(self.make(store)) as env:
            env.reset(options={"trajectory": trajectory, "turn": turn})
            yield env

    def future(self, env: AgentEnv, trajectory: Trajectory, turn: int) -> list[list[str]]:
        """What the recorded actions from ``turn`` on bring in ``env``; uses it up.

        Users' words come from the recording, tools' results do not: an environment that repeats them proves nothing.
        """
        last = min(turn + self.horizon, len(trajectory.turns))
        found = []
        for now in range(turn, last):
            said = [message for message in trajectory.answer(now) if message.role != "tool"]
            found.append(response_of(env, trajectory.action(now), said))
        return found


def response_of(env: AgentEnv, action: Message, recorded: Sequence[Message] = ()) -> list[str]:
    """The texts that ``action`` brings, normalised; a failing infrastructure is told by its name."""
    try:
        response = env.advance(action, recorded)
    except InfrastructureError as error:
        return [f"({type(error).__name__})"]
    return [env.normalise(message.text) for message in response.messages]


def in_forks(env: AgentEnv, actions: Sequence[Message]) -> list[list[str]]:
    """What each action brings, each in a fork of its own."""
    answers = []
    for action in actions:
        with closing(env.fork()) as fork:
            answers.append(response_of(fork, action))
    return answers


def probes_of(subject: Subject, env: AgentEnv, turn: int) -> list[Message]:
    """Random valid actions; few where every fork is a replay."""
    rng = np.random.default_rng([subject.seed, turn])
    return [random_action(rng, env.tools, env.messages) for _ in range(2 if env.save() is None else 8)]


def where_of(trajectory: Trajectory, turn: int) -> str:
    """Where in a recording, for a person."""
    return f"trajectory {trajectory.id} turn {turn}"


def first_difference(one: Sequence[Any], other: Sequence[Any]) -> str:
    """The first place where two lists differ, for a person."""
    for index, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            here, there = str(mine), str(theirs)
            # Long answers that differ far inside: what is around the difference, not what they begin with.
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False)))
            start = max(0, same - 60)
            dots = "…" if start else ""
            return f"answer {index}: {dots}{here[start : start + 200]} instead of {dots}{there[start : start + 200]}"
    return f"{len(one)} answers instead of {len(other)}"
