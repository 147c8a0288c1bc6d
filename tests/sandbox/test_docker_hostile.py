"""Commands that attack, on Docker: a limit or a refusal ends them; the host, a parent and a sibling go on.

What the container is given (capabilities, network, mounts) is in ``test_docker_backend.py``; here it is tried.
"""

from __future__ import annotations

import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hostile import appear, assert_unreachable, assert_usable, gone, look_for, marker, outside, own_memory
from needs import missing, require
from sandboxes import taken

from pivotgym.envs.sandbox import Limits, Sandbox, SandboxConfig, SandboxFileError
from pivotgym.envs.sandbox.docker import DEFAULT_IMAGE, DockerBackend

require("docker", "docker")

MIB = 1 << 20
Begin = Callable[..., Sandbox]


@pytest.fixture
def begin(docker: DockerBackend) -> Iterator[Begin]:
    """Starts sandboxes with small limits, or with those given."""
    begun: list[Sandbox] = []

    def begin(user: str = "root", **limits: int) -> Sandbox:
        small = {"memory_bytes": 128 * MIB, "disk_bytes": 24 * MIB, "file_bytes": 16 * MIB, "processes": 40}
        config = SandboxConfig(image=DEFAULT_IMAGE, workdir="/tmp", user=user, limits=Limits(**small | limits))
        begun.append(docker.start(config))
        return begun[-1]

    yield begin
    for box in begun:
        box.stop()


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A secret in the environment of this process and in files of this machine."""
    value = f"canary-{uuid.uuid4().hex}"
    monkeypatch.setenv("PIVOTGYM_CANARY_TOKEN", value)
    (tmp_path / "secret").write_text(value)
    return value


@contextmanager
def watched(count: Callable[[], int]) -> Iterator[list[int]]:
    """Samples a count of the host's."""
    counts: list[int] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            counts.append(count())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield counts
    finally:
        done.set()
        thread.join()


def container_of(box: Sandbox) -> str:
    return str(box._container.id)  # type: ignore[attr-defined]


def pids_of(box: Sandbox) -> int:
    """The container's processes as the host's kernel lists them, whatever they call themselves."""
    name, found = container_of(box).encode(), 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found += name in (entry / "cgroup").read_bytes()
    return found


def here(box: Sandbox) -> None:
    """Goes on only where the container's processes are processes of this machine."""
    if box.run("true").ending != "exit" or not pids_of(box):
        missing("the Docker daemon runs elsewhere: its containers' processes cannot be counted from here")


# Resources ------------------------------------------------------------------------------------------------------------

