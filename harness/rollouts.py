"""Whole episodes, many environments at once.

All running episodes go on in lock step: their conversations are one call of ``policy.sample``, their steps run in a
thread pool, and a finished episode's place is taken by the next task, so that the batch stays full to the end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, InfrastructureError, NotRestorable
from pivotgym.envs.trajectory import UNDELIVERED, JsonObject, Message, Outcome, Task, Trajectory
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.policies.base import Completion, Conversation, Policy, PromptTooLong, Sampling, Usage
from pivotgym.harness.runs import derive_seed
from pivotgym.harness.seats import LocalSeat, Seat


@dataclass
class EpisodeResult:
    """One episode.

    Attributes:
        task: id of the task.
        trial: which of the task's repetitions.
        reward: what the environment gave at the end, in [0, 1]; None where the infrastructure failed.
        verdict: how the reward came about.
        turns: actions of the policy.
        malformed: how many of them were no well-formed action; those were refused, not executed.
        termination: why it ended: the environment's word, ``max_turns``, ``context`` (the conversation no longer fits
            the policy), ``malformed`` (too often in a row), ``infrastructure_error`` or ``not_restorable``.
        trajectory: all messages; its outcome holds the reward.
        completions: the sampled actions with token ids, in order: what a trainer learns on.
        usage: cost of the policy for this episode, a failed first attempt included.
        seconds: wall-clock time from reset to the end; other episodes ran meanwhile.
        attempts: 2 where the first attempt met a failure of the infrastructure.
        error: what failed, where the episode counts for nothing.
    """

    task: str
    trial: int
    reward: float | None = None
    verdict: Verdict | None = None
    turns: int = 0
    malformed: int = 0
    termination: str = ""
    trajectory: Trajectory | None = None
    completions: list[Completion] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    attempts: int = 1
    error: str | None = None

    @property
    def excluded(self) -> bool:
        """Whether the episode says nothing about the policy."""
        return self.reward is None

    def row(self) -> JsonObject:
        """The figures as a JSON object, without the messages."""
        return {
            "task": self.task,
            "trial": self.trial,
            "reward": self.reward,
            "rule": self.verdict.rule if self.verdict is not None else None,
            "turns": self.turns,
            "malformed": self.malformed,
            "termination": self.termination,
            "attempts": self.attempts,
            "calls": self.usage.calls,
            "prompt_tokens": self.usage.prompt_tokens,
            "sampled_tokens": self.usage.sampled_tokens,
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }


@dataclass(frozen=True)
class _Job:
    number: int
    task: Task
    trial: int


@dataclass
class _Slot:
    """A place in the batch: the episode that runs there."""

    job: _Job
    env: Seat
    result: EpisodeResult
    began: float = field(default_factory=time.perf_counter)
    failure: str | None = None
    over: bool = False


def run_episodes(
    env_factory: Callable[[], gym.Env[Any, Any] | Seat],
    tasks: Sequence[Task],
    policy: Policy,
    *,
    trials: int = 1,
    max_turns: int = 30,
    batch: int = 8,
    sampling: Sampling | None = None,
    seed: int = 0,
    workers: int = 4,
    attempts: int = 2,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Plays every task ``trials`` times.

    With one seed, one policy and deterministic environments the result is the same every time, whatever ``workers``:
    the batches are composed in the order of the tasks, and each is sampled with a seed of its own.

    Args:
        env_factory: makes an environment (wrapped or not), or a seat for one elsewhere; called in this thread.
        tasks: what to play, in this order.
        policy: acts.
        trials: how often each task is played.
        max_turns: an episode is cut off and scored after so many actions.
        batch: episodes at once.
        sampling: temperature, top-p and length; its seed is not used.
        seed: of environments and sampling.
        workers: threads that reset and step environments.
        attempts: how often an episode is tried in all where the infrastructure fails, each time from its beginning in
            a fresh environment.
        on_episode: called with each result as its episode ends.

    Returns:
        One result for each task and trial, all trials of the first task first. Episodes whose infrastructure failed to
        the last have no reward: exclude and count them.

    Raises:
        InfrastructureError: the policy's backend fails for every running episode, with nothing to go on with.
        BadInput: a task that the environment does not know.
    """
    if batch < 1 or trials < 1 or max_turns < 1 or attempts < 1:
        raise BadInput("batch, trials, max_turns and attempts must be at least 1", field="run_episodes")
    pairs = [(task, trial) for task in tasks for trial in range(trials)]
    jobs = [_Job(number, task, trial) for number, (task, trial) in enumerate(pairs)]
    run = _Run(env_factory, policy, jobs, sampling or Sampling(), seed, max_turns, attempts, on_episode)
    with ThreadPoolExecutor(max(min(workers, batch), 1), thread_name_prefix="pivotgym-rollouts") as pool:
        try:
            return run.play(pool, batch)
        finally:
            run.close()


