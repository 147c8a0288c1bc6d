"""Rows of a JSON, JSONL or Parquet file or a Hugging Face dataset, one after the other, each with where it stands."""

from __future__ import annotations

import base64
import datetime
import decimal
import gzip
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput, EndpointError, MissingExtra
from pivotgym.envs.trajectory import JsonObject

HUGGING_FACE = "hf:"
"""Marks a Hugging Face dataset where the name alone would be a file or folder."""
_BATCH = 16
_FILES = (".json", ".jsonl", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        data: all its fields, as JSON values.
        file: the file, or the dataset's name.
        line: 1-based: line of a JSONL file, else position of the row; None for a file that is one row.
    """

    data: JsonObject
    file: str
    line: int | None

    def bad(self, problem: str, field: str | None = None) -> BadInput:
        """The error for this row."""
        return BadInput(problem, file=self.file, line=self.line, field=field)


def raw_rows(where: str | Path) -> Iterator[Row]:
    """Reads rows; JSONL, Parquet and datasets are read as they are asked for.

    Args:
        where: a file, a folder of such files (read in the order of their names), or ``owner/name`` of a Hugging Face
            dataset, with ``:split`` for another split than ``test`` (else its first).

    Raises:
        BadInput: no such file, or a row that is none; it names the line.
        MissingExtra: Parquet needs ``pyarrow``, datasets need ``datasets``.
        EndpointError: the dataset cannot be had now.
    """
    name = str(where)
    if name.startswith(HUGGING_FACE):
        yield from _dataset(name.removeprefix(HUGGING_FACE))
        return
    path = Path(where)
    if path.is_dir():
        files = sorted(item for item in path.iterdir() if item.name.lower().endswith(_FILES))
        if not files:
            raise BadInput("no JSON, JSONL or Parquet file in it", file=path)
        for file in files:
            yield from _file(file)
    elif path.exists():
        yield from _file(path)
    elif name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not name.lower().endswith(_FILES):
        yield from _dataset(name)
    else:
        raise BadInput("no such file", file=path)


def _file(path: Path) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start == b"PAR1":
            yield from _parquet(path)
            return
        packed = start[:2] == b"\x1f\x8b"
        name = path.name.lower().removesuffix(".gz")
        lines = name.endswith((".jsonl", ".ndjson")) or (not name.endswith(".json") and _is_lines(path, packed))
        yield from _lines(path, packed) if lines else _json(path, packed)
    except (OSError, EOFError) as error:
        raise BadInput(f"cannot be read: {getattr(error, 'strerror', None) or error}", file=path) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"no UTF-8 text: {error.reason} at byte {error.start}", file=path) from error


def _open(path: Path, packed: bool) -> Any:
    return gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig")


def _is_lines(path: Path, packed: bool) -> bool:
    """Whether the first line is an object by itself."""
    with _open(path, packed) as file:
        try:
            return isinstance(json.loads(file.readline()), dict)
        except ValueError:
            return False


def _lines(path: Path, packed: bool) -> Iterator[Row]:
    with _open(path, packed) as file:
        for number, text in enumerate(file, 1):
            if text.strip():
                yield _row(_parse(text, path, number), path, number)


def _json(path: Path, packed: bool) -> Iterator[Row]:
    with _open(path, packed) as file:
        data = _parse(file.read(), path, None)
    if isinstance(data, dict):
        rows = next((data[key] for key in ("data", "rows", "instances") if isinstance(data.get(key), list)), None)
        if rows is None:
            rows = list(data.values()) if data and all(map(_is_row, data.values())) else None
        if rows is None:
            yield _row(data, path, None)
            return
        data = [row["row"] if isinstance(row, dict) and set(row) >= {"row", "row_idx"} else row for row in rows]
    if not isinstance(data, list):
        raise BadInput("neither a row nor a list of rows", file=path)
    for number, row in enumerate(data, 1):
        yield _row(row, path, number)


def _is_row(value: object) -> bool:
    return isinstance(value, dict) and "instance_id" in value


def _parse(text: str, path: Path, line: int | None) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        inside = getattr(error, "lineno", None)
        raise BadInput(f"no JSON: {error}", file=path, line=inside if line is None else line) from error
    except RecursionError:
        raise BadInput("JSON nested too deeply", file=path, line=line) from None


def _row(data: Any, file: str | Path, line: int | None) -> Row:
    if not isinstance(data, dict):
        raise BadInput(f"no object but {type(data).__name__}", file=file, line=line)
    return Row(data, str(file), line)


def _parquet(path: Path) -> Iterator[Row]:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtra("pyarrow", "datasets") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield Row({key: plain(value) for key, value in row.items()}, str(path), number)
    except arrow.ArrowException as error:
        raise BadInput(f"no Parquet file: {error}", file=path, line=number or None) from error


def _dataset(name: str) -> Iterator[Row]:
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise MissingExtra("datasets", "datasets") from None
    source, _, split = name.partition(":")
    try:
        splits = datasets.load_dataset(source, streaming=True)
        chosen = split or ("test" if "test" in splits else next(iter(splits)))
        if chosen not in splits:
            raise BadInput(f"no split {chosen!r}; there is: {', '.join(splits)}", file=name)
        for number, row in enumerate(splits[chosen], 1):
            yield Row({key: plain(value) for key, value in row.items()}, name, number)
    except (FileNotFoundError, ValueError) as error:  # the library's errors for names and splits derive from these
        raise BadInput(f"no such dataset: {error}", file=name) from error
    except OSError as error:
        raise EndpointError(f"the dataset {source} cannot be reached: {error}") from error


def plain(value: Any) -> Any:
    """A column's value as JSON: times as ISO text, bytes as UTF-8 or base64 text, what is no number as None."""
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [plain(item) for item in value]
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case decimal.Decimal():
            return str(value)
        case bytes():
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                return base64.b64encode(value).decode("ascii")
    return value.tolist() if hasattr(value, "tolist") else str(value)
