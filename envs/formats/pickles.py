"""Pickles of strangers, read as data: no class is imported and nothing in them is called.

A pickle is a program that may call anything. Here every class or function it names is a :class:`Named` instead, which
takes what it is given and does nothing; numbers of NumPy become plain ones.
"""

from __future__ import annotations

import gzip
import io
import pickle
import pickletools
import struct
import zlib
from pathlib import Path
from typing import Any

from pivotgym.envs.errors import BadInput
from pivotgym.envs.formats.rows import PathLike

MAX_BYTES = 1 << 30
"""Larger pickles, unpacked, are refused."""
MAX_OPCODES = 5_000_000
"""Longer pickles are refused; a page of 10,000 elements takes some 500,000."""
MAX_NODES = 10_000_000
"""Values in what is read, each counted as often as it is written out as JSON, and one more per 64 characters."""
_MAX_DEPTH = 200
_MAX_CLASSES = 10_000
_MAX_BITS = 14_000  # Python writes no number of more digits
_LEAF = (0, 1)
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ONTO = {"BUILD": 1, "APPEND": 1, "SETITEM": 2}
"""How many values an opcode takes and adds to the one below, which stays."""
_FROM_MARK = frozenset(one.name for one in pickletools.opcodes if pickletools.markobject in one.stack_before)
_EXTENSIONS = ("EXT1", "EXT2", "EXT4")
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
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._classes: dict[str, type[Named]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self._classes:
            if len(self._classes) >= _MAX_CLASSES:
                raise BadInput(f"names more than {_MAX_CLASSES} classes")
            self._classes[full] = type("Named", (Named,), {"name": full})
        return self._classes[full]

    def persistent_load(self, pid: Any) -> Any:
        return None


def read_pickle(path: PathLike) -> Any:
    """What a pickle holds, as JSON: objects by their attributes, what has none by its name in ``<...>``.

    Values that are shared in the pickle are shared in what is returned.

    Args:
        path: plain or gzip.

    Raises:
        BadInput: it cannot be read, is no pickle, is nested deeper than 200 levels or in itself, or exceeds
            :data:`MAX_BYTES`, :data:`MAX_OPCODES` or :data:`MAX_NODES`.
    """
    try:
        with Path(path).open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"cannot be read: {error}", file=path) from error
    if len(data) > MAX_BYTES:
        raise BadInput(f"more than {MAX_BYTES} bytes", file=path)
    try:
        _scan(data)
        return _Plain().of(_Reader(io.BytesIO(data)).load())
    except BadInput as problem:
        raise BadInput(problem.problem, file=path) from problem
    except Exception as error:  # a broken pickle may raise anything
        raise BadInput(f"no pickle that can be read: {type(error).__name__}: {error}", file=path) from error


def _scan(data: bytes) -> None:
    """Refuses what loading alone would take the process down with.

    Keys of mappings and members of sets are hashed while a pickle is loaded, tuples by recursion in C that nothing
    stops and that follows every shared item anew. So the stack is followed here with, for each value, how deep tuples
    are nested in it and how many values a hash visits. Whatever is no tuple cannot be hashed further or counts as one.
    """
    taken: list[tuple[int, int]]
    stack: list[tuple[int, int] | None] = []  # None is a mark
    memo: dict[int, tuple[int, int]] = {}
    hashed = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        name, taken = opcode.name, []
        if count >= MAX_OPCODES:
            raise BadInput(f"more than {MAX_OPCODES} opcodes")
        if name in _EXTENSIONS:
            raise BadInput("names a class by a number of an extension registry")
        if isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
            raise BadInput(f"a number of more than {_MAX_BITS} bits")
        if name == "MEMOIZE":
            memo[len(memo)] = _top(stack)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            # Loading allocates a table up to the index.
            if not isinstance(argument, int) or not 0 <= argument <= count:
                raise BadInput(f"stores value {argument} before it can hold as many")
            memo[argument] = _top(stack)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if not isinstance(argument, int) or argument not in memo:
                raise BadInput(f"asks for value {argument}, which was not stored")
            stack.append(memo[argument])
        elif name == "DUP":
            stack.append(_top(stack))
        elif name == "POP":  # also takes a mark
            if not stack:
                raise BadInput("takes from an empty stack")
            stack.pop()
        elif name in _TUPLES:
            stack.append(_nested(_taken(stack, _TUPLES[name])))
        elif name in _ONTO:
            taken = _taken(stack, _ONTO[name])
            _top(stack)
        elif name in _FROM_MARK:
            taken = _slice(stack)
            if name in ("TUPLE", "FROZENSET"):
                stack.append(_nested(taken))
            elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
                _top(stack)
            elif name != "POP_MARK":
                stack.append(_LEAF)
        else:
            _taken(stack, len(opcode.stack_before))
            stack.extend(None if one is pickletools.markobject else _LEAF for one in opcode.stack_after)
        if name in ("SETITEM", "SETITEMS", "DICT"):
            hashed += sum(visits for _, visits in taken[::2])
        elif name in ("ADDITEMS", "FROZENSET"):
            hashed += sum(visits for _, visits in taken)
        if hashed > MAX_NODES:
            raise BadInput("keys that are too large")


