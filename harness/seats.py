"""Where environments run: what the harness asks of one environment, in this process or elsewhere.

A :class:`Seat` is one environment as rollouts and profiling use it. :class:`LocalSeat` holds it in this process;
:mod:`pivotgym.harness.cluster` has seats on the nodes of a Ray cluster. Everything that crosses the border between the
two is a value that can be pickled, so a seat elsewhere does exactly what one here does.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import gymnasium as gym
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, InfrastructureError, MissingExtra, VerifierBug
from pivotgym.envs.restore import RestoreReport
from pivotgym.envs.trajectory import JsonObject, Message, Task, canonical_json
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.policies.base import Completion
from pivotgym.verifiers import make, verify_completion
from pivotgym.verifiers.base import Verifier

T = TypeVar("T")


@dataclass(frozen=True)
class Stepped:
    """What came of an action: reward, the two flags of Gymnasium, and ``info``."""

    reward: float
    terminated: bool
    truncated: bool
    info: JsonObject


@dataclass
class Judged:
    """What came of judging completions.

    Attributes:
        verdicts: one for each completion, in order; empty where ``error`` is set.
        executed: distinct actions judged.
        error: the failure of the infrastructure that ended it.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    executed: int = 0
    error: InfrastructureError | None = None


class Judge:
    """Judges sampled actions by a verifier; failures of the infrastructure are tried again.

    Args:
        verifier: a verifier, or the spec of one; ``default`` takes each environment's own.
        attempts: how often a failing piece of infrastructure is tried.
        backoff: longest wait between two tries, in seconds.
    """

    def __init__(self, verifier: str | Verifier = "default", attempts: int = 3, backoff: float = 4.0) -> None:
        self._verifier, self._attempts, self._backoff = verifier, max(attempts, 1), backoff
        self._made: dict[str, Verifier] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}  # verifiers that were made from a spec are made anew elsewhere

    def judge(self, env: AgentEnv, completions: Sequence[Completion]) -> Judged:
        """Verdicts on actions at the state in which ``env`` stands.

        Raises:
            MissingExtra: the verifier needs a package that is not installed.
        """
        verifier = self._verifier_for(env)
        known: dict[str, Verdict] = {}
        found = Judged()
        try:
            for completion in completions:
                # Equal actions in equal states have one verdict: the sampler repeats itself a lot.
                key = canonical_json(
                    [completion.message.model_dump(exclude={"reasoning_content"}), completion.malformed]
                )
                if key not in known:
                    known[key] = self._verdict(verifier, env, completion)
                    found.executed += 1
                found.verdicts.append(known[key])
        except InfrastructureError as error:
            found.verdicts, found.error = [], error
        return found

    def _verdict(self, verifier: Verifier, env: AgentEnv, completion: Completion) -> Verdict:
        def work() -> Verdict:
            return verify_completion(verifier, env, completion.message, completion.malformed)

        try:
            return retried(work, self._attempts, self._backoff)
        except (InfrastructureError, MissingExtra):
            raise
        except Exception as error:  # one sampled action must not end a long run, nor a bug be a reward
            trace = "".join(traceback.format_exception(error))
            raise VerifierBug(type(error).__name__, completion.text or str(completion.message.chat()), trace) from error

    def _verifier_for(self, env: AgentEnv) -> Verifier:
        if isinstance(self._verifier, Verifier):
            return self._verifier
        spec = env.default_verifier if self._verifier == "default" else self._verifier
        if spec not in self._made:
            self._made[spec] = make(spec)
        return self._made[spec]


