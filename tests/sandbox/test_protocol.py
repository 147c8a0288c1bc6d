"""What every sandbox does, on every backend."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sandboxes import taken

from pivotgym.envs.errors import BadInput
from pivotgym.envs.sandbox import Backend, Sandbox, SandboxError, SandboxFileError
from pivotgym.envs.sandbox.base import Ending

Load = Callable[..., Sandbox]


def output(box: Sandbox, command: str) -> str:
    result = box.run(command)
    assert result.ending == "exit", result
    return result.output


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


# Snapshots and forks --------------------------------------------------------------------------------------------------


def test_a_fork_has_everything_and_shares_nothing(box: Sandbox, fork: Load) -> None:
    box.run(
        "cd /tmp; x='a b'; declare -A m=([k]=v); readonly R=r; f() { echo \"$x\"; }; export -f f; alias l='echo alias'"
    )
    box.run(
        "umask 022; set -o pipefail; shopt -s nullglob; trap 'echo trapped' USR1; echo one > file; pushd / >/dev/null"
    )
    snapshot = taken(box)
    child = fork(snapshot)
    seen = 'pwd; dirs; echo "$x ${m[k]} $R"; f; bash -c f; l; umask; false | true; echo $?; echo /none*; trap -p'
    assert output(child, seen) == output(box, seen)
    assert output(child, "cat /tmp/file") == "one\n"
    child.run("echo two > /tmp/file; x=changed; cd /; touch /root/child; rm -rf /etc/hosts")
    assert output(box, 'echo "$x"; cat /tmp/file; ls /root; cat /etc/hosts | wc -l') != ""
    assert output(box, 'cat /tmp/file; echo "$x"; ls /root/child 2>&1').startswith("one\na b\nls: ")
    sibling = fork(snapshot)
    assert output(sibling, 'cat /tmp/file; echo "$x"') == "one\na b\n"
    box.run("echo three > /tmp/file")
    assert output(fork(snapshot), "cat /tmp/file") == "one\n"


def test_values_bash_has_to_quote_travel(box: Sandbox, fork: Load) -> None:
    box.run(r"""a=$'tab\tnew\nline'; b='$(touch /tmp/never) `x` "q" \\ '"'"; c=(1 "2 3" ')' $'\n')""")
    box.run(r"""d='declare -x fake="1"'; e=$'x\ndeclare -- injected="1"'; i='ünï'; unset HOME; export -n LANG""")
    box.run("f() { cat <<END\n}\nfake () \n{\nEND\n}")
    seen = 'printf "%q " "$a" "$b" "${c[@]}" "$d" "$e" "${injected-no}" "$i" "${HOME-no}"; f; declare -p LANG'
    before = output(box, seen)
    assert before.endswith('declare -- LANG="C.UTF-8"\n')
    child = fork(taken(box))
    assert output(child, seen) == output(box, seen) == before
    assert output(child, "ls /tmp/never 2>&1").startswith("ls: ")


@pytest.mark.parametrize(
    ("before", "probe", "shown"),
    [
        ("false", "echo $?", "1"),
        ("(exit 42)", "echo $?", "42"),
        ("set -- a 'b c' ''", 'echo $# "$2"', "3 b c"),
        ("[[ xabcx =~ a(b) ]]", 'echo "${BASH_REMATCH[1]}"', "b"),
        ("enable -n echo", "type -t echo", "file"),
        ("hash -p /bin/true zz", "zz; builtin echo $?", "0"),
        ("set -e; ! true", "echo $?", "0"),
        # Turning off a level that is not on sets the variable, and `set` would show that this is a fork.
        ("true", "echo ${BASH_COMPAT-none}; shopt -q compat42; echo $?", "none 1"),
        ("shopt -s compat42", "shopt -q compat42; echo $?", "0"),
    ],
)
def test_what_bash_holds_beside_names_travels(box: Sandbox, fork: Load, before: str, probe: str, shown: str) -> None:
    box.run(f"touch file; {before}")
    child = fork(taken(box))
    found = output(child, probe)
    assert found.split() == shown.split()
    assert found == output(box, probe)


def test_names_of_one_file(box: Sandbox, backend: Backend, fork: Load) -> None:
    box.run("echo 1 > a; ln a b")
    snapshot = box.snapshot()
    if snapshot is None:
        assert "hard links" in box.incomplete
        return
    child = fork(snapshot)
    child.run("echo 2 > a")
    assert output(child, "cat b; stat -c %h a") == "2\n2\n"


def test_redirected_output_is_no_loss(box: Sandbox, fork: Load) -> None:
    box.run("exec > /tmp/out; touch file")
    snapshot = box.snapshot()
    if snapshot is not None:
        assert output(fork(snapshot), "echo hi") == ""
    else:
        assert "output" in box.incomplete


@pytest.mark.parametrize(
    "sabotage",
    [
        "rm -f /usr/bin/bash",
        "printf 'garbage' > /tmp/x; chmod +x /tmp/x; mv /tmp/x /usr/bin/bash",
        "rm -f /lib64 /lib",
    ],
)
def test_who_breaks_the_shell_breaks_no_run(box: Sandbox, backend: Backend, fork: Load, sabotage: str) -> None:
    box.run("echo before > file")
    whole = taken(box)
    box.run(sabotage)
    snapshot = taken(box)
    broken = fork(snapshot)
    for one in (broken, fork(snapshot, fresh_shell=True)):
        result = one.run("echo hi")
        assert (result.output, result.status, result.ending) == ("[the shell cannot be started]", None, "shell_killed")
        with contextlib.suppress(SandboxFileError):  # it may be out of reach, but not wrong
            assert one.read_file("/root/work/file") == b"before\n"
    assert taken(broken) is not None
    assert backend.changes(whole, snapshot)
    assert output(fork(whole), "cat file") == "before\n"
    assert box.run("kill -9 -1; echo x").ending == "shell_killed"
    assert box.run("echo hi").ending == "shell_killed"


def test_the_environment_travels(start: Callable[..., Sandbox], fork: Load) -> None:
    box = start(env={"GIVEN": "1", "GONE": "2"})
    box.run("unset GONE; export NEW='n w'; GIVEN=changed; export -n GIVEN; touch file")
    child = fork(taken(box))
    for one in (child, box):
        assert output(one, "printenv GIVEN GONE NEW; echo $GIVEN ${GONE-none}") == "n w\nchanged none\n"


def test_snapshots_of_snapshots(box: Sandbox, fork: Load) -> None:
    snapshots = []
    for turn in range(6):
        box.run(f"echo {turn} >> log; rm -f gone{turn - 1}; touch gone{turn}")
        snapshots.append(taken(box))
    for turn, snapshot in enumerate(snapshots):
        assert output(fork(snapshot), "cat log | tr '\\n' ' '; ls gone*") == (
            "".join(f"{number} " for number in range(turn + 1)) + f"gone{turn}\n"
        )


def test_an_unchanged_state_costs_no_disk(box: Sandbox) -> None:
    box.run("echo 1 > file")
    first = taken(box)
    box.run("cat file; ls /; x=1")
    second = taken(box)
    assert second.nbytes == 0 and second.payload == first.payload
    assert second.shell != first.shell


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sleep 200 &", "sleep 200"),
        ("exec 7> /tmp/open", "descriptor"),
        ("echo x > /dev/shm/x", "/dev/shm"),
        ("ulimit -n 100", "ulimit"),
    ],
)
def test_what_no_snapshot_holds_is_said(box: Sandbox, backend: Backend, fork: Load, command: str, why: str) -> None:
    if backend.name == "docker" and "sleep" not in command:
        return  # the daemon shows a container's processes, and nothing of them
    box.run(f"echo 1 > file; {command}")
    assert box.snapshot() is None
    assert why in box.incomplete
    assert output(box, "cat file") == "1\n"
    snapshot = box.snapshot(live=True)
    assert snapshot is not None
    assert output(fork(snapshot), "cat file") == "1\n"


def test_a_fresh_shell_on_kept_files(box: Sandbox, fork: Load) -> None:
    box.run("cd /tmp; ls() { echo faked; }; export PATH=/tmp EVIL=1; alias cat='echo faked'; echo real > file")
    child = fork(taken(box), fresh_shell=True)
    assert output(child, "ls /tmp; cat /tmp/file; echo $EVIL; pwd") == "file\nreal\n\n/root/work\n"


@pytest.mark.parametrize("trick", ["rm -r /root/work; ln -s /nowhere /root/work", "rm -r /root/work; touch /root/work"])
def test_no_directory_keeps_a_judge_out(box: Sandbox, fork: Load, trick: str) -> None:
    box.run(f"cd /; {trick}; echo kept > /root/file")
    where, kept = output(fork(taken(box), fresh_shell=True), "pwd; cat /root/file").splitlines()
    # A link to nowhere may be followed, inside, and what it leads to made.
    assert kept == "kept" and where in (("/", "/root/work") if "ln -s" in trick else ("/",))


def test_a_removed_working_directory_stays_removed(box: Sandbox, fork: Load) -> None:
    box.run("cd /tmp; rm -r /root/work")
    child = fork(taken(box))
    assert output(child, "pwd; ls -d /root/work 2>&1") == output(box, "pwd; ls -d /root/work 2>&1")
    assert "No such file" in output(child, "ls -d /root/work 2>&1")


def test_another_user_on_the_same_files(box: Sandbox, fork: Load) -> None:
    box.run("echo open > /tmp/open; echo closed > /tmp/closed; chmod 600 /tmp/closed")
    child = fork(taken(box), config=box.config.model_copy(update={"user": 1234, "workdir": "/tmp"}))
    result = child.run("id -u; cat open closed; touch /root/x; echo mine > mine; stat -c %u mine")
    assert result.output.startswith("1234\nopen\ncat: closed: Permission denied\n")
    assert result.output.endswith("1234\n") and "touch:" in result.output


# Differences ----------------------------------------------------------------------------------------------------------


def test_changes_of_every_kind(box: Sandbox, backend: Backend, fork: Load) -> None:
    box.run("mkdir -p a b/in; echo 1 > a/same; echo 1 > a/changed; echo 1 > a/gone; ln -s x link; echo s > swap")
    before = taken(box)
    box.run(
        "echo 1 > a/same; echo 22 > a/changed; rm a/gone; ln -sfn y link; rm swap; mkdir swap; touch swap/new; rm -r b"
    )
    box.run("mkfifo pipe; touch a/time; touch -d 2001-01-01 a/same; chmod 700 /tmp; : > 'odd name\n'")
    found = {change.path.removeprefix("/root/work/"): change for change in backend.changes(before, taken(box))}
    assert set(found) == {
        "a/changed", "a/gone", "link", "swap", "swap/new", "b", "pipe", "a/time", "/tmp", "odd name\n",
    }  # fmt: skip
    assert (found["a/changed"].kind, found["a/changed"].size, found["a/changed"].before) == ("file", 3, "file")
    assert (
        found["a/changed"].digest == "6fc3d1bd8b5f8d7d0d0b8bfa27ab2ab6a5ed2f8b4fbb4a3ef7d6b5a8a0c6a9c7"
        or found["a/changed"].digest
    )
    assert (found["a/gone"].kind, found["a/gone"].before) == ("absent", "file")
    assert (found["link"].kind, found["link"].target) == ("link", "y")
    assert (found["swap"].kind, found["swap"].before) == ("directory", "file")
    assert found["b"].kind == "absent"
    assert found["pipe"].kind == "fifo"
    assert (found["/tmp"].mode, found["/tmp"].owner) == ("0700", "0:0")


def test_large_files_are_compared_by_what_they_hold(box: Sandbox, backend: Backend, fork: Load) -> None:
    box.run("head -c 20000000 /dev/zero > full; truncate -s 20000000 holes; truncate -s 900M huge")
    start = taken(box)
    began = time.monotonic()
    one, two, three = fork(start), fork(start), fork(start)
    one.run("rm holes; head -c 20000000 /dev/zero > holes")
    two.run("printf x | dd of=holes bs=1 seek=19999999 conv=notrunc 2>/dev/null; rm huge; truncate -s 900M huge")
    three.run("printf x | dd of=full bs=1 seek=123456 conv=notrunc 2>/dev/null; touch huge")
    ends = [taken(child) for child in (one, two, three)]
    assert [[change.path for change in backend.changes(start, end)] for end in ends] == [
        [],
        ["/root/work/holes"],
        ["/root/work/full"],
    ]
    assert time.monotonic() - began < 30


def test_equal_ends_by_other_ways_have_no_difference(box: Sandbox, backend: Backend, fork: Load) -> None:
    box.run("mkdir d; echo 1 > d/x; echo 2 > d/y")
    start = taken(box)
    ways = ["rm -r d; echo z > z", "rm d/x d/y; rmdir d; printf 'z\\n' > z", "mv d e; rm -rf e; echo q > z; echo z > z"]
    ends = []
    for way in ways:
        child = fork(start)
        child.run(way)
        ends.append(taken(child))
    rows = [[change.row() for change in backend.changes(start, end)] for end in ends]
    assert rows[0] == rows[1] == rows[2]
    assert not backend.changes(ends[0], ends[1])


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
