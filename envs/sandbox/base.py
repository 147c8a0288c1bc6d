"""What every sandbox offers, whatever runs it: a persistent shell, files, snapshots, forks, differences.

A *backend* starts sandboxes and loads snapshots; a *sandbox* is one running machine with one shell session; a
*snapshot* is its files and its shell's state at one moment, never changed afterwards.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pivotgym.envs.errors import BadInput, InfrastructureError
from pivotgym.envs.trajectory import JsonObject

Ending = Literal["exit", "timeout", "idle", "memory", "disk", "shell_exit", "shell_killed"]
"""How a command ended: by itself, after its time or without output for too long, over a limit, or with its shell."""


HARD_LINKS = "hard links"
"""How :attr:`Sandbox.incomplete` begins where files have several names, which the backend's snapshots would part."""
CANNOT_START = "[the shell cannot be started]"
"""Output of every command where commands before it left no shell that comes up. That is their doing, no failure."""


class SandboxError(InfrastructureError):
    """A sandbox cannot be started, or broke: says nothing of what runs in it."""


class SandboxUnavailable(SandboxError):
    """This machine cannot run the backend; the message says what is missing."""


class SandboxFileError(Exception):
    """A file inside a sandbox cannot be read or written (missing, a directory, too large, no regular file)."""