BOMBS = {
    "pipes": "f() { f | f & }; f; sleep 30",
    "sessions": "while :; do setsid bash -c 'trap \"\" TERM HUP; sleep 99; :' & done",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_fork_bomb(begin: Begin, bomb: str) -> None:
    """The container's processes are counted from outside: they reach the limit, stay below it, and are gone after."""
    box, sibling = begin(), begin()
    here(box)
    idle = pids_of(box)
    assert_usable(sibling)
    thread = threading.Thread(target=lambda: box.run(BOMBS[bomb], timeout=2.5))
    with watched(lambda: pids_of(box)) as counts:
        thread.start()
        time.sleep(0.8)
        for _ in range(3):
            assert sibling.run("echo $(echo fine | cat)", timeout=20).output == "fine\n"
        assert outside("echo $(echo fine | cat)").output == "fine\n"
        thread.join(40)
        assert not thread.is_alive()
    # Four beside the limit are the sandbox's own.
    assert 30 < max(counts) <= 44, counts
    assert_usable(box)
    until = time.monotonic() + 10
    while pids_of(box) > idle + 1 and time.monotonic() < until:  # the dead are there until somebody takes note of them
        time.sleep(0.05)
    assert pids_of(box) <= idle + 1


def test_more_processes_where_more_are_allowed(begin: Begin) -> None:
    """Without the limit the counts would be those of its time, not those of the limit."""
    reached = []
    for allowed in (20, 60):
        box = begin(processes=allowed)
        here(box)
        with watched(lambda box=box: pids_of(box)) as counts:  # type: ignore[misc]
            box.run("for i in {1..100}; do sleep 9 & done 2>/dev/null; sleep 3", timeout=2.5)
        reached.append(max(counts))
    assert reached[0] <= 24 < 50 < reached[1] <= 64, reached


HOGS = {
    "one": """python3 -uc '
kept = []
while True:
    kept.append(bytearray(b"x") * (4 << 20)); print(len(kept) * 4)'""",
    "shared": """python3 -uc '
import mmap
kept = []
while True:
    kept.append(mmap.mmap(-1, 4 << 20)); kept[-1].write(b"x" * (4 << 20)); print(len(kept) * 4)'""",
    "many": """for i in {1..30}; do python3 -uc '
import os
kept = bytearray(b"x") * (16 << 20); os.write(1, b"16\\n")
import time; time.sleep(60)' & sleep 0.2; done; wait""",
}


@pytest.mark.parametrize("hog", HOGS)
def test_memory_hog(begin: Begin, hog: str) -> None:
    """The printed MiB stay below the limit; with more allowed the same program gets further."""
    reached = []
    for allowed in (96, 224):
        box = begin(memory_bytes=allowed * MIB, processes=60)
        box.run("kept=yes", timeout=10)
        result = box.run(HOGS[hog], timeout=20)
        assert result.ending == "memory" or (result.ending == "exit" and result.status != 0), result
        numbers = [int(line) for line in result.output.splitlines() if line.isdigit()]
        reached.append(sum(numbers) if hog == "many" else max(numbers, default=0))
        assert 0 < reached[-1] <= allowed, result
        assert box.run("echo $kept", timeout=10).output == "yes\n"
        assert_usable(box)
    assert reached[0] < reached[1], reached


FILLERS = {
    "several": "for i in {1..99}; do head -c 8M /dev/zero > /tmp/x$i; done; sleep 20",
    "system": "for i in {1..99}; do head -c 8M /dev/zero > /usr/x$i; done; sleep 20",
    "yes": "nohup yes > /tmp/a 2>&1 & yes > /tmp/b & yes > /tmp/c & wait; sleep 20",
}


@pytest.mark.parametrize("filler", FILLERS)
def test_filling_the_disk(begin: Begin, filler: str) -> None:
    """Ways without a name or without content are in ``test_docker_backend.py``."""
    box = begin()
    assert box.run(FILLERS[filler], timeout=30).ending == "disk"
    assert int(box.run("cat /tmp/* /usr/x* 2>/dev/null | wc -c", timeout=20).output) < 800 * MIB
    assert box.run("rm -rf /tmp/* /usr/x*; echo x > /tmp/small; cat /tmp/small", timeout=20).output == "x\n"


def test_one_file_has_its_limit(begin: Begin) -> None:
    box = begin(file_bytes=4 * MIB)
    box.run("cat /dev/zero > /tmp/x", timeout=10)
    assert box.run("stat -c %s /tmp/x", timeout=10).output == f"{4 * MIB}\n"
    assert box.run("ulimit -f unlimited; truncate -s 1T /tmp/sparse", timeout=10).status != 0


@pytest.mark.parametrize("command", ["yes", "cat /dev/urandom >&2", "yes & yes >&2 & wait"])
def test_endless_output(begin: Begin, command: str) -> None:
    box = begin(output_bytes=20_000)
    box.run("kept=yes", timeout=10)
    before = own_memory()
    result = box.run(command, timeout=1.5)
    assert result.ending == "timeout" and result.seconds < 8
    assert len(result.output) < 25_000 and result.omitted_bytes > 10_000
    assert own_memory() - before < 64 * MIB
    assert box.run("echo $kept", timeout=10).output == "yes\n"
    assert_usable(box)


# Its own session and those of others ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "murder", ["kill -9 -1", "kill -9 $$", "kill -9 $PPID; sleep 9", "kill -STOP -1; kill -STOP $$"]
)
def test_killing_everything_again_and_again(begin: Begin, murder: str) -> None:
    box = begin()
    box.run("kept=yes; echo file > /tmp/file", timeout=10)
    for _ in range(3):
        if box.run(murder, timeout=1.0).ending == "exit":
            # The command ended before its session did, whose end is then the next command's to meet.
            box.run(":", timeout=10)
        assert_usable(box)
    assert box.run("echo $kept; cat /tmp/file", timeout=10).output == "yes\nfile\n"


