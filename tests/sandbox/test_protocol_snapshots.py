"""What every sandbox's snapshots, forks and differences hold, on every backend."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
from sandboxes import output, taken

from pivotgym.envs.sandbox import Backend, Sandbox, SandboxFileError

Load = Callable[..., Sandbox]


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
