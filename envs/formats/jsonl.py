"""PivotGym's own format: one :class:`Trajectory` a line, and append-only files of finished rows.

Two kinds of files, two guarantees. A trajectory file is written whole: it appears under its name only when
complete. A result file (profiles, metrics) grows row by row and survives a kill at any moment: at most the last
line is cut off, :func:`read_rows` drops it and :func:`append_row` writes over it.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import OnError, PathLike, Row, expect, iter_lines, load_rows, parse_line, validate
from pivotgym.envs.trajectory import JsonObject, Trajectory, canonical_json


def read_jsonl(
    path: PathLike, on_error: OnError = "raise", errors: list[BadInput] | None = None
) -> Iterator[Trajectory]:
    """Read trajectories one by one.

    Args:
        path: JSONL, plain or gzip.
        on_error: ``raise`` stops at the first bad row, ``skip`` goes on with the next.
        errors: with ``skip``, collects a BadInput (file, line, field) per bad row; logged where it is None.

    Yields:
        Each good row, in order.

    Raises:
        BadInput: a bad row with ``raise``; in any case a file that is missing, empty or binary.
    """

    def convert(row: Row) -> Trajectory:
        expect(row.value, dict, file=path, line=row.line, field=row.field)
        return validate(Trajectory, row.value, file=path, line=row.line, field=row.field)

    return load_rows(path, convert, on_error, errors)


def write_jsonl(path: PathLike, trajectories: Iterable[Trajectory]) -> int:
    """Write trajectories, streaming; the file appears (or is replaced) only when complete.

    Args:
        path: gzip where the name ends in ``.gz``.
        trajectories: any iterable; when it raises, the old file stays as it was.

    Returns:
        How many were written.
    """
    return write_rows(path, (trajectory.model_dump(mode="json") for trajectory in trajectories))


def write_rows(path: PathLike, rows: Iterable[JsonObject], *, array: bool = False) -> int:
    """Write JSON objects one a line, atomically; see :func:`write_jsonl`.

    Args:
        path: the file.
        rows: any iterable.
        array: write one JSON array (an element a line) instead of JSONL.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target: a rename is atomic only within one file system.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary, count = Path(name), 0
    try:
        with os.fdopen(handle, "wb") as raw:
            # mtime=0 and no name: the same rows give the same bytes.
            packed = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) if path.suffix == ".gz" else None
            out = cast("IO[bytes]", packed or raw)
            for row in rows:
                line = encode_row(row)
                if array:
                    line = (b",\n" if count else b"[\n") + line[:-1]
                out.write(line)
                count += 1
            if array:
                out.write(b"\n]\n" if count else b"[]\n")
            if packed is not None:
                packed.close()
            raw.flush()
            os.fsync(raw.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner reads
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return count


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def encode_row(row: Any) -> bytes:
    """One line of JSONL, newline included."""
    try:
        return (canonical_json(row, sort=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        # Half of a surrogate pair has no UTF-8 form; JSON can still spell it as an escape.
        return (json.dumps(row, default=str) + "\n").encode("ascii")


def append_row(path: PathLike, row: JsonObject, *, fsync: bool = False) -> None:
    """Append one object as one complete line, in one write; see :class:`RowAppender` for many rows."""
    with RowAppender(path, fsync=fsync) as appender:
        appender.append(row)


class RowAppender:
    """Appends rows to a result file that may have been cut off by a kill.

    Opening repairs the end: a last line that is no complete JSON object is removed, one that lacks only its
    newline gets it. Each row is handed to the operating system in a single write, so that killing the process
    loses at most the row being written; ``fsync`` also survives a crash of the machine.

    Raises:
        BadInput: for ``.gz`` (a cut-off gzip member cannot be repaired in place).
    """

    def __init__(self, path: PathLike, *, fsync: bool = False) -> None:
        path = Path(path)
        if path.suffix == ".gz":
            raise BadInput("rows are appended to plain JSONL only, not to gzip", file=path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fsync = fsync
        self._file = path.open("ab", buffering=0)
        repair_tail(path)

    def append(self, row: JsonObject) -> None:
        """Write one row."""
        data = memoryview(encode_row(row))
        while data:  # a raw write may be short, on a full disk for one
            data = data[self._file.write(data) or 0 :]
        if self._fsync:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> RowAppender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def repair_tail(path: PathLike) -> None:
    """Make a result file end in a complete line. Reads only its last line."""
    path = Path(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        start, tail = size, b""
        while start > 0 and b"\n" not in tail:
            step = min(1 << 16, start)
            start -= step
            file.seek(start)
            tail = file.read(step) + tail
        last = tail[tail.rfind(b"\n") + 1 :]
        if not last:
            return
        if _is_complete(last):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        else:
            file.truncate(size - len(last))


def _is_complete(line: bytes) -> bool:
    # No proper prefix of a JSON object is itself one, so what parses was written whole.
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def read_rows(path: PathLike) -> Iterator[JsonObject]:
    """The rows of a result file; a last line cut off by a kill is dropped, any other bad line raises.

    A file that does not exist yet, or is empty, has no rows.

    Raises:
        BadInput: a line that is no JSON object, unless it is the last and lacks its newline.
    """
    path = Path(path)
    if not path.exists() or path.stat().st_size == 0:
        return
    for number, line in iter_lines(path):
        try:
            row = parse_line(line, path, number)
        except BadInput:
            if not line.endswith(b"\n"):
                return
            raise
        yield expect(row, dict, file=path, line=number)