def test_siblings_and_parents_are_unharmed(begin: Begin, docker: DockerBackend) -> None:
    """Forks of one snapshot: what one destroys is there for the others, and its signals reach nobody else."""
    parent, mark = begin(), marker()
    parent.run("echo whole > /root/file; x=5", timeout=10)
    snapshot = taken(parent)
    sibling, attacker = docker.load(snapshot), docker.load(snapshot)
    try:
        for box in (parent, sibling):
            box.run(f"(exec -a {mark} sleep 1000) & echo {mark} > /dev/shm/{mark}; sleep 0.1", timeout=10)
        assert len(appear(mark, 2)) == 2
        look = look_for(mark, f"/dev/shm/{mark}")
        assert parent.run(look, timeout=10).output == f"{mark}\n" * 2
        assert attacker.run(look, timeout=10).output == ""
        attack = "rm -rf --no-preserve-root / 2>/dev/null; kill -9 -1"
        assert attacker.run(attack, timeout=20).ending in ("shell_killed", "exit", "shell_exit", "timeout")
        for box in (parent, sibling):
            assert (
                box.run("cat /root/file; echo $x; kill -0 %1 && echo lives", timeout=10).output == "whole\n5\nlives\n"
            )
        fresh = docker.load(snapshot)
        try:
            assert fresh.run("cat /root/file; ls /usr/bin | wc -l", timeout=10).output.startswith("whole\n")
            assert_usable(fresh)
        finally:
            fresh.stop()
    finally:
        sibling.stop()
        attacker.stop()
        docker.close(snapshot)


def test_nothing_outlives_the_episode(begin: Begin) -> None:
    mark = marker()
    box = begin()
    here(box)
    name = container_of(box)
    box.run(f"setsid -f bash -c 'trap \"\" TERM HUP; exec -a {mark} sleep 1000' > /dev/null 2>&1", timeout=10)
    box.run(
        f"( ( (exec -a {mark} sleep 1000) & ) & ); nohup bash -c 'exec -a {mark} sleep 1000' & sleep 0.2", timeout=10
    )
    assert len(appear(mark, 3)) >= 3
    box.stop()
    assert gone(mark)
    listed = box._backend.client.containers(all=True, filters={"id": name})  # type: ignore[attr-defined]
    assert listed == []


# The host -------------------------------------------------------------------------------------------------------------


def test_files_and_environment_of_the_host_are_not_there(begin: Begin, secret: str, tmp_path: Path) -> None:
    box, place = begin(), tmp_path / "secret"
    names = f"{place} /proc/1/root{place} /proc/self/root{place} /proc/1/cwd/../../../../..{place}"
    look = f"cat {names} 2>/dev/null; env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; declare -p"
    assert outside(look).output.count(secret) >= 3
    seen = box.run(look, timeout=15).output
    assert "PATH=" in seen and secret not in seen
    listed = box.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls -d /proc/[0-9]*", timeout=10).output
    assert "pytest" in outside("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").output
    assert "pytest" not in listed and len(re.findall(r"^/proc/\d+$", listed, re.MULTILINE)) < 12
    assert box.run("find / -xdev -type s 2>/dev/null; ls /var/run/docker.sock", timeout=30).output.count("\n") == 1
    mounted = box.run("cut -d' ' -f1,3 /proc/self/mounts | sort -u", timeout=10).output
    disks = [line for line in mounted.splitlines() if line.startswith("/dev/")]
    # What is mounted from a disk are the files that the daemon gives each container.
    inside = box.run("grep ^/dev/ /proc/self/mounts | cut -d' ' -f2", timeout=10).output.split()
    assert disks == [] or set(inside) <= {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}, mounted


