"""Files of the sandbox as the tools see them: read and written from outside, no program inside has a part in it."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from pivotgym.envs.repo.tools.state import EditorState, EditorStyle, Refused
from pivotgym.envs.sandbox import CommandResult, Sandbox, SandboxError, SandboxFileError
from pivotgym.envs.sandbox.base import Entry

MAX_BYTES = 10 << 20
"""Size of the largest file the tools open."""
_LINKS = 40
_SNIFFED = 8192
_ENCODING, _FALLBACK = "utf-8", "latin-1"  # the second one reads every byte and writes it back as it was


@dataclass(frozen=True)
class TextFile:
    """A text file's content, and how it is written back.

    Attributes:
        data: its bytes.
        text: decoded; with ``universal`` every line ends in a line feed.
        encoding: UTF-8, or Latin-1 where the bytes are no UTF-8.
        crlf: lines end in CR LF and do again after an edit.
    """

    data: bytes
    text: str
    encoding: str = _ENCODING
    crlf: bool = False

    @classmethod
    def of(cls, data: bytes, *, keep_ends: bool) -> TextFile:
        """Decodes ``data``; with ``keep_ends`` an edited file has the line ends it had."""
        try:
            text, encoding = data.decode(_ENCODING), _ENCODING
        except UnicodeDecodeError:
            text, encoding = data.decode(_FALLBACK), _FALLBACK
        if keep_ends:
            crlf = text.count("\r\n") == text.count("\n") > 0
            return cls(data, text.replace("\r\n", "\n") if crlf else text, encoding, crlf)
        return cls(data, text.replace("\r\n", "\n").replace("\r", "\n"), encoding)

    @classmethod
    def raw(cls, data: bytes) -> TextFile:
        """Decodes ``data`` as it is, carriage returns and all."""
        file = cls.of(data, keep_ends=True)
        return replace(file, text=data.decode(file.encoding), crlf=False)

    def written(self, text: str) -> bytes:
        """``text`` as this file's bytes. Raises Refused for characters it cannot hold."""
        if self.crlf:
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        return encoded(text, self.encoding)


def encoded(text: str, encoding: str = _ENCODING) -> bytes:
    """``text`` as bytes. Raises Refused for characters the encoding lacks (half of a surrogate pair)."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise Refused(f"The text cannot be written as {encoding}: {error.reason}", "bad_text") from None


@dataclass(frozen=True)
class Session:
    """One call's surroundings.

    Attributes:
        box: the sandbox.
        state: what the tools remember before the call.
        workdir: the repository.
        run: runs a command in the agent's session.
    """

    box: Sandbox
    state: EditorState
    workdir: str
    run: Callable[[str], CommandResult]

    @property
    def style(self) -> EditorStyle:
        """How files are shown."""
        return self.state.style

    @property
    def cwd(self) -> str:
        """Where the agent's shell stands."""
        return self.box.shell.cwd or "/"

    def moved(self, **changes: object) -> Session:
        """The same with another state."""
        return replace(self, state=self.state.model_copy(update=changes))

    def absolute(self, path: str) -> str:
        """``path`` from where the shell stands; ``..`` and double slashes are taken out. Raises Refused."""
        if "\0" in path:
            raise Refused("A path cannot hold a NUL character.", "bad_path")
        encoded(path)
        return posixpath.normpath(posixpath.join(self.cwd, path)).replace("//", "/")

    def look(self, path: str) -> Entry | None:
        """What is at ``path``, links followed; None for nothing."""
        entry = _at(self.box, path)  # links on the way are followed where this is answered
        if entry is None or entry.kind != "link":
            return entry
        found = self._resolve(path)
        return found[1] if found else None

    def real(self, path: str) -> str:
        """``path`` without links; what is not there stays as it is written."""
        found = self._resolve(path)
        return found[0] if found else path

    def read(self, path: str) -> bytes:
        """A regular file's bytes. Raises Refused where there is none, or it is too large."""
        entry = self.look(path)
        if entry is None:
            raise Refused(f"The path {path} does not exist. Please provide a valid path.", "no_file")
        if entry.kind == "directory":
            raise Refused(f"The path {path} is a directory.", "directory")
        if entry.kind != "file":
            raise Refused(f"The path {path} is no regular file ({entry.kind}).", "no_regular_file")
        try:
            return self.box.read_file(path, max_bytes=MAX_BYTES)
        except SandboxFileError as error:
            if entry.size > MAX_BYTES:
                size = f"{entry.size / (1 << 20):.1f}MB"
                text = f"File is too large ({size}). Maximum allowed size is {MAX_BYTES >> 20}MB."
                raise Refused(text, "too_large") from None
            raise Refused(f"The file {path} cannot be read: {error}", "unreadable") from None

    def write(self, path: str, data: bytes) -> None:
        """Writes a file, with the permissions it has. Raises Refused."""
        entry = self.look(path)
        above = posixpath.dirname(path)
        while entry is None and (folder := self.look(above)) is None and above != "/":
            above = posixpath.dirname(above)
        if entry is None and folder is not None and folder.kind != "directory":
            raise Refused(f"The file {path} cannot be written: {above} is no directory", "unwritable")
        try:
            self.box.write_file(path, data, mode=entry.mode & 0o7777 if entry else 0o644)
        except SandboxFileError as error:
            raise Refused(f"The file {path} cannot be written: {error}", "unwritable") from None

    def _resolve(self, path: str) -> tuple[str, Entry] | None:
        """The path with every link on the way followed, as the sandbox would, and what is there."""
        todo, done = [part for part in path.split("/") if part], ""
        entry: Entry | None = _at(self.box, "/")
        links = 0
        while todo:
            part = todo.pop(0)
            if part in (".", ".."):
                done = posixpath.dirname(done) if part == ".." else done
                entry = _at(self.box, done or "/")
                continue
            entry = _at(self.box, f"{done}/{part}")
            if entry is None or (todo and entry.kind not in ("directory", "link")):
                return None
            if entry.kind != "link":
                done = f"{done}/{part}"
                continue
            links += 1
            if links > _LINKS:
                return None
            done = "" if entry.target.startswith("/") else done
            todo = [piece for piece in entry.target.split("/") if piece] + todo
            if not todo:
                entry = _at(self.box, done or "/")
        return (done or "/", entry) if entry is not None else None


def _at(box: Sandbox, path: str) -> Entry | None:
    """What is at ``path`` itself, a link as a link."""
    try:
        return box.tree(path, max_entries=1)[""]
    except SandboxFileError as error:
        # A folder is told from nothing by what hinders its listing: more than the one entry asked for.
        return Entry("directory", 0o755) if str(error).endswith("more than 1 entries") else None
    except SandboxError:
        # Docker's daemon fails where a path leads through a file, in a circle, or has a name that is too long. It is
        # the path that is wrong, and not the sandbox, if the same happens again and the root can still be listed.
        if path == "/":
            raise
        with suppress(SandboxError, SandboxFileError):
            return box.tree(path, max_entries=1)[""]
        _at(box, "/")
        return None


def is_binary(data: bytes) -> bool:
    """Whether a file is none of text: a NUL byte near its beginning, as ``grep`` and ``git`` decide."""
    return b"\0" in data[:_SNIFFED]
