"""What every sandbox does, on every backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sandboxes import output, taken

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import Backend, Sandbox, SandboxError, SandboxFileError
from pivotgym.envs.sandbox.base import Ending

Load = Callable[..., Sandbox]


# Commands -------------------------------------------------------------------------------------------------------------


def test_the_shell_is_one_over_all_commands(box: Sandbox) -> None:
    box.run(
        "cd /tmp; x=1; export Y='two words'; f() { echo \"f of $1\"; }; alias say='echo said'; umask 027; set -o noglob"
    )
    assert output(box, "pwd; echo $x; printenv Y; f 3; say hello; umask; echo *") == (
        "/tmp\n1\ntwo words\nf of 3\nsaid hello\n0027\n*\n"
    )


def test_status_and_last_status(box: Sandbox) -> None:
    assert box.run("(exit 7)").status == 7
    assert output(box, "echo $?") == "7\n"
    assert box.run("no_such_program").status == 127
    assert box.run("true").status == 0


def test_output_and_errors_come_in_order(box: Sandbox) -> None:
    assert output(box, "for i in 1 2 3; do echo out$i; echo err$i >&2; done") == "".join(
        f"out{i}\nerr{i}\n" for i in (1, 2, 3)
    )


def test_input_is_empty(box: Sandbox) -> None:
    assert output(box, "cat; read -r line; echo $?") == "1\n"


@pytest.mark.parametrize("broken", ["echo 'open", "if true; then", "for", ")", "cat <<X\nno end"])
def test_bad_syntax_is_an_answer(box: Sandbox, broken: str) -> None:
    box.run(broken)
    assert output(box, "echo still here") == "still here\n"


def test_output_that_is_no_text(box: Sandbox) -> None:
    assert output(box, r"printf 'a\0b\xff\xfec\r\n\033[1mz'") == "a\0b\ufffd\ufffdc\r\n\033[1mz"


def test_long_output_keeps_head_and_tail(start: Callable[..., Sandbox]) -> None:
    box = start()
    limit = box.config.limits.output_bytes
    result = box.run("seq 1 2000000")
    assert result.output.startswith("1\n2\n3\n") and result.output.endswith("1999999\n2000000\n")
    assert limit <= len(result.output) <= limit + 100
    whole = sum(len(str(number)) + 1 for number in range(1, 2_000_001))
    assert result.omitted_bytes == whole - limit
    assert f"[... {result.omitted_bytes} bytes omitted ...]" in result.output
    exact = box.run(f"head -c {limit} /dev/zero | tr '\\0' x")
    assert exact.output == "x" * limit and not exact.omitted_bytes


def test_a_long_command(box: Sandbox) -> None:
    text = "x" * 200_000
    assert output(box, f"cat <<'END' | wc -c\n{text}\nEND") == "200001\n"


def test_by_a_program_of_its_own(box: Sandbox) -> None:
    box.run("cd /tmp; export E=exported; kept=not; f() { :; }")
    result = box.run("echo $0; pwd; echo $E$kept; cd /; x=1; exit 4", shell=("/bin/sh", "-c"))
    assert (result.output, result.status, result.ending) == ("/bin/sh\n/tmp\nexported\n", 4, "exit")
    assert output(box, "pwd; echo $x$kept") == "/tmp\nnot\n"


# What ends a command --------------------------------------------------------------------------------------------------


def test_a_timeout_kills_the_command_and_leaves_the_shell(box: Sandbox) -> None:
    box.run("cd /tmp; x=before; f() { echo f; }")
    began = time.monotonic()
    result = box.run("x=after; cd /; echo begun; (sleep 100 & sleep 100); echo not reached", timeout=2.0)
    assert (result.output, result.status, result.ending) == ("begun\n", None, "timeout")
    assert time.monotonic() - began < 15
    assert output(box, "pwd; echo $x; f") == "/tmp\nbefore\nf\n"
    assert "sleep" not in output(box, "cat /proc/[0-9]*/comm")


def test_a_timeout_of_what_ignores_signals_or_never_calls(box: Sandbox) -> None:
    for stubborn in ("while :; do :; done", "trap '' INT TERM HUP; while :; do sleep 1; done", "kill -STOP $$"):
        assert box.run(stubborn, timeout=0.4).ending == "timeout"
        assert output(box, "echo fine") == "fine\n"


def test_idle(box: Sandbox) -> None:
    result = box.run("for i in 1 2 3 4; do echo $i; sleep 0.2; done; sleep 60", timeout=30, idle_timeout=3.0)
    assert (result.output, result.ending) == ("1\n2\n3\n4\n", "idle")
    assert output(box, "echo fine") == "fine\n"


def test_a_command_that_ended_while_nobody_looked_has_ended(box: Sandbox) -> None:
    """A machine that is short of time looks late; the command's own end then counts, not what it used before."""
    box.run("x=1")
    session = box._session  # type: ignore[attr-defined]

    def late() -> Ending:
        time.sleep(1.0)
        return "memory"

    result = session.run("sleep 0.2; echo done; x=2; (exit 3)", timeout=20, idle_timeout=None, limit=1000, watch=late)
    assert (result.output, result.status, result.ending) == ("done\n", 3, "exit")
    assert output(box, "echo $x") == "2\n"


