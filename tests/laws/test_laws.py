"""The laws on every domain that ships or that recorded data is there for."""

from __future__ import annotations

from pathlib import Path

import pytest
from needs import missing

from pivotgym.envs.check import CheckReport, check_env_laws
from pivotgym.envs.formats import load_trajectories
from pivotgym.envs.tools.servicedesk import bundled_trajectories
from pivotgym.envs.trajectory import Trajectory


def reasons(report: CheckReport) -> list[str]:
    return [f"{result.law}: {result.detail}" for result in report.results if not result.passed]


def test_the_service_desk_on_its_bundled_trajectories() -> None:
    trajectories = bundled_trajectories()[::40]
    report = check_env_laws("pivotgym/Tools-v0", trajectories, max_turns_checked=20)
    assert reasons(report) == []
    assert report.result("nothing left").checked == 50
    assert report.result("fidelity").checked > 20


def test_the_service_desk_on_random_actions() -> None:
    report = check_env_laws("pivotgym/Tools-v0", seed=7, resets=10)
    assert reasons(report) == []
    assert report.recorded_here and report.trajectories == 3


@pytest.mark.parametrize(
    ("file", "domain"),
    [
        ("gpt-4.1_airline.json", "tau2/airline"),
        ("gpt-4.1_retail.json", "tau2/retail"),
        ("gpt-4.1_telecom.json", "tau2/telecom"),
        ("gpt-4.1_telecom-no-user.json", "tau2/telecom"),
    ],
)
def test_tau2_on_recorded_runs(shared_data: Path, file: str, domain: str) -> None:
    try:
        import tau2  # noqa: F401
    except ImportError:
        missing("the tau2 package is not installed")
    trajectories: list[Trajectory] = [row for row in load_trajectories(shared_data / "tau2" / file) if row.turns][:8]
    report = check_env_laws(
        "pivotgym/Tools-v0", trajectories, env_kwargs={"domain": domain}, max_turns_checked=6, horizon=3, resets=8
    )
    assert reasons(report) == []
    assert report.turns == 6 and report.result("fidelity").checked > 6
