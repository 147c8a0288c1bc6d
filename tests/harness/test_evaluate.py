"""Evaluation: common random numbers on pivots, whole episodes to their goal, failures excluded and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import lamps
import pytest
import torch

from pivotgym.envs.errors import BadInput, EndpointError, InfrastructureError
from pivotgym.envs.formats.jsonl import read_rows, write_rows
from pivotgym.envs.trajectory import Message, ToolCall
from pivotgym.harness.evaluate import (
    EpisodeConfig,
    compare,
    evaluate_episodes,
    evaluate_pivots,
    summarise_episodes,
)
from pivotgym.harness.pivots import Pivot
from pivotgym.harness.policies.base import Completion, Conversation, Sampling, Usage
from pivotgym.harness.report import report_figures
from pivotgym.harness.stats import pass_at_k, pass_hat_k, wilson
from pivotgym.harness.turns import TurnRunner

ENV = "pivotgym/Tools-v0"


class Expert:
    """Presses the named key (every ``slip``-th time another one), then says it is done."""

    name = "expert"

    def __init__(self, slip: int = 0, down_for: str = "") -> None:
        self.usage, self.slip, self.down_for, self.acted = Usage(), slip, down_for, 0

    def sample(
        self, conversations: Sequence[Conversation], n: int = 1, sampling: Sampling | None = None
    ) -> list[list[Completion]]:
        return [[self._act(conversation) for _ in range(n)] for conversation in conversations]

    def _act(self, conversation: Conversation) -> Completion:
        key = next(m.text for m in conversation.messages if m.role == "user")
        if key in self.down_for:
            raise EndpointError("no answer")
        self.usage.calls += 1
        if conversation.messages[-1].role == "tool":
            return Completion(Message(role="assistant", content="done"), "done", [1], [2], [0.0])
        self.acted += 1
        if self.slip and self.acted % self.slip == 0:
            key = "h" if key != "h" else "a"
        call = Message(role="assistant", tool_calls=[ToolCall(name="press", arguments={"key": key})])
        return Completion(call, "", [1], [2], [0.0])


def pivots() -> list[Pivot]:
    return [Pivot(trajectory=t, turn=0, split="heldout") for t in lamps.trajectories(10, turns=1, seed=6)]


def test_equal_policies_do_not_differ() -> None:
    torch.set_num_threads(1)
    with TurnRunner() as runner:
        found = [
            evaluate_pivots(lamps.policy(), pivots(), 2, 7, runner=runner, sampling=Sampling(max_tokens=3))
            for _ in range(2)
        ]
    assert found[0] == found[1]
    assert compare(*found).row() | {"confidence": 0} == compare(*found).row() | {"confidence": 0}
    found_none = compare(*found)
    assert found_none.mean == 0.0 and found_none.low is not None and found_none.high is not None
    assert found_none.low < 0 < found_none.high, "ten equal pivots do not prove equality"


def test_a_pivot_counts_once_whatever_its_rollouts() -> None:
    with TurnRunner() as runner:
        found = evaluate_pivots(Expert(slip=2), pivots(), 4, runner=runner)
        better = evaluate_pivots(Expert(), pivots(), 4, runner=runner)
    assert found.means == [0.5] * 10 and found.reward.mean == 0.5
    tasks = {pivot.trajectory.task.id for pivot in pivots() if pivot.trajectory.task}
    assert found.reward.clusters == len(tasks) < 10, "recordings of one task are one cluster"
    gain = compare(found, better)
    assert gain.mean == 0.5 and gain.low is not None and gain.high is not None and gain.low < 0.5 < gain.high
    assert found.cost.rollout_turns == 40


def test_pivots_without_verdict_are_excluded_and_counted() -> None:
    chosen = pivots()
    keys = [str(p.trajectory.task.data["key"]) for p in chosen if p.trajectory.task]
    with TurnRunner(attempts=1) as runner:
        found = evaluate_pivots(Expert(down_for=keys[0]), chosen, 2, runner=runner)
        assert found.excluded == {"infrastructure": keys.count(keys[0])}
        assert found.means[0] is None and found.reward.mean == 1.0 and found.reward.n == 10 - keys.count(keys[0])
        with pytest.raises(InfrastructureError):
            evaluate_pivots(Expert(down_for=lamps.KEYS), chosen, 2, runner=runner)
        with pytest.raises(BadInput):
            evaluate_pivots(Expert(), [], 2, runner=runner)


def test_episodes_are_judged_by_their_goal(tmp_path: Path) -> None:
    tasks = [lamps.task(key) for key in "abcdef"]
    config = EpisodeConfig(chunk=4)
    good = evaluate_episodes(ENV, Expert(), tasks, config, tmp_path / "good")
    assert good.success.mean == 1.0 and good.episodes == 6 and good.turns_mean == 2
    poor = evaluate_episodes(ENV, Expert(slip=2), tasks, config, tmp_path / "poor")
    assert poor.success == wilson(3, 6)
    rows = list(read_rows(tmp_path / "poor" / "episodes.jsonl"))
    assert [row["reward"] for row in rows] == [1, 0, 1, 0, 1, 0]
    assert rows[0]["trajectory"]["messages"][1]["tool_calls"] and "seconds" not in rows[0]


def test_pass_at_k_and_pass_hat_k(tmp_path: Path) -> None:
    tasks = [lamps.task(key) for key in "abc"]
    found = evaluate_episodes(ENV, Expert(slip=3), tasks, EpisodeConfig(trials=4, batch=1), tmp_path)
    rows = list(read_rows(tmp_path / "episodes.jsonl"))
    wins = [sum(row["reward"] for row in rows if row["task"] == task.id) for task in tasks]
    assert sum(wins) == 8 and found.trials == 4
    for k in (1, 2, 4):
        assert found.pass_at_k[k].mean == pytest.approx(sum(pass_at_k(4, int(w), k) for w in wins) / 3)
        assert found.pass_hat_k[k].mean == pytest.approx(sum(pass_hat_k(4, int(w), k) for w in wins) / 3)
    assert found.pass_at_k[1].mean == found.pass_hat_k[1].mean == pytest.approx(found.success.mean)


def test_failed_episodes_are_excluded_and_counted(tmp_path: Path) -> None:
    tasks = [lamps.task(key) for key in "abc"]
    found = evaluate_episodes(ENV, Expert(down_for="b"), tasks, EpisodeConfig(), tmp_path / "some")
    assert (found.episodes, found.excluded, found.success.mean) == (2, 1, 1.0)
    with pytest.raises(InfrastructureError):
        summarise_episodes([{"task": "a", "reward": None}])
    with pytest.raises(InfrastructureError):
        evaluate_episodes(ENV, Expert(down_for="abc"), tasks, EpisodeConfig(), tmp_path / "none")


def test_a_cut_off_evaluation_goes_on(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    tasks = [lamps.task(key) for key in lamps.KEYS]
    config = EpisodeConfig(chunk=3, trials=2, max_tokens=3, max_turns=2)
    evaluate_episodes(ENV, lamps.policy(), tasks, config, tmp_path / "whole")
    whole = (tmp_path / "whole" / "episodes.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (0, 4, 6, 13, 16):
        part = tmp_path / f"part{cut}"
        part.mkdir()
        (part / "settings.json").write_bytes((tmp_path / "whole" / "settings.json").read_bytes())
        (part / "episodes.jsonl").write_bytes(b"".join(lines[:cut]) + (lines[cut][:9] if cut < 16 else b""))
        evaluate_episodes(ENV, lamps.policy(), tasks, config, part)
        assert (part / "episodes.jsonl").read_bytes() == whole, cut
        assert (part / "summary.json").read_bytes() == (tmp_path / "whole" / "summary.json").read_bytes()


def test_no_success_in_several_trials_is_no_proof_of_none(tmp_path: Path) -> None:
    rows = [
        {"task": str(task), "reward": 0.0, "termination": "stop", "turns": 1, "malformed": 0}
        for task in range(10)
        for _ in range(4)
    ]
    found = summarise_episodes(rows)
    for estimate in (found.success, *found.pass_at_k.values(), *found.pass_hat_k.values()):
        assert estimate.low == 0.0 and estimate.high == pytest.approx(wilson(0, 10).high)
    write_rows(tmp_path / "episodes.jsonl", rows)
    page = report_figures(tmp_path)["episodes"]["sides"]["episodes"]
    assert page["success"] == found.success.row()
    assert page["pass_hat_k"] == {str(k): estimate.row() for k, estimate in found.pass_hat_k.items()}


def test_progress_is_told_within_a_piece_of_work(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []

    def progress(stage: str, done: int, total: int, figures: Mapping[str, object]) -> None:
        told.append((stage, done, total))

    tasks = [lamps.task(key) for key in "abc"]
    evaluate_episodes(ENV, Expert(), tasks, EpisodeConfig(chunk=8, batch=1), tmp_path, progress)
    assert [done for _, done, _ in told] == [0, 1, 2, 3, 3] and {total for _, _, total in told} == {3}
    told.clear()
    with TurnRunner() as runner:
        evaluate_pivots(Expert(), pivots(), 1, runner=runner, chunk=4, progress=progress, stage="before")
    assert told == [("before", 0, 10), ("before", 4, 10), ("before", 8, 10), ("before", 10, 10)]


def test_results_belong_to_what_a_policy_is_not_to_its_name(tmp_path: Path) -> None:
    class Known(Expert):
        fingerprint = "sha256:1"

    tasks = [lamps.task("a")]
    evaluate_episodes(ENV, Known(), tasks, EpisodeConfig(), tmp_path)
    evaluate_episodes(ENV, Known(), tasks, EpisodeConfig(), tmp_path)
    Known.fingerprint = "sha256:2"
    with pytest.raises(BadInput, match="policy was"):
        evaluate_episodes(ENV, Known(), tasks, EpisodeConfig(), tmp_path)


def test_unusable_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no tasks"):
        evaluate_episodes(ENV, Expert(), [], EpisodeConfig(), tmp_path)
    with pytest.raises(BadInput, match="two tasks"):
        evaluate_episodes(ENV, Expert(), [lamps.task("a"), lamps.task("a")], EpisodeConfig(), tmp_path)
