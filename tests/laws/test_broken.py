"""The conformance suite finds each of many deliberately broken environments, and passes the one they derive from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from rich.console import Console

from pivotgym.envs.check import CheckReport, check_env_laws
from pivotgym.envs.errors import BadInput
from pivotgym.envs.laws import LAWS
from pivotgym.envs.trajectory import Trajectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from ledger import BROKEN, DEMONSTRATION, Echoes, EchoesCopies, EchoesText, Ledger, demonstrate


def check(kind: type[Ledger], **options: object) -> CheckReport:
    name = f"tests/{kind.__name__}-v0"
    for known in (Ledger, kind):  # the tasks name the environment all derive from
        if f"tests/{known.__name__}-v0" not in gym.registry:
            gym.register(f"tests/{known.__name__}-v0", entry_point=known)
    trajectories = [demonstrate(kind(), 0), demonstrate(kind(), 1)]
    return check_env_laws(name, trajectories, resets=10, **options)  # type: ignore[arg-type]


def test_the_correct_one_keeps_every_law() -> None:
    report = check(Ledger)
    assert report.broken == [], [result.detail for result in report.results if not result.passed]
    assert [result.law for result in report.results] == list(LAWS)
    assert all(result.checked > 0 for result in report.results)
    assert report.turns == 12 and not report.recorded_here


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_one_is_found(kind: type[Ledger]) -> None:
    report = check(kind)
    assert set(report.broken) >= BROKEN[kind], {result.law: result.detail for result in report.results}
    for law in BROKEN[kind]:
        reason = report.result(law).detail
        assert (len(reason) > 20 and "raised" not in reason) or kind.__name__ == "WrongObservation", reason


def test_a_recording_of_other_results_is_found_out_and_so_is_one_that_repeats_it() -> None:
    recording = demonstrate(Ledger())
    for message in recording.messages:
        if message.role == "tool":
            message.content = "totally other"
    for kind in (Ledger, Echoes, EchoesCopies, EchoesText):
        check(kind, laws=["determinism"])  # registers it
        report = check_env_laws(f"tests/{kind.__name__}-v0", [recording], laws=["fidelity"])
        assert report.broken == ["fidelity"], kind


def test_recordings_with_refused_actions_keep_the_laws() -> None:
    env = Ledger()
    env.reset(seed=3)
    for action in (DEMONSTRATION[0], "<tool_call>{", DEMONSTRATION[1], "<think>", "<think>", DEMONSTRATION[2]):
        env.step(action)
    recording = Trajectory(id="refused", task=env.task, messages=list(env.transcript))
    check(Ledger, laws=["determinism"])
    report = check_env_laws("tests/Ledger-v0", [recording], resets=5)
    assert report.passed, [result.detail for result in report.results if not result.passed]


def test_without_recordings_it_makes_its_own() -> None:
    check(Ledger, laws=["determinism"])  # registers it
    report = check_env_laws("tests/Ledger-v0", resets=5)
    assert report.recorded_here and report.passed, report.broken


def test_the_report_is_json_and_a_table() -> None:
    report = check(Ledger, laws=["fidelity", "determinism"])
    again = CheckReport.model_validate(json.loads(report.model_dump_json()))
    assert again == report and again.passed
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(report.table())
    text = console.export_text()
    assert "fidelity" in text and "holds" in text and "BROKEN" not in text


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("tests/Nowhere-v0", {}, "Nowhere"),
        ("CartPole-v1", {}, "AgentEnv"),
        ("pivotgym/Tools-v0", {"laws": ["gravity"]}, "gravity"),
        ("pivotgym/Tools-v0", {"trajectories": []}, "no recording"),
    ],
)
def test_bad_input_is_named(name: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        check_env_laws(name, **options)  # type: ignore[arg-type]
