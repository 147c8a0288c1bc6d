"""Rows of JSON out of files of any shape, with every problem located by file, line and field.

Shared by the formats: reading (plain or gzip, JSONL, one JSON array or one JSON object), what to do with a bad
row, and the translation of a pydantic error to a dotted field of the *source*.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeVar, cast

from pydantic import BaseModel, ValidationError

from pivotgym.envs.errors import BadInput
from pivotgym.envs.trajectory import JsonObject, Trajectory

OnError = Literal["raise", "skip"]
PathLike = str | Path
ModelT = TypeVar("ModelT", bound=BaseModel)

logger = logging.getLogger(__name__)
_GZIP_MAGIC = b"\x1f\x8b"
_HEAD_BYTES = 4096
#: Lines looked at to tell JSONL with a broken first row from one JSON document spread over lines.
_PEEK_LINES = 20


class Problems:
    """What to do with a bad row: stop there (``raise``), or keep the problem and go on (``skip``).

    A problem of the file as a whole (missing, empty, binary, a broken JSON document) always raises: there is
    nothing to go on with.
    """

    def __init__(
        self, on_error: OnError = "raise", errors: list[BadInput] | None = None, limit: int | None = None
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is 'raise' or 'skip', not {on_error!r}")
        self.on_error, self.errors, self.limit, self.count = on_error, errors, limit, 0

    def report(self, problem: BadInput) -> None:
        """Raise the problem, or collect it (log it, where the caller gave no list); raise the ``limit``-th."""
        self.count += 1
        if self.on_error == "raise" or self.count == self.limit:
            raise problem
        if self.errors is None:
            logger.warning("skipped %s", problem)
        else:
            self.errors.append(problem)


class UniqueIds:
    """Finds trajectory ids used twice in one file: rows of profiles and pivots are keyed by the id."""

    def __init__(self, path: PathLike) -> None:
        self._path, self._seen = path, dict[str, int | None]()

    def check(self, trajectory_id: str, line: int | None) -> None:
        """Raises BadInput where the id was seen before."""
        if trajectory_id in self._seen:
            first = self._seen[trajectory_id]
            where = f" (first on line {first})" if first is not None else ""
            raise BadInput(
                f"trajectory id {trajectory_id!r} is used twice{where}", file=self._path, line=line, field="id"
            )
        self._seen[trajectory_id] = line


class Row(NamedTuple):
    """One row and where it stands.

    Attributes:
        value: the JSON value.
        line: 1-based line on which it starts.
        number: its name within the file: the line (JSONL) or the 1-based position (JSON array).
        field: dotted path of the row itself: ``""``, or its 0-based index in a JSON array.
    """

    value: Any
    line: int
    number: int
    field: str = ""


def load_rows(
    path: PathLike, convert: Callable[[Row], Trajectory], on_error: OnError, errors: list[BadInput] | None
) -> Iterator[Trajectory]:
    """Convert every row of a file; bad rows and duplicate ids go to ``on_error``.

    Args:
        path: JSONL, a JSON array, or one JSON object; gzip is recognised.
        convert: one row to its trajectory; raises BadInput.
        on_error: see :class:`Problems`.
        errors: collects the problems when skipping.
    """
    problems, ids = Problems(on_error, errors), UniqueIds(path)
    for row in iter_rows(path, problems):
        try:
            trajectory = convert(row)
            ids.check(trajectory.id, row.line)
        except BadInput as problem:
            problems.report(problem)
            continue
        yield trajectory


# ------------------------------------------------------------------------------------------------ bytes and text


def open_bytes(path: PathLike) -> IO[bytes]:
    """Open for reading, gunzipping where the content is gzip. Raises BadInput for no file, or an empty one."""
    path = Path(path)
    try:
        with path.open("rb") as raw:
            head = raw.read(2)
        if not head:
            raise BadInput("the file is empty", file=path)
        if head == _GZIP_MAGIC:
            return cast("IO[bytes]", gzip.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}", file=path) from error


def iter_lines(path: PathLike) -> Iterator[tuple[int, bytes]]:
    """(1-based number, bytes) of every line that is not blank.

    Lines end at a newline only: JSON text may contain U+2028 and its kin, at which ``str.splitlines`` splits.
    """
    blank = True
    with open_bytes(path) as file:
        try:
            # Only the beginning decides for the whole file; a stray NUL further on spoils its row alone.
            if b"\0" in cast("io.BufferedReader", file).peek(_HEAD_BYTES)[:_HEAD_BYTES]:
                raise BadInput("binary data, not UTF-8 text", file=path, line=1)
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    blank = False
                    yield number, line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadInput(f"broken gzip data: {error}", file=path) from error
    if blank:
        raise BadInput("the file is empty (blank lines only)", file=path)


def read_text(path: PathLike) -> str:
    """The whole file as text. Raises BadInput for binary data and for text that is not UTF-8."""
    return b"".join(_with_blank_lines(path)).decode("utf-8")


def _with_blank_lines(path: PathLike) -> Iterator[bytes]:
    """Every line checked to be UTF-8; blank ones come back as newlines so that line numbers stay true."""
    expected = 1
    for number, line in iter_lines(path):
        yield b"\n" * (number - expected)
        decode_line(line, path, number)
        yield line
        expected = number + 1


def decode_line(line: bytes, path: PathLike, number: int) -> str:
    """UTF-8 text of a line; BadInput with the offending byte where it is none."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 text (byte 0x{line[error.start]:02x} at column {error.start + 1})"
        raise BadInput(problem, file=path, line=number) from error


def parse_line(line: bytes, path: PathLike, number: int) -> Any:
    """The JSON value of one line. Raises BadInput."""
    text = decode_line(line, path, number)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_json(error, path, number) from error


