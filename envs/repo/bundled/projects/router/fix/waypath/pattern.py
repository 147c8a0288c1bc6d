"""Patterns: paths with placeholders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

PLACEHOLDER = re.compile(r"\{(?P<name>[a-z_]+)(?::(?P<kind>[a-z]+))?\}")
KINDS = ("text", "int", "path")


@dataclass(frozen=True)
class Literal:
    """A segment that must be there as it is."""

    text: str


@dataclass(frozen=True)
class Placeholder:
    """A segment (or several, for the kind "path") that becomes a value."""

    name: str
    kind: str

    def read(self, text: str) -> str | int | None:
        """The value that decoded text stands for; None if it does not fit."""
        if self.kind == "int":
            return int(text) if text.isascii() and text.isdigit() else None
        return text

    def write(self, value: object) -> str:
        """The value as it stands in a URL.

        Raises:
            ValueError: the value does not fit.
        """
        text = str(value)
        if self.read(text) is None or not all(text.split("/") if self.kind == "path" else [text]):
            raise ValueError(f"no value for {{{self.name}}}: {value!r}")
        return quote(text, safe="/" if self.kind == "path" else "")


class Pattern:
    """A pattern such as `/users/{id:int}/`.

    Raises:
        ValueError: a placeholder is wrong, a name comes twice, or a path is not the last segment.
    """

    def __init__(self, text: str) -> None:
        if not text.startswith("/"):
            raise ValueError(f"a pattern begins with a slash: {text!r}")
        self.text = text
        self.parts = tuple(self._part(piece) for piece in text.split("/") if piece)
        self.slash = bool(self.parts) and text.endswith("/")
        names = [part.name for part in self.parts if isinstance(part, Placeholder)]
        if len(names) != len(set(names)):
            raise ValueError(f"a name comes twice: {text!r}")
        if any(isinstance(part, Placeholder) and part.kind == "path" for part in self.parts[:-1]):
            raise ValueError(f"a path must come last: {text!r}")

    @staticmethod
    def _part(piece: str) -> Literal | Placeholder:
        match = PLACEHOLDER.fullmatch(piece)
        if match is None:
            if "{" in piece or "}" in piece:
                raise ValueError(f"not a placeholder: {piece!r}")
            return Literal(piece)
        kind = match["kind"] or "text"
        if kind not in KINDS:
            raise ValueError(f"no such kind: {kind!r}")
        return Placeholder(match["name"], kind)

    def match(self, segments: tuple[str, ...]) -> dict[str, str | int] | None:
        """The values of the placeholders for these decoded segments, or None if they do not fit."""
        if self.parts and isinstance(self.parts[-1], Placeholder) and self.parts[-1].kind == "path":
            fixed = len(self.parts) - 1
            if len(segments) <= fixed:
                return None
            segments = (*segments[:fixed], "/".join(segments[fixed:]))
        if len(segments) != len(self.parts):
            return None
        values: dict[str, str | int] = {}
        for part, segment in zip(self.parts, segments):
            if isinstance(part, Literal):
                if part.text != segment:
                    return None
                continue
            value = part.read(segment)
            if value is None:
                return None
            values[part.name] = value
        return values

    def build(self, values: dict[str, object]) -> str:
        """The URL path for these values.

        Raises:
            ValueError: a value is missing, left over, or does not fit.
        """
        names = {part.name for part in self.parts if isinstance(part, Placeholder)}
        if names != set(values):
            raise ValueError(f"{self.text} needs {sorted(names)}, not {sorted(values)}")
        pieces = [quote(p.text) if isinstance(p, Literal) else p.write(values[p.name]) for p in self.parts]
        return "/" + "/".join(pieces) + ("/" if self.slash else "")
