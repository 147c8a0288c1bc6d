"""The conformance suite: the laws every environment keeps, run on any environment by its id.

The laws themselves are in :mod:`pivotgym.envs.laws`; this is what runs them and what they report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from pydantic import BaseModel, Field

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, PivotGymError
from pivotgym.envs.laws import LAWS
from pivotgym.envs.probes import record
from pivotgym.envs.snapshots import SnapshotStore
from pivotgym.envs.subject import LawBroken, Subject
from pivotgym.envs.trajectory import Trajectory

if TYPE_CHECKING:
    from rich.table import Table


class LawResult(BaseModel):
    """How one law went.

    Attributes:
        law: its name, a key of :data:`pivotgym.envs.laws.LAWS`.
        passed: whether it holds.
        checked: how many comparisons that rests on.
        detail: what was found; for a broken law the reason, for a person.
        seconds: wall-clock time.
    """

    law: str
    passed: bool
    checked: int = 0
    detail: str = ""
    seconds: float = 0.0


class CheckReport(BaseModel):
    """The results of all laws on one environment."""

    env: str
    trajectories: int
    turns: int
    recorded_here: bool
    results: list[LawResult] = Field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every law holds."""
        return bool(self.results) and all(result.passed for result in self.results)

    @property
    def broken(self) -> list[str]:
        """Names of the laws that do not hold."""
        return [result.law for result in self.results if not result.passed]

    def result(self, law: str) -> LawResult:
        """The result of one law. Raises KeyError when it was not run."""
        for result in self.results:
            if result.law == law:
                return result
        raise KeyError(law)

    def table(self) -> Table:
        """The report as a table for the terminal."""
        from rich.markup import escape
        from rich.table import Table

        made = "recorded here at random" if self.recorded_here else "given"
        table = Table(title=f"{self.env}: {self.trajectories} trajectories ({made}), {self.turns} turns checked")
        for name, style in (("law", "bold"), ("", ""), ("checked", ""), ("seconds", ""), ("what was found", "")):
            table.add_column(name, style=style, justify="right" if name in ("checked", "seconds") else "left")
        for result in self.results:
            mark = "[green]holds[/]" if result.passed else "[red]BROKEN[/]"
            table.add_row(result.law, mark, str(result.checked), f"{result.seconds:.2f}", escape(result.detail))
        return table


def check_env_laws(
    env_id: str,
    trajectories: Sequence[Trajectory] | None = None,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    max_turns_checked: int = 12,
    horizon: int = 6,
    resets: int = 50,
    seconds_of_resets: float = 60.0,
    seed: int = 0,
    laws: Sequence[str] | None = None,
    on_law: Callable[[LawResult], None] | None = None,
) -> CheckReport:
    """Runs the laws on an environment.

    Args:
        env_id: Gymnasium id.
        trajectories: recordings of that environment. Without any, some are made by random valid actions on the
            environment's own tasks.
        env_kwargs: options of ``gym.make``.
        max_turns_checked: how many turns are restored, spread evenly over all recordings.
        horizon: how many later actions are compared after each restore.
        resets: how many resets must leave nothing behind.
        seconds_of_resets: after that long, fewer resets do (never fewer than five).
        seed: of the random actions.
        laws: names of the laws to run; default all.
        on_law: called with each result as it comes.

    Returns:
        One result a law. A law that raises is a broken law with the error as its reason.

    Raises:
        BadInput: no such environment, one that is no :class:`AgentEnv`, an unknown law, or recordings without turns.
    """
    unknown = [law for law in laws or () if law not in LAWS]
    if unknown:
        raise BadInput(f"unknown laws {unknown}; known: {', '.join(LAWS)}", field="laws")
    kwargs = dict(env_kwargs or {})
    make = _maker(env_id, kwargs)
    given = trajectories is not None
    recordings = list(trajectories) if trajectories is not None else _record(make, seed)
    subject = Subject(
        env_id=env_id,
        kwargs=kwargs,
        make=make,
        turns=_spread(recordings, max_turns_checked),
        horizon=horizon,
        resets=resets,
        seconds_of_resets=seconds_of_resets,
        seed=seed,
    )
    if not subject.turns:
        raise BadInput("no recording has an assistant message", field="trajectories")
    report = CheckReport(env=env_id, trajectories=len(recordings), turns=len(subject.turns), recorded_here=not given)
    for name, law in LAWS.items():
        if laws is not None and name not in laws:
            continue
        began = time.perf_counter()
        try:
            checked, detail = law(subject)
            result = LawResult(law=name, passed=True, checked=checked, detail=detail)
        except LawBroken as broken:
            result = LawResult(law=name, passed=False, checked=broken.checked, detail=str(broken))
        except Exception as error:  # whatever an environment raises, the report says it and the other laws run
            result = LawResult(law=name, passed=False, detail=f"raised {type(error).__name__}: {error}")
        result.seconds = time.perf_counter() - began
        report.results.append(result)
        if on_law is not None:
            on_law(result)
    return report


def _maker(env_id: str, kwargs: Mapping[str, Any]) -> Callable[[SnapshotStore | None], AgentEnv]:
    def make(store: SnapshotStore | None = None) -> AgentEnv:
        snapshots = SnapshotStore() if store is None else store
        env = gym.make(env_id, disable_env_checker=True, **{**kwargs, "snapshots": snapshots}).unwrapped
        assert isinstance(env, AgentEnv)
        return env

    try:
        env = gym.make(env_id, disable_env_checker=True, **kwargs).unwrapped
    except (gym.error.Error, ImportError) as error:
        raise BadInput(str(error), field="env_id") from error
    env.close()
    if not isinstance(env, AgentEnv):
        raise BadInput(f"{env_id} is a {type(env).__name__}, which does not derive from AgentEnv", field="env_id")
    return make


def _record(make: Callable[[SnapshotStore | None], AgentEnv], seed: int, count: int = 3) -> list[Trajectory]:
    recordings = []
    for offset in range(count):
        env = make(None)
        try:
            recordings.append(record(env, seed + offset))
        except PivotGymError as error:
            raise BadInput(f"recording failed: {error}", field="trajectories") from error
        finally:
            env.close()
    return recordings


def _spread(recordings: Sequence[Trajectory], limit: int) -> list[tuple[Trajectory, int]]:
    """At most ``limit`` turns, evenly over all; the last turn of the last recording is among them."""
    every = [(trajectory, turn) for trajectory in recordings for turn in range(len(trajectory.turns))]
    if len(every) <= limit:
        return every
    step = (len(every) - 1) / max(limit - 1, 1)
    return [every[round(index * step)] for index in range(limit)]
