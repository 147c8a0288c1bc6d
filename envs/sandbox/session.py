"""A persistent bash session over a byte stream, the same for every backend.

Inside, a *supervisor* bash starts the *session* bash and starts it again when it dies. The session bash reads commands
from the stream, runs each with ``eval``, and answers with its status and its whole state; the state has a stream of its
own, which background processes do not write to. The supervisor never runs what an agent writes, so a command that hangs
can be ended by killing the session bash and all that came with the command, while background processes of earlier
commands live on; the new session bash is put into the state that the old one had before the command.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import select
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pivotgym.envs.sandbox.base import CommandResult, Ending, SandboxError, ShellState
from pivotgym.envs.sandbox.shell_state import PRINT, script

_TICK = 0.05
"""Seconds between two looks at what a running command uses."""
_PATIENCE = 10.0
"""Seconds a fresh shell may take to answer."""
_STATE_BYTES = 8 << 20
"""What a shell may hold in variables and functions: every snapshot keeps it in this process."""
_ENDED = 213
_SYNC = ":pivotgym:"
"""What a fresh shell waits for: before it there may be what its predecessor had not read."""

# One line each: bash counts lines from where `eval` stands, so an agent's errors say "line 1" as they do elsewhere.
# File descriptors 60 and 61 are the stream, 62 is where the state is said; commands run without them, standard input is
# empty. The mark that will end a command's output is read after the command, so that the command cannot know it.
_DRIVER = (
    f"while IFS= read -r -d '' -u 60 __pg_command && [ \"$__pg_command\" != {_SYNC} ]; do :; done; "
    "shopt -s expand_aliases; unset BASH_EXECUTION_STRING; __pg_status=0; "
    "while IFS= builtin read -r -d '' -u 60 __pg_command; do "
    '__pg_back() { return $1; }; __pg_back "$__pg_status"; builtin eval "$__pg_command" 60<&- 61>&- 62>&-; '
    "{ __pg_status=$?; IFS= builtin read -r -d '' -u 60 __pg_nonce; "
    'builtin printf \'\\0%s %d\\0\' "$__pg_nonce" "$__pg_status" >&61; '
    "builtin printf '\\0%s state\\0' \"$__pg_nonce\"; "
    f"{PRINT}; builtin printf '\\0%s end\\0' \"$__pg_nonce\"; __pg_nonce=; }} 2>/dev/null >&62; done; exit {_ENDED}"
)
_SUPERVISOR = (
    "exec 60<&0 61>&1 62>&2 0</dev/null 2>/dev/null; IFS= read -r -d '' -u 60 __pg_nonce; "
    'while :; do "$BASH" --norc --noprofile -c "$1" bash >&61 2>&61; __pg_status=$?; '
    f"[ $__pg_status -eq {_ENDED} ] && exit 0; printf '\\0%s %d\\0' \"$__pg_nonce\" $__pg_status >&61; done"
)


def supervisor_arguments(prelude: str = "") -> list[str]:
    """Arguments for ``bash`` that make it the supervisor.

    Args:
        prelude: bash source the supervisor runs first (limits); ends with a semicolon.
    """
    return ["--norc", "--noprofile", "-c", f"{prelude}{_SUPERVISOR}", "bash", _DRIVER]


def readable(descriptor: int, seconds: float) -> bool:
    """Waits until there is something to read, or the end. Unlike ``select`` for any number of open files."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def writable(descriptor: int, seconds: float) -> bool:
    """Waits until something can be written, or nobody is left to read it."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


class Transport(Protocol):
    """The byte streams to and from the supervisor, and a hold on the processes behind them."""

    def receive(self, seconds: float) -> tuple[bytes, bytes] | None:
        """Waits for at most that long; what came on standard output and on standard error, None at their end."""

    def send(self, data: bytes) -> None:
        """Sends all of ``data``. Raises OSError where the other side is gone."""

    def alive(self) -> bool:
        """Whether the supervisor lives. A command may have killed it and gone on to its own end."""

    def processes(self) -> set[int]:
        """The processes inside, by numbers that :meth:`kill` understands."""

    def kill(self, keep: set[int], *, shell: bool) -> None:
        """Kills every process but the supervisor, init and those in ``keep``.

        Args:
            keep: what lives on.
            shell: kill the session bash (the supervisor's child) too, even if it is in ``keep``; otherwise it lives.
        """


@dataclass
class _Output:
    """Collected output: everything up to a limit, beyond it head and tail."""

    limit: int
    head: bytearray
    tail: bytearray
    total: int = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self.limit // 2 - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self.tail += data
        # Cut seldom: cutting moves what is left.
        if len(self.tail) > 2 * self.limit:
            del self.tail[: -(self.limit // 2)]

    def text(self) -> tuple[str, int]:
        """The output as text, and how many bytes of it are missing."""
        if self.total <= self.limit:
            return (self.head + self.tail).decode("utf-8", "replace"), 0
        tail = self.tail[-(self.limit // 2) :]
        omitted = self.total - len(self.head) - len(tail)
        head, rest = self.head.decode("utf-8", "replace"), tail.decode("utf-8", "replace")
        # A cut in the middle of a character is no invalid output of the command.
        head, rest = head.rstrip("\ufffd"), rest.lstrip("\ufffd")
        return f"{head}\n[... {omitted} bytes omitted ...]\n{rest}", omitted


class ShellDied(Exception):
    """The stream ended: everything inside is dead."""


class ShellSession:
    """The session on this side of the stream.

    Args:
        transport: connected to a supervisor that was started with :func:`supervisor_arguments`.
        state: put into the shell before its first command.
        inherited: names of the environment variables that every shell here starts with.

    Attributes:
        state: what the shell held after the last command.
        dead: the stream ended, a new session is needed.
    """

    def __init__(self, transport: Transport, state: ShellState, inherited: Iterable[str] = ()) -> None:
        self._transport, self._nonce = transport, secrets.token_hex(8).encode()
        self.state = state
        self._inherited = tuple(inherited)
        self.dead = False
        self._pending = bytearray()
        self._said = bytearray()  # what the shell says of itself
        self._ready = False  # whether the shell holds `state`
        self._fresh = True  # whether it has run nothing yet
        self._send(self._nonce + b"\0")

    def enter(self, path: str) -> None:
        """Puts the shell into another directory before the next command."""
        self.state = ShellState(self.state.text, path)
        self._ready = False

    def prepare(self) -> None:
        """Waits until the shell is up and in its state. Raises SandboxError where it does not come up."""
        if self._ready:
            return
        output = _Output(4096, bytearray(), bytearray())
        try:
            self._restore(output)
        except ShellDied:
            self.dead = True
            output.add(bytes(self._pending + self._said))
            said = output.text()[0].strip()[-1000:]
            raise SandboxError(f"the shell does not come up: {said or 'the stream ended'}") from None

    def run(
        self,
        command: str,
        *,
        timeout: float,
        idle_timeout: float | None,
        limit: int,
        shell: Sequence[str] | None = None,
        watch: Callable[[], Ending | None] | None = None,
    ) -> CommandResult:
        """Runs one command, see :meth:`Sandbox.run`.

        Args:
            command: bash source.
            timeout: seconds.
            idle_timeout: seconds without output.
            limit: bytes of output kept.
            shell: program to run it by instead.
            watch: asked every tick whether a limit is exceeded.

        Raises:
            SandboxError: the shell does not come up.
        """
        self.prepare()
        command = command.replace("\0", "")
        if shell is not None:
            command = shlex.join([*shell, command])
        before = self._transport.processes()
        nonce = secrets.token_hex(8).encode()
        output = _Output(limit, bytearray(), bytearray())
        began = time.monotonic()
        ending: Ending = "shell_killed"
        status = None
        try:
            self._said.clear()
            self._send(command.encode("utf-8", "surrogateescape") + b"\0" + nonce + b"\0")
            ending, status = self._wait(nonce, output, began, timeout, idle_timeout, watch)
            if ending == "exit" and (failed := self._read_state(nonce, began + timeout)):
                ending, status = failed, None
            if ending in ("exit", "shell_exit") and not self._transport.alive():
                raise ShellDied
            if ending not in ("exit", "shell_exit"):
                self._kill(before, nonce, output, wait=ending != "shell_killed")
        except ShellDied:
            output.add(_unmarked(self._pending, nonce))
            self.dead, status = True, None
            ending = "shell_killed" if ending in ("exit", "shell_exit") else ending
        if ending != "exit":
            self._ready, self._fresh = False, True
        text, omitted = output.text()
        return CommandResult(text, status, ending, time.monotonic() - began, omitted, self.state.cwd)

    def _wait(
        self,
        nonce: bytes,
        output: _Output,
        began: float,
        timeout: float,
        idle_timeout: float | None,
        watch: Callable[[], Ending | None] | None,
    ) -> tuple[Ending, int | None]:
        """Collects output until the command's end mark, the shell's end, or a limit."""
        marks = (b"\0" + nonce + b" ", b"\0" + self._nonce + b" ")
        keep = max(map(len, marks)) - 1
        heard = looked = began
        reached: Ending | None = None  # a limit; what had come by then is still looked at
        while True:
            if (ended := self._take_mark(marks, output)) is not None:
                return ended
            if reached is not None:
                return reached, None
            # What may be the beginning of a mark stays; a mark whose end is missing stays whole.
            at = min((at for mark in marks if (at := self._pending.find(mark)) >= 0), default=-1)
            cut = at if at >= 0 and len(self._pending) - at < 64 else len(self._pending) - keep
            if cut > 0:
                output.add(bytes(self._pending[:cut]))
                del self._pending[:cut]
            now = time.monotonic()
            if now - began >= timeout:
                reached = "timeout"
            elif watch is not None and now - looked >= _TICK:
                looked = now
                reached = watch()
            quiet = idle_timeout is not None and now - heard >= idle_timeout
            if self._fill(0 if reached or quiet else min(_TICK, max(began + timeout - now, 0.001))):
                heard = time.monotonic()
            elif quiet and reached is None:
                reached = "idle"

    def _take_mark(self, marks: tuple[bytes, bytes], output: _Output) -> tuple[Ending, int | None] | None:
        """The end that the first complete mark stands for, taken out of what has come; None where there is none."""
        for mark in marks:
            at = self._pending.find(mark)
            close = self._pending.find(b"\0", at + len(mark)) if at >= 0 else -1
            if close < 0:
                continue
            output.add(bytes(self._pending[:at]))
            word = bytes(self._pending[at + len(mark) : close])
            del self._pending[: close + 1]
            # The command can write to the stream: what is no status is taken for one that says so.
            number = int(word) if word.isdigit() and len(word) < 4 else 255
            if mark is marks[0]:
                return "exit", number
            killed = 128 < number < 160  # 128 + a signal's number
            return ("shell_killed" if killed else "shell_exit"), (None if killed else number)
        return None

    def _read_state(self, nonce: bytes, until: float) -> Ending | None:
        """Takes in the state that follows a command's end mark; why not, where it does not come."""
        first, last = (b"\0" + nonce + word for word in (b" state\0", b" end\0"))
        until = max(until, time.monotonic() + 2.0)
        looked = 0
        while (at := self._said.find(last, max(looked - len(last), 0))) < 0:
            looked = len(self._said)
            if looked > _STATE_BYTES:
                return "memory"
            if time.monotonic() > until:
                return "timeout"
            self._fill(_TICK)
            # Background processes may write meanwhile: of very much only the end is kept for the next command.
            del self._pending[:-_STATE_BYTES]
        begin = self._said.find(first)
        text = self._said[begin + len(first) : at].decode("utf-8", "surrogateescape")
        self._said.clear()
        self.state = ShellState(text, _cwd(text) or self.state.cwd)
        return None

    def _kill(self, keep: set[int], nonce: bytes, output: _Output, *, wait: bool) -> None:
        """Kills what a command started and its shell, and takes in what is still said until that shell is dead."""
        until = time.monotonic() + _PATIENCE
        mark = b"\0" + self._nonce + b" "
        if wait:
            self._transport.kill(keep, shell=True)
        while wait:
            at = self._pending.find(mark)
            close = self._pending.find(b"\0", at + len(mark)) if at >= 0 else -1
            if close >= 0:
                output.add(_unmarked(self._pending[:at], nonce))
                del self._pending[: close + 1]
                break
            if at < 0 and len(self._pending) > 1 << 16:
                output.add(_unmarked(self._pending[:-64], nonce))
                del self._pending[:-64]
            if time.monotonic() > until:
                raise ShellDied
            if not self._fill(_TICK):
                self._transport.kill(keep, shell=True)
        # What came while the others were being listed and killed.
        self._transport.kill(keep, shell=False)

    def _restore(self, output: _Output) -> None:
        """Puts the kept state into a fresh shell."""
        nonce = secrets.token_hex(8).encode()
        source = script(self.state, self._inherited)
        wrapped = f"{{ {source}\n}} >/dev/null 2>&1" if source else ":"
        if self._fresh:
            self._send(_SYNC.encode() + b"\0")
        self._said.clear()
        self._send(wrapped.encode("utf-8", "surrogateescape") + b"\0" + nonce + b"\0")
        ending, _ = self._wait(nonce, output, time.monotonic(), _PATIENCE, None, None)
        if ending != "exit":
            raise SandboxError(f"the shell does not come up ({ending}): {output.text()[0][-500:]}")
        kept = self.state
        if self._read_state(nonce, time.monotonic() + _PATIENCE):
            raise SandboxError("the shell does not say its state")
        if kept.text:
            # What bash prints of a state that was put in is not letter for letter what it printed first.
            self.state = ShellState(kept.text, self.state.cwd)
        self._ready, self._fresh = True, False

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionError):  # the end of the stream says it better
            self._transport.send(data)

    def _fill(self, seconds: float) -> bool:
        """Waits for output for at most that long; whether any came. Raises ShellDied at the end of the stream."""
        came = self._transport.receive(seconds)
        if came is None:
            raise ShellDied
        output, said = came
        self._pending += output
        self._said += said[: max(_STATE_BYTES + 1 - len(self._said), 0)]
        return bool(output)


def _unmarked(data: bytearray, nonce: bytes) -> bytes:
    """Output without the end mark of a command that ended while it was being killed."""
    return re.sub(rb"\x00%s \d+\x00" % nonce, b"", bytes(data))


def _cwd(text: str) -> str | None:
    """The first of the printed directories: the shell's own."""
    directories = text.rpartition("\0")[2]
    return directories.splitlines()[0] if directories else None