class Seat(Protocol):
    """One environment. Used by one thread at a time.

    Every method raises what the environment raises, and :class:`InfrastructureError` where the environment was lost
    and cannot be had again.
    """

    @property
    def conversation(self) -> list[Message]:
        """The messages the agent sees."""

    @property
    def transcript(self) -> list[Message]:
        """All messages."""

    @property
    def tools(self) -> list[JsonObject]:
        """The tools on offer."""

    @property
    def task(self) -> Task:
        """The episode's task."""

    @property
    def has_episode(self) -> bool:
        """Whether an episode was begun and not closed."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> RestoreReport | None:
        """As :meth:`AgentEnv.reset`; returns the report of a restore."""

    def step(self, action: str | Message) -> Stepped:
        """As :meth:`AgentEnv.step`."""

    def cut_off(self, termination: str) -> Verdict:
        """Ends the episode from outside and scores it."""

    def judge(self, judge: Judge, completions: Sequence[Completion]) -> Judged:
        """Verdicts on actions at this state, which stays as it is."""

    def close(self) -> None:
        """Frees everything."""


class LocalSeat:
    """A seat in this process.

    Args:
        env: the environment; closed with the seat.
    """

    def __init__(self, env: AgentEnv) -> None:
        self._env = env

    @property
    def conversation(self) -> list[Message]:
        """The messages the agent sees."""
        return self._env.conversation

    @property
    def transcript(self) -> list[Message]:
        """All messages, malformed actions included."""
        return self._env.transcript

    @property
    def tools(self) -> list[JsonObject]:
        """The tools on offer."""
        return self._env.tools

    @property
    def task(self) -> Task:
        """The episode's task."""
        return self._env.task

    @property
    def has_episode(self) -> bool:
        """Whether an episode was begun and not closed."""
        return self._env.has_episode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> RestoreReport | None:
        """As :meth:`AgentEnv.reset`; returns the report of a restore."""
        _, info = self._env.reset(seed=seed, options=options)
        return info.get("restore")

    def step(self, action: str | Message) -> Stepped:
        """As :meth:`AgentEnv.step`."""
        _, reward, terminated, truncated, info = self._env.step(action)
        return Stepped(float(reward), terminated, truncated, info)

    def cut_off(self, termination: str) -> Verdict:
        """Ends the episode from outside and scores it."""
        # A goal that needs an orderly end must see that there was none.
        self._env.episode.done, self._env.episode.termination = True, termination
        return self._env.score()

    def judge(self, judge: Judge, completions: Sequence[Completion]) -> Judged:
        """Verdicts on actions at this state, which stays as it is."""
        return judge.judge(self._env, completions)

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()


class Place(Protocol):
    """Where seats are."""

    def width(self, workers: int) -> int:
        """How many threads here keep the place busy, where ``workers`` are asked for."""

    def seat(self, env_id: str, options: JsonObject) -> Seat:
        """A fresh environment of that Gymnasium id."""


class Here:
    """This process as a place."""

    def width(self, workers: int) -> int:
        """``workers``: they do the work themselves."""
        return max(workers, 1)

    def seat(self, env_id: str, options: JsonObject) -> Seat:
        """A fresh environment. Raises BadInput where there is none of that id."""
        return LocalSeat(make_env(env_id, options))


def make_env(env_id: str, options: JsonObject | None = None) -> AgentEnv:
    """The environment of that Gymnasium id, without wrappers. Raises BadInput where there is none."""
    try:
        env: Any = gym.make(env_id, disable_env_checker=True, **(options or {})).unwrapped
    except gym.error.Error as error:
        raise BadInput(f"no environment {env_id!r}: {error}", field="task.env") from error
    if not isinstance(env, AgentEnv):
        raise BadInput(f"{env_id!r} is no AgentEnv", field="task.env")
    return env


def retried(work: Callable[[], T], attempts: int, backoff: float) -> T:
    """Does ``work``, again where the infrastructure fails: ``attempts`` times in all, waiting longer each time.

    Args:
        work: what may raise :class:`InfrastructureError`.
        attempts: tries.
        backoff: longest wait between two, in seconds.
    """
    for attempt in Retrying(
        retry=retry_if_exception_type(InfrastructureError),
        stop=stop_after_attempt(attempts),
        wait=wait_exponential_jitter(initial=0.2, max=backoff),
        reraise=True,
    ):
        with attempt:
            return work()
    raise AssertionError("unreachable: tenacity re-raises")