def test_a_command_that_ends_while_it_is_killed_shows_no_mark(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    box.run("x=1")
    session = box._session  # type: ignore[attr-defined]
    kill = session._transport.kill

    def slow(keep: set[int], *, shell: bool) -> None:
        time.sleep(0.5)
        kill(keep, shell=shell)

    monkeypatch.setattr(session._transport, "kill", slow)
    result = session.run("sleep 0.3; echo done", timeout=20, idle_timeout=None, limit=1000, watch=lambda: "memory")
    assert (result.output, result.status, result.ending) == ("done\n", None, "memory")
    monkeypatch.undo()
    assert output(box, "echo $x") == "1\n"


def test_background_processes_outlive_later_timeouts(box: Sandbox) -> None:
    box.run("(while :; do echo tick >> /tmp/ticks; sleep 0.05; done) & echo $! > /tmp/pid")
    assert box.run("sleep 50", timeout=0.3).ending == "timeout"
    before = int(output(box, "wc -l < /tmp/ticks"))
    box.run("sleep 0.5")
    assert int(output(box, "wc -l < /tmp/ticks")) > before


def test_a_loud_background_process_changes_no_state(box: Sandbox, fork: Load) -> None:
    noise = 'declare -- x="noise"\nf () \n{\n    echo noise\n}'
    box.run(f"f() {{ echo is $x; }}; x=right; yes '{noise}' & sleep 0.1")
    for number in range(5):
        assert box.run(f"n={number}").ending == "exit"
    # A command that is ended puts the shell anew into the state it said while the other one wrote.
    assert box.run("sleep 9", timeout=0.3).ending == "timeout"
    assert "is right 4" in output(box, "pkill -9 yes; sleep 0.1; f $n; echo $(f) $n")
    kept = box.snapshot()
    assert kept is not None
    assert output(fork(kept), "f; echo $n") == "is right\n4\n"


def test_leaving_the_shell(box: Sandbox) -> None:
    box.run("cd /tmp; x=1")
    result = box.run("echo bye; exit 3")
    assert (result.output, result.status, result.ending) == ("bye\n", 3, "shell_exit")
    assert output(box, "pwd; echo $x") == "/tmp\n1\n"
    box.run("set -e")
    assert box.run("false; echo not reached").ending == "shell_exit"
    assert box.run("exec echo replaced").output == "replaced\n"
    assert output(box, "set +e; echo fine") == "fine\n"


def test_root_inside_installs_programs(box: Sandbox, backend: Backend, fork: Load) -> None:
    before = taken(box)
    box.run("printf '#!/bin/sh\\necho mine\\n' > /usr/local/bin/mine; chmod +x /usr/local/bin/mine")
    box.run("rm /usr/bin/tac; ln -s /usr/local/bin/mine /usr/bin/other; mkdir -p /usr/share/mine; touch /opt/x")
    assert output(box, "mine; other; tac 2>&1").startswith("mine\nmine\nbash: ")
    after = taken(box)
    changed = {change.path: change.kind for change in backend.changes(before, after)}
    assert changed == {
        "/opt/x": "file",
        "/usr/bin/other": "link",
        "/usr/bin/tac": "absent",
        "/usr/local/bin/mine": "file",
        "/usr/share/mine": "directory",
    }
    assert output(fork(before), "ls /usr/bin/tac") == "/usr/bin/tac\n"


@pytest.mark.parametrize("murder", ["kill -9 $$", "kill -9 -1", "kill -9 -1; sleep 1"])
def test_killing_the_shell(box: Sandbox, murder: str) -> None:
    box.run("cd /tmp; x=1; echo kept > file")
    result = box.run(murder)
    assert (result.status, result.ending) == (None, "shell_killed")
    assert output(box, "pwd; echo $x; cat file") == "/tmp\n1\nkept\n"


# Files ----------------------------------------------------------------------------------------------------------------


def test_files_from_outside(box: Sandbox, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    box.write_file("/root/deep/er/data.bin", data, mode=0o640)
    assert box.read_file("/root/deep/er/data.bin") == data
    assert output(box, "stat -c '%a %U %s' /root/deep/er/data.bin") == f"640 root {len(data)}\n"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "run.sh").write_text("echo ran\n")
    (tmp_path / "sub" / "run.sh").chmod(0o755)
    box.upload(tmp_path, "/root/up")
    assert output(box, "/bin/bash /root/up/sub/run.sh; test -x /root/up/sub/run.sh && echo x") == "ran\nx\n"


def test_trees_are_read_from_outside(box: Sandbox) -> None:
    box.run("mkdir -p t/a/b t/locked; echo 12 > t/a/b/f; ln t/a/b/f t/hard; ln -s /etc t/link; mkfifo t/p")
    box.run("chmod 4711 t/hard; touch t/locked/in $'t/odd\\nname'; chmod 000 t/locked")
    box.run("find() { echo faked; }; rm -f /usr/bin/find")
    found = box.tree("/root/work/t")
    assert {path: entry.kind for path, entry in found.items()} == {
        "": "directory",
        "a": "directory",
        "a/b": "directory",
        "a/b/f": "file",
        "hard": "file",
        "link": "link",
        "locked": "directory",
        "locked/in": "file",
        "odd\nname": "file",
        "p": "fifo",
    }
    assert (found["hard"].mode, found["hard"].size, found["a/b/f"].size) == (0o4711, 3, 3)
    assert found["link"].target == "/etc" and found["locked"].mode == 0
    assert set(box.tree("/root/work/t/link")) == {""} and set(box.tree("/root/work/t/hard")) == {""}
    assert [entry.kind for entry in box.tree("/root/work/t/link").values()] == ["link"]
    with pytest.raises(SandboxFileError):
        box.tree("/root/work/none")
    with pytest.raises(SandboxFileError):
        box.tree("/root/work/t", max_entries=5)


def test_files_that_cannot_be_read(box: Sandbox) -> None:
    box.run("mkfifo /tmp/fifo; mkdir /tmp/folder; ln -s /tmp/loop /tmp/loop; head -c 2000 /dev/zero > /tmp/large")
    for path in ("/tmp/missing", "/tmp/fifo", "/tmp/folder", "/tmp/loop", "/dev/zero"):
        with pytest.raises(SandboxFileError, match=path):
            box.read_file(path)
    with pytest.raises(SandboxFileError, match="large"):
        box.read_file("/tmp/large", max_bytes=1999)
    assert len(box.read_file("/tmp/large", max_bytes=2000)) == 2000
    with pytest.raises(SandboxFileError):
        box.write_file("/tmp/folder", b"")


def test_links_lead_nowhere_outside(box: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of this machine")
    box.run(
        f"ln -s {secret} /tmp/absolute; ln -s ../../../../../../..{secret} /tmp/relative; ln -s {tmp_path} /tmp/above"
    )
    for path in ("/tmp/absolute", "/tmp/relative", "/tmp/above/secret"):
        with pytest.raises(SandboxFileError):
            box.read_file(path)
    box.run(f"mkdir -p {tmp_path}")
    box.write_file("/tmp/absolute", b"inside")
    assert secret.read_text() == "of this machine"
    assert output(box, f"cat {secret}") == "inside"


# Bad input ------------------------------------------------------------------------------------------------------------


def test_bad_configurations(backend: Backend, config: object, start: Callable[..., Sandbox]) -> None:
    with pytest.raises(BadInput, match="no-such-image"):
        start(image="no-such-image")
    with pytest.raises((BadInput, SandboxError), match="nobody-knows"):
        start(user="nobody-knows")


def test_a_stopped_sandbox_says_so(box: Sandbox) -> None:
    box.run("true")
    box.stop()
    box.stop()
    with pytest.raises(SandboxError):
        box.run("true")
