"""Pickles of strangers, read as data: no class is imported and nothing in them is called.

A pickle is a program that may call anything. Here every class or function it names is a :class:`Named` instead, which
takes what it is given and does nothing; numbers of NumPy become plain ones.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import PathLike

MAX_BYTES = 1 << 30
"""Larger pickles, unpacked, are refused."""
_MAX_DEPTH = 200
_SCALARS = {
    "f8": "d",
    "f4": "f",
    "i8": "q",
    "i4": "i",
    "i2": "h",
    "i1": "b",
    "u8": "Q",
    "u4": "I",
    "u1": "B",
    "b1": "?",
}


class Named(dict[Any, Any]):
    """Stands for an object of a class that is not looked up; its items are those of a mapping."""

    name = ""
    given: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *given: Any, **named: Any) -> Named:
        """Keeps what it is called with."""
        made = super().__new__(cls)
        made.given = given
        return made

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """As for a list."""
        self[len(self)] = item

    def extend(self, items: Any) -> None:
        """As for a list."""
        for item in items:
            self.append(item)

    add = append


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return type("Named", (Named,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        return None


def read_pickle(path: PathLike) -> Any:
    """What a pickle holds, as JSON: objects by their attributes, what has none by its name in ``<...>``.

    Args:
        path: plain or gzip.

    Raises:
        BadInput: it cannot be read, or is no pickle.
    """
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"cannot be read: {error}", file=path) from error
    if len(data) > MAX_BYTES:
        raise BadInput(f"more than {MAX_BYTES} bytes", file=path)
    try:
        return _plain(_Reader(io.BytesIO(data)).load(), 0)
    except BadInput as problem:
        raise BadInput(problem.problem, file=path) from problem
    except Exception as error:  # a broken pickle may raise anything
        raise BadInput(f"no pickle that can be read: {type(error).__name__}: {error}", file=path) from error


def _plain(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise BadInput("nested too deep, or in itself")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Named):
        return _object(value, depth)
    if isinstance(value, dict):
        return {str(_plain(key, depth + 1)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    return f"<{type(value).__name__}>"


def _object(value: Named, depth: int) -> Any:
    name = value.name.rpartition(".")[2]
    if name == "scalar" and len(value.given) == 2 and isinstance(value.given[0], Named):
        code = _SCALARS.get(str((value.given[0].given or ("",))[0]))
        raw = value.given[1]
        if code is not None and isinstance(raw, bytes) and len(raw) == struct.calcsize(f"<{code}"):
            return struct.unpack(f"<{code}", raw)[0]
    if name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        return "/".join(str(part) for part in value.given).replace("//", "/")
    held: dict[Any, Any] = dict(value)
    states = value.state if isinstance(value.state, tuple) else (value.state,)
    for state in states:
        if isinstance(state, dict):
            held |= state
    if held and set(held) == set(range(len(held))):
        return [_plain(item, depth + 1) for item in held.values()]
    return _plain(held, depth) if held else f"<{name}>"