@dataclass
class _Run:
    env_factory: Callable[[], gym.Env[Any, Any] | Seat]
    policy: Policy
    jobs: list[_Job]
    sampling: Sampling
    seed: int
    max_turns: int
    attempts: int
    on_episode: Callable[[EpisodeResult], None] | None
    slots: list[_Slot] = field(default_factory=list)
    spare: list[Seat] = field(default_factory=list)

    def play(self, pool: ThreadPoolExecutor, batch: int) -> list[EpisodeResult]:
        waiting, done = deque(self.jobs), dict[int, EpisodeResult]()
        round_number = 0
        while waiting or self.slots:
            fresh = [self._place(waiting.popleft()) for _ in range(min(batch - len(self.slots), len(waiting)))]
            self.slots += fresh
            list(pool.map(self._reset, fresh))
            acting = [slot for slot in self.slots if not slot.over and slot.failure is None]
            if acting:
                actions = self._sample(acting, derive_seed(self.seed, "episodes", round_number))
                list(pool.map(self._step, acting, actions))
                round_number += 1
            again: list[_Slot] = []
            for slot in list(self.slots):
                if slot.failure is not None and slot.result.attempts < self.attempts:
                    again.append(slot)
                elif slot.failure is not None or slot.over:
                    done[slot.job.number] = self._finish(slot)
            for slot in again:
                self._begin_again(slot)
            list(pool.map(self._reset, again))
        return [done[job.number] for job in self.jobs]

    def close(self) -> None:
        for env in [*self.spare, *(slot.env for slot in self.slots)]:
            env.close()
        self.slots, self.spare = [], []

    def _place(self, job: _Job) -> _Slot:
        env = self.spare.pop() if self.spare else self._make()
        return _Slot(job, env, EpisodeResult(job.task.id, job.trial))

    def _make(self) -> Seat:
        made = self.env_factory()
        if not isinstance(made, gym.Env):
            return made
        env = made.unwrapped
        if not isinstance(env, AgentEnv):
            raise BadInput(f"{type(env).__name__} does not derive from AgentEnv", field="env_factory")
        return LocalSeat(env)

    def _begin_again(self, slot: _Slot) -> None:
        slot.env.close()
        slot.env, slot.failure, slot.over = self._make(), None, False
        slot.result = EpisodeResult(
            slot.job.task.id, slot.job.trial, usage=slot.result.usage, attempts=slot.result.attempts + 1
        )

    def _reset(self, slot: _Slot) -> None:
        try:
            seed = derive_seed(self.seed, "env", slot.job.task.id, slot.job.trial)
            slot.env.reset(seed=seed, options={"task": slot.job.task})
        except NotRestorable as error:  # no second attempt changes that
            slot.result.termination, slot.result.error, slot.over = "not_restorable", str(error), True
        except InfrastructureError as error:
            slot.failure = str(error)

    def _sample(self, slots: Sequence[_Slot], seed: int) -> list[Completion | None]:
        """One action for each episode; None where there is none, and the slot then says why."""
        actions: list[Completion | None] = [None] * len(slots)
        sampling = replace(self.sampling, seed=seed)
        asked = list(range(len(slots)))
        conversations = [Conversation(slot.env.conversation, slot.env.tools) for slot in slots]
        while asked:
            try:
                found = self.policy.sample([conversations[index] for index in asked], 1, sampling)
            except PromptTooLong as error:
                slots[asked.pop(error.index)].result.termination = "context"
                continue
            except InfrastructureError as error:
                if len(asked) == 1:
                    slots[asked[0]].failure = str(error)
                    self._give_up_if_all_fail(slots, error)
                    break
                self._sample_singly(slots, asked, conversations, sampling, actions)
                break
            for index, completions in zip(asked, found, strict=True):
                actions[index] = completions[0]
            break
        return actions

    def _sample_singly(
        self,
        slots: Sequence[_Slot],
        asked: Sequence[int],
        conversations: Sequence[Conversation],
        sampling: Sampling,
        actions: list[Completion | None],
    ) -> None:
        last: InfrastructureError | None = None
        for index in asked:
            try:
                actions[index] = self.policy.sample([conversations[index]], 1, sampling)[0][0]
            except InfrastructureError as error:
                slots[index].failure, last = str(error), error
        if last is not None:
            self._give_up_if_all_fail(slots, last)

    def _give_up_if_all_fail(self, slots: Sequence[_Slot], error: InfrastructureError) -> None:
        last_attempt = all(slot.result.attempts >= self.attempts for slot in slots)
        if last_attempt and all(slot.failure is not None for slot in slots):
            raise error

    def _step(self, slot: _Slot, completion: Completion | None) -> None:
        result = slot.result
        if slot.failure is not None:
            return
        try:
            if completion is None:  # the conversation no longer fits: what was done until here is scored
                self._score(slot, result.termination)
                return
            result.completions.append(completion)
            result.turns += 1
            result.usage.calls += 1
            result.usage.prompt_tokens += len(completion.prompt_ids)
            result.usage.sampled_tokens += len(completion.token_ids)
            # Text is parsed by the environment, whose syntax it is; calls that came structured are taken as they are.
            action = completion.message if completion.message.tool_calls else completion.text
            if completion.refused is not None:
                action = Message(role="assistant", content=completion.text, source={UNDELIVERED: completion.refused})
            stepped = slot.env.step(action)
            result.malformed += completion.malformed is not None or "malformed" in stepped.info
            if stepped.terminated or stepped.truncated:
                result.reward, slot.over = stepped.reward, True
                result.termination = str(stepped.info["termination"])
                result.verdict = Verdict.model_validate(stepped.info["verdict"])
            elif result.turns >= self.max_turns:
                self._score(slot, "max_turns")
        except InfrastructureError as error:
            slot.failure = str(error)

    def _score(self, slot: _Slot, termination: str) -> None:
        result = slot.result
        result.verdict = slot.env.cut_off(termination)
        result.reward, result.termination, slot.over = result.verdict.reward, termination, True

    def _finish(self, slot: _Slot) -> EpisodeResult:
        self.slots.remove(slot)
        result = slot.result
        result.seconds = time.perf_counter() - slot.began
        if slot.failure is not None:
            result.reward, result.verdict = None, None
            result.termination, result.error = "infrastructure_error", slot.failure
        if result.termination != "not_restorable" and slot.env.has_episode:
            outcome = Outcome(reward=result.reward, termination=result.termination)
            result.trajectory = Trajectory(
                id=f"{result.task}#{result.trial}",
                task=slot.env.task,
                tools=slot.env.tools,
                messages=list(slot.env.transcript),
                outcome=outcome,
            )
        if slot.failure is None:
            self.spare.append(slot.env)
        else:
            slot.env.close()
        if self.on_episode is not None:
            self.on_episode(result)
        return result
