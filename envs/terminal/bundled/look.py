"""What a hidden check reads of a final state, and how it keeps from being deceived.

The agent is root inside and may have replaced any program. So trees and contents are read by the backend from outside,
databases are opened here, git objects are hashed again.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pivotgym.envs.sandbox import CommandResult, Entry, Sandbox, SandboxFileError
from pivotgym.envs.terminal.tasks import Final

_STEPS = 2_000_000
"""Instructions a query may take; ours take some thousands."""


_ROWS_BYTES = 8 << 20
"""Text and blobs that a query may give; ours give some kilobytes."""


class Wrong(Exception):
    """The final state is not what was asked for; the message says where."""


class Look:
    """A view of the final state, in a fork of its own; relative paths are below the work directory."""

    def __init__(self, final: Final, workdir: str) -> None:
        self.answer = final.answer
        self._final, self._workdir = final, workdir
        self._stack = ExitStack()
        self._box: Sandbox | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def box(self) -> Sandbox:
        """The fork."""
        if self._box is None:
            self._box = self._stack.enter_context(self._final.fork())
        return self._box

    def path(self, path: str) -> str:
        """Absolute."""
        return path if path.startswith("/") else f"{self._workdir}/{path}"

    def bytes(self, path: str) -> bytes:
        """A file's content. Raises Wrong where it cannot be read."""
        try:
            return self.box.read_file(self.path(path))
        except SandboxFileError as error:
            raise Wrong(f"{path} cannot be read: {error}") from error

    def text(self, path: str) -> str:
        """The same as text."""
        return decode(self.bytes(path), path)

    def absent(self, path: str) -> bool:
        """Whether there is no readable file of that name."""
        try:
            self.box.read_file(self.path(path))
        except SandboxFileError:
            return True
        return False

    def run(self, command: str, timeout: float = 20.0) -> CommandResult:
        """Runs what the agent wrote. Never to find out what is there."""
        return self.box.run(f"cd {shlex.quote(self._workdir)}\n{command}", timeout=timeout)

    def write(self, path: str, text: str) -> None:
        """Puts an input there that the agent has not seen."""
        try:
            self.box.write_file(self.path(path), text.encode())
        except SandboxFileError as error:
            raise Wrong(f"{path} cannot be written: {error}") from error

    def tree(self, root: str = ".") -> dict[str, Entry]:
        """Everything below ``root`` by relative path, ``root`` itself as ``""``, links not followed."""
        try:
            return self.box.tree(self.path(root) if root != "." else self._workdir)
        except SandboxFileError as error:
            raise Wrong(f"{root} cannot be listed: {error}") from error

    def files(self, root: str = ".") -> list[str]:
        """Relative paths of what is no directory below ``root``, sorted; Python's caches are left out."""
        return sorted(p for p, entry in self.tree(root).items() if entry.kind != "directory" and "__pycache__" not in p)

    def query(self, path: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query on a SQLite database, executed here. Raises Wrong where it cannot be made."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "copy.db")
            copy.write_bytes(self.bytes(path))
            for end in ("-wal", "-journal"):  # what was not written back yet belongs to the database
                if not self.absent(path + end):
                    Path(folder, f"copy.db{end}").write_bytes(self.bytes(path + end))
            connection = sqlite3.connect(copy)
            # A table may be a view by now that never ends; the handler is asked once and stops it.
            connection.set_progress_handler(lambda: 1, _STEPS)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ROWS_BYTES)
            try:
                connection.execute("PRAGMA trusted_schema = off")
                return _bounded(connection.execute(sql, values), path)
            except (sqlite3.Error, MemoryError, OverflowError, ValueError) as error:
                raise Wrong(f"{path}: {sql}: {error}") from error
            finally:
                connection.close()


def _bounded(rows: Iterable[tuple[Any, ...]], path: str) -> list[tuple[Any, ...]]:
    found, size = [], 0
    for row in rows:
        size += 64 + sum(len(value) for value in row if isinstance(value, str | bytes))
        if size > _ROWS_BYTES:
            raise Wrong(f"{path} holds too much")
        found.append(row)
    return found


def decode(data: bytes, what: str) -> str:
    """UTF-8 text. Raises Wrong."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Wrong(f"{what} is no UTF-8 text") from error


def same(actual: object, expected: object, what: str) -> None:
    """Raises Wrong where two values differ; the message does not show what would be right."""
    if actual != expected:
        raise Wrong(f"{what} is wrong: {_shown(actual)!r}")


def _shown(value: object) -> str:
    try:
        return str(value)[:200]
    except (RecursionError, ValueError):  # JSON of the agent may be deep, or a number of more digits than are printed
        return f"a {type(value).__name__}"


def lines(expected: Sequence[str], *, ordered: bool = True) -> Any:
    """A check of a text file's lines; space at their ends, empty lines at the end and the last newline are free."""

    def check(data: bytes) -> None:
        found = [line.rstrip() for line in decode(data, "the file").rstrip().splitlines()]
        wanted = list(expected)
        same(found if ordered else sorted(found), wanted if ordered else sorted(wanted), "the content")

    return check


def table(expected: Sequence[Sequence[object]], delimiter: str = ",", *, ordered: bool = True) -> Any:
    """A check of a CSV file's rows, however its values are quoted; numbers are compared as numbers."""

    def value(text: object) -> object:
        word = str(text).strip()
        try:
            return round(float(word), 6)
        except ValueError:
            return word

    def check(data: bytes) -> None:
        rows = [row for row in parse_csv(decode(data, "the file").strip(), delimiter) if row]
        found = [[value(cell) for cell in row] for row in rows]
        wanted = [[value(cell) for cell in row] for row in expected]
        if not ordered:
            found, wanted = sorted(found, key=repr), sorted(wanted, key=repr)
        same(found, wanted, "the table")

    return check


def modes(look: Look, root: str, expected: Mapping[str, int]) -> None:
    """Raises Wrong where permission bits below ``root`` differ from those expected, or paths are missing or new."""
    tree = look.tree(root)
    found = {path: entry.mode for path, entry in tree.items() if entry.kind != "link"}
    for path in sorted(found.keys() | expected.keys()):
        if found.get(path) != expected.get(path):
            state = "missing" if path not in found else f"{found[path]:04o}" if path in expected else "new"
            raise Wrong(f"{root}/{path} is {state}")


def parse_csv(text: str, delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV text. Raises Wrong."""
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error as error:
        raise Wrong(f"this is no table: {error}") from error


def parse_json(text: str) -> Any:
    """JSON. Raises Wrong."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"this is no JSON: {text[:200]!r}") from error
