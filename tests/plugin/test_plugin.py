"""A domain in a package of its own: installed, found by gym.make, conforming."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from library_plugin import ENV_ID, MODULE, install_plugin, record_plugin


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("plugin")
    return folder, install_plugin(folder)


FATAL = ["-W", "error::RuntimeWarning"]


def run(code: str, variables: dict[str, str], *arguments: str, warnings: list[str] = FATAL) -> str:
    command = [sys.executable, *warnings, "-c", code, *arguments]
    return subprocess.run(command, env=variables, check=True, capture_output=True, text=True, timeout=300).stdout


def test_it_is_short() -> None:
    assert len(MODULE.splitlines()) < 100


@pytest.mark.parametrize("name", [ENV_ID, f"pivotgym.envs:{ENV_ID}"])
def test_gym_make_finds_it(plugin: tuple[Path, dict[str, str]], name: str) -> None:
    imports = "import gymnasium as gym" if ":" in name else "import pivotgym.envs, gymnasium as gym"
    code = f"{imports}; env = gym.make({name!r}); print(env.reset(seed=0)[0])"
    assert "May I have" in run(code, plugin[1])


def test_it_keeps_the_laws_on_its_own_recordings(plugin: tuple[Path, dict[str, str]]) -> None:
    file = record_plugin(*plugin)
    code = (
        "import sys; from pivotgym.envs.check import check_env_laws\n"
        "from pivotgym.envs.formats import load_trajectories\n"
        f"print(check_env_laws({ENV_ID!r}, list(load_trajectories(sys.argv[1])), resets=10).model_dump_json())"
    )
    report = json.loads(run(code, plugin[1], str(file)))
    assert [result for result in report["results"] if not result["passed"]] == []
    assert report["turns"] == 12 and len(report["results"]) == 9


def test_the_command_checks_it(plugin: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    out = tmp_path / "laws.json"
    code = "import sys; from pivotgym.harness.cli import main; sys.exit(main())"
    options = ["--laws", "fidelity", "isolation", "blindness", "--json", str(out)]
    told = run(code, plugin[1], "check", ENV_ID, *options, warnings=[])
    assert "holds" in told and "BROKEN" not in told
    report = json.loads(out.read_text())
    assert [(row["law"], row["passed"]) for row in report["results"]] == [(law, True) for law in options[1:4]]


def test_a_plugin_that_breaks_is_named_and_harms_nobody(tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "broken-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\nRequires-Dist: pivotgym>=0.1\n")
    (info / "entry_points.txt").write_text("[gymnasium.envs]\nbroken = broken_plugin:register\n")
    (site / "broken_plugin.py").write_text("raise ValueError('this plug-in is broken')\n")
    code = (
        "import warnings\nwith warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n    import pivotgym.envs\n"
        "import gymnasium as gym; gym.make('pivotgym/Tools-v0')\n"
        "print([str(w.message) for w in told if w.category is RuntimeWarning])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(site)}, check=True, capture_output=True, text=True, timeout=120
    )
    assert "broken_plugin:register" in done.stdout and "this plug-in is broken" in done.stdout
