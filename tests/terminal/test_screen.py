"""Keys and screens: what is sent, and a real editor driven, left in the middle and restored."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pivotgym.envs.terminal.screen import is_key, send_commands


@pytest.mark.parametrize(
    "item", ["Enter", "Escape", "C-c", "^C", "M-x", "C-Left", "F1", "F12", "PageUp", "BSpace", "C-M-a", "S-Up", "C-\\"]
)
def test_keys(item: str) -> None:
    assert is_key(item)


@pytest.mark.parametrize(
    "item", ["enter", "Enter ", "C-", "ls -la", "", "F21", "F0", "Enters", "x", "C-cc", "echo Enter"]
)
def test_texts(item: str) -> None:
    assert not is_key(item)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[list[str]]:
    """A tmux server of this test's own, whose pane shows the bytes it is sent."""
    tmux = ["tmux", "-u", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]
    size = ["new-session", "-d", "-s", "terminal", "-x", "160", "-y", "40"]
    shown = "stty raw -echo opost onlcr; echo ready; exec od -v -An -tx1 -w1"
    try:
        subprocess.run([*tmux, "set-option", "-g", "history-limit", "9999", ";", *size, shown], check=True, timeout=20)
        while b"ready" not in captured(tmux):
            time.sleep(0.05)
        yield tmux
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, timeout=20)


def captured(tmux: list[str]) -> bytes:
    """All that the pane has shown."""
    command = [*tmux, "capture-pane", "-p", "-t", "terminal", "-S", "-"]
    return subprocess.run(command, capture_output=True, check=True, timeout=20).stdout


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (["ls -la", "Enter"], b"ls -la\r"),
        (["a;", ";", "b\\;"], b"a;;b\\;"),
        (["-t x", "-l"], b"-t x-l"),
        (["it's \"$HOME\" `x` #{y} $(z)"], b"it's \"$HOME\" `x` #{y} $(z)"),
        (["one\ntwo\r\n"], b"one\rtwo\r"),
        (["C-c", "^D", "Escape", "Tab", "C-x"], b"\x03\x04\x1b\t\x18"),
        (["é世"], "é世".encode()),
        (["x" * 2500], b"x" * 2500),
        (["nul\0gone"], b"nulgone"),
        ([], b""),
    ],
)  # fmt: skip
def test_what_arrives_at_the_terminal(server: list[str], keys: list[str], wanted: bytes) -> None:
    script = " ';' ".join([*send_commands(keys), "send-keys -t terminal -l ZZZZ"])
    subprocess.run(["bash", "-c", f"{shlex.join(server)} {script}"], check=True, timeout=20)
    got = b""
    for _ in range(100):
        got = bytes(int(word, 16) for word in captured(server).replace(b"ready", b"").split())
        if got.endswith(b"ZZZZ"):
            break
        time.sleep(0.05)
    assert got == wanted + b"ZZZZ"
