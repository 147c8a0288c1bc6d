"""Profiling: rewards come from executing the sampled actions, failures of the infrastructure never become rewards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import pvariance

import lamps
import pytest
import torch

from pivotgym.envs.core import AgentEnv
from pivotgym.envs.errors import BadInput, EndpointError, InfrastructureError
from pivotgym.envs.formats.jsonl import read_jsonl
from pivotgym.envs.trajectory import Message, ToolCall, Trajectory
from pivotgym.harness.policies.base import Completion, Conversation, Sampling, Usage
from pivotgym.harness.profiling import ProfileConfig, candidates_of, profile, split_ids, trajectories_file
from pivotgym.harness.runs import total_costs
from pivotgym.harness.turns import Candidate, TurnRunner
from pivotgym.verifiers import Verdict, Verifier, make

CONFIG = ProfileConfig(rollouts=4, max_tokens=4, chunk=2)


class Presser:
    """A policy that presses the named key on even samples and key h on odd ones."""

    name = "presser"

    def __init__(self, fail_on: str | None = None, failures: int = 10**9) -> None:
        self.usage, self.seen = Usage(), list[tuple[int, int | None]]()
        self.fail_on, self.failures = fail_on, failures

    def sample(
        self, conversations: Sequence[Conversation], n: int = 1, sampling: Sampling | None = None
    ) -> list[list[Completion]]:
        self.seen.append((len(conversations), sampling.seed if sampling else None))
        found = []
        for conversation in conversations:
            named = [m.text for m in conversation.messages if m.role == "user"][-1]
            if named == self.fail_on and self.failures > 0:
                self.failures -= 1
                raise EndpointError("the endpoint does not take this conversation")
            keys = [named if index % 2 == 0 else "h" for index in range(n)]
            found.append([Completion(press(key), key, [1], [2], [-0.1]) for key in keys])
            self.usage.calls += 1
        return found


def press(key: str) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(name="press", arguments={"key": key})])


class Flaky(Verifier):
    """The real verifier behind a judge that is down for some keys, or for the first few calls."""

    name = "flaky"

    def __init__(self, down_for: str = "", first: int = 0) -> None:
        self.inner, self.down_for, self.first = make("effects"), down_for, first

    def verify(self, env: AgentEnv, action: Message) -> Verdict:
        self.first -= 1
        if self.first >= 0 or str(action.tool_calls[0].arguments["key"]) in self.down_for:
            raise EndpointError("the judge is down")
        return self.inner.verify(env, action)


def recordings(*keys: str) -> list[Trajectory]:
    made = []
    for number, key in enumerate(keys):
        messages = [Message(role="user", content=key), press(key), Message(role="tool", content="ok")]
        made.append(Trajectory(id=f"t{number}", task=lamps.task(key), messages=messages))
    return made


def test_rows_say_what_happened(tmp_path: Path) -> None:
    rows = profile(recordings("a", "h", "c"), Presser(), CONFIG, tmp_path / "profile.jsonl")
    assert [row["rewards"] for row in rows] == [[1, 0, 1, 0], [1, 1, 1, 1], [1, 0, 1, 0]]
    assert [row["mean"] for row in rows] == [0.5, 1.0, 0.5]
    assert rows[0]["var"] == pvariance([1, 0, 1, 0]) == 0.25
    assert rows[0]["restore"] == {"faithful": True, "fidelity": 1.0, "errors": [], "diverged": []}
    assert {verdict["rule"] for verdict in rows[0]["verdicts"]} == {"effects"}
    assert not any("seconds" in row for row in rows)
    assert total_costs(tmp_path)["profile"].rollout_turns == 12


def test_equal_actions_are_executed_once(tmp_path: Path) -> None:
    profile(recordings("a"), Presser(), CONFIG, tmp_path / "profile.jsonl")
    assert total_costs(tmp_path)["profile"].env_actions == 2, "four samples, two distinct actions"


def test_a_divergence_is_told_and_strict_refuses_it(tmp_path: Path) -> None:
    trajectory = lamps.trajectories(1, turns=2)[0]
    trajectory.messages[2] = Message(role="tool", content="the lamp broke")
    loose = profile([trajectory], Presser(), CONFIG, tmp_path / "loose.jsonl")
    assert [row["restore"]["faithful"] for row in loose] == [True, False]
    assert loose[1]["restore"]["diverged"][0]["turn"] == 0 and loose[1]["status"] == "ok"
    strict = profile([trajectory], Presser(), CONFIG.model_copy(update={"strict": True}), tmp_path / "strict.jsonl")
    assert [row["status"] for row in strict] == ["ok", "not_restorable"] and strict[1]["rewards"] == []


def test_what_cannot_be_restored_is_a_row_too(tmp_path: Path) -> None:
    bad = [
        Trajectory(id="no-task", messages=[press("a")]),
        Trajectory(id="no-messages", task=lamps.task("a"), messages=[]),
    ]
    rows = profile([*bad, *recordings("a")], Presser(), CONFIG, tmp_path / "profile.jsonl")
    assert [row["status"] for row in rows] == ["not_restorable", "not_restorable", "ok"]
    assert "no_environment" in rows[0]["error"] and "no_messages" in rows[1]["error"]
    assert rows[0]["mean"] is None and rows[0]["var"] is None


def test_a_failing_judge_gives_no_reward(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"attempts": 2})
    rows = profile(recordings("a", "h"), Presser(), config, tmp_path / "p.jsonl", verifier=Flaky(down_for="a"))
    assert [row["status"] for row in rows] == ["infrastructure", "ok"]
    assert rows[0]["rewards"] == [] and rows[0]["mean"] is None and "judge is down" in rows[0]["error"]


def test_a_judge_that_recovers_is_asked_again(tmp_path: Path) -> None:
    rows = profile(recordings("a"), Presser(), CONFIG, tmp_path / "p.jsonl", verifier=Flaky(first=2))
    assert rows[0]["rewards"] == [1, 0, 1, 0]


def test_one_refused_conversation_does_not_cost_the_others(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"chunk": 3, "attempts": 1})
    rows = profile(recordings("a", "b", "c"), Presser(fail_on="b"), config, tmp_path / "p.jsonl")
    assert [row["status"] for row in rows] == ["ok", "infrastructure", "ok"]


def test_a_dead_endpoint_stops_the_run_and_the_rest_goes_on_later(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"chunk": 1, "attempts": 1})
    policy = Presser(fail_on="c", failures=1)
    with pytest.raises(InfrastructureError, match="does not take"):
        profile(recordings("a", "b", "c"), policy, config, tmp_path / "p.jsonl")
    asked = len(policy.seen)
    rows = profile(recordings("a", "b", "c"), policy, config, tmp_path / "p.jsonl")
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert len(policy.seen) == asked + 1, "finished chunks are not sampled again"


def test_a_prompt_beyond_the_context_is_no_reward() -> None:
    policy = lamps.policy()
    long = recordings("a" * 600)[0]
    with TurnRunner() as runner:
        results = runner.run(policy, [Candidate(t, 0) for t in (*recordings("b"), long)], 2, Sampling(max_tokens=2))
    assert [result.status for result in results] == ["ok", "too_long"]
    assert len(results[0].rewards) == 2 and results[1].rewards == []


def test_real_sampling_does_not_depend_on_where_it_stopped(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recorded = lamps.trajectories(5, seed=4)
    whole = tmp_path / "whole.jsonl"
    profile(recorded, lamps.policy(), CONFIG, whole)
    lines = whole.read_bytes().splitlines(keepends=True)
    for cut in (0, 1, 2, 5, len(lines)):
        part = tmp_path / f"part{cut}.jsonl"
        part.with_suffix(".settings.json").write_bytes(whole.with_suffix(".settings.json").read_bytes())
        part.write_bytes(b"".join(lines[:cut]) + (lines[cut][:7] if cut < len(lines) else b""))
        profile(recorded, lamps.policy(), CONFIG, part)
        assert part.read_bytes() == whole.read_bytes(), cut


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path) -> None:
    recorded, out = lamps.trajectories(2), tmp_path / "p.jsonl"
    policy = lamps.policy()
    rows = profile(recorded, policy, CONFIG, out)
    assert profile(recorded, lamps.policy(), CONFIG, out) == rows
    with torch.no_grad():
        policy.model.lm_head.weight[3, 5] += 1e-3
    with pytest.raises(BadInput, match="policy_fingerprint was"):
        profile(recorded, policy, CONFIG, out)


def test_results_without_settings_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    profile(recordings("a"), Presser(), CONFIG, out)
    out.with_suffix(".settings.json").unlink()
    with pytest.raises(BadInput, match="not their settings"):
        profile(recordings("b"), Presser(), CONFIG, out)


def test_trajectories_of_other_results_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    profile(recordings("a", "b"), Presser(), CONFIG, out)
    out.unlink()
    out.with_suffix(".settings.json").unlink()
    profile(recordings("c"), Presser(), CONFIG, out)
    (kept,) = read_jsonl(trajectories_file(out))
    assert kept.messages[0].text == "c"


def test_candidates_by_kind_limit_and_split() -> None:
    recorded = lamps.trajectories(20, turns=3)
    recorded[0].messages.append(Message(role="assistant", content="bye"))
    every = candidates_of(recorded, ProfileConfig())
    assert len(every) == 61
    assert len(candidates_of(recorded, ProfileConfig(turns="calls"))) == 60
    assert [c.turn for c in candidates_of(recorded, ProfileConfig(turns="messages"))] == [3]
    some = candidates_of(recorded, ProfileConfig(limit=7))
    assert len(some) == 7 and some == candidates_of(recorded, ProfileConfig(limit=7))
    by_trajectory = ProfileConfig(split_by="trajectory", heldout=0.25)
    sides = [
        {c.trajectory.id for c in candidates_of(recorded, by_trajectory.model_copy(update={"split": side}))}
        for side in ("train", "heldout")
    ]
    assert len(sides[0]) == 15 and len(sides[1]) == 5 and not sides[0] & sides[1]
    by_task = candidates_of(recorded, ProfileConfig(split="heldout", heldout=0.3))
    tasks = {c.trajectory.task.id for c in by_task if c.trajectory.task}
    rest = {t.task.id for t in recorded if t.task and t.id not in {c.trajectory.id for c in by_task}}
    assert tasks and not tasks & rest


def test_splits_do_not_depend_on_order() -> None:
    names = [f"n{i}" for i in range(11)]
    assert split_ids(names, 0.3, 1) == split_ids(reversed(names), 0.3, 1) != split_ids(names, 0.3, 2)
    assert split_ids(names, 0.0, 1)[1] == set() and split_ids(["x"], 0.5, 1) == ({"x"}, set())


def test_equal_ids_and_no_turns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="two trajectories"):
        profile([*recordings("a"), *recordings("b")], Presser(), CONFIG, tmp_path / "p.jsonl")
    with pytest.raises(BadInput, match="no turn"):
        profile([], Presser(), CONFIG, tmp_path / "p.jsonl")
