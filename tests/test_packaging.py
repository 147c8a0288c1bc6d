"""The wheel holds everything the packages need, and works where the checkout is not."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("envs", "harness", "verifiers")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: setuptools leaves a build folder behind, which must not be the checkout's.
    copy = tmp_path_factory.mktemp("copy")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_every_source_and_data_file_is_in_the_wheel(wheel: Path) -> None:
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True)
    wanted = {f"pivotgym/{name}" for name in listed.stdout.split() if (ROOT / name).is_file()}
    assert len(wanted) > 60
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_wheel_has_licence_types_and_entry_points(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    for package in PACKAGES:
        assert f"pivotgym/{package}/py.typed" in names
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "pivotgym.harness.cli:main" in archive.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_installed_wheel_resets_and_restores_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    program = """
import sys
import gymnasium as gym
import pivotgym.envs
from pivotgym.envs.tools.servicedesk import bundled_trajectories
assert pivotgym.envs.__file__.startswith(sys.argv[1]), pivotgym.envs.__file__
env = gym.make("pivotgym/Tools-v0")
obs, info = env.reset(options={"trajectory": bundled_trajectories()[0], "turn": 2})
print(info["restore"].fidelity)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(site)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "1.0"
