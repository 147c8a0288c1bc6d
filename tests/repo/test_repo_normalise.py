"""Durations, temporary paths and commit ids are equalised; what a command told is not."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pivotgym.envs.repo.normalise import normalise

SAME = [
    ("==== 3 passed in 0.03s ====", "=== 3 passed in 12.03s ==="),
    ("===== 1 failed, 2 passed in 0.10s =====", "== 1 failed, 2 passed in 71.10s (0:01:11) =="),
    ("Ran 5 tests in 0.001s\n\nOK", "Ran 5 tests in 1.204s\n\nOK"),
    (
        "platform linux -- Python 3.9.19, pytest-8.1.1, pluggy-1.4.0\nrootdir: /testbed\nplugins: cov-4.1.0\ncollected",
        "platform linux -- Python 3.11.7, pytest-9.0.0, pluggy-1.6.0 -- /usr/bin/python\nrootdir: /testbed\ncollected",
    ),
    ("0.05s call     tests/test_a.py::test_b", "1.25s call     tests/test_a.py::test_b"),
    ("/tmp/pytest-of-root/pytest-0/test_x0/out.txt", "/tmp/pytest-of-me/pytest-14/test_x0/out.txt"),
    ("in /tmp/pip-ephem-wheel-cache-h335xxo8/wheels", "in /tmp/pip-ephem-wheel-cache-aaaa1234/wheels"),
    ("<Lock 0x7f3a5c0012d0>", "<Lock 0x7ffe5c00aad0>"),
    ("[main 1a2b3c4] Fix\n 1 file changed", "[main 5d6e7f8] Fix\n 1 file changed"),
    ("HEAD is now at 1a2b3c4 Fix", "HEAD is now at 5d6e7f8 Fix"),
    ("Saved working directory and index state WIP on main: 1a2b3c4 Fix", "Saved working directory and index state "
     "WIP on main: 5d6e7f8 Fix"),
    ("Dropped refs/stash@{0} (" + "1a" * 20 + ")", "Dropped refs/stash@{0} (" + "2b" * 20 + ")"),
    ("1a2b3c4 (HEAD -> main) Fix\n9f8e7d6 First", "5d6e7f8 (HEAD -> main) Fix\n0f8e7d6 First"),
    ("* 1a2b3c4 Fix", "* 5d6e7f8 Fix"),
]  # fmt: skip
OTHER = [
    ("==== 3 passed in 0.03s ====", "==== 2 passed in 0.03s ===="),
    ("Ran 5 tests in 0.001s", "Ran 4 tests in 0.001s"),
    ("collected 5 items", "collected 6 items"),
    ("platform linux\nPython 3.9", "platform linux\nPython 3.11"),
    ("plugins: none of yours", "plugins: none of mine"),
    ("index ad388c7..20da768 100644", "index ad388c7..168a845 100644"),
    ("100644 blob " + "1a" * 20 + "\ta.py", "100644 blob " + "2b" * 20 + "\ta.py"),
    ("1a" * 20 + "  a.py", "2b" * 20 + "  a.py"),  # sha1sum
    ("1a" * 20, "2b" * 20),  # git hash-object, rev-parse
    ("deadbeef", "feedface"),
    ("1234567 lines", "7654321 lines"),
    ("defaced the door", "effaced the door"),
    ("colour 0x7f7f7f", "colour 0x7f7f00"),
    ("1a2b3c4 Fix", "1a2b3c4 Break"),
    ("HEAD is now at 1a2b3c4 Fix", "HEAD is now at 1a2b3c4 Break"),
    ("[main 1a2b3c4] Fix", "[other 1a2b3c4] Fix"),
    ("/tmp/pytest-of-root/pytest-0/test_x0", "/tmp/pytest-of-root/pytest-0/test_y0"),
    ("0.05s call tests/test_a.py::test_b", "0.05s call tests/test_a.py::test_c"),
    ("took 3 tries", "took 4 tries"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_time_and_place_decide_is_equal(one: str, other: str) -> None:
    assert one != other
    assert normalise(one) == normalise(other)
    assert normalise(normalise(one)) == normalise(one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_a_command_told_stays_different(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_gits_own_words_about_the_agents_commits_are_equal() -> None:
    """The same commands in two repositories, made at different moments: git itself says what it says."""
    # fmt: off
    commands = [
        ["commit", "-q", "--allow-empty", "-m", "Second"], ["log", "--oneline"], ["log"], ["log", "--graph", "--all"],
        ["reflog"], ["branch", "-v"], ["show", "--stat"], ["stash", "list"], ["show-ref"], ["blame", "a.txt"],
        ["cat-file", "-p", "HEAD"], ["checkout", "--detach"], ["status"], ["format-patch", "--stdout", "-1"],
        ["checkout", "main"], ["reset", "--hard", "HEAD~1"], ["stash", "push"], ["stash", "pop"],
        ["commit", "-am", "Third"], ["revert", "--no-edit", "HEAD"],
    ]
    # fmt: on

    def play(moment: int) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            git = _git(Path(folder), moment)
            git("init", "-q", "-b", "main")
            (Path(folder) / "a.txt").write_text("one\n")
            git("add", "-A")
            git("commit", "-q", "-m", "First")
            told = []
            for command in commands:
                if command[0] == "stash" and command[1:] == ["push"]:
                    (Path(folder) / "a.txt").write_text("two\n")
                told.append(git(*command))
            return told

    # Fixed moments give fixed ids: one in thirty has no letter, and a number alone is taken for a number.
    now = 1_790_000_100
    one, other = play(now - 5000), play(now - 900)
    then = datetime.fromtimestamp(now, UTC)
    told = {" ".join(command): texts for command, texts in zip(commands, zip(one, other, strict=True), strict=True)}
    assert sum(a != b for a, b in told.values()) >= 12  # so this does compare what differs
    different = {
        name: texts for name, texts in told.items() if normalise(texts[0], now=then) != normalise(texts[1], now=then)
    }
    assert not different


def test_pytests_own_summary_is_equal(tmp_path: Path) -> None:
    """A real run, once quick and once slow."""
    (tmp_path / "test_it.py").write_text(
        "import os, time\ndef test_a(tmp_path):\n    time.sleep(float(os.environ['NAP']))\n    print(tmp_path)\n"
    )
    texts = []
    for nap in ("0.3", "0.9"):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-rA", "--durations=1", "-p", "no:cacheprovider", "test_it.py"],
            cwd=tmp_path,
            env={"NAP": nap, "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        texts.append(done.stdout)
    assert texts[0] != texts[1]
    one, other = (_told(normalise(text)) for text in texts)
    assert one == other
    assert "1 passed" in one and "test_it.py" in one


def _told(text: str) -> str:
    """Without what pytest says of durations it does not list."""
    return re.sub(r"\(\d durations < .*\n", "", text)


def _git(folder: Path, moment: int) -> Callable[..., str]:
    clock = [moment]

    def git(*words: str) -> str:
        clock[0] += 7
        date = f"{clock[0]} +0000"
        names = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "A"}
        env = {**names, "GIT_COMMITTER_EMAIL": "a@b.c", "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        done = subprocess.run(
            ["git", "-c", "color.ui=never", *words],
            cwd=folder,
            env={**env, "PATH": "/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout

    return git