def _bad_json(error: Exception, path: PathLike, line: int | None) -> BadInput:
    if isinstance(error, json.JSONDecodeError):
        return BadInput(f"not valid JSON: {error.msg} (column {error.colno})", file=path, line=line)
    return BadInput(f"not usable JSON: {error}", file=path, line=line)


# ------------------------------------------------------------------------------------------------------ rows


def iter_jsonl(path: PathLike, problems: Problems) -> Iterator[Row]:
    """Every row of a JSONL file; a line that is no JSON goes to ``problems``."""
    for number, line in iter_lines(path):
        try:
            value = parse_line(line, path, number)
        except BadInput as problem:
            problems.report(problem)
            continue
        yield Row(value, number, number)


def iter_rows(path: PathLike, problems: Problems) -> Iterator[Row]:
    """Every row of a file that is JSONL, one JSON array of rows, or one JSON object."""
    shape = shape_of(path)
    if shape == "jsonl":
        yield from iter_jsonl(path, problems)
    elif shape == "array":
        yield from _iter_array(path)
    else:
        yield Row(load_document(path), 1, 1)


def shape_of(path: PathLike) -> Literal["jsonl", "array", "object"]:
    """How the rows lie in the file, told by its first lines (the whole file is read only in doubtful cases)."""
    lines = iter_lines(path)
    _, first = next(lines)
    start = first.strip()
    if start == b"[" or start == b"{":
        return "array" if start == b"[" else "object"
    value = _try_parse(first)
    if isinstance(value, list):
        # Alone it is the array of rows; with lines after it, it is a row of the wrong type.
        return "jsonl" if next(lines, None) is not None else "array"
    if value is not _BROKEN:
        return "jsonl"
    if start.startswith(b"["):
        return "array"
    following = [line for _, (_, line) in zip(range(_PEEK_LINES), lines, strict=False)]
    if not start.startswith(b"{") or not following or any(isinstance(_try_parse(line), dict) for line in following):
        return "jsonl"
    try:
        load_document(path)
    except BadInput:
        return "jsonl"
    return "object"


_BROKEN = object()


def _try_parse(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return _BROKEN


def load_document(path: PathLike) -> Any:
    """One JSON value that fills the whole file. Raises BadInput with the line of a syntax error."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_json(error, path, getattr(error, "lineno", None)) from error


def _iter_array(path: PathLike) -> Iterator[Row]:
    """The elements of a JSON array; linear in the file's length."""
    text, decoder = read_text(path), json.JSONDecoder()
    position, line, counted, index = text.index("[") + 1, 1, 0, 0

    def fail(problem: str) -> BadInput:
        return BadInput(problem, file=path, line=text.count("\n", 0, position) + 1)

    while True:
        position = _skip_space(text, position)
        if index == 0 and text[position : position + 1] == "]":
            position += 1
            break
        line += text.count("\n", counted, position)
        counted = position
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _bad_json(error, path, getattr(error, "lineno", line)) from error
        yield Row(value, line, index + 1, str(index))
        index += 1
        position = _skip_space(text, position)
        mark = text[position : position + 1]
        position += 1
        if mark == "]":
            break
        if mark != ",":
            raise fail("not valid JSON: expected ',' or ']' after an element of the array")
    position = _skip_space(text, position)
    if position < len(text):
        raise fail("not valid JSON: extra data after the array")


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\r", "\n"):
        position += 1
    return position


# -------------------------------------------------------------------------------------------- types and fields


def expect(
    value: Any, kind: type | tuple[type, ...], *, file: PathLike | None, line: int | None = None, field: str = ""
) -> Any:
    """The value, checked to be of a JSON type. Raises BadInput naming the field and both types."""
    if isinstance(value, kind) and not (isinstance(value, bool) and bool not in _as_tuple(kind)):
        return value
    names = " or ".join(_JSON_NAMES.get(one, one.__name__) for one in _as_tuple(kind))
    got = _JSON_NAMES.get(type(value), type(value).__name__)
    raise BadInput(f"expected {names}, got {got}", file=file, line=line, field=field or None)


def require(row: JsonObject, key: str, *, file: PathLike | None, line: int | None = None, field: str = "") -> Any:
    """``row[key]``; BadInput "missing" where the row has none. ``field`` is the dotted path of ``row``."""
    if key not in row:
        raise BadInput("missing", file=file, line=line, field=join(field, key))
    return row[key]


def join(*parts: str | int) -> str:
    """Dotted path of the parts that are not empty."""
    return ".".join(str(part) for part in parts if part != "")


def _as_tuple(kind: type | tuple[type, ...]) -> tuple[type, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


_JSON_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def validate(model: type[ModelT], value: Any, *, file: PathLike | None, line: int | None, field: str = "") -> ModelT:
    """Validate against a pydantic model; the first error becomes a BadInput with the dotted source field.

    Args:
        model: the type.
        value: JSON value.
        file: for the message.
        line: for the message.
        field: dotted path of ``value`` in its row.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        first = details[0]
        located = _locate(value, first["loc"], first["type"] == "missing")
        problem = "missing" if first["type"] == "missing" else first["msg"]
        if len(details) > 1:
            problem += f" (and {len(details) - 1} more)"
        raise BadInput(problem, file=file, line=line, field=join(field, located) or None) from error


def _locate(value: Any, loc: tuple[int | str, ...], missing: bool) -> str:
    """Pydantic's location as a path of the source: without union branches, through OpenAI's ``function``."""
    path: list[int | str] = []
    for step in loc:
        if isinstance(value, dict) and isinstance(step, str):
            if step not in value and isinstance(value.get("function"), dict):
                value = value["function"]
                path.append("function")
            if step not in value and not missing:
                break
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            break
        path.append(step)
    return join(*path)