def test_no_network_and_no_metadata_address(begin: Begin) -> None:
    assert_unreachable(begin())


CALL = "python3 -c 'import ctypes, os; os._exit(ctypes.CDLL(None).syscall({}) < 0)'"
ATTACKS = {
    "mount": "mount -t tmpfs none /mnt || mount --bind / /mnt",
    "remount": "mount -o remount,rw /proc/sys || mount -o remount,rw /sys",
    "umount": "umount -l /proc || umount /etc/hosts",
    "unshare": "unshare -U true || unshare -Ur true || unshare -m true || unshare -n true",
    "nsenter": "nsenter -t 1 -m true",
    "mknod": "mknod /tmp/b b 254 0 || mknod /tmp/c c 1 1 || mknod /dev/m c 1 1",
    "chroot": "chroot / true",
    "hostname": "hostname evil || echo evil > /proc/sys/kernel/hostname",
    "date": "date -s 2001-01-01",
    # Opened for writing and closed: a write that came through would harm this machine.
    "kernel": ": >> /proc/sys/kernel/core_pattern || : >> /proc/sysrq-trigger || : >> /proc/sys/kernel/panic",
    "cgroup": "echo 999 > $(find /sys/fs/cgroup -name pids.max | head -n 1)",
}


CALLS = {"keys": '248, b"user", b"k", b"x", 1, -4', "bpf": '321, 0, b"\\0" * 128, 128', "module": '313, 0, b"", 0'}
if platform.machine() == "x86_64":  # the numbers are those of its calls
    ATTACKS |= {name: CALL.format(call) for name, call in CALLS.items()}


@pytest.mark.parametrize("user", ["root", "agent"])
def test_mount_ptrace_namespaces_devices(begin: Begin, user: str) -> None:
    """Each program is there: its absence is no defence."""
    box = begin(user=user)
    for name, attack in ATTACKS.items():
        result = box.run(f"({attack}) 2>&1", timeout=10)
        assert result.ending == "exit" and result.status not in (0, 127), (name, result)
        assert "command not found" not in result.output, (name, result)
    devices = box.run("find /dev -type b -o -type c", timeout=10).output.split()
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
    assert {one.removeprefix("/dev/") for one in devices if not one.startswith("/dev/pts/")} <= allowed
    assert_usable(box)


TRACE = """python3 -c '
import ctypes, errno, os, sys
libc, target = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
ATTACH, KILL = 16, 8
if libc.ptrace(ATTACH, target, 0, 0) == 0:
    os.waitpid(target, 0x40000000)
    libc.ptrace(KILL, target, 0, 0)
    print("traced")
else:
    print(errno.errorcode[ctypes.get_errno()])' {}"""


@pytest.mark.parametrize("user", ["root", "agent"])
def test_tracing_reaches_what_is_inside_only(begin: Begin, user: str) -> None:
    """Docker's filter lets root inside trace its own processes: the first one too, whose death it survives."""
    box = begin(user=user)
    box.run("kept=yes; echo file > /tmp/file", timeout=10)
    assert box.run(TRACE.format(os.getpid()), timeout=10).output in ("ESRCH\n", "EPERM\n")
    mine = box.run(f"sleep 50 & {TRACE.format('$!')}", timeout=10)
    assert mine.output.startswith(("traced\n", "EPERM\n")), mine
    box.run("kill %1; wait", timeout=10)
    result = box.run(TRACE.format(1), timeout=10)
    assert result.ending == "shell_killed" or result.output in ("traced\n", "EPERM\n"), result
    assert box.run("echo $kept; cat /tmp/file", timeout=20).output == "yes\nfile\n"
    assert_usable(box)


