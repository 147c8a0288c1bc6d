"""One turn, many actions: restore states, sample at them, judge every action in forks.

Profiling, training and evaluating on pivots are the same piece of work with different use of its rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from pivotgym.envs.errors import InfrastructureError, NotRestorable, PivotGymError
from pivotgym.envs.restore import RestoreReport
from pivotgym.envs.trajectory import JsonObject, Trajectory
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.policies.base import Completion, Conversation, Policy, PromptTooLong, Sampling
from pivotgym.harness.ranks import Ranks
from pivotgym.harness.seats import Here, Judge, Judged, Place, Seat, make_env, retried
from pivotgym.verifiers.base import Verifier

__all__ = ["Candidate", "Status", "TurnResult", "TurnRunner", "make_env"]

Status = Literal["ok", "not_restorable", "too_long", "infrastructure"]


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
            verifier or domain that raises on one of the actions (a ``VerifierBug``) counts as infrastructure: a group
            is judged whole or not at all, as its size is part of the advantage estimate.
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
        place: where the environments run; by default in this process.
        ranks: processes that share the work: each restores and judges its part, all get all results. The policy samples
            in all of them.
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
        place: Place | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._judging = Judge(verifier, attempts, backoff)
        self._place, self._ranks = place or Here(), ranks or Ranks()
        self._env_options = dict(env_options or {})
        self._strict, self._attempts, self._backoff = strict, max(attempts, 1), backoff
        self._pool = ThreadPoolExecutor(self._place.width(workers), thread_name_prefix="pivotgym-turns")

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
        envs: list[Seat | None] = [None] * len(candidates)
        mine = self._ranks.mine(range(len(candidates)))
        try:
            for index, env in zip(mine, self._pool.map(self._restore, [results[i] for i in mine]), strict=True):
                envs[index] = env
            shown = [None if envs[i] is None else _shown(envs[i]) for i in mine]
            conversations = self._share(results, mine, shown)
            live = [index for index, conversation in enumerate(conversations) if conversation is not None]
            asked = [conversation for conversation in conversations if conversation is not None]
            for index, completions in zip(live, self._sample(policy, asked, n, sampling), strict=True):
                if isinstance(completions, PivotGymError):
                    results[index].status = "too_long" if isinstance(completions, PromptTooLong) else "infrastructure"
                    results[index].error = str(completions)
                else:
                    results[index].completions = completions
            todo = [(results[i], envs[i]) for i in mine if envs[i] is not None and results[i].status == "ok"]
            list(self._pool.map(lambda pair: self._judge(*pair), todo))
            self._share(results, mine, [None] * len(mine))
        finally:
            for env in envs:
                if env is not None:
                    env.close()
        return results

    def _share(
        self, results: list[TurnResult], mine: list[int], shown: list[Conversation | None]
    ) -> list[Conversation | None]:
        """Tells the other processes what came of this one's part so far; what the environments of all show."""
        told = [(r.status, r.error, r.verdicts, r.report, r.env_actions) for r in (results[i] for i in mine)]
        found: list[Conversation | None] = [None] * len(results)
        for number, (states, theirs) in enumerate(self._ranks.exchange((told, shown))):
            for index, state, conversation in zip(
                range(number, len(results), self._ranks.count), states, theirs, strict=True
            ):
                result, found[index] = results[index], conversation
                result.status, result.error, result.verdicts, result.report, result.env_actions = state
        return found

    def _restore(self, result: TurnResult) -> Seat | None:
        trajectory, turn = result.candidate.trajectory, result.candidate.turn
        if trajectory.task is None:
            result.status, result.error = "not_restorable", f"no_environment: trajectory {trajectory.id} names no task"
            return None

        def attempt() -> Seat:
            seat = self._place.seat(trajectory.task.env, self._env_options)  # type: ignore[union-attr]
            try:
                report = seat.reset(options={"trajectory": trajectory, "turn": turn})
            except BaseException:
                seat.close()
                raise
            assert report is not None
            result.report = report
            result.env_actions += report.replayed
            return seat

        try:
            env = retried(attempt, self._attempts, self._backoff)
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
            return list(retried(lambda: policy.sample(conversations, n, sampling), self._attempts, self._backoff))
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

    def _judge(self, result: TurnResult, env: Seat | None) -> None:
        assert env is not None
        try:
            found = env.judge(self._judging, result.completions)
        except InfrastructureError as error:  # the environment was lost, for good
            found = Judged(error=error)
        result.verdicts = found.verdicts
        result.env_actions += found.executed
        if found.error is not None:
            result.status, result.error = "infrastructure", f"{type(found.error).__name__}: {found.error}"


def _shown(seat: Seat | None) -> Conversation:
    assert seat is not None
    return Conversation(seat.conversation, seat.tools)
