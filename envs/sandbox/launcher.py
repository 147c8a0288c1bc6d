"""The process that starts sandboxes: small, so that starting is fast, and bound to the life of the one it serves.

A script of its own (``python -I -S launcher.py FD``), standard library only. It takes one request a message from a
socket and starts bubblewrap. Two reasons for not doing that in the main process: a process with a language model in
memory takes long to fork, and the kernel's parent-death signal is bound to the thread that forked. When the other end
of the socket is closed, however the main process died, this one ends, and the kernel kills every sandbox with it.

Where the request names a user, the sandbox gets a user namespace of its own in which 65,536 users map to unprivileged
users outside; else bubblewrap maps the one user itself.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import sys
from typing import Any

_NEWUSER = 0x10000000
_PDEATHSIG, _SET_DUMPABLE, _SET_CHILD_SUBREAPER = 1, 4, 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_SELF = os.getpid()
_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_started: set[int] = set()
NAMESPACE_FD = 20
"""Where the child finds its user namespace."""


def main() -> None:
    """Serves requests until the socket is closed, then ends all sandboxes."""
    try:
        _serve()
    except ConnectionError:  # closed with an answer unread, or before one was sent
        pass
    finally:
        _end()


def _serve() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)  # whatever its number is, no sandbox gets it
    for number in _GROUP:  # sent to the whole process group, for the main process, which then closes the socket
        signal.signal(number, signal.SIG_IGN)
    _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Children are waited for here and not in a handler: numbers that were just read stay theirs.
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    for descriptor in (woken, channel.fileno()):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if woken in ready:
            os.read(woken, 4096)
            _reap()
        if channel.fileno() not in ready:
            continue
        data, ancillary, _, _ = channel.recvmsg(1 << 16, socket.CMSG_SPACE(16 * 4))
        if not data:
            return
        descriptors = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
        try:
            answer: dict[str, Any] = {"pid": _start(json.loads(data), list(descriptors))}
        except OSError as error:
            answer = {"error": f"{error.strerror or error}"}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        channel.send(json.dumps(answer).encode())


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            _started.discard(pid)
    # bubblewrap is two processes. Where the outer one dies before it has let the inner one go on, the inner one waits
    # for ever; it has become a child of this process.
    for pid in _children() - _started:
        os.kill(pid, signal.SIGKILL)


def _end() -> None:
    """Kills all sandboxes and waits for their end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> set[int]:
    """This process's children: their numbers are theirs until they were waited for."""
    with open(f"/proc/self/task/{_SELF}/children") as file:  # noqa: PTH123
        return {int(word) for word in file.read().split()}


def _start(request: dict[str, Any], descriptors: list[int]) -> int:
    """Starts bubblewrap. ``descriptors``: standard input, output and error, then what the request's ``fds`` number.

    ``{"argv": […], "fds": [10, 11], "user": 100000, "map": [0, 100000, 65536]}``; without ``user`` as oneself.
    """
    argv, user = list(request["argv"]), request.get("user")
    namespace = _namespace(user, request["map"]) if user is not None else None
    # The handler must not take the child's death away from whoever waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        pid = os.fork()
        if pid == 0:
            _become(argv, descriptors, request["fds"], namespace, user)
        _started.add(pid)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        if namespace is not None:
            os.close(namespace)


def _become(
    argv: list[str], descriptors: list[int], numbers: list[int], namespace: int | None, user: int | None
) -> None:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for ignored in (*_GROUP, signal.SIGPIPE, signal.SIGXFSZ):  # by Python; programs expect them to kill
            signal.signal(ignored, signal.SIG_DFL)
        # First out of the way of the numbers they are to get.
        if namespace is not None:
            namespace = os.dup2(namespace, 499)
        moved = [os.dup2(descriptor, 500 + index) for index, descriptor in enumerate(descriptors)]
        for source, number in zip(moved, [0, 1, 2, *numbers], strict=True):
            os.dup2(source, number)
        if namespace is not None:
            os.dup2(namespace, NAMESPACE_FD)
        kept = sorted({0, 1, 2, *numbers, *([] if namespace is None else [NAMESPACE_FD])})
        for low, high in zip(kept, [*kept[1:], 600], strict=True):
            os.closerange(low + 1, high)
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        _LIBC.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after the change of user, which clears it
        if os.getppid() != _SELF:
            os._exit(1)
        os.chdir("/")
        os.umask(0o022)
        os.execve(argv[0], argv, {})
    except BaseException as error:  # whatever goes wrong: this is a forked child, and has one way to say it
        os.write(2, f"cannot start {argv[0]}: {error}".encode())
    finally:
        os._exit(127)


def _namespace(user: int, mapping: list[int]) -> int:
    """A user namespace that ``user`` owns, as a descriptor; users and groups are mapped as given."""
    ready, go = os.pipe(), os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go[1])
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            _LIBC.prctl(_SET_DUMPABLE, 1, 0, 0, 0)
            failed = _LIBC.unshare(_NEWUSER)
            os.write(ready[1], bytes([ctypes.get_errno() if failed else 0]))
            os.read(go[0], 1)
        finally:
            os._exit(0)
    os.close(ready[1])  # else a child that dies without a word would be waited for
    try:
        said = os.read(ready[0], 1)
        failed = said[0] if said else errno.EPERM
        if failed:
            raise OSError(failed, f"no user namespace: {os.strerror(failed)}")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:  # noqa: PTH123 (pathlib takes milliseconds to import)
                file.write(" ".join(map(str, mapping)))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(go[1])
        os.waitpid(pid, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for descriptor in (ready[0], go[0]):
            os.close(descriptor)


if __name__ == "__main__":
    main()
