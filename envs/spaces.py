"""The observation and action space: chat messages as text of bounded size."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory
from pydantic_core import to_json

_HEADER = 8  # bytes of the length in front of each text in shared memory
_WORDS = ("list", "show", "yes", "no", "please", "thanks", "help", "order", "ticket", "status", "cancel", "1", "42")


class ChatSpace(spaces.Space[str]):
    """Any text of at most ``max_bytes`` bytes of UTF-8.

    Observations are JSON lists of chat messages; actions are raw assistant text. ``sample`` draws a few plain words:
    a valid, if pointless, thing to say.
    """

    def __init__(self, max_bytes: int = 1 << 20, seed: int | np.random.Generator | None = None) -> None:
        self.max_bytes = max_bytes
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text does not flatten to an array."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """One to six plain words; masks are not supported and ignored."""
        count = int(self.np_random.integers(1, 7))
        return " ".join(str(word) for word in self.np_random.choice(_WORDS, size=count))

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a text within the size limit."""
        return isinstance(x, str) and len(x.encode("utf-8", "surrogatepass")) <= self.max_bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChatSpace) and other.max_bytes == self.max_bytes

    def __hash__(self) -> int:
        return hash((ChatSpace, self.max_bytes))

    def __repr__(self) -> str:
        return f"ChatSpace({self.max_bytes})"


def fit(rows: list[dict[str, Any]], max_bytes: int) -> str:
    """Chat messages as a JSON list of at most ``max_bytes`` bytes of UTF-8.

    Where it is too long, the middle of the longest texts is cut out: the result is valid JSON all the same. Where
    that does not suffice (very many messages), a note takes the place of the oldest ones.
    """
    text = _to_json(rows)
    allowance = max_bytes
    while _nbytes(text) > max_bytes and allowance > 64:
        allowance //= 2
        rows = [{**row, "content": _clip(row["content"], allowance)} for row in rows]
        text = _to_json(rows)
    kept = rows
    while _nbytes(text) > max_bytes:
        kept = kept[len(kept) // 2 + 1 :]
        note = {"role": "system", "content": f"…[{len(rows) - len(kept)} messages cut]…"}
        text = _to_json([note, *kept])
    return text


def _to_json(rows: list[dict[str, Any]]) -> str:
    try:
        return to_json(rows).decode()  # four times as fast as json.dumps, and every observation comes through here
    except ValueError:  # lone surrogates, which json.dumps passes on
        return json.dumps(rows, ensure_ascii=False)


def _nbytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _clip(content: Any, limit: int) -> Any:
    if not isinstance(content, str) or len(content) <= limit:
        return content
    half = max((limit - 32) // 2, 1)
    return f"{content[:half]} …[{len(content) - 2 * half} characters cut]… {content[-half:]}"


# Gymnasium's asynchronous vector environments move observations through shared memory; these three make custom
# text fit: a length, then UTF-8, one slot of fixed size per environment.
@create_shared_memory.register(ChatSpace)
def _create(space: ChatSpace, n: int = 1, ctx: Any = multiprocessing) -> Any:
    return ctx.Array(ctypes.c_ubyte, n * (space.max_bytes + _HEADER))


@write_to_shared_memory.register(ChatSpace)
def _write(space: ChatSpace, index: int, value: str, shared_memory: Any) -> None:
    data = value.encode("utf-8", "surrogatepass")
    if len(data) > space.max_bytes:
        raise ValueError(f"a text of {len(data)} bytes does not fit {space}")
    start = index * (space.max_bytes + _HEADER)
    buffer = memoryview(shared_memory.get_obj()).cast("B")
    buffer[start : start + _HEADER] = len(data).to_bytes(_HEADER, "little")
    buffer[start + _HEADER : start + _HEADER + len(data)] = data


@read_from_shared_memory.register(ChatSpace)
def _read(space: ChatSpace, shared_memory: Any, n: int = 1) -> SharedTexts:
    return SharedTexts(space, shared_memory, n)


class SharedTexts(Sequence[str]):
    """The texts in shared memory as they are when looked at.

    Gymnasium reads the memory once, when the vector environment is made, and expects a view; what it hands out of
    ``reset`` and ``step`` is a deep copy, which here is a plain tuple of the texts at that moment.
    """

    def __init__(self, space: ChatSpace, shared_memory: Any, n: int) -> None:
        self._slot, self._memory, self._n = space.max_bytes + _HEADER, shared_memory, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        start = range(self._n)[index] * self._slot
        buffer = memoryview(self._memory.get_obj()).cast("B")
        length = int.from_bytes(buffer[start : start + _HEADER], "little")
        return bytes(buffer[start + _HEADER : start + _HEADER + length]).decode("utf-8", "surrogatepass")

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        return repr(tuple(self))
