"""A verifier or domain that breaks on a sampled action costs that group, not the run."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import InfrastructureError, MissingExtra, VerifierBug
from pivotgym.envs.tools.servicedesk import bundled_trajectories
from pivotgym.envs.trajectory import Message
from pivotgym.envs.verdict import Verdict
from pivotgym.harness.policies.base import Completion
from pivotgym.harness.profiling import result_row
from pivotgym.harness.turns import Candidate, TurnRunner
from pivotgym.verifiers.base import Verifier


class Fragile(Verifier):
    name = "fragile"
    calls = 0

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        self.calls += 1
        if action.text == "boom":
            raise ZeroDivisionError("by the action")
        if action.text == "extra":
            raise MissingExtra("thing", "things")
        return Verdict(reward=1.0, rule="fragile")


class Says:
    """Acts by the number of words in the conversation: the first conversation gets the bad text."""

    name = "says"

    def __init__(self, bad: str) -> None:
        self.bad = bad

    def sample(self, conversations: Any, n: int = 1, sampling: Any = None) -> list[list[Completion]]:
        rows = []
        for index in range(len(conversations)):
            texts = ["fine", self.bad if index == 0 else "well", "good"][:n]
            rows.append([Completion(Message(role="assistant", content=text), text) for text in texts])
        return rows


def test_a_bug_is_no_reward_and_does_not_end_the_run() -> None:
    verifier = Fragile()
    candidates = [Candidate(row, 0) for row in bundled_trajectories("heldout")[:2]]
    with TurnRunner(verifier, attempts=3) as runner:
        bad, good = runner.run(Says("boom"), candidates, 3)  # type: ignore[arg-type]
    assert (bad.status, bad.rewards) == ("infrastructure", []) and good.rewards == [1.0] * 3
    assert bad.error is not None and "VerifierBug: ZeroDivisionError on the action 'boom'" in bad.error
    assert "by the action" in bad.error and "in verify" in bad.error, "the traceback of the bug itself"
    assert verifier.calls == 5, "a bug is not tried again"
    row = result_row(bad)
    assert row["completions"] == ["fine", "boom", "good"] and row["mean"] is None


def test_what_is_not_installed_still_ends_the_run() -> None:
    with TurnRunner(Fragile()) as runner, pytest.raises(MissingExtra):
        runner.run(Says("extra"), [Candidate(bundled_trajectories("heldout")[0], 0)], 2)  # type: ignore[arg-type]


def test_the_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(VerifierBug("KeyError", "text", "trace")))
    assert isinstance(error, InfrastructureError) and (error.kind, error.action, error.trace) == (
        "KeyError",
        "text",
        "trace",
    )
