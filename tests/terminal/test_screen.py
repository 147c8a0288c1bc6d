"""Keys and screens: what is sent, and a real editor driven, left in the middle and restored."""

from __future__ import annotations

import subprocess

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
def server(tmp_path: object):  # type: ignore[no-untyped-def]
    """A tmux server of this test's own, whose pane shows the bytes it is sent."""
    name = f"pivotgym-test-{id(tmp_path)}"
    tmux = ["tmux", "-u", "-L", name, "-f", "/dev/null"]
    command = [
        *tmux,
        "new-session",
        "-d",
        "-s",
        "terminal",
        "-x",
        "160",
        "-y",
        "40",
        "stty raw -echo opost onlcr; exec od -v -An -tx1 -w1",
    ]
    subprocess.run(command, check=True, timeout=20)
    yield tmux
    subprocess.run([*tmux, "kill-server"], check=False, timeout=20)


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
    import shlex
    import time

    time.sleep(0.3)
    subprocess.run([*server, "set-option", "-g", "history-limit", "9999"], check=True)
    script = " ';' ".join([*send_commands(keys), "send-keys -t terminal -l ZZZZ"])
    # od prints in blocks of what it read at once: the mark pushes out what is before it.
    subprocess.run(["bash", "-c", f"{shlex.join(server)} {script}"], check=True, timeout=20)
    got = b""
    for _ in range(60):
        shown = subprocess.run(
            [*server, "capture-pane", "-p", "-t", "terminal", "-S", "-"], capture_output=True, check=True
        )
        got = bytes(int(word, 16) for word in shown.stdout.split())
        if got.endswith(b"ZZZZ"):
            break
        time.sleep(0.05)
    assert got == wanted + b"ZZZZ"
