"""What the agent's tools remember between calls, and what a call gives back."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivotgym.envs.errors import BadInput
from pivotgym.envs.repo.tasks import RepoTask

KEPT = 10
"""How many earlier contents of one file can be brought back."""
STYLE = "editor"
"""Key of ``RepoTask.definition``: an :class:`EditorStyle` as JSON, for recordings of another release than ours."""

Release = Literal["0.6", "0.7", "1.0.dev1", "1.0.dev2", "1.0", "1.1", "main"]
"""SWE-agent's release whose texts and window arithmetic are meant; ``main`` for what came after 1.1."""


class EditorStyle(BaseModel):
    """Which of SWE-agent's file viewers is in use.

    Attributes:
        family: ``windowed``: of release 1, edits by search and replace or by line range; ``classic``: of the releases
            before, edits by line range; ``cursors``: the same with a selection set by ``set_cursors``.
        release: the release.
        window: lines shown at once.
        overlap: lines that stay in view on scrolling.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["windowed", "classic", "cursors"] = "windowed"
    release: Release = "main"
    window: int = Field(default=100, ge=1)
    overlap: int = Field(default=2, ge=0)


class EditorState(BaseModel):
    """Everything the tools remember; JSON all the way.

    Attributes:
        style: how files are shown.
        open_file: absolute path of the file in view; empty while none is.
        line: the window's position: its first line counted from 0 (``windowed``), its middle counted from 1 (the
            others).
        cursors: first and last selected line, from 1 (``cursors`` only).
        scrolls: how many times in a row the agent scrolled (``classic`` only).
        history: earlier contents by path, oldest first, packed by :func:`pack`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: EditorStyle = EditorStyle()
    open_file: str = ""
    line: int = 0
    cursors: tuple[int, int] = (0, 0)
    scrolls: int = 0
    history: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @classmethod
    def of(cls, spec: RepoTask) -> EditorState:
        """Before the first turn of a task.

        Raises:
            BadInput: ``definition.editor`` is no :class:`EditorStyle`.
        """
        try:
            return cls(style=EditorStyle.model_validate(spec.definition.get(STYLE, {})))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(["definition", STYLE, *map(str, first["loc"])])
            raise BadInput(first["msg"], field=where) from error

    def with_history(self, path: str, data: bytes) -> EditorState:
        """After a change to ``path``, which held ``data`` before."""
        kept = (*self.history.get(path, ()), pack(data))[-KEPT:]
        return self.model_copy(update={"history": {**self.history, path: kept}})

    def without_last(self, path: str) -> tuple[EditorState, bytes | None]:
        """After the last change to ``path`` was taken back, and what it held before; None where none is known."""
        kept = self.history.get(path, ())
        if not kept:
            return self, None
        return self.model_copy(update={"history": {**self.history, path: kept[:-1]}}), unpack(kept[-1])


def pack(data: bytes) -> str:
    """Bytes as short text."""
    return base64.b64encode(zlib.compress(data)).decode("ascii")


def unpack(text: str) -> bytes:
    """What :func:`pack` was given."""
    return zlib.decompress(base64.b64decode(text))


@dataclass(frozen=True)
class ToolResult:
    """What a call brought.

    Attributes:
        text: what the agent reads.
        state: what the tools remember from now on.
        submitted: what was handed in (a patch, a last message), which ends the episode; None while it goes on.
        refused: why nothing was done, in one word; None where something was.
    """

    text: str
    state: EditorState
    submitted: str | None = None
    refused: str | None = None


class Refused(Exception):
    """A call that changes nothing: the text for the agent, and the reason in one word."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.text, self.kind = text, kind
