"""The demo and its warm start: what is trained on what, and a small demo from end to end with the embedded model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from rich.console import Console

from pivotgym.envs.formats.jsonl import read_rows
from pivotgym.envs.tools.servicedesk import ServiceDesk
from pivotgym.harness.demo import DemoConfig, run_demo
from pivotgym.harness.runs import no_progress
from pivotgym.harness.turns import make_env
from pivotgym.harness.warm_start import SLIP_RATE, shipped_adapter, splits, with_other_spellings, with_slips
from pivotgym.verifiers import make, verify_completion


def test_pivots_warm_start_and_episodes_share_no_task() -> None:
    profiled, warm = ({item.task.id for item in side if item.task is not None} for side in splits())
    played = {task.id for task in ServiceDesk().tasks("heldout")}
    assert len(profiled) == len(warm) == 200
    assert not profiled & warm and not (profiled | warm) & played


def test_slips_come_at_their_rate_and_are_wrong() -> None:
    warm = splits()[1]
    slipped = with_slips(warm)
    assert [item.id for item in slipped] == [item.id for item in warm]
    assert with_slips(warm) == slipped and with_slips(warm, seed=1) != slipped
    turns = slips = 0
    verdicts: Counter[float] = Counter()
    env, verifier = make_env("pivotgym/Tools-v0"), make("effects")
    for before, after in zip(warm, slipped, strict=True):
        turn = len(after.turns) - 1
        assert after.messages[: after.turns[-1]] == before.prefix(turn)
        changed = after.messages[-1].chat() != before.action(turn).chat()
        turns, slips = turns + len(after.turns), slips + changed
        if changed and verdicts.total() < 60:
            env.reset(options={"trajectory": before, "turn": turn})
            verdicts[verify_completion(verifier, env, after.messages[-1], None).reward] += 1
    env.close()
    assert abs(slips / turns - SLIP_RATE) < 0.06
    assert verdicts[1.0] <= 0.05 * verdicts.total() and verdicts[0.0] >= 0.9 * verdicts.total()


def test_other_spellings_come_at_their_rate_and_only_comparing_arguments_minds() -> None:
    recorded = splits()[1]
    spelled = with_other_spellings(recorded, 0.5)
    assert with_other_spellings(recorded, 0.5) == spelled and with_other_spellings(recorded, 0.5, seed=1) != spelled
    assert with_other_spellings(recorded, 0.0) == recorded
    env, effects, arguments = make_env("pivotgym/Tools-v0"), make("effects"), make("tool_call")
    calls = changed = 0
    tried: Counter[str] = Counter()
    for before, after in zip(recorded, spelled, strict=True):
        for turn, index in enumerate(before.turns):
            called = before.messages[index].tool_calls
            calls += bool(called)
            if after.messages[index] == before.messages[index]:
                continue
            assert called
            changed += 1
            if tried[called[0].name] >= 4:
                continue
            tried[called[0].name] += 1
            env.reset(options={"trajectory": before, "turn": turn})
            assert verify_completion(effects, env, after.messages[index], None).reward == 1.0, after.messages[index]
            assert verify_completion(arguments, env, after.messages[index], None).reward == 0.0
    env.close()
    # Some calls have nothing that could be spelled otherwise: a login by e-mail, a password.
    assert 0.3 < changed / calls < 0.5 and len(tried) >= 11


def test_the_shipped_adapter_says_how_it_was_made() -> None:
    made_by = json.loads((shipped_adapter() / "made_by.json").read_text())
    assert made_by["command"].startswith("pivotgym warm-start ")
    assert made_by["slip_rate"] == SLIP_RATE
    assert {stage: cost["trained_tokens"] > 0 for stage, cost in made_by["cost"].items()} == {
        "expert": True,
        "slips": True,
    }


def test_a_small_demo_from_end_to_end(tmp_path: Path) -> None:
    config = DemoConfig(
        trajectories=20, candidates=12, rollouts=4, max_mean=0.95, steps=1, batch=2, group=4, eval_rollouts=2,
        eval_limit=2, episodes=2, max_tokens=56, forgetting=2,
    )  # fmt: skip
    result = run_demo(config, tmp_path, no_progress, Console(quiet=True))
    assert result.page.stat().st_size > 20_000
    assert json.loads((tmp_path / "restore.json").read_text())["fidelity"] == 1.0
    assert len(list(read_rows(tmp_path / "profile" / "profile.jsonl"))) == 12
    kinds = [row["kind"] for row in read_rows(tmp_path / "train" / "metrics.jsonl")]
    assert kinds == ["eval", "train", "eval"]
    assert len(list(read_rows(tmp_path / "evaluate" / "after" / "episodes.jsonl"))) == 2
    forgotten = {row["metric"]: row["policies"] for row in result.figures["forgetting"]["metrics"]}
    # Each of the two has weights of its own, and both differ from the base model's.
    change = {name: abs(one["change"]["mean"]) for name, one in forgotten["nats_per_byte"].items()}
    assert list(change) == ["warm start", "trained"] and min(change.values()) > 0 and len(set(change.values())) == 2
    assert "not measured" not in result.page.read_text().split('id="forgetting"')[1].split("<h2")[0].lower()
    # A finished demo is not done again: every stage finds its results.
    before = (tmp_path / "profile" / "timings.jsonl").read_bytes()
    assert run_demo(config, tmp_path, no_progress, Console(quiet=True)).figures == result.figures
    assert (tmp_path / "profile" / "timings.jsonl").read_bytes() == before
