"""What may differ between two runs, and what may not; checked on what real programs print on this machine."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pivotgym.envs.terminal.causes import cause_of
from pivotgym.envs.terminal.normalise import normalise


def shell(command: str, cwd: Path | None = None) -> str:
    env = {**os.environ, "LC_ALL": "C", "GIT_CONFIG_GLOBAL": "/dev/null"}
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=cwd, env=env, check=False)
    return ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "command",
    [
        "date",
        "date -R",
        "date --rfc-3339=ns",
        "date '+%Y-%m-%d %H:%M:%S'",
        "date -Iseconds",
        "sleep 0.01 & true",
        "echo $BASHPID >/dev/null; echo pid: $BASHPID",
        "mktemp -u",
        "mktemp -d -u",
        # One name in fifteen is all letters, and looks like a name that somebody chose.
        "python3 -c 'import tempfile; print(next(n for n in iter(tempfile.mkdtemp, 0) if not n[8:].isalpha()))'",
        "python3 -c 'print(object())'",
        "time true",
        "sh -c 'kill -9 $$'; exit",
        "ps -o pid,ppid,tty,time,cmd -p $PPID",
        "sh -c 'bash -c \"set | grep PPID; declare -p PPID\"; true'",
        # Until it runs what it is for, the child is a copy of the shell.
        "sleep 5 & until [ $(ps -o comm= -p $!) = sleep ]; do :; done; ps -f -p $!; kill $!",
        "git init -q .; git -c user.name=a -c user.email=a@b commit --allow-empty -m first; git log; rm -rf .git",
    ],
)
def test_two_runs_of_one_command_are_equal(command: str, tmp_path: Path) -> None:
    one = shell(command, tmp_path)
    time.sleep(1.1)
    other = shell(command, tmp_path)
    assert normalise(one) == normalise(other)
    assert normalise(normalise(one)) == normalise(one)


@pytest.mark.parametrize(
    "command", ["ls -l", "ls -la", "ls -lai", "ls -l --time-style=full-iso", "find . -ls", "stat f"]
)
def test_listings_of_equal_folders_are_equal(command: str, tmp_path: Path) -> None:
    shown = []
    for name in ("one", "two"):
        folder = tmp_path / name / "here"
        folder.mkdir(parents=True)
        (folder / "f").write_text("same content")
        (folder / "sub").mkdir()
        (folder / "link").symlink_to("f")
        os.utime(folder / "f", (1e9 + len(shown) * 1e7, 1e9 + len(shown) * 1e7))
        shown.append(shell(command, folder))
        time.sleep(0.01)
    assert shown[0] != shown[1] or "ls -l" in command
    assert normalise(shown[0]) == normalise(shown[1])


@pytest.mark.parametrize("command", ["ls -l", "ls -la", "find . -ls"])
@pytest.mark.parametrize("change", ["size", "mode", "name", "link", "extra"])
def test_listings_of_unlike_folders_differ(command: str, change: str, tmp_path: Path) -> None:
    shown = []
    for name in ("one", "two"):
        folder, other = tmp_path / name, name == "two"
        folder.mkdir()
        file = folder / ("g" if other and change == "name" else "f")
        file.write_text("content" + ("more" if other and change == "size" else ""))
        file.chmod(0o600 if other and change == "mode" else 0o644)
        (folder / "l").symlink_to("elsewhere" if other and change == "link" else "f")
        if other and change == "extra":
            (folder / "extra").mkdir()
        shown.append(shell(command, folder))
    assert normalise(shown[0]) != normalise(shown[1])


@pytest.mark.parametrize(
    "text",
    [
        "42\n",
        "3 files, 17 lines\n",
        "total 12\n",  # no listing
        "  12 total\n",
        "2024-01-15 10:23:45 ERROR disk full\n",
        "2019-03-04T05:06:07Z login alice\n",
        "order 7,2024-05-01,19.99\n",
        "10:23:45\n",
        "d41d8cd98f00b204e9800998ecf8427e  empty\n",
        "3f2a1b4c5d6e\n",
        "deadbeef\n",
        "/tmp/tmpfiles\n/tmp/tmpl.txt\n",
        "0x7ffe\n",
        "alice@example.com\n",
        "process 12 of 40\n",
        "[3] third item\n",
        "-rw-r--r-- is a mode\n",
    ],
)
def test_content_that_decides_stays(text: str) -> None:
    assert normalise(text) == text


def test_a_clock_time_of_these_days_is_no_content_and_an_old_one_is() -> None:
    now = datetime(2026, 1, 10, 12, tzinfo=UTC)
    assert normalise("2026-01-10 11:59:58 started", now=now) == "TIME started"
    assert normalise("2025-11-10 11:59:58 started", now=now) == "2025-11-10 11:59:58 started"
    assert normalise("2026-99-10 11:59:58 started", now=now) == "2026-99-10 11:59:58 started"


def test_host_names_in_prompts() -> None:
    assert normalise("root@3f2a1b4c5d6e:/app# ls") == normalise("root@sandbox:/app# ls", hostname="sandbox")


def test_the_shells_own_complaints() -> None:
    ours, theirs = "bash: line 1: foo: command not found\n", "bash: line 17: foo: command not found\n"
    assert normalise(ours) == normalise(theirs) != normalise("bash: line 1: bar: command not found\n")
    assert normalise("bash: line 1:   311 Killed   sleep") == normalise("bash: line 4:   7 Killed   sleep")


@pytest.mark.parametrize(
    ("command", "replayed", "recorded", "kind"),
    [
        ("find .", "./a\n./b\n", "./b\n./a\n", "order"),
        ("cat f", "a  b \n", "a b\n", "spacing"),
        ("jq . f", "bash: line N: jq: command not found\n", "{}\n", "missing_program"),
        ("python3 -c 'import numpy'", "ModuleNotFoundError: No module named 'numpy'\n", "\n1\n", "missing_program"),
        ("curl x", "curl: (6) Could not resolve host: x\n", "<html>\n", "network"),
        ("sleep 99", "[killed: it ran for more than 9 s]", "done\n", "timeout"),
        ("chown a f", "chown: Operation not permitted\n", "(no output)", "permission"),
        ("hostname", "sandbox\n", "750f73ff0550\n", "host_name"),
        ("hostname && ls", "abcdef012345\na\n", "750f73ff0550\na\n", "host_name"),
        ("stat -c %y f", "2026-11-22 10:00:00\n", "2023-06-01 01:02:03\n", "date"),
        ("git log --oneline", "abc1234 first\n", "def5678 first\n", "commit_id"),
        ("ps aux", "root 17 bash\n", "root 4711 bash\n", "process_id"),
        ("awk --version", "mawk 1.3.4\n", "GNU Awk 5.1.0\n", "program_version"),
        ("tool --about", "tool 3.2.1 ready\n", "tool 3.4.0 ready\n", "program_version"),
        (
            "awk '{' f",
            "awk: line 1: syntax error at or near end\n",
            "awk: 1: unexpected character\n",
            "program_version",
        ),
        ("awk 1/0 f", "awk: cmd. line:1: fatal: division by zero attempted\n", "nan\n", "program_version"),
        ("du -sh a", "4.0K\ta\n", "8.0K\ta\n", "disk_usage"),
        ("nproc", "2\n", "64\n", "machine"),
        ("find . -mtime -7", "./a\n", "", "date"),
        # what is a real difference has no excuse
        ("cat f", "cat: f: No such file or directory\n", "hello\n", None),
        ("cat f", "1\n", "2\n", None),
        ("awk '{s+=$1} END {print s/NR}' f", "3.25\n", "3.75\n", None),
        ("wc -l f", "3 f\n", "4 f\n", None),
        ("grep date f", "a\n", "b\n", None),
        ("cat id", "a\n", "b\n", None),
    ],
)
def test_causes(command: str, replayed: str, recorded: str, kind: str | None) -> None:
    assert cause_of(command, replayed, recorded) == kind


@pytest.mark.parametrize(
    "piece",
    [
        *("PID ", "PID\n", "/-", "/a", " ", "\t", "1 ", "[a ", "[1] ", "Mon ", "0x", "a0", "/tmp/tmp", "@a"),
        *("bash: ", "in 1.", "total 1\n", "-rw-r--r-- ", "drwxr-xr-x 1 ", "2024-01-01 ", "pid ", "commit "),
        *("x/bash", "a: ", "Device: a ", "12:", "ls ", "1.2", "-ls"),
    ],
)  # fmt: skip
def test_output_meant_to_take_long_does_not(piece: str) -> None:
    text = piece * (65_536 // len(piece))
    began = time.process_time()
    normalise(text)
    cause_of("ls -l; ps; date; git log; df", text, text + "x")
    assert time.process_time() - began < 5.0


def test_only_commands_that_ask_for_space_explain_a_size() -> None:
    assert cause_of("du -s data", "12 data", "16 data") == "disk_usage"
    assert cause_of("cd x; ls -l", "total 12", "total 16") == "disk_usage"
    assert cause_of("grep -c du words", "12 words", "16 words") is None
    assert cause_of("cat stat", "12 words", "16 words") is None