class Limits(BaseModel):
    """What one sandbox may use.

    Attributes:
        memory_bytes: of all its processes together.
        processes: at one time.
        cpu_seconds: of one process.
        file_bytes: size of one file.
        disk_bytes: that it adds to its base.
        open_files: of one process.
        output_bytes: of one command, more is cut in the middle: head and tail stay.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_bytes: int = Field(default=1 << 30, ge=1 << 24)
    processes: int = Field(default=256, ge=8)
    cpu_seconds: int = Field(default=600, ge=1)
    file_bytes: int = Field(default=1 << 30, ge=1 << 12)
    disk_bytes: int = Field(default=2 << 30, ge=1 << 16)
    open_files: int = Field(default=1024, ge=32)
    output_bytes: int = Field(default=64 * 1024, ge=256)


class SandboxConfig(BaseModel):
    """What a sandbox is started from.

    Attributes:
        image: ``host`` (this machine's programs, none of its data; bubblewrap only), a folder that holds a root file
            system, a tar archive of one, or the name of a Docker image.
        user: name or number of the user inside; a number needs no entry in ``/etc/passwd``.
        workdir: absolute path where the shell starts; made if it is not there.
        env: environment variables of the shell, beside PATH, HOME, USER, LANG and TERM.
        hostname: inside; letters, digits, ``.``, ``_`` and ``-``, at most 64.
        limits: what it may use.

    Raises:
        BadInput: a value that is none of these, or holds a NUL character.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = "host"
    user: str | int = "root"
    workdir: str = "/root"
    env: dict[str, str] = Field(default_factory=dict)
    hostname: str = "sandbox"
    limits: Limits = Limits()

    # BadInput, which pydantic hands on as it is: tasks and trajectories bring these fields, and people read it.

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        if not value or "\0" in value:
            raise BadInput(f"no name of an image: {value[:80]!r}", field="image")
        return value

    @field_validator("user")
    @classmethod
    def _user(cls, value: str | int) -> str | int:
        if isinstance(value, str) and not _USER.fullmatch(value):
            raise BadInput(f"no name or number of a user: {value[:80]!r}", field="user")
        return value

    @field_validator("workdir")
    @classmethod
    def _workdir(cls, value: str) -> str:
        if not value.startswith("/") or "\0" in value:
            raise BadInput(f"no absolute path: {value[:80]!r}", field="workdir")
        return value

    @field_validator("env")
    @classmethod
    def _env(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not name or "=" in name or "\0" in name:
                raise BadInput(f"no name of an environment variable: {name[:80]!r}", field="env")
            if "\0" in text:
                raise BadInput("a NUL character in its value", field=f"env.{name}")
        return value

    @field_validator("hostname")
    @classmethod
    def _hostname(cls, value: str) -> str:
        if not _HOSTNAME.fullmatch(value):
            raise BadInput(f"no host name of at most 64 characters: {value[:80]!r}", field="hostname")
        return value


_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,63}\$?")
_HOSTNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class CommandResult:
    """What one command brought.

    Attributes:
        output: standard output and error in the order they came, as text; bytes that are no UTF-8 show as U+FFFD. Over
            the limit its middle is replaced by a line that says how much is missing.
        status: exit status; None where the command did not end by itself.
        ending: how it ended. After anything but ``exit`` the shell is back in the state before the command, and after
            anything but ``exit`` and ``shell_exit`` the command's processes are dead; files it wrote stay.
        seconds: wall-clock time.
        omitted_bytes: how much of the output is missing.
        cwd: the shell's working directory afterwards.
    """

    output: str
    status: int | None
    ending: Ending = "exit"
    seconds: float = 0.0
    omitted_bytes: int = 0
    cwd: str = "/"


@dataclass(frozen=True)
class Usage:
    """What a sandbox takes of this machine.

    Attributes:
        memory_bytes: of its processes, pages shared with others in fair parts.
        disk_bytes: of what it wrote since it was loaded or last kept.
    """

    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class ShellState:
    """What a bash process holds beside files, as bash prints it; see :mod:`pivotgym.envs.sandbox.shell_state`.

    Attributes:
        text: the printed state; empty for a fresh shell.
        cwd: working directory.
    """

    text: str = ""
    cwd: str = "/"


@dataclass(frozen=True)
class Snapshot:
    """A sandbox at one moment. Hold on to it while it is needed, then ``close`` it; loading it copies nothing.

    Attributes:
        config: of the sandbox it was taken from.
        shell: state of its shell.
        payload: the backend's own (layers, an image).
        nbytes: disk bytes that only this snapshot holds, roughly.
    """

    config: SandboxConfig
    shell: ShellState
    payload: object
    nbytes: int = 0


@dataclass(frozen=True)
class FileChange:
    """How one path differs after, against before.

    Attributes:
        path: absolute, inside.
        kind: ``file``, ``directory``, ``link``, ``fifo``, ``socket``, ``device``; ``absent`` where it is gone.
        mode: permission bits as octal text; None where absent and for links.
        owner: ``uid:gid`` inside.
        target: of a link.
        digest: SHA-256 of a file's content.
        size: of a file, in bytes.
        before: its kind before; ``absent`` where it is new.
    """

    path: str
    kind: str
    mode: str | None = None
    owner: str | None = None
    target: str | None = None
    digest: str | None = None
    size: int | None = None
    before: str = "absent"

    def row(self) -> JsonObject:
        """As canonical JSON without empty fields. ``before`` is left out: equal starts are compared."""
        return {key: value for key, value in vars(self).items() if value is not None and key != "before"}


@dataclass(frozen=True)
class Entry:
    """One path of a tree.

    Attributes:
        kind: ``file``, ``directory``, ``link``, ``fifo``, ``socket`` or ``device``.
        mode: permission bits.
        size: of a file, in bytes.
        target: of a link.
    """

    kind: str
    mode: int
    size: int = 0
    target: str = ""


class Sandbox(ABC):
    """One machine with one persistent bash session. Not safe for use from several threads at once."""

    config: SandboxConfig

    @abstractmethod
    def run(
        self,
        command: str,
        *,
        timeout: float = 60.0,
        idle_timeout: float | None = None,
        shell: Sequence[str] | None = None,
    ) -> CommandResult:
        """Runs ``command`` in the session's shell.

        Args:
            command: bash source, any number of lines; a NUL character cannot be part of it and is dropped.
            timeout: seconds until its processes are killed. The session stays usable.
            idle_timeout: the same after so many seconds without output.
            shell: run it by this program instead (``("/bin/sh", "-c")``: the command becomes the last argument), in
                the session's directory and environment, as agents do whose commands share no shell.

        Raises:
            SandboxError: the sandbox broke.
        """

    @abstractmethod
    def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """A file's content, links followed inside the sandbox only.

        Raises:
            SandboxFileError: no such file, no regular file, or larger than ``max_bytes``.
        """

    @abstractmethod
    def tree(self, path: str, *, max_entries: int = 100_000) -> dict[str, Entry]:
        """Everything below ``path`` by its path from there, ``path`` itself as ``""``; links are not followed.

        Read from outside: no program inside has a part in it.

        Raises:
            SandboxFileError: nothing there, or more than ``max_entries``.
        """

    @abstractmethod
    def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Writes a file as the sandbox's user; makes the directories above it. Raises SandboxFileError."""

    def upload(self, source: Path, path: str) -> None:
        """Copies a file or folder of this machine to ``path``; links are copied as what they point to."""
        if source.is_dir():
            for item in sorted(source.rglob("*")):
                if item.is_file():
                    self.upload(item, f"{path}/{item.relative_to(source).as_posix()}")
            return
        self.write_file(path, source.read_bytes(), mode=0o755 if source.stat().st_mode & 0o100 else 0o644)

    @abstractmethod
    def snapshot(self, *, live: bool = False) -> Snapshot | None:
        """The state now; None where it cannot be complete, then :attr:`incomplete` says why.

        Args:
            live: take the files as they are although something lives that is no file (a background process); that is
                killed.
        """

    incomplete: str = ""
    """Why the last :meth:`snapshot` gave None (``background process: sleep 100``), else empty."""

    @abstractmethod
    def usage(self) -> Usage:
        """What it takes now."""

    @property
    @abstractmethod
    def shell(self) -> ShellState:
        """State of the shell after the last command."""

    @abstractmethod
    def stop(self) -> None:
        """Kills what runs and frees what is held. May be called more than once; snapshots live on."""


class Backend(ABC):
    """Starts sandboxes. One instance serves a process; safe for use from several threads."""

    name: str = ""

    @abstractmethod
    def start(self, config: SandboxConfig) -> Sandbox:
        """A fresh sandbox. Raises SandboxUnavailable, or BadInput for an image that is none."""

    @abstractmethod
    def load(self, snapshot: Snapshot, *, fresh_shell: bool = False, config: SandboxConfig | None = None) -> Sandbox:
        """An independent sandbox in that state.

        Args:
            snapshot: from this backend.
            fresh_shell: with a new shell instead of the kept one: nothing the agent defined or exported is in it. It
                stands in the working directory, or in ``/`` where the agent left no such directory.
            config: another user, working directory, environment or limits on the same image; implies a fresh shell.
        """

    @abstractmethod
    def changes(self, before: Snapshot, after: Snapshot) -> list[FileChange]:
        """Paths whose type, mode, owner, link target or content differ, sorted; times are not compared."""

    @abstractmethod
    def close(self, snapshot: Snapshot) -> None:
        """Frees a snapshot; what other snapshots and sandboxes build on stays."""

    @abstractmethod
    def clean(self) -> Cleaned:
        """Removes what runs that are dead left behind."""


@dataclass
class Cleaned:
    """What a clean-up removed."""

    folders: int = 0
    containers: int = 0
    images: int = 0
    processes: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)