def _top(stack: list[tuple[int, int] | None]) -> tuple[int, int]:
    if not stack or stack[-1] is None:
        raise BadInput("uses a value that is not there")
    return stack[-1]


def _taken(stack: list[tuple[int, int] | None], count: int) -> list[tuple[int, int]]:
    taken = [one for one in stack[len(stack) - count :] if one is not None] if count <= len(stack) else []
    if len(taken) < count:
        raise BadInput("uses a value that is not there")
    if count:
        del stack[-count:]
    return taken


def _slice(stack: list[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """Everything down to the last mark."""
    taken: list[tuple[int, int]] = []
    while stack:
        one = stack.pop()
        if one is None:
            return taken[::-1]
        taken.append(one)
    raise BadInput("goes back to a mark that is not there")


def _nested(items: list[tuple[int, int]]) -> tuple[int, int]:
    depth = 1 + max((depth for depth, _ in items), default=0)
    if depth > _MAX_DEPTH:
        raise BadInput(f"nested deeper than {_MAX_DEPTH} levels")
    return depth, min(1 + sum(visits for _, visits in items), MAX_NODES + 1)


class _Plain:
    """Makes JSON of what was loaded, each shared value once."""

    def __init__(self) -> None:
        self._nodes = 0
        self._deepest = 0
        self._made: dict[int, tuple[Any, int, int]] = {}
        self._open: set[int] = set()

    def of(self, value: Any, depth: int = 0) -> Any:
        self._reach(depth)
        if isinstance(value, str):
            self._count(1 + len(value) // 64)
            return value
        if not isinstance(value, dict | list | tuple | set | frozenset):
            self._count(1)
            return value if value is None or isinstance(value, int | float) else f"<{type(value).__name__}>"
        if id(value) in self._made:
            made, nodes, height = self._made[id(value)]
            self._count(nodes)
            self._reach(depth + height)
            return made
        if id(value) in self._open:
            raise BadInput("a value that holds itself")
        self._open.add(id(value))
        before, outside, self._deepest = self._nodes, self._deepest, depth
        self._count(1)
        if isinstance(value, Named):
            made = self._object(value, depth)
        elif isinstance(value, dict):
            made = self._mapping(value, depth)
        else:
            made = [self.of(item, depth + 1) for item in value]
        self._open.remove(id(value))
        self._made[id(value)] = made, self._nodes - before, self._deepest - depth
        self._deepest = max(outside, self._deepest)
        return made

    def _reach(self, depth: int) -> None:
        self._deepest = max(self._deepest, depth)
        if depth > _MAX_DEPTH:
            raise BadInput(f"nested deeper than {_MAX_DEPTH} levels")

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise BadInput(f"more than {MAX_NODES} values, shared ones counted each time")

    def _mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        made = {}
        for key, item in value.items():
            spelled = str(self.of(key, depth + 1))
            self._count(len(spelled) // 64)
            made[spelled] = self.of(item, depth + 1)
        return made

    def _object(self, value: Named, depth: int) -> Any:
        name = value.name.rpartition(".")[2]
        if name == "scalar" and len(value.given) == 2 and isinstance(value.given[0], Named):
            kind, raw = (*value.given[0].given, "")[0], value.given[1]
            code = _SCALARS.get(kind) if isinstance(kind, str) else None
            if code is not None and isinstance(raw, bytes) and len(raw) == struct.calcsize(f"<{code}"):
                return struct.unpack(f"<{code}", raw)[0]
        if name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
            parts = [self.of(part, depth + 1) for part in value.given]
            return "/".join(str(part) for part in parts).replace("//", "/")
        held: dict[Any, Any] = dict(value)
        states = value.state if isinstance(value.state, tuple) else (value.state,)
        for state in states:
            if isinstance(state, dict):
                held |= state
        if held and set(held) == set(range(len(held))):
            return [self.of(item, depth + 1) for item in held.values()]
        return self._mapping(held, depth) if held else f"<{name}>"
