"""Whole episodes in lock step: order, determinism, cost, failures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from pivotgym.envs.core import Response
from pivotgym.envs.errors import BadInput, EndpointError, ToolServerError
from pivotgym.envs.tools.servicedesk import ServiceDesk, act
from pivotgym.envs.trajectory import Message, Task, ToolCall
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.policies.base import Completion, Conversation, Policy, PromptTooLong, Sampling, Usage
from pivotgym.harness.rollouts import EpisodeResult, run_episodes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from ledger import Ledger

Rule = Callable[[Conversation, int], str]
PAY = '<tool_call>{"name": "write", "arguments": {"key": "paid", "value": "yes"}}</tool_call>'


class RulePolicy:
    """A policy played by a function of the conversation and the sampling seed; keeps what it was asked."""

    name = "rule"

    def __init__(self, rule: Rule) -> None:
        self.rule, self.usage = rule, Usage()
        self.batches: list[list[str]] = []

    def sample(
        self, conversations: Sequence[Conversation], n: int = 1, sampling: Sampling | None = None
    ) -> list[list[Completion]]:
        assert n == 1 and sampling is not None and sampling.seed is not None
        self.batches.append([conversation.messages[-1].text for conversation in conversations])
        self.usage.calls += len(conversations)
        rows = []
        for conversation in conversations:
            text = self.rule(conversation, sampling.seed)
            message = Message(role="assistant", content=text)
            rows.append([Completion(message, text, prompt_ids=[1, 2], token_ids=[3, 4, 5])])
        return rows


def said(conversation: Conversation) -> int:
    return sum(message.role == "assistant" for message in conversation.messages)


def pay_then_done(conversation: Conversation, seed: int) -> str:
    """Episodes of different length: the rent says how long."""
    rent = int(next(m.text for m in conversation.messages if m.role == "user").split()[4].rstrip("."))
    return PAY if said(conversation) == 0 else "done" if said(conversation) > rent % 4 else "one moment"


TASKS = list(Ledger().tasks())


def test_the_policy_is_one() -> None:
    assert isinstance(RulePolicy(pay_then_done), Policy)


def test_results_in_order_and_the_batch_stays_full() -> None:
    policy = RulePolicy(pay_then_done)
    seen: list[EpisodeResult] = []
    results = run_episodes(Ledger, TASKS, policy, trials=2, batch=4, on_episode=seen.append)
    assert [(r.task, r.trial) for r in results] == [(task.id, trial) for task in TASKS for trial in range(2)]
    assert all(r.reward == 1.0 and r.termination == "done" and not r.excluded for r in results)
    assert [r.turns for r in results] == [2 + n % 4 for n in range(6) for _ in range(2)]
    assert sorted(map(id, seen)) == sorted(map(id, results))
    sizes = [len(batch) for batch in policy.batches]
    assert max(sizes) == 4 and sizes[: sum(sizes) // 4 - 2] == [4] * (sum(sizes) // 4 - 2)
    first = results[0]
    assert first.usage.calls == 2 and first.usage.prompt_tokens == 4 and first.usage.sampled_tokens == 6
    assert len(first.completions) == 2 and first.completions[0].token_ids == [3, 4, 5]
    assert first.trajectory is not None and first.trajectory.outcome.reward == 1.0
    assert len(first.trajectory.turns) == 2 and first.trajectory.action(0).tool_calls[0].name == "write"
    assert first.row()["rule"] == "goal"


def test_same_seed_same_episodes_whatever_the_threads() -> None:
    def noisy(conversation: Conversation, seed: int) -> str:
        return f"{seed % 1000}" if (seed + said(conversation)) % 3 else "done"

    def play(seed: int, workers: int) -> list[list[dict[str, Any]]]:
        results = run_episodes(Ledger, TASKS, RulePolicy(noisy), batch=3, seed=seed, workers=workers, max_turns=8)
        return [[m.chat() for m in r.trajectory.messages] for r in results if r.trajectory is not None]

    assert play(5, 1) == play(5, 4)
    assert play(5, 4) != play(6, 4)


def test_the_expert_solves_the_service_desk() -> None:
    tasks = list(ServiceDesk().tasks("heldout"))[:12]

    class Expert(RulePolicy):
        def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
            rows = []
            for conversation in conversations:
                action = act(conversation.messages)
                rows.append([Completion(action, action.text)])
            return rows

    results = run_episodes(lambda: gym.make("pivotgym/Tools-v0"), tasks, Expert(pay_then_done), batch=5)
    assert [r.reward for r in results] == [1.0] * 12, [r.row() for r in results]


def test_too_many_turns_are_cut_off_and_scored() -> None:
    results = run_episodes(Ledger, TASKS[:2], RulePolicy(lambda c, s: PAY), max_turns=3)
    assert [(r.turns, r.termination, r.reward) for r in results] == [(3, "max_turns", 1.0)] * 2


def test_malformed_actions_are_counted() -> None:
    def rule(conversation: Conversation, seed: int) -> str:
        return "<tool_call>{oops" if said(conversation) < 2 else "done"

    (result,) = run_episodes(Ledger, TASKS[:1], RulePolicy(rule))
    assert (result.malformed, result.turns, result.reward) == (2, 3, 0.0)


class FailsSometimes(Ledger):
    """The tool server is down for the first ``failures`` calls of each task named in it."""

    failures: dict[str, int] = {}  # noqa: RUF012
    made: list[AgentEnvId] = []  # noqa: RUF012
    closed: list[AgentEnvId] = []  # noqa: RUF012
    _lock = threading.Lock()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.made.append(id(self))

    def close(self) -> None:
        super().close()
        self.closed.append(id(self))

    def execute(self, call: ToolCall) -> str:
        with self._lock:
            if self.failures.get(self.task.id, 0) > 0:
                self.failures[self.task.id] -= 1
                raise ToolServerError("down")
        return super().execute(call)


AgentEnvId = int


def test_an_infrastructure_failure_is_tried_again_then_excluded() -> None:
    FailsSometimes.failures = {"ledger-1": 1, "ledger-3": 99}
    FailsSometimes.made, FailsSometimes.closed = [], []
    results = run_episodes(FailsSometimes, TASKS, RulePolicy(pay_then_done), batch=3)
    assert [r.reward for r in results] == [1.0, 1.0, 1.0, None, 1.0, 1.0]
    assert [r.attempts for r in results] == [1, 2, 1, 2, 1, 1]
    failed = results[3]
    assert failed.excluded and failed.termination == "infrastructure_error" and failed.error == "down"
    assert failed.verdict is None and results[1].turns == 3 and results[1].usage.calls == 4
    assert set(FailsSometimes.made) <= set(FailsSometimes.closed)


def test_an_endpoint_that_fails_for_one_conversation_fails_that_episode_only() -> None:
    class Flaky(RulePolicy):
        def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
            if any("102" in c.messages[1].text for c in conversations):
                raise EndpointError("refused")
            return super().sample(conversations, n, sampling)

    results = run_episodes(Ledger, TASKS[:4], Flaky(pay_then_done), batch=4)
    assert [r.reward for r in results] == [1.0, 1.0, None, 1.0]
    assert results[2].error == "refused" and results[2].attempts == 2


def test_an_endpoint_that_is_down_stops_the_run() -> None:
    class Down(RulePolicy):
        def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
            raise EndpointError("down")

    with pytest.raises(EndpointError, match="down"):
        run_episodes(Ledger, TASKS, Down(pay_then_done), batch=3)


def test_a_conversation_that_no_longer_fits_is_scored_as_it_stands() -> None:
    class Short(RulePolicy):
        def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
            for index, conversation in enumerate(conversations):
                if said(conversation) >= 2:
                    raise PromptTooLong(index, 99, 10)
            return super().sample(conversations, n, sampling)

    results = run_episodes(Ledger, TASKS[:4], Short(pay_then_done), batch=4)
    assert [r.termination for r in results] == ["done", "context", "context", "context"]
    assert [r.reward for r in results] == [1.0] * 4 and [r.turns for r in results] == [2, 2, 2, 2]


def test_bad_options_and_unknown_environments() -> None:
    with pytest.raises(BadInput, match="at least 1"):
        run_episodes(Ledger, TASKS, RulePolicy(pay_then_done), batch=0)
    with pytest.raises(BadInput, match="AgentEnv"):
        run_episodes(lambda: gym.make("CartPole-v1"), TASKS, RulePolicy(pay_then_done))


def test_a_task_that_cannot_be_built_is_excluded_at_once() -> None:
    task = Task(env="pivotgym/Tools-v0", id="nobody", data={"domain": "servicedesk", "index": -1, "split": "no"})
    results = run_episodes(lambda: gym.make("pivotgym/Tools-v0"), [task], RulePolicy(pay_then_done))
    assert results[0].excluded and results[0].termination == "not_restorable" and results[0].attempts == 1


class NeedsAnEnd(Ledger):
    """Its goal asks for an orderly end."""

    def score(self) -> Verdict:
        return super().score().model_copy(update={"reward": float(self.episode.termination == "done")})


def test_the_goal_knows_that_an_episode_was_cut_off() -> None:
    class Short(RulePolicy):
        def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
            if said(conversations[0]) >= 2 and "101" in conversations[0].messages[1].text:
                raise PromptTooLong(0, 99, 10)
            return super().sample(conversations, n, sampling)

    results = run_episodes(NeedsAnEnd, TASKS[:3], Short(pay_then_done), batch=1, max_turns=3)
    assert [(r.termination, r.reward) for r in results] == [("done", 1.0), ("context", 0.0), ("max_turns", 0.0)]


def test_malformed_output_is_refused_and_recorded() -> None:
    class CutOff(RulePolicy):
        def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
            found = super().sample(conversations, n, sampling)
            message = Message(role="assistant", content="done")
            return [[Completion(message, "done", stop_reason="length", malformed="cut off")] for _ in found]

    for policy in (RulePolicy(lambda c, s: "<think>done"), CutOff(pay_then_done)):
        (result,) = run_episodes(Ledger, TASKS[:1], policy)
        assert (result.termination, result.reward, result.turns, result.malformed) == ("malformed", 0.0, 3, 3)
        assert result.verdict is not None and result.verdict.rule == "malformed"
        assert result.trajectory is not None and len(result.trajectory.turns) == len(result.completions) == 3


def test_reasoning_that_does_not_end_is_refused_where_only_the_prompt_began_it() -> None:
    class AllReasoning(RulePolicy):
        """What the environment reads as ``done`` and the policy knows to be reasoning."""

        def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
            found = super().sample(conversations, n, sampling)
            return [[replace(one[0], malformed="unclosed <think>", all_reasoning=True)] for one in found]

    (result,) = run_episodes(Ledger, TASKS[:1], AllReasoning(lambda c, s: "done"), max_turns=2)
    assert (result.termination, result.reward, result.turns, result.malformed) == ("max_turns", 0.0, 2, 2)
    assert result.trajectory is not None
    assert [message.delivered for message in result.trajectory.messages] == [True, True, False, False, False, False]
    assert result.trajectory.messages[-1].text.endswith("malformed: unclosed <think>")


class Plain(Ledger):
    """A domain with a syntax of its own: ``PAY`` pays."""

    def parse_action(self, text: str) -> tuple[Message, str | None]:
        return Message(role="assistant", content=text), None

    def respond(self, action: Message, recorded: Sequence[Message] | None = None) -> Response:
        if "<tool_call>PAY" in action.text:
            self.book["paid"] = "yes"
        return Response([Message(role="user", content="Paid.")], done="paid" in self.book, termination="done")


def test_a_domain_reads_text_that_is_malformed_by_another_syntax() -> None:
    class OtherSyntax(RulePolicy):
        def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
            found = super().sample(conversations, n, sampling)
            return [[replace(one[0], malformed="bad JSON in <tool_call>")] for one in found]

    (result,) = run_episodes(Plain, TASKS[:1], OtherSyntax(lambda c, s: "<tool_call>PAY"))
    assert (result.termination, result.reward, result.turns) == ("done", 1.0, 1)
