"""What the tests of hostile commands share: sandboxes, a look at the host's processes, and the same command outside."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import needs

from pivotgym.envs.sandbox import CommandResult, Limits, Sandbox, SandboxConfig, SandboxUnavailable, get_backend


@contextmanager
def sandbox(config: SandboxConfig | None = None, **limits: int) -> Iterator[Sandbox]:
    """A bubblewrap sandbox with small limits, so that reaching them takes little of the machine."""
    small = {"memory_bytes": 128 << 20, "disk_bytes": 64 << 20, "file_bytes": 32 << 20, "processes": 64}
    config = (config or SandboxConfig()).model_copy(update={"limits": Limits.model_validate(small | limits)})
    try:
        made = get_backend("bubblewrap").start(config)
    except SandboxUnavailable as error:
        needs.missing(str(error))
        raise
    try:
        yield made
    finally:
        made.stop()


def assert_usable(made: Sandbox) -> None:
    """The session answers, and answers right."""
    result = made.run("echo $((6 * 7)); (exit 3)", timeout=20)
    assert (result.output, result.status, result.ending) == ("42\n", 3, "exit"), result


def outside(command: str, **env: str) -> CommandResult:
    """The same command as a process of the host: shows that the attack works where nothing defends."""
    run = subprocess.run(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **env},
    )
    return CommandResult(run.stdout, run.returncode)


def marker() -> str:
    """A name that no other process has."""
    return f"hostile-{uuid.uuid4().hex}"


def look_for(mark: str, *paths: str) -> str:
    """A command that shows ``mark`` once for each of ``paths`` that holds it and for each process called so."""
    # The pattern does not match itself: the arguments of this grep are among the lines it reads.
    pattern = f"[{mark[0]}]{mark[1:]}"
    return f"cat {' '.join(paths)} 2> /dev/null; cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep '{pattern}'"


def processes(mark: str) -> list[int]:
    """The host's processes whose arguments contain ``mark``, this one aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def appear(mark: str, count: int = 1, seconds: float = 10.0) -> list[int]:
    """The processes with that mark, once there are ``count``: what a shell starts may not yet be called so."""
    until = time.monotonic() + seconds
    while len(found := processes(mark)) < count and time.monotonic() < until:
        time.sleep(0.02)
    return found


def gone(mark: str, seconds: float = 5.0) -> bool:
    """Whether no process with that mark is left, now or soon."""
    until = time.monotonic() + seconds
    while found := processes(mark):
        if time.monotonic() > until:
            print({pid: _status(pid) for pid in found})
            return False
        time.sleep(0.05)
    return True


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()[:80]
    except OSError:
        return "ended"


def available_memory() -> int:
    """Bytes the host has free for new programs."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert found
    return int(found.group(1)) << 10


def own_memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


REACH = """python3 -c '
import errno, socket, sys
def attempt(name, call):
    try:
        call()
        print(name, "reached")
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, error))
def tcp(host, port):
    return lambda: socket.create_connection((host, port), 3)
def udp(host, port):
    return lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (host, port))
attempt("listener", tcp("{address}", {port}))
attempt("loopback", tcp("127.0.0.1", {port}))
attempt("metadata", tcp("169.254.169.254", 80))
attempt("bridge", tcp("172.17.0.1", 22))
attempt("public", tcp("1.1.1.1", 443))
attempt("nameserver", udp("8.8.8.8", 53))
attempt("multicast", udp("224.0.0.251", 5353))
attempt("broadcast", udp("255.255.255.255", 9))
attempt("six", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"x", ("2606:4700::1111", 53)))
attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\\0{abstract}"))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("packet", lambda: socket.socket(17, socket.SOCK_RAW, 0))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("name", lambda: socket.getaddrinfo("example.com", 80))
'"""


def assert_unreachable(made: Sandbox) -> None:
    """Nothing is reached from inside, and at once; outside, what stays on this machine is."""
    abstract = marker()
    with (
        closing(socket.create_server(("", 0))) as tcp,
        closing(socket.socket(socket.AF_UNIX)) as unix,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as route,
    ):
        unix.bind(f"\0{abstract}")
        unix.listen()
        try:
            route.connect(("192.0.2.1", 9))
            address = route.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
        command = REACH.format(address=address, port=tcp.getsockname()[1], abstract=abstract)
        local = re.sub(r'attempt\("(metadata|public|bridge|nameserver|multicast|broadcast|six|name)".*\n', "", command)
        host = dict(line.split(" ", 1) for line in outside(local).output.splitlines())
        assert host["listener"] == host["loopback"] == host["abstract"] == "reached"
        result = made.run(command, timeout=40)
        found = dict(line.split(" ", 1) for line in result.output.splitlines())
        assert len(found) == 14, result
        assert {name for name, what in found.items() if what == "reached"} == set(), result
        assert found["metadata"] == found["public"] == found["bridge"] == found["nameserver"] == "ENETUNREACH"
        assert found["abstract"] == found["loopback"] == "ECONNREFUSED"
        # An agent should not wait for a timeout of TCP.
        assert result.seconds < 10