# Files that the host opens --------------------------------------------------------------------------------------------


def test_links_for_the_host_to_follow(begin: Begin, secret: str, tmp_path: Path) -> None:
    """By reading, by writing, by copying and by listing: whatever a link says, it is about the container's files."""
    box, place = begin(), tmp_path / "secret"
    victim, folder, source = tmp_path / "victim", tmp_path / "folder", tmp_path / "source"
    victim.write_text("untouched")
    (tmp_path / "only-outside").touch()
    folder.mkdir()
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "new").write_text("x")
    far = "../" * 40
    box.run(
        f"cd /tmp; ln -s {place} a; ln -s {far}{str(place)[1:]} b; ln -s {tmp_path} c; ln -s / r; "
        f"ln -s /proc/self/root{place} p; ln -s /proc/self/cwd w; ln -s a chain; ln -s {victim} v; "
        f"ln -s {folder} deep; mkdir t; cd t; ln -s {tmp_path} out; ln -s {place} file",
        timeout=10,
    )
    reads = ["/tmp/a", "/tmp/b", "/tmp/p", "/tmp/chain", "/tmp/c/secret", f"/tmp/r{place}", f"/tmp/w/../..{place}"]
    for path in [*reads, str(place), f"/../../../..{place}", f"/tmp/../../..{place}", f"../../..{place}"]:
        with suppress(SandboxFileError):
            assert secret.encode() not in box.read_file(path), path
    for path in ("/tmp/v", "/tmp/deep/new", f"/tmp/r{folder}/new", f"/../..{folder}/new"):
        with suppress(SandboxFileError):
            box.write_file(path, b"overwritten")
    with suppress(SandboxFileError):
        box.upload(source, "/tmp")
    found = box.tree("/tmp/t")
    assert {name: entry.kind for name, entry in found.items()} == {"": "directory", "out": "link", "file": "link"}
    assert found["out"].target == str(tmp_path)
    for path in ("/tmp/c", "/tmp/deep", str(tmp_path)):
        with suppress(SandboxFileError):
            assert "only-outside" not in box.tree(path), path
    assert victim.read_text() == "untouched" and list(folder.iterdir()) == []
    assert place.read_text() == secret
    assert_usable(box)


@pytest.mark.parametrize(
    "kind", ["fifo", "link", "device", "folder", "socket", "sparse", "long", "long link", "nul", "loop"]
)
def test_what_must_not_be_read_is_refused_at_once(begin: Begin, kind: str) -> None:
    make, path = {
        "fifo": ("mkfifo /tmp/f", "/tmp/f"),
        "link": ("ln -s /dev/zero /tmp/l", "/tmp/l"),
        "device": ("true", "/dev/zero"),
        "folder": ("mkdir /tmp/d", "/tmp/d"),
        "socket": ("python3 -c 'import socket; socket.socket(1).bind(\"/tmp/s\")'", "/tmp/s"),
        "sparse": ("truncate -s 15M /tmp/sparse", "/tmp/sparse"),
        "long": ("true", "/tmp/" + "x" * 5000),
        "long link": ("ln -s $(head -c 3000 /dev/zero | tr '\\0' x) /tmp/l", "/tmp/l"),
        "nul": ("true", "/tmp/nul\0byte"),
        "loop": ("ln -s loop /tmp/loop", "/tmp/loop"),
    }[kind]
    box = begin()
    box.run(make, timeout=10)
    done: list[BaseException] = []

    def attempt() -> None:
        try:
            box.read_file(path, max_bytes=MIB)
        except BaseException as error:
            done.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "the host waits"
    assert [type(error) for error in done] == [SandboxFileError], done
    assert_usable(box)
