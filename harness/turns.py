"""One turn, many actions: restore states, sample at them, judge every action in forks.

Profiling, training and evaluating on pivots are the same piece of work with different use of its rewards.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import gymnasium as gym
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, InfrastructureError, MissingExtra, NotRestorable, PivotGymError, VerifierBug
from pivotgym.envs.restore import RestoreReport
from pivotgym.envs.trajectory import JsonObject, Trajectory, canonical_json
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.policies.base import Completion, Conversation, Policy, PromptTooLong, Sampling
from pivotgym.verifiers import make, verify_completion
from pivotgym.verifiers.base import Verifier

Status = Literal["ok", "not_restorable", "too_long", "infrastructure"]
T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """A state to act in: the one before turn ``turn`` of ``trajectory``."""

    trajectory: Trajectory
    turn: int


@dataclass
class TurnResult:
    """What came of one candidate.

    Attributes:
        status: ``ok`` (every completion has a verdict), ``not_restorable``, ``too_long`` (the prompt does not
            fit the policy's context) or ``infrastructure``; there are verdicts, hence rewards, only with ``ok``. A
            verifier or domain that raises on one of the actions (:class:`VerifierBug`) counts as infrastructure: a
            group is judged whole or not at all, as its size is part of the advantage estimate.
        error: what went wrong; for a bug with the sampled action that met it and the traceback.
        completions: the sampled actions.
        verdicts: one for each completion, in order.
        report: how faithful the restored state is; None where it could not be restored.
        env_actions: actions executed for this: replayed ones, and each distinct sampled one.
    """

    candidate: Candidate
    status: Status = "ok"
    error: str | None = None
    completions: list[Completion] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    report: RestoreReport | None = None
    env_actions: int = 0

    @property
    def rewards(self) -> list[float]:
        """One reward for each completion; empty unless ``status`` is ``ok``."""
        return [verdict.reward for verdict in self.verdicts]

    @property
    def malformed(self) -> int:
        """How many completions were no well-formed action."""
        return sum(completion.malformed is not None for completion in self.completions)


class TurnRunner:
    """Samples and judges actions at restored states.

    Args:
        verifier: a verifier, or the spec of one; ``default`` takes each environment's own.
        env_options: keyword arguments of ``gym.make``.
        strict: treat a state whose replay differs from the recording as not restorable.
        workers: threads that restore and judge; one environment is only ever used by one thread at a time.
        attempts: how often a failing piece of infrastructure is tried.
        backoff: longest wait between two tries, in seconds.
    """

    def __init__(
        self,
        verifier: str | Verifier = "default",
        *,
        env_options: JsonObject | None = None,
        strict: bool = False,
        workers: int = 2,
        attempts: int = 3,
        backoff: float = 4.0,
    ) -> None:
        self._verifier = verifier
        self._made: dict[str, Verifier] = {}
        self._env_options = dict(env_options or {})
        self._strict, self._attempts, self._backoff = strict, max(attempts, 1), backoff
        self._pool = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="pivotgym-turns")

    def close(self) -> None:
        """Ends the worker threads."""
        self._pool.shutdown()

    def __enter__(self) -> TurnRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, policy: Policy, candidates: Sequence[Candidate], n: int, sampling: Sampling | None = None
    ) -> list[TurnResult]:
        """``n`` judged actions for each candidate, in the order given.

        One call of ``policy.sample`` for all candidates that could be restored: what is sampled depends on the batch
        and its seed alone.

        Raises:
            InfrastructureError: the policy's backend fails for every candidate, so that there is nothing to go on
                with. Where it fails for some, those have the status ``infrastructure``.
        """
        results = [TurnResult(candidate) for candidate in candidates]
        envs: list[AgentEnv | None] = [None] * len(candidates)
        try:
            for index, env in enumerate(self._pool.map(self._restore, results)):
                envs[index] = env
            live = [index for index, env in enumerate(envs) if env is not None]
            conversations = [Conversation(envs[i].conversation, envs[i].tools) for i in live]  # type: ignore[union-attr]
            for index, completions in zip(live, self._sample(policy, conversations, n, sampling), strict=True):
                if isinstance(completions, PivotGymError):
                    results[index].status = "too_long" if isinstance(completions, PromptTooLong) else "infrastructure"
                    results[index].error = str(completions)
                else:
                    results[index].completions = completions
            todo = [(results[i], envs[i]) for i in live if results[i].status == "ok"]
            list(self._pool.map(lambda pair: self._judge(*pair), todo))
        finally:
            for env in envs:
                if env is not None:
                    env.close()
        return results

    def _restore(self, result: TurnResult) -> AgentEnv | None:
        trajectory, turn = result.candidate.trajectory, result.candidate.turn
        if trajectory.task is None:
            result.status, result.error = "not_restorable", f"no_environment: trajectory {trajectory.id} names no task"
            return None

        def attempt() -> AgentEnv:
            env = make_env(trajectory.task.env, self._env_options)  # type: ignore[union-attr]
            try:
                _, info = env.reset(options={"trajectory": trajectory, "turn": turn})
            except BaseException:
                env.close()
                raise
            result.report = info["restore"]
            result.env_actions += info["restore"].replayed
            return env

        try:
            env = self._retry(attempt)
        except NotRestorable as error:
            result.status, result.error = "not_restorable", str(error)
        except InfrastructureError as error:
            result.status, result.error = "infrastructure", f"{type(error).__name__}: {error}"
        else:
            assert result.report is not None
            if not self._strict or result.report.faithful:
                return env
            env.close()
            why = result.report.errors[0] if result.report.errors else "the replay differs from the recording"
            result.status, result.error = "not_restorable", f"diverged: {why}"
        return None

    def _sample(
        self, policy: Policy, conversations: list[Conversation], n: int, sampling: Sampling | None
    ) -> list[list[Completion] | PivotGymError]:
        if not conversations:
            return []
        try:
            return list(self._retry(lambda: policy.sample(conversations, n, sampling)))
        except PromptTooLong as error:
            # The others are sampled without it; which ones those are depends on the batch alone.
            rest = self._sample(policy, [c for i, c in enumerate(conversations) if i != error.index], n, sampling)
            return [*rest[: error.index], error, *rest[error.index :]]
        except InfrastructureError:
            if len(conversations) == 1:
                raise
        # One conversation a backend cannot take (too long, say) must not cost the others.
        singly: list[list[Completion] | PivotGymError] = []
        for conversation in conversations:
            try:
                singly += policy.sample([conversation], n, sampling)
            except InfrastructureError as error:
                singly.append(error)
        last = singly[-1]
        if isinstance(last, InfrastructureError) and all(isinstance(item, InfrastructureError) for item in singly):
            raise last
        return singly

    def _judge(self, result: TurnResult, env: AgentEnv | None) -> None:
        assert env is not None
        verifier = self._verifier_for(env)
        known: dict[str, Verdict] = {}
        try:
            for completion in result.completions:
                # Equal actions in equal states have one verdict: the sampler repeats itself a lot.
                key = canonical_json(
                    [completion.message.model_dump(exclude={"reasoning_content"}), completion.malformed]
                )
                if key not in known:
                    known[key] = self._verdict(verifier, env, completion)
                    result.env_actions += 1
                result.verdicts.append(known[key])
        except InfrastructureError as error:
            result.verdicts = []
            result.status, result.error = "infrastructure", f"{type(error).__name__}: {error}"

    def _verdict(self, verifier: Verifier, env: AgentEnv, completion: Completion) -> Verdict:
        try:
            return self._retry(lambda: verify_completion(verifier, env, completion.message, completion.malformed))
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

    def _retry(self, work: Callable[[], T]) -> T:
        for attempt in Retrying(
            retry=retry_if_exception_type(InfrastructureError),
            stop=stop_after_attempt(self._attempts),
            wait=wait_exponential_jitter(initial=0.2, max=self._backoff),
            reraise=True,
        ):
            with attempt:
                return work()
        raise AssertionError("unreachable: tenacity re-raises")


def make_env(env_id: str, options: JsonObject | None = None) -> AgentEnv:
    """The environment of that Gymnasium id, without wrappers. Raises BadInput where there is none."""
    try:
        env: Any = gym.make(env_id, disable_env_checker=True, **(options or {})).unwrapped
    except gym.error.Error as error:
        raise BadInput(f"no environment {env_id!r}: {error}", field="task.env") from error
    if not isinstance(env, AgentEnv):
        raise BadInput(f"{env_id!r} is no AgentEnv", field="task.env")
    return env
